//! `linux.memoryPolicy`, by the rules of set_mempolicy(2), which would name each only EINVAL.

use oci_spec::runtime::{MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};

use super::Facts;
use crate::config::faults::Faults;
use crate::config::process::id_list;

pub(super) fn check(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(policy) = facts.linux.and_then(|l| l.memory_policy().as_ref()) else { return };
    let (mode, nodes) = (policy.mode(), policy.nodes().as_deref());
    let field = "linux.memoryPolicy.nodes";
    match (mode, nodes) {
        (Mode::MpolDefault | Mode::MpolLocal, Some(_)) => {
            faults.bad(field, format!("{mode} takes none"));
        }
        (Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred, None) => {}
        (_, None) => faults.bad(field, format!("{mode} needs at least one")),
        (_, Some(list)) => id_list(field, list, faults),
    }

    let has = |flag| policy.flags().as_ref().is_some_and(|flags| flags.contains(&flag));
    let (fixed, relative) = (has(Flag::MpolFStaticNodes), has(Flag::MpolFRelativeNodes));
    let field = "linux.memoryPolicy.flags";
    if fixed && relative {
        faults.bad(field, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    if (fixed || relative) && nodes.is_none() {
        faults.bad(field, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES need nodes");
    }
    let balanced = matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany);
    if has(Flag::MpolFNumaBalancing) && !balanced {
        faults.bad(field, format!("MPOL_F_NUMA_BALANCING does not go with {mode}"));
    }
}
