//! The six kinds of hooks (spec config.md "POSIX-platform Hooks").

use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::{Hook, Hooks};
use serde::{Deserialize, Serialize};

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPlan {
    /// Which kind, by its name in config.json.
    pub kind: String,
    /// Which of its kind, from 0.
    pub index: usize,
    /// Absolute path, in the runtime's mount namespace or (startContainer) the container's.
    pub path: PathBuf,
    /// argv; never empty.
    pub args: Vec<String>,
    /// Its whole environment, NAME=value; `None` is the runtime's.
    pub env: Option<Vec<String>>,
    /// How long it may take; `None` is for ever.
    pub timeout: Option<Duration>,
}

/// All hooks of a container, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HooksPlan {
    /// In the runtime's namespaces, after the mounts, before pivot_root (deprecated).
    pub prestart: Vec<HookPlan>,
    /// The same place, after those.
    pub create_runtime: Vec<HookPlan>,
    /// In the container's namespaces, before pivot_root.
    pub create_container: Vec<HookPlan>,
    /// In the container, before its program.
    pub start_container: Vec<HookPlan>,
    /// In the runtime's namespaces, once the program runs.
    pub poststart: Vec<HookPlan>,
    /// In the runtime's namespaces, when the container is deleted.
    pub poststop: Vec<HookPlan>,
}

type FromSpec = fn(&Hooks) -> &Option<Vec<Hook>>;
type InPlan = fn(&mut HooksPlan) -> &mut Vec<HookPlan>;

/// Every kind by its name in config.json, in the order in which they run. The plan and the
/// features document read this table.
#[allow(deprecated)] // prestart: Docker still uses it
pub const KINDS: [(&str, FromSpec, InPlan); 6] = [
    ("prestart", Hooks::prestart, |plan| &mut plan.prestart),
    ("createRuntime", Hooks::create_runtime, |plan| &mut plan.create_runtime),
    ("createContainer", Hooks::create_container, |plan| &mut plan.create_container),
    ("startContainer", Hooks::start_container, |plan| &mut plan.start_container),
    ("poststart", Hooks::poststart, |plan| &mut plan.poststart),
    ("poststop", Hooks::poststop, |plan| &mut plan.poststop),
];

impl HooksPlan {
    /// Reads checked `hooks`. Without an environment of its own a hook gets what runc has always
    /// given it: the runtime's, and those inside the container's, `process_env`.
    pub fn build(hooks: Option<&Hooks>, process_env: &[String]) -> Self {
        let mut plan = HooksPlan::default();
        let Some(hooks) = hooks else { return plan };
        for (kind, from, into) in KINDS {
            let list = from(hooks).iter().flatten().enumerate();
            *into(&mut plan) =
                list.map(|(index, hook)| HookPlan::build(kind, index, hook)).collect();
        }
        for hook in plan.create_container.iter_mut().chain(&mut plan.start_container) {
            hook.env.get_or_insert_with(|| process_env.to_vec());
        }
        plan
    }
}

impl HookPlan {
    fn build(kind: &str, index: usize, hook: &Hook) -> Self {
        let path = hook.path().clone();
        let args = hook.args().clone().filter(|args| !args.is_empty());
        let seconds = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
        HookPlan {
            kind: kind.to_owned(),
            index,
            args: args.unwrap_or_else(|| vec![path.to_string_lossy().into_owned()]),
            env: hook.env().clone().filter(|env| !env.is_empty()),
            timeout: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_place_and_defaults_are_resolved() {
        let json = r#"{
            "prestart": [{"path": "/a"}, {"path": "/b", "args": ["x", "y"], "timeout": 3}],
            "createRuntime": [{"path": "/c", "env": ["A=1"]}], "createContainer": [{"path": "/d"}],
            "startContainer": [{"path": "/e"}], "poststart": [{"path": "/f"}],
            "poststop": [{"path": "/g", "args": []}]}"#;
        let hooks: Hooks = serde_json::from_str(json).unwrap();
        let mut plan = HooksPlan::build(Some(&hooks), &["P=1".into()]);
        for (kind, _, list) in KINDS {
            assert!(list(&mut plan).iter().all(|hook| hook.kind == kind));
        }
        let first = plan.prestart.first().unwrap();
        assert_eq!((first.index, first.args.as_slice()), (0, &["/a".to_owned()][..]));
        assert_eq!(first.timeout, None);
        let second = plan.prestart.get(1).unwrap();
        assert_eq!((second.index, second.timeout), (1, Some(Duration::from_secs(3))));
        assert_eq!(second.args, ["x", "y"]);
        assert_eq!(plan.create_runtime.first().unwrap().env, Some(vec!["A=1".into()]));
        assert_eq!(plan.create_container.first().unwrap().env, Some(vec!["P=1".into()]));
        assert_eq!(plan.start_container.first().unwrap().env, Some(vec!["P=1".into()]));
        assert_eq!(plan.poststart.first().unwrap().env, None);
        assert_eq!(plan.poststop.first().unwrap().args, ["/g"]);
        assert_eq!(HooksPlan::build(None, &[]), HooksPlan::default());
    }
}
