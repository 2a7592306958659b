//! `linux.intelRdt`: the class of service of the container (spec config-linux.md "IntelRdt").

use oci_spec::runtime::Linux;

/// What is asked of resctrl.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdtPlan {
    /// `closID`: an existing or new group, "/" the default one; `None` is one by the container's
    /// id.
    pub clos: Option<String>,
    /// The lines for its `schemata` file in the order of the spec: `l3CacheSchema`,
    /// `memBwSchema`, `schemata`.
    pub schemata: Vec<String>,
    /// `enableMonitoring`: a monitoring group of the container's own.
    pub monitoring: bool,
}

impl RdtPlan {
    /// Reads `linux.intelRdt`; `None` without one: nothing of resctrl is touched then.
    pub fn build(linux: Option<&Linux>) -> Option<Self> {
        let rdt = linux?.intel_rdt().as_ref()?;
        let lines = [rdt.l3_cache_schema(), rdt.mem_bw_schema()].into_iter().flatten();
        let lines = lines.chain(rdt.schemata().iter().flatten());
        Some(RdtPlan {
            clos: rdt.clos_id().clone().filter(|clos| !clos.is_empty()),
            schemata: lines.filter(|line| !line.is_empty()).cloned().collect(),
            monitoring: rdt.enable_monitoring().unwrap_or(false),
        })
    }
}
