//! Annotations that change what is done, by the names that crun(1) gave them.

use std::collections::HashMap;

use super::process::ProcessPlan;

type Apply = fn(&mut ProcessPlan, &str);

/// Each with what its value does. The features document reads the table.
pub const ACTED_ON: [(&str, Apply); 1] = [
    // Podman's `--group-add keep-groups`; "0" is off.
    ("run.oci.keep_original_groups", |process, value| process.user.keep_groups = value != "0"),
];

/// Applies those that are there.
pub fn apply(annotations: Option<&HashMap<String, String>>, process: &mut ProcessPlan) {
    for (name, apply) in ACTED_ON {
        if let Some(value) = annotations.and_then(|annotations| annotations.get(name)) {
            apply(process, value);
        }
    }
}
