//! `mounts` (spec config.md "Mounts").

use std::path::{Component, Path};

use oci_spec::runtime::{LinuxNamespaceType as NamespaceType, Mount};

use super::linux::mapping_list;
use super::{Facts, missing};
use crate::config::faults::Faults;
use crate::config::idmap::{Ids, id_mapped};

pub(super) fn check(facts: &Facts<'_>, faults: &mut Faults) {
    for (i, mount) in facts.spec.mounts().iter().flatten().enumerate() {
        let at = format!("mounts[{i}]");
        destination(mount, &at, faults);
        source(mount, &at, facts.bundle, faults);
        filesystem_type(mount, &at, faults);
        id_mapping(facts, mount, &at, faults);
        link_options(mount, &at, faults);
        for (j, option) in mount.options().iter().flatten().enumerate() {
            faults.nul(format!("{at}.options[{j}]"), option);
        }
    }
}

pub(super) fn warnings(facts: &Facts<'_>) -> Vec<String> {
    let mounts = facts.spec.mounts().iter().flatten().enumerate();
    mounts
        .filter(|(_, mount)| !mount.destination().is_absolute())
        .map(|(i, mount)| {
            let destination = mount.destination().display();
            format!(
                "mounts[{i}].destination: {destination} is relative, which is deprecated; \
                     taken as relative to /"
            )
        })
        .collect()
}

fn has_option(mount: &Mount, names: &[&str]) -> bool {
    mount.options().iter().flatten().any(|option| names.contains(&option.as_str()))
}

fn is_bind(mount: &Mount) -> bool {
    has_option(mount, &["bind", "rbind"]) || mount.typ().as_deref() == Some("bind")
}

fn destination(mount: &Mount, at: &str, faults: &mut Faults) {
    let destination = mount.destination();
    let field = format!("{at}.destination");
    if destination.as_os_str().is_empty() {
        faults.bad(field, "required");
        return;
    }
    faults.nul(&field, &destination.to_string_lossy());
    if lexical_depth(destination) == 0 {
        let what = format!("{} would cover the root filesystem", destination.display());
        faults.bad_hint(field, what, "root.path names the root filesystem");
    }
}

/// How far below the root a path leads when nothing in it is a symbolic link.
fn lexical_depth(path: &Path) -> usize {
    path.components().fold(0, |depth: usize, component| match component {
        Component::Normal(_) => depth + 1,
        Component::ParentDir => depth.saturating_sub(1),
        _ => depth,
    })
}

fn source(mount: &Mount, at: &str, bundle: &Path, faults: &mut Faults) {
    let field = format!("{at}.source");
    let source = mount.source().as_ref().filter(|s| !s.as_os_str().is_empty());
    if let Some(source) = source {
        faults.nul(&field, &source.to_string_lossy());
    }
    if !is_bind(mount) || has_option(mount, &["remount"]) {
        return;
    }
    match source.map(|s| bundle.join(s)) {
        None => faults.bad(field, "required: what a bind mount shows"),
        // A link that leads nowhere is something where it is not followed.
        Some(path)
            if missing(&path)
                && !(path.is_symlink() && has_option(mount, &["src-nofollow", "copy-symlink"])) =>
        {
            faults.bad_hint(
                field,
                format!("no such file or directory: {}", path.display()),
                "create it, or drop the mount",
            )
        }
        Some(_) => {}
    }
}

fn filesystem_type(mount: &Mount, at: &str, faults: &mut Faults) {
    let field = format!("{at}.type");
    match mount.typ() {
        Some(name) => faults.nul(field, name),
        None if is_bind(mount) || has_option(mount, &["remount"]) => {}
        None => faults.bad_hint(
            field,
            "required for all but bind mounts",
            "for a bind mount add \"bind\" or \"rbind\" to the options",
        ),
    }
}

fn id_mapping(facts: &Facts<'_>, mount: &Mount, at: &str, faults: &mut Faults) {
    let mapped = match id_mapped(mount, facts.linux) {
        Ok(None) => return,
        Ok(Some(mapped)) => mapped,
        Err(wrong) => return faults.bad(format!("{at}.{}", wrong.field), wrong.what),
    };
    let [uids_field, gids_field] = mapped.fields.map(|field| format!("{at}.{field}"));
    if !is_bind(mount) || has_option(mount, &["remount"]) {
        let hint = "add \"bind\" or \"rbind\" to the options";
        faults.bad_hint(&uids_field, "only a bind mount can be id-mapped", hint);
    }
    match mapped.ids {
        Ids::Own { uids, gids } => {
            mapping_list(&uids_field, &uids, faults);
            mapping_list(&gids_field, &gids, faults);
        }
        Ids::OfContainer if !facts.has(NamespaceType::User) => faults.bad_hint(
            uids_field,
            "there is nothing to map by: neither mappings nor a user namespace",
            "give the mount uidMappings and gidMappings, or the container a user namespace",
        ),
        Ids::OfContainer => {}
    }
}

/// copy-symlink makes a link instead of a mount, the other two mount from or on one.
fn link_options(mount: &Mount, at: &str, faults: &mut Faults) {
    if has_option(mount, &["copy-symlink"]) && has_option(mount, &["src-nofollow", "dest-nofollow"])
    {
        let what = "copy-symlink excludes src-nofollow and dest-nofollow";
        faults.bad(format!("{at}.options"), what);
    }
}
