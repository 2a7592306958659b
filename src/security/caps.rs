//! The five capability sets, see capabilities(7). The plan holds bit masks; what the host does
//! not grant is left out with a warning, as Docker's `--privileged` needs it.

use nix::errno::Errno;

use crate::error::{Context, Result};
use crate::plan::process::CapsPlan;
use crate::sys::process as sys;

/// Every capability that this kernel knows.
pub fn known() -> u64 {
    let caps = (0..64).map_while(|cap| sys::bounding_has(cap).map(|_| 1 << cap));
    caps.fold(0, |mask, bit| mask | bit)
}

/// Every capability that can still be had here.
fn available() -> u64 {
    let caps = (0..64).map_while(|cap| sys::bounding_has(cap).map(|has| u64::from(has) << cap));
    caps.fold(0, |mask, bit| mask | bit)
}

/// The names in a mask, for messages.
fn names(mask: u64) -> String {
    let name = |bit: u32| match caps::all().into_iter().find(|c| u32::from(c.index()) == bit) {
        Some(cap) => cap.to_string(),
        None => format!("capability {bit}"),
    };
    (0..64).filter(|bit| mask & 1 << bit != 0).map(name).collect::<Vec<_>>().join(" ")
}

/// Narrows the plan to what can be granted; the parent calls it before the clone. With a
/// user namespace of its own everything that the kernel knows is granted inside.
pub fn narrow(plan: &CapsPlan, own_user_namespace: bool) -> Result<CapsPlan> {
    let grantable = if own_user_namespace {
        known()
    } else {
        available() & sys::permitted_capabilities().context("cannot read our capabilities")?
    };
    let asked = plan.bounding | plan.effective | plan.inheritable | plan.permitted | plan.ambient;
    let missing = asked & !grantable;
    if missing != 0 {
        log::warn!("ignoring capabilities that cannot be granted here: {}", names(missing));
    }
    let permitted = plan.permitted & grantable;
    // capset(2) refuses more: what is not bounding goes first.
    let inheritable = plan.inheritable & plan.bounding & grantable;
    let dropped = plan.ambient & grantable & !(permitted & inheritable);
    if dropped != 0 {
        // Not worth a warning: the default config of runc 1.1 has such ones.
        log::debug!(
            "ignoring ambient capabilities that are not both permitted and inheritable: {}",
            names(dropped)
        );
    }
    Ok(CapsPlan {
        bounding: plan.bounding & grantable,
        effective: plan.effective & permitted,
        inheritable,
        permitted,
        ambient: plan.ambient & permitted & inheritable,
    })
}

/// Drops from the bounding set whatever the plan does not name; needs CAP_SETPCAP.
pub fn limit_bounding(plan: &CapsPlan) -> Result<()> {
    for cap in (0..64).filter(|cap| plan.bounding & 1 << cap == 0) {
        match sys::bounding_drop(cap) {
            Ok(()) => {}
            // The numbers have no gap: behind the kernel's last one there is nothing to drop.
            Err(Errno::EINVAL) => break,
            Err(errno) => {
                return Err(errno).with_context(|| {
                    format!("cannot drop {} from the bounding set", names(1 << cap))
                });
            }
        }
    }
    Ok(())
}

/// Sets the other four sets.
pub fn apply(plan: &CapsPlan) -> Result<()> {
    sys::set_capabilities(plan.effective, plan.permitted, plan.inheritable)
        .context("cannot set capabilities")?;
    sys::ambient_clear().context("cannot clear ambient capabilities")?;
    for cap in (0..64).filter(|cap| plan.ambient & 1 << cap != 0) {
        sys::ambient_raise(cap)
            .with_context(|| format!("cannot raise {} to ambient", names(1 << cap)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_keeps_the_kernels_rules() {
        let plan = CapsPlan {
            bounding: 0b1111,
            effective: 0b0111,
            inheritable: 0b0001,
            permitted: 0b0011,
            ambient: 0b0011,
        };
        let narrow = narrow(&plan, true).unwrap();
        assert_eq!(narrow.effective, 0b0011);
        assert_eq!(narrow.ambient, 0b0001);
        assert_eq!(narrow.bounding, 0b1111);
    }

    #[test]
    fn unknown_numbers_are_left_out() {
        let plan = CapsPlan { bounding: u64::MAX, ..CapsPlan::default() };
        assert_eq!(narrow(&plan, true).unwrap().bounding, known());
        assert_eq!(known() & 1, 1);
    }
}
