//! `linux.intelRdt` (spec config-linux.md "IntelRdt"), without looking at the machine.

use oci_spec::runtime::LinuxIntelRdt;

use super::Facts;
use crate::config::faults::Faults;

pub(super) fn check(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(rdt) = of(facts) else { return };
    let is_name = |clos: &str| {
        clos != "." && clos != ".." && !clos.contains(|c: char| c == '/' || c.is_control())
    };
    if let Some(clos) = rdt.clos_id().as_ref().filter(|clos| *clos != "/" && !is_name(clos)) {
        let what = format!("must be the name of one directory, or /, not {clos:?}");
        faults.bad("linux.intelRdt.closID", what);
    }
    if let Some(line) = rdt.mem_bw_schema()
        && let Some(why) = bad_mem_bw_schema(line)
    {
        faults.bad("linux.intelRdt.memBwSchema", why);
    }
    for (i, line) in rdt.schemata().iter().flatten().enumerate() {
        if line.contains('\n') {
            faults.bad(format!("linux.intelRdt.schemata[{i}]"), "holds a line break");
        }
    }
}

/// What is wrong with a `memBwSchema`; `update --mem-bw-schema` asks, too.
pub fn bad_mem_bw_schema(line: &str) -> Option<String> {
    if !line.starts_with("MB:") {
        Some(format!("must start with MB:, not {line:?}"))
    } else if line.contains('\n') {
        Some("holds a line break".to_owned())
    } else {
        None
    }
}

/// What the spec only discourages.
pub(super) fn warnings(facts: &Facts<'_>) -> Vec<String> {
    let line = of(facts).and_then(|rdt| rdt.l3_cache_schema().as_ref());
    let bad = line.filter(|line| !line.starts_with("L3:") || line.contains('\n'));
    let text = "linux.intelRdt.l3CacheSchema: should be one line that starts with L3:";
    bad.map(|_| text.to_owned()).into_iter().collect()
}

fn of<'a>(facts: &Facts<'a>) -> Option<&'a LinuxIntelRdt> {
    facts.linux.and_then(|linux| linux.intel_rdt().as_ref())
}
