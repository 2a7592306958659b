//! A small client of rtnetlink(7): links and addresses of one network namespace.
//!
//! Lengths of attributes are 16 bits wide and are checked on the way out (CVE-2021-43784) and,
//! with everything else that the kernel sends, on the way in.

use std::cell::Cell;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::error::{Context, Error, Result};
use crate::sys::netlink::set_ext_ack;

/// Space for one answer; the kernel's are at most 32 KiB.
const BUFFER: usize = 64 << 10;

/// How often a listing is asked for again that changed while it was given.
const LISTINGS: usize = 10;

/// Sizes of struct nlmsghdr, nlmsgerr's number, ifinfomsg, ifaddrmsg, and of a field's header.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const FIELD_HEADER: usize = 4;

/// linux/netlink.h NLM_F_CAPPED, NLM_F_ACK_TLVS: what follows the number of an error.
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
/// NLMSGERR_ATTR_MSG: the kernel's words.
const ERROR_TEXT: u16 = 1;
/// The type of a field without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const FIELD_TYPE: u16 = 0x3fff;

/// linux/if_link.h IFLA_NETNS_IMMUTABLE (Linux 6.15).
const IFLA_NETNS_IMMUTABLE: u16 = 67;

/// The flags of an address that its owner set; the others are the kernel's own findings.
const OWNERS_FLAGS: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    /// Not one of its alternative names, by which it may have been found.
    pub name: String,
    pub is_up: bool,
    /// The kernel keeps it in its network namespace.
    pub is_immovable: bool,
}

/// A permanent address of global scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The device that has it.
    pub index: u32,
    family: u8,
    prefix: u8,
    flags: u32,
    /// Its fields as they came (address, peer, broadcast, metric, lifetimes, label).
    fields: Vec<(u16, Vec<u8>)>,
}

/// As ip-address(8) writes it.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // IFA_ADDRESS is the peer where there is one; IPv6 has IFA_LOCAL only then.
        let of = |kind| self.fields.iter().find(|(found, _)| *found == kind);
        let bytes = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS)).map(|(_, value)| value);
        let ip = bytes.and_then(|bytes| match bytes.len() {
            4 => bytes.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
            _ => bytes.first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
        });
        match ip {
            Some(ip) => write!(f, "{ip}/{}", self.prefix),
            None => write!(f, "of family {}", self.family),
        }
    }
}

/// Whom to ask for.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    Name(&'a str),
    Index(u32),
}

/// The kernel's no.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    errno: Errno,
    text: Option<String>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let error = Error::from(refusal.errno);
        match refusal.text {
            Some(text) => error.context(text),
            None => error,
        }
    }
}

