//! Moves devices of the runtime's network namespace into the container's (spec config-linux.md
//! "Network Devices").
//!
//! The parent does it all, while init waits with its mounts made: hooks see the devices, sysctls
//! may name them, and little is left that can fail. With the move a device goes down and loses
//! its addresses; those that are permanent and of global scope are given back to it. When
//! `create` fails later, the devices are moved back with their names, addresses and state; when a
//! container ends, the kernel alone decides (network_namespaces(7)).

mod netlink;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::stat::fstat;

use crate::error::{Context, Fault, Result, render_line};
use crate::plan::network::NetDevice;
use netlink::{Address, By, Link, Netlink};

/// One device, as it is on the host.
struct Device {
    plan: NetDevice,
    link: Link,
    addresses: Vec<Address>,
}

impl Device {
    fn field(&self) -> String {
        field(&self.plan)
    }
}

fn field(plan: &NetDevice) -> String {
    format!("config.json: linux.netDevices.{}", plan.name)
}

/// The devices of a container that is being made. When it is dropped before [`Devices::keep`],
/// they go back.
pub struct Devices {
    own: File,
    host: Netlink,
    /// `None` until the container's network namespace is known.
    inside: Option<Netlink>,
    devices: Vec<Device>,
    /// Positions of those on their way or there, and their numbers in the container.
    moved: Vec<(usize, u32)>,
}

impl Devices {
    /// Looks whether the devices are there and can be moved; no effect. `joined` is the network
    /// namespace, where it exists already. `None` without devices.
    pub fn find(plans: &[NetDevice], joined: Option<BorrowedFd<'_>>) -> Result<Option<Self>> {
        if plans.is_empty() {
            return Ok(None);
        }
        let own = File::open("/proc/self/ns/net").context("cannot open /proc/self/ns/net")?;
        if let Some(joined) = joined
            && is_same(own.as_fd(), joined)?
        {
            let text = "config.json: linux.netDevices: the network namespace is the runtime's own";
            let hint = "devices move to another: drop the path of it in linux.namespaces";
            return Err(Fault::bad_input(text).hint(hint).into());
        }
        let host = Netlink::open()?;
        let addresses = host.addresses()?;
        let mut devices = Vec::new();
        for plan in plans {
            let link = movable(&host, plan)?;
            let addresses = addresses.iter().filter(|a| a.index == link.index).cloned().collect();
            devices.push(Device { plan: plan.clone(), link, addresses });
        }
        let inside = joined.map(|netns| Netlink::open_in(netns, own.as_fd())).transpose()?;
        for plan in plans.iter().filter(|plan| !plan.is_template()) {
            if let Some(inside) = &inside
                && inside.link(By::Name(&plan.new_name))?.is_some()
            {
                let text = format!(
                    "{}: the container's network namespace has a device {} already",
                    field(plan),
                    plan.new_name
                );
                let hint = "give another name, or one with %d for the kernel to complete";
                return Err(Fault::bad_input(text).hint(hint).into());
            }
        }
        Ok(Some(Devices { own, host, inside, devices, moved: Vec::new() }))
    }

    /// Moves them into `netns`, gives each its name and addresses, and brings it up.
    pub fn move_into(&mut self, netns: BorrowedFd<'_>) -> Result<()> {
        let inside = match self.inside.take() {
            Some(inside) => inside,
            None => Netlink::open_in(netns, self.own.as_fd())?,
        };
        let inside = self.inside.insert(inside);
        for (position, device) in self.devices.iter().enumerate() {
            let Device { plan, link, addresses } = device;
            let index = free_index(inside, link.index)?;
            // Before it is tried: the kernel may move it and then refuse the name.
            self.moved.push((position, index));
            self.host.move_link(link.index, netns, Some(index), &plan.new_name).with_context(
                || format!("{}: cannot move it and name it {}", device.field(), plan.new_name),
            )?;
            restore(inside, index, addresses, plan.new_name == plan.name)
                .with_context(|| device.field())?;
            inside.set_up(index).with_context(|| {
                format!("{}: cannot bring it up in the container", device.field())
            })?;
        }
        Ok(())
    }

    /// The container is made: its devices stay.
    pub fn keep(mut self) {
        self.moved.clear();
    }

    fn move_back(&self, device: &Device, index: u32) -> Result<()> {
        let Some(inside) = &self.inside else { return Ok(()) };
        let Device { plan, link, addresses } = device;
        if self.host.link(By::Index(link.index))?.is_some() {
            return Ok(());
        }
        inside.move_link(index, self.own.as_fd(), None, &plan.name)?;
        let back = self.host.link(By::Name(&plan.name))?.context("it is gone")?;
        restore(&self.host, back.index, addresses, true)?;
        match link.is_up {
            true => self.host.set_up(back.index),
            false => Ok(()),
        }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        for (position, index) in self.moved.iter().rev() {
            if let Some(device) = self.devices.get(*position)
                && let Err(error) = self.move_back(device, *index)
            {
                let name = &device.plan.name;
                log::warn!("cannot move network device {name} back: {}", render_line(&error));
            }
        }
    }
}

fn is_same(own: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool> {
    let inode = |file| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    Ok(inode(own).context("cannot look at our network namespace")?
        == inode(other).context("cannot look at a network namespace")?)
}

fn movable(host: &Netlink, plan: &NetDevice) -> Result<Link> {
    let link = host.link(By::Name(&plan.name))?.ok_or_else(|| {
        Fault::bad_input(format!("{}: no such network device on the host", field(plan)))
            .hint("the key is a name of `ip link`, where Corten runs")
    })?;
    if link.name != plan.name {
        let text = format!("{}: an alternative name of {}", field(plan), link.name);
        return Err(Fault::bad_input(text).hint("give the name of the device itself").into());
    }
    if link.is_immovable {
        let text = format!("{}: the kernel does not let this device move", field(plan));
        return Err(Fault::bad_input(text).into());
    }
    Ok(link)
}

/// The device's number, or the next that is free in the namespace: by its number it is found
/// there whatever its name.
fn free_index(inside: &Netlink, wanted: u32) -> Result<u32> {
    let mut index = wanted;
    while inside.link(By::Index(index))?.is_some() {
        index += 1;
    }
    Ok(index)
}

fn restore(netlink: &Netlink, index: u32, addresses: &[Address], with_label: bool) -> Result<()> {
    for address in addresses {
        netlink
            .add_address(index, address, with_label)
            .with_context(|| format!("cannot give it its address {address} again"))?;
    }
    Ok(())
}
