//! AppArmor and SELinux: the label that the next execve(2) gives the process.

use std::path::Path;

use crate::error::{Context, Fault, Kind, Result};
use crate::plan::process::ProcessPlan;
use crate::security::procfs::Proc;

/// True when AppArmor is on in this kernel.
pub fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y"))
}

/// True when SELinux is on: its filesystem is mounted and a policy is loaded.
pub fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
        && std::fs::read("/proc/self/attr/current").is_ok_and(|label| label.contains(&b':'))
}

/// Refuses labels that this kernel would silently ignore; before any effect.
pub fn check(process: &ProcessPlan, file: &str) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile
        && !apparmor_enabled()
    {
        return Err(Fault::new(
            Kind::Unsupported,
            format!("{file}.apparmorProfile: {profile:?}: AppArmor is not enabled in this kernel"),
        )
        .hint("drop apparmorProfile, or boot with AppArmor")
        .into());
    }
    if let Some(label) = &process.selinux_label
        && !selinux_enabled()
    {
        return Err(Fault::new(
            Kind::Unsupported,
            format!("{file}.selinuxLabel: {label:?}: SELinux is not enabled in this kernel"),
        )
        .hint("drop selinuxLabel, or boot with SELinux and a policy")
        .into());
    }
    Ok(())
}

/// Tells the kernel the label for the coming execve(2).
pub fn apply(process: &ProcessPlan, proc: &Proc) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile {
        // Linux 5.8 gave AppArmor a directory of its own, which works beside other modules.
        let own = "self/attr/apparmor/exec";
        let file = if proc.has(own) { own } else { "self/attr/exec" };
        proc.write(file, &format!("exec {profile}"))
            .with_context(|| format!("cannot set AppArmor profile {profile:?}; is it loaded?"))?;
    }
    if let Some(label) = &process.selinux_label {
        proc.write("self/attr/exec", label)
            .with_context(|| format!("cannot set SELinux label {label:?}"))?;
    }
    Ok(())
}

/// Gives the keys that this process makes until its execve(2) the container's SELinux label: its
/// session keyring would have the runtime's, and be closed to the program.
pub fn label_keys(process: &ProcessPlan, proc: &Proc) -> Result<()> {
    let Some(label) = &process.selinux_label else { return Ok(()) };
    proc.write("self/attr/keycreate", label)
        .with_context(|| format!("cannot set SELinux label {label:?} for the session keyring"))
}
