//! Id-mapped mounts: what a mount's `uidMappings`, `gidMappings` and the options `idmap` and
//! `ridmap` ask for (spec config.md "Linux mount options", "POSIX-platform Mounts"), and the
//! mappings that crun and Podman write into the option itself (crun(1) "idmap mount options").

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxIdMappingBuilder, Mount};

/// An id-mapped mount.
#[derive(Debug, PartialEq, Eq)]
pub struct IdMapped {
    /// For everything mounted below as well.
    pub recursive: bool,
    /// The mappings.
    pub ids: Ids,
    /// The fields of the mount that hold those of users and of groups, for messages.
    pub fields: [String; 2],
}

/// The mappings of a mount: from ids of the file system to ids of the host.
#[derive(Debug, PartialEq, Eq)]
pub enum Ids {
    /// Its own; neither list is empty.
    Own {
        /// Of users.
        uids: Vec<LinuxIdMapping>,
        /// Of groups.
        gids: Vec<LinuxIdMapping>,
    },
    /// Those of the container's user namespace.
    OfContainer,
}

/// What is wrong with a field of the mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its name below the mount.
    pub field: String,
    /// What.
    pub what: String,
}

/// Reads the mappings of a mount; `None` when it has none. Mappings without an option count as
/// `idmap`, as for runc.
pub fn id_mapped(mount: &Mount, linux: Option<&Linux>) -> Result<Option<IdMapped>, Wrong> {
    let option = last_option(mount);
    let recursive = option.as_ref().is_some_and(|option| option.recursive);
    let list = |list: &Option<Vec<LinuxIdMapping>>| list.clone().unwrap_or_default();
    let (uids, gids) = (list(mount.uid_mappings()), list(mount.gid_mappings()));
    match (uids.is_empty(), gids.is_empty(), option) {
        (false, false, _) => {
            let fields = ["uidMappings", "gidMappings"].map(String::from);
            Ok(Some(IdMapped { recursive, ids: Ids::Own { uids, gids }, fields }))
        }
        (true, true, None) => Ok(None),
        (true, true, Some(option)) => {
            let field = format!("options[{}]", option.index);
            let ids = match option.text {
                None | Some("") => Ids::OfContainer,
                Some(text) => {
                    inline(text, linux).map_err(|what| Wrong { field: field.clone(), what })?
                }
            };
            Ok(Some(IdMapped { recursive, ids, fields: [field.clone(), field] }))
        }
        (false, true, _) => Err(alone("uidMappings", "gidMappings")),
        (true, false, _) => Err(alone("gidMappings", "uidMappings")),
    }
}

fn alone(given: &str, missing: &str) -> Wrong {
    Wrong { field: given.into(), what: format!("needs {missing} beside it") }
}

struct IdmapOption<'a> {
    index: usize,
    recursive: bool,
    /// What stands behind the `=`.
    text: Option<&'a str>,
}

fn last_option(mount: &Mount) -> Option<IdmapOption<'_>> {
    let options = mount.options().iter().flatten().enumerate();
    options
        .filter_map(|(index, word)| {
            let (name, text) = match word.split_once('=') {
                Some((name, text)) => (name, Some(text)),
                None => (word.as_str(), None),
            };
            let recursive = name == "ridmap";
            (recursive || name == "idmap").then_some(IdmapOption { index, recursive, text })
        })
        .last()
}

/// `uids=0-1-10#10-11-10;gids=0-100-10`: first id in the file system, first id on the host, how
/// many. After `@` the second is an id of the container's user namespace.
fn inline(text: &str, linux: Option<&Linux>) -> Result<Ids, String> {
    let container = |list: Option<&Option<Vec<LinuxIdMapping>>>| {
        list.and_then(|list| list.clone()).unwrap_or_default()
    };
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (list, ranges, users) = match part.split_once('=') {
            Some(("uids", ranges)) => {
                (&mut uids, ranges, container(linux.map(|l| l.uid_mappings())))
            }
            Some(("gids", ranges)) => {
                (&mut gids, ranges, container(linux.map(|l| l.gid_mappings())))
            }
            _ => return Err(format!("{part:?} is neither uids=... nor gids=...")),
        };
        for range in ranges.split('#').filter(|range| !range.is_empty()) {
            match range.strip_prefix('@') {
                Some(relative) => list.extend(on_host(triple(relative)?, &users, range)?),
                None => list.push(mapping(triple(range)?)?),
            }
        }
    }
    match (uids.is_empty(), gids.is_empty()) {
        (false, false) => Ok(Ids::Own { uids, gids }),
        (true, _) => Err("maps no users: uids=... is missing".into()),
        (_, true) => Err("maps no groups: gids=... is missing".into()),
    }
}

fn triple(range: &str) -> Result<[u32; 3], String> {
    let numbers: Option<Vec<u32>> = range.split('-').map(|number| number.parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("{range:?} is not of the form ID-ID-SIZE"))
}

fn mapping([inside, outside, size]: [u32; 3]) -> Result<LinuxIdMapping, String> {
    let builder = LinuxIdMappingBuilder::default();
    let builder = builder.container_id(inside).host_id(outside).size(size);
    builder.build().map_err(|error| error.to_string())
}