/// A socket in one network namespace, wherever its process goes.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl Netlink {
    /// In the present network namespace.
    pub fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
                .context("cannot open a netlink socket")?;
        set_ext_ack(socket.as_fd()).context("cannot set NETLINK_EXT_ACK")?;
        Ok(Netlink { socket, sequence: Cell::new(0) })
    }

    /// In another network namespace; `own` is the present one.
    pub fn open_in(netns: BorrowedFd<'_>, own: BorrowedFd<'_>) -> Result<Self> {
        setns(netns, CloneFlags::CLONE_NEWNET)
            .context("cannot enter the container's network namespace")?;
        let opened = Self::open();
        setns(own, CloneFlags::CLONE_NEWNET)
            .context("cannot step back from the container's network namespace")?;
        opened
    }

    /// RTM_GETLINK; `None` where there is no such device.
    pub fn link(&self, by: By<'_>) -> Result<Option<Link>> {
        let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_ACK);
        match by {
            By::Name(name) => {
                request.link(0, false);
                request.text(libc::IFLA_IFNAME, name)?;
            }
            By::Index(index) => request.link(index, false),
        }
        match self.ask(request)? {
            Ok(answers) => Ok(answers.messages.iter().find_map(|message| parse_link(message))),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
            Err(refusal) => Err(Error::from(refusal).context(format!("cannot look for {by:?}"))),
        }
    }

    /// RTM_GETADDR: the permanent addresses of global scope of every device.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        for _ in 0..LISTINGS {
            let mut request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP);
            request.0.extend([0; ADDRESS_HEADER]);
            let answers = self.ask(request)?.map_err(Error::from);
            let answers = answers.context("cannot list the addresses of network devices")?;
            if !answers.interrupted {
                let parsed = answers.messages.iter().filter_map(|message| parse_address(message));
                return Ok(parsed.collect());
            }
        }
        Err(Error::msg("cannot list the addresses of network devices: they change all the time"))
    }

    /// RTM_NEWLINK: moves a device into `netns` under a new name; there it gets the number
    /// `new_index`.
    pub fn move_link(
        &self,
        index: u32,
        netns: BorrowedFd<'_>,
        new_index: Option<u32>,
        name: &str,
    ) -> Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        request.link(index, false);
        request.field(libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes())?;
        request.text(libc::IFLA_IFNAME, name)?;
        if let Some(new_index) = new_index {
            request.field(libc::IFLA_NEW_IFINDEX, &new_index.to_ne_bytes())?;
        }
        self.ask(request)?.map(drop).map_err(Error::from)
    }

    /// RTM_NEWLINK: brings a device up.
    pub fn set_up(&self, index: u32) -> Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        request.link(index, true);
        self.ask(request)?.map(drop).map_err(Error::from)
    }

    /// RTM_NEWADDR: gives device `index` an address. A label (ip-address(8)) begins with the
    /// name of the device: without `with_label` the kernel makes a new one.
    pub fn add_address(&self, index: u32, address: &Address, with_label: bool) -> Result<()> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut request = Request::new(libc::RTM_NEWADDR, flags);
        // Flags stand in a field of 32 bits, and 0 is RT_SCOPE_UNIVERSE.
        request.0.extend([address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        request.0.extend(index.to_ne_bytes());
        request.field(libc::IFA_FLAGS, &(address.flags & OWNERS_FLAGS).to_ne_bytes())?;
        for (kind, value) in &address.fields {
            if with_label || *kind != libc::IFA_LABEL {
                request.field(*kind, value)?;
            }
        }
        self.ask(request)?.map(drop).map_err(Error::from)
    }

    /// Sends a request and takes everything up to the end of its answer.
    fn ask(&self, request: Request) -> Result<Result<Answers, Refusal>> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        send(self.socket.as_raw_fd(), &request.finish(sequence)?, MsgFlags::empty())
            .context("cannot write to a netlink socket")?;
        let mut answers = Answers::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            // With MSG_TRUNC the true length is given.
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                length => length.context("cannot read from a netlink socket")?,
            };
            let packet = buffer.get(..length).context("a netlink answer is too long")?;
            if let Some(end) = answers.take(packet, sequence) {
                return Ok(end.map(|()| answers));
            }
        }
    }
}

/// A request being put together: its header, without length and number, comes first.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(MESSAGE_HEADER, 0);
        Request(bytes)
    }

    /// struct ifinfomsg.
    fn link(&mut self, index: u32, up: bool) {
        let up = if up { libc::IFF_UP as u32 } else { 0 };
        self.0.extend([0; 4]);
        self.0.extend(index.to_ne_bytes());
        // The flags, and which of them change.
        self.0.extend(up.to_ne_bytes());
        self.0.extend(up.to_ne_bytes());
    }

    fn field(&mut self, kind: u16, value: &[u8]) -> Result<()> {
        let length = u16::try_from(FIELD_HEADER + value.len());
        let length = length.context("a value is too long for netlink")?;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(aligned(self.0.len()), 0);
        Ok(())
    }

    fn text(&mut self, kind: u16, value: &str) -> Result<()> {
        self.field(kind, &[value.as_bytes(), &[0]].concat())
    }

    fn finish(mut self, sequence: u32) -> Result<Vec<u8>> {
        let length = u32::try_from(self.0.len()).context("a netlink request is too long")?;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.0)
    }
}

