//! The id mapping of a mount as data (spec config.md "POSIX-platform Mounts").

use std::path::PathBuf;

use oci_spec::runtime::{Linux, Mount};

use crate::config::idmap::{IdMapped, Ids, id_mapped};
use crate::error::{Fault, Result};
use crate::plan::namespaces::{IdMap, Namespace, NamespacesPlan};

/// How the ids of a mount are mapped (mount_setattr(2) MOUNT_ATTR_IDMAP).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMapping {
    /// For everything mounted below as well.
    pub recursive: bool,
    /// By which user namespace.
    pub by: MappedBy,
}

/// The user namespace whose mappings a mount gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappedBy {
    /// One made for it, from ids of the file system to ids of the host.
    New {
        /// Never empty.
        uids: Vec<IdMap>,
        /// Never empty.
        gids: Vec<IdMap>,
    },
    /// That of the container, joined by this file.
    Joined(PathBuf),
}

impl IdMapping {
    /// Reads the mappings of a checked mount; `field` gives its fields' names for messages.
    pub(super) fn build(
        mount: &Mount,
        linux: Option<&Linux>,
        namespaces: &NamespacesPlan,
        field: &dyn Fn(&str) -> String,
    ) -> Result<Option<Self>> {
        let mapped = id_mapped(mount, linux).map_err(|wrong| {
            Fault::bad_input(format!("{}: {}", field(&wrong.field), wrong.what))
        })?;
        let Some(IdMapped { recursive, ids, .. }) = mapped else { return Ok(None) };
        let by = match (ids, namespaces.joined(Namespace::User)) {
            (Ids::Own { uids, gids }, _) => {
                MappedBy::New { uids: IdMap::list(&uids), gids: IdMap::list(&gids) }
            }
            (Ids::OfContainer, Some(path)) => MappedBy::Joined(path.to_owned()),
            // The container's own does not exist yet when the sources are opened: one like it.
            (Ids::OfContainer, None) => {
                MappedBy::New { uids: namespaces.uid_map.clone(), gids: namespaces.gid_map.clone() }
            }
        };
        Ok(Some(IdMapping { recursive, by }))
    }
}