/// The parts of a range whose second id is one of the container, each in one of the container's
/// own ranges.
fn on_host(
    [mut inside, mut outside, mut size]: [u32; 3],
    container: &[LinuxIdMapping],
    range: &str,
) -> Result<Vec<LinuxIdMapping>, String> {
    let unmapped = || format!("{range:?} is not mapped by the container's user namespace");
    let mut parts = Vec::new();
    while size > 0 || parts.is_empty() {
        let (offset, first) = container
            .iter()
            .find_map(|m| {
                let offset = outside.checked_sub(m.container_id())?;
                (offset < m.size()).then_some((offset, m))
            })
            .ok_or_else(unmapped)?;
        let count = size.min(first.size() - offset);
        let host = first.host_id().checked_add(offset).ok_or_else(unmapped)?;
        parts.push(mapping([inside, host, count])?);
        let next = |id: u32| id.checked_add(count).ok_or_else(unmapped);
        (inside, outside, size) = (next(inside)?, next(outside)?, size - count);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mount: &str, linux: &str) -> Result<Option<IdMapped>, Wrong> {
        let linux: Linux = serde_json::from_str(linux).unwrap();
        id_mapped(&serde_json::from_str(mount).unwrap(), Some(&linux))
    }

    type Triples = Vec<[u32; 3]>;

    fn option(word: &str) -> Result<(Triples, Triples), String> {
        let linux = r#"{"uidMappings":[{"containerID":0,"hostID":0,"size":1},
            {"containerID":1,"hostID":2,"size":10},{"containerID":11,"hostID":500,"size":1000}],
            "gidMappings":[{"containerID":0,"hostID":7,"size":100}]}"#;
        let mount = format!(r#"{{"destination":"/a","options":["bind","{word}"]}}"#);
        match read(&mount, linux).map_err(|wrong| wrong.what)?.unwrap().ids {
            Ids::Own { uids, gids } => Ok((triples(&uids), triples(&gids))),
            Ids::OfContainer => Ok((vec![], vec![])),
        }
    }

    fn triples(list: &[LinuxIdMapping]) -> Triples {
        list.iter().map(|m| [m.container_id(), m.host_id(), m.size()]).collect()
    }

    #[test]
    fn mappings_in_the_option() {
        assert_eq!(option("idmap"), Ok((vec![], vec![])));
        assert_eq!(
            option("idmap=uids=0-1-10#10-11-10;gids=0-100-10"),
            Ok((vec![[0, 1, 10], [10, 11, 10]], vec![[0, 100, 10]]))
        );
        // The example of crun(1): relative to the container's user namespace.
        assert_eq!(
            option("ridmap=uids=@1-3-7;gids=@0-0-1#5-6-7"),
            Ok((vec![[1, 4, 7]], vec![[0, 7, 1], [5, 6, 7]]))
        );
        // Over the border of two of its ranges.
        assert_eq!(
            option("idmap=gids=0-0-1;uids=@100-9-5").unwrap().0,
            [[100, 10, 2], [102, 500, 3]]
        );
        for (word, what) in [
            ("idmap=uids=0-0-1", "maps no groups: gids=... is missing"),
            ("idmap=gids=0-0-1", "maps no users: uids=... is missing"),
            ("idmap=;", "maps no users: uids=... is missing"),
            ("idmap=0-0-1", "\"0-0-1\" is neither uids=... nor gids=..."),
            ("idmap=uids=0-0", "\"0-0\" is not of the form ID-ID-SIZE"),
            ("idmap=uids=0-0-0-0", "\"0-0-0-0\" is not of the form ID-ID-SIZE"),
            ("idmap=uids=0--1-1", "\"0--1-1\" is not of the form ID-ID-SIZE"),
            ("idmap=uids=0-4294967296-1", "\"0-4294967296-1\" is not of the form ID-ID-SIZE"),
            ("idmap=gids=@0-99-2", "\"@0-99-2\" is not mapped by the container's user namespace"),
            (
                "idmap=uids=@4294967290-0-1000",
                "\"@4294967290-0-1000\" is not mapped by the container's user namespace",
            ),
        ] {
            assert_eq!(option(word), Err(what.to_string()), "{word}");
        }
    }

    #[test]
    fn fields_win_over_the_option() {
        let fields = r#"{"destination":"/a","options":["ridmap=nonsense"],
            "uidMappings":[{"containerID":0,"hostID":5,"size":1}],
            "gidMappings":[{"containerID":0,"hostID":6,"size":1}]}"#;
        let read = read(fields, "{}").unwrap().unwrap();
        assert!(read.recursive);
        let Ids::Own { uids, gids } = read.ids else { panic!("{read:?}") };
        assert_eq!((triples(&uids), triples(&gids)), (vec![[0, 5, 1]], vec![[0, 6, 1]]));
    }

    #[test]
    fn one_list_needs_the_other() {
        let one = r#"{"destination":"/a","gidMappings":[{"containerID":0,"hostID":6,"size":1}]}"#;
        let wrong =
            Wrong { field: "gidMappings".into(), what: "needs uidMappings beside it".into() };
        assert_eq!(read(one, "{}"), Err(wrong));
        assert_eq!(read(r#"{"destination":"/a","uidMappings":[]}"#, "{}"), Ok(None));
    }
}
