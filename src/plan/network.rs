//! `linux.netDevices`: the devices of the host that the container gets (spec config-linux.md
//! "Network Devices").

use oci_spec::runtime::Linux;

/// One device to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name in the runtime's network namespace.
    pub name: String,
    /// Its name in the container's; where it holds `%d` the kernel chooses the number.
    pub new_name: String,
}

impl NetDevice {
    /// Reads `linux.netDevices`, in the order of the names: a JSON object has none.
    pub fn list(linux: Option<&Linux>) -> Vec<NetDevice> {
        let devices = linux.and_then(|l| l.net_devices().as_ref()).into_iter().flatten();
        let mut list: Vec<NetDevice> = devices
            .map(|(name, device)| {
                let given = device.name().as_ref().filter(|given| !given.is_empty());
                NetDevice { name: name.clone(), new_name: given.unwrap_or(name).clone() }
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// True when the kernel completes the name.
    pub fn is_template(&self) -> bool {
        self.new_name.contains('%')
    }
}
