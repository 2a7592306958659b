use super::*;
use crate::error::render_line;

/// A message of the kernel: its fields follow the fixed part of its body.
fn message(kind: u16, flags: u16, sequence: u32, fixed: &[u8], list: &[(u16, &[u8])]) -> Vec<u8> {
    let mut request = Request::new(kind, 0);
    request.0.extend(fixed);
    for (kind, value) in list {
        request.field(*kind, value).unwrap();
    }
    let mut bytes = request.finish(sequence).unwrap();
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn error(number: i32, flags: u16, list: &[(u16, &[u8])]) -> Vec<u8> {
    let request = message(libc::RTM_NEWLINK, 0, 7, &[0; LINK_HEADER], &[]);
    let echoed = if flags & CAPPED != 0 { &request[..MESSAGE_HEADER] } else { &request };
    let fixed = [&number.to_ne_bytes(), echoed].concat();
    message(libc::NLMSG_ERROR as u16, flags, 7, &fixed, list)
}

fn address(scope: u8, flags: u32) -> Vec<u8> {
    let fixed = [libc::AF_INET as u8, 24, 0x80, scope, 9, 0, 0, 0];
    let flags = flags.to_ne_bytes();
    let list: [(u16, &[u8]); 4] = [
        (libc::IFA_ADDRESS, &[10, 0, 0, 2]),
        (libc::IFA_LOCAL, &[10, 0, 0, 1]),
        (libc::IFA_LABEL, b"eth0\0"),
        (libc::IFA_FLAGS, &flags),
    ];
    message(libc::RTM_NEWADDR, 0, 7, &fixed, &list)[MESSAGE_HEADER..].to_vec()
}

#[test]
fn answers_end_with_an_acknowledgement_or_a_refusal_in_words() {
    let mut answers = Answers::default();
    let link = message(libc::RTM_NEWLINK, 0, 7, &[0; LINK_HEADER], &[]);
    let another = error(-(Errno::EPERM as i32), 0, &[]);
    let mut foreign = another.clone();
    foreign[8..12].copy_from_slice(&6u32.to_ne_bytes());
    // What answers an earlier request is passed over.
    assert!(answers.take(&[foreign, link].concat(), 7).is_none());
    assert_eq!(answers.messages.len(), 1);
    assert!(!answers.interrupted);
    let cut_short = message(libc::RTM_NEWADDR, libc::NLM_F_DUMP_INTR as u16, 7, &[], &[]);
    assert!(answers.take(&cut_short, 7).is_none() && answers.interrupted);
    assert_eq!(answers.take(&error(0, 0, &[]), 7), Some(Ok(())));

    let text: [(u16, &[u8]); 2] = [(3, &[1, 2]), (ERROR_TEXT, b"name taken\0")];
    for flags in [ACK_TLVS, ACK_TLVS | CAPPED] {
        let refusal = answers.take(&error(-(Errno::EEXIST as i32), flags, &text), 7);
        let refusal = refusal.unwrap().unwrap_err();
        assert_eq!(render_line(&refusal.into()), "name taken: file exists");
    }
    let refusal = answers.take(&another, 7).unwrap().unwrap_err();
    assert_eq!(refusal, Refusal { errno: Errno::EPERM, text: None });
}

#[test]
fn only_permanent_global_addresses_move() {
    let lasting = parse_address(&address(0, libc::IFA_F_PERMANENT)).unwrap();
    assert_eq!((lasting.index, lasting.to_string().as_str()), (9, "10.0.0.1/24"));
    // The flags of 32 bits count, not the short ones beside the scope.
    assert_eq!(parse_address(&address(0, 0)), None);
    for scope in [libc::RT_SCOPE_LINK, libc::RT_SCOPE_HOST, libc::RT_SCOPE_SITE] {
        assert_eq!(parse_address(&address(scope, libc::IFA_F_PERMANENT)), None);
    }
}

#[test]
fn lengths_hold_on_the_way_out() {
    // CVE-2021-43784: 16 bits would wrap around.
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    assert!(request.field(1, &vec![0; 65532]).is_err());
    assert!(request.field(1, &vec![0; 65531]).is_ok());
}

#[test]
fn what_is_cut_or_lies_about_its_length_does_no_harm() {
    let whole = [
        message(libc::RTM_NEWADDR, 0, 7, &address(0, libc::IFA_F_PERMANENT), &[]),
        error(-1, ACK_TLVS, &[(ERROR_TEXT, b"no\0")]),
    ]
    .concat();
    let read = |packet: &[u8]| {
        let mut answers = Answers::default();
        let end = answers.take(packet, 7);
        for message in &answers.messages {
            let _ = (parse_link(message), parse_address(message).map(|a| a.to_string()));
        }
        end
    };
    assert!(read(&whole).is_some());
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_none(), "{length}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 3, 4, 15, 0x7f, 0x80, 0xff] {
            let mut packet = whole.clone();
            packet[at] = value;
            // It comes back: no panic, no endless loop.
            let _ = read(&packet);
        }
    }
}

#[test]
fn the_kernel_is_asked() {
    let netlink = Netlink::open().unwrap();
    let lo = netlink.link(By::Name("lo")).unwrap().unwrap();
    assert!(lo.is_immovable);
    assert_eq!(netlink.link(By::Index(lo.index)).unwrap(), Some(lo));
    assert_eq!(netlink.link(By::Name("no-such")).unwrap(), None);
    // Those of lo are of a smaller scope.
    assert!(netlink.addresses().unwrap().iter().all(|address| address.index != 1));
}
