//! The NUMA memory policy (spec config-linux.md "Memory policy").

use oci_spec::runtime::{Linux, LinuxMemoryPolicy};

use crate::config::idlist;

/// The modes of set_mempolicy(2) (linux/mempolicy.h). The plan and the features document read
/// the table.
pub const MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Its flags, which stand in the same word.
pub const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// What set_mempolicy(2) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// MPOL_* with its MPOL_F_*.
    pub mode: u32,
    /// Bit N is node N.
    pub nodes: Vec<u64>,
}

impl MemoryPolicy {
    /// Reads a checked `linux.memoryPolicy`.
    pub fn build(linux: Option<&Linux>) -> Option<Self> {
        linux.and_then(|linux| linux.memory_policy().as_ref()).map(Self::read)
    }

    fn read(policy: &LinuxMemoryPolicy) -> Self {
        let number = |table: &[(&str, u32)], name: String| {
            table.iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| *number)
        };
        let flags = policy.flags().iter().flatten().map(|flag| number(&FLAGS, flag.to_string()));
        MemoryPolicy {
            mode: flags.fold(number(&MODES, policy.mode().to_string()), |mode, flag| mode | flag),
            nodes: policy.nodes().as_deref().and_then(idlist::bits).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_spec_has_a_number() {
        for (mode, number) in MODES {
            let json = serde_json::json!({"memoryPolicy": {"mode": mode}});
            let linux: Linux = serde_json::from_value(json).unwrap();
            assert_eq!(MemoryPolicy::build(Some(&linux)).unwrap().mode, number, "{mode}");
        }
        for (flag, number) in FLAGS {
            let json = serde_json::json!({"memoryPolicy":
                {"mode": "MPOL_BIND", "nodes": "0-1,64", "flags": [flag]}});
            let linux: Linux = serde_json::from_value(json).unwrap();
            let policy = MemoryPolicy::build(Some(&linux)).unwrap();
            assert_eq!(policy, MemoryPolicy { mode: 2 | number, nodes: vec![3, 1] }, "{flag}");
        }
        assert_eq!(MemoryPolicy::build(None), None);
    }
}
