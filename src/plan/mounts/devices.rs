//! Device nodes as data (spec config-linux.md "Devices", "Default Devices").

use std::ffi::CString;

use nix::sys::stat::SFlag;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};

use super::InsidePath;
use crate::error::{Fault, Result};
use crate::plan::process::c_string;

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where, inside.
    pub path: InsidePath,
    /// The same on the host: what is bound where nodes cannot be made.
    pub host_path: CString,
    /// S_IFCHR, S_IFBLK or S_IFIFO.
    pub kind: SFlag,
    /// Device number; 0 for a FIFO.
    pub number: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

/// spec config-linux.md "Default Devices" (console and ptmx are made elsewhere): name, major, minor.
const DEFAULT_DEVICES: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The default devices and those of the config, which replace them.
pub(super) fn devices(linux: Option<&Linux>) -> Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    for (path, major, minor) in DEFAULT_DEVICES {
        nodes.push(DeviceNode {
            path: InsidePath::new(path, "default device")?,
            host_path: c_string(path, "default device")?,
            kind: SFlag::S_IFCHR,
            number: nix::sys::stat::makedev(major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
    }
    for (i, device) in linux.and_then(|l| l.devices().as_ref()).into_iter().flatten().enumerate() {
        let node = device_node(device, &format!("config.json: linux.devices[{i}]"))?;
        // /dev/ptmx is always the link to this container's devpts.
        if node.path.as_str() == "dev/ptmx" {
            continue;
        }
        nodes.retain(|other: &DeviceNode| other.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

fn device_node(device: &LinuxDevice, field: &str) -> Result<DeviceNode> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => {
            let message = format!("{field}.type: \"a\" is not a type of device node");
            return Err(Fault::bad_input(message).hint("use c, b, u or p").into());
        }
    };
    let path = InsidePath::new(device.path(), &format!("{field}.path"))?;
    if path.is_root() {
        return Err(Fault::bad_input(format!("{field}.path: not the path of a file")).into());
    }
    let part = |value: i64, name: &str| {
        u32::try_from(value).map(u64::from).map_err(|_| {
            Fault::bad_input(format!("{field}.{name}: {value} is not a device number"))
        })
    };
    let number = if kind == SFlag::S_IFIFO {
        0
    } else {
        nix::sys::stat::makedev(part(device.major(), "major")?, part(device.minor(), "minor")?)
    };
    Ok(DeviceNode {
        host_path: c_string(&path.to_string(), field)?,
        path,
        kind,
        number,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