/// What came back.
#[derive(Debug, Default)]
struct Answers {
    /// Bodies of the messages.
    messages: Vec<Vec<u8>>,
    /// What is listed changed meanwhile.
    interrupted: bool,
}

impl Answers {
    /// Takes one packet; the outcome when it holds the end of the answer to `sequence`.
    fn take(&mut self, mut packet: &[u8], sequence: u32) -> Option<Result<(), Refusal>> {
        const ERROR: u16 = libc::NLMSG_ERROR as u16;
        const DONE: u16 = libc::NLMSG_DONE as u16;
        while let Some(length) = number32(packet, 0) {
            let message = packet.get(..length as usize)?;
            let body = message.get(MESSAGE_HEADER..)?;
            let (kind, flags) = (number16(message, 4)?, number16(message, 6)?);
            if number32(message, 8) == Some(sequence) {
                self.interrupted |= flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match kind {
                    // The end of a listing may carry the number of an error.
                    DONE if body.len() < 4 => return Some(Ok(())),
                    ERROR | DONE => return Some(outcome(body, flags)),
                    _ => self.messages.push(body.to_vec()),
                }
            }
            packet = packet.get(aligned(length as usize)..).unwrap_or_default();
        }
        None
    }
}

/// struct nlmsgerr: a negative errno or 0, the request, and fields.
fn outcome(body: &[u8], flags: u16) -> Result<(), Refusal> {
    let number = number32(body, 0).map_or(-(Errno::EBADMSG as i32), |n| n as i32);
    if number >= 0 {
        return Ok(());
    }
    let request = match flags & CAPPED {
        0 => number32(body, 4).map_or(MESSAGE_HEADER, |length| length as usize),
        _ => MESSAGE_HEADER,
    };
    let rest = body.get(4 + aligned(request)..).filter(|_| flags & ACK_TLVS != 0);
    let text = rest.and_then(|rest| field(rest, ERROR_TEXT)).map(text);
    Err(Refusal { errno: Errno::from_raw(number.saturating_neg()), text })
}

fn parse_link(message: &[u8]) -> Option<Link> {
    let flags = number32(message, 8)?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let rest = message.get(LINK_HEADER..)?;
    let fixed = field(rest, IFLA_NETNS_IMMUTABLE);
    Some(Link {
        index: number32(message, 4)?,
        name: field(rest, libc::IFLA_IFNAME).map(text).unwrap_or_default(),
        is_up: has(libc::IFF_UP),
        is_immovable: has(libc::IFF_LOOPBACK)
            || fixed.is_some_and(|value| value.first() == Some(&1)),
    })
}

/// `None` for an address that does not move: one with an end, or of a smaller scope.
fn parse_address(message: &[u8]) -> Option<Address> {
    let [family, prefix, short_flags, scope] = *message.first_chunk()?;
    let rest = message.get(ADDRESS_HEADER..)?;
    let flags = field(rest, libc::IFA_FLAGS).and_then(|value| number32(value, 0));
    let flags = flags.unwrap_or(short_flags.into());
    let stays = scope != libc::RT_SCOPE_UNIVERSE || flags & libc::IFA_F_PERMANENT == 0;
    let others = fields(rest).filter(|(kind, _)| *kind != libc::IFA_FLAGS);
    let address = Address {
        index: number32(message, 4)?,
        family,
        prefix,
        flags,
        fields: others.map(|(kind, value)| (kind, value.to_vec())).collect(),
    };
    (!stays).then_some(address)
}

/// The fields of a message; those behind a broken one are not seen.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(number16(rest, 0)?);
        let value = rest.get(FIELD_HEADER..length)?;
        let kind = number16(rest, 2)? & FIELD_TYPE;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn field(rest: &[u8], kind: u16) -> Option<&[u8]> {
    fields(rest).find_map(|(found, value)| (found == kind).then_some(value))
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// NLMSG_ALIGN and RTA_ALIGN.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
