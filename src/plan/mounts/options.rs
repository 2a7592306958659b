//! What each mount option means: the one table that the parser and `features` read
//! (spec config.md "Linux mount options", mount(8)). A word that is not in it is for the file
//! system itself.

use nix::mount::MsFlags;

use crate::sys::mount::attr;

/// What to set and what to clear on a mount, as `MOUNT_ATTR_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear; holds all of [`attr::ATIME`] whenever an access time value is set.
    pub clear: u64,
}

impl Attributes {
    /// True when nothing is asked for.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    /// The access times are a field of three values, not three bits: the last word wins.
    fn access_times(&mut self, value: u64) {
        self.clear |= attr::ATIME;
        self.set = self.set & !attr::ATIME | value;
    }
}

/// mount_namespaces(7) "Shared subtrees": one change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE.
    pub kind: MsFlags,
    /// For everything mounted below as well.
    pub recursive: bool,
}

/// What a mount option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Sets `MOUNT_ATTR_*` on the mount.
    Set(u64),
    /// Clears `MOUNT_ATTR_*` on the mount.
    Clear(u64),
    /// Sets the access time field of the mount.
    AccessTimes(u64),
    /// Back to the kernel's default, where the access time field has this value.
    NotAccessTimes(u64),
    /// As [`Effect::Set`], for the mount and all below it.
    SetRecursive(u64),
    /// As [`Effect::Clear`], for the mount and all below it.
    ClearRecursive(u64),
    /// As [`Effect::AccessTimes`], for the mount and all below it.
    AccessTimesRecursive(u64),
    /// Sets a flag of the superblock (a new file system only).
    SetSuper(MsFlags),
    /// Clears a flag of the superblock.
    ClearSuper(MsFlags),
    /// Changes the propagation.
    Propagate(Propagation),
    /// A bind mount.
    Bind {
        /// With everything mounted below the source.
        recursive: bool,
    },
    /// Changes what is mounted already.
    Remount,
    /// A tmpfs starts with what it covers.
    CopyUp,
    /// The ids are mapped; what it asks for is read by [`crate::config::idmap`].
    IdMap,
    /// A source that is a symbolic link is made again at the destination, not followed.
    CopySymlink,
    /// A source that is a symbolic link is mounted itself.
    SourceNoFollow,
    /// A destination that is a symbolic link is mounted on itself.
    DestinationNoFollow,
    /// The default, or without a meaning for system calls.
    Nothing,
}

use Effect::*;

const fn propagate(kind: MsFlags, recursive: bool) -> Effect {
    Propagate(Propagation { kind, recursive })
}

/// Every option that Corten itself understands.
pub const OPTIONS: [(&str, Effect); 65] = [
    ("async", ClearSuper(MsFlags::MS_SYNCHRONOUS)),
    ("atime", AccessTimes(attr::RELATIME)),
    ("bind", Bind { recursive: false }),
    ("copy-symlink", CopySymlink),
    ("defaults", Nothing),
    ("dest-nofollow", DestinationNoFollow),
    ("dev", Clear(attr::NODEV)),
    ("diratime", Clear(attr::NODIRATIME)),
    ("dirsync", SetSuper(MsFlags::MS_DIRSYNC)),
    ("exec", Clear(attr::NOEXEC)),
    ("idmap", IdMap),
    ("iversion", SetSuper(MsFlags::MS_I_VERSION)),
    ("lazytime", SetSuper(MsFlags::MS_LAZYTIME)),
    ("loud", Nothing),
    ("mand", SetSuper(MsFlags::MS_MANDLOCK)),
    ("noatime", AccessTimes(attr::NOATIME)),
    ("nodev", Set(attr::NODEV)),
    ("nodiratime", Set(attr::NODIRATIME)),
    ("noexec", Set(attr::NOEXEC)),
    ("noiversion", ClearSuper(MsFlags::MS_I_VERSION)),
    ("nolazytime", ClearSuper(MsFlags::MS_LAZYTIME)),
    ("nomand", ClearSuper(MsFlags::MS_MANDLOCK)),
    ("norelatime", Nothing),
    ("nostrictatime", NotAccessTimes(attr::STRICTATIME)),
    ("nosuid", Set(attr::NOSUID)),
    ("nosymfollow", Set(attr::NOSYMFOLLOW)),
    ("private", propagate(MsFlags::MS_PRIVATE, false)),
    ("ratime", AccessTimesRecursive(attr::RELATIME)),
    ("rbind", Bind { recursive: true }),
    ("rdev", ClearRecursive(attr::NODEV)),
    ("rdiratime", ClearRecursive(attr::NODIRATIME)),
    ("relatime", AccessTimes(attr::RELATIME)),
    ("remount", Remount),
    ("rexec", ClearRecursive(attr::NOEXEC)),
    ("ridmap", IdMap),
    ("rnoatime", AccessTimesRecursive(attr::NOATIME)),
    ("rnodev", SetRecursive(attr::NODEV)),
    ("rnodiratime", SetRecursive(attr::NODIRATIME)),
    ("rnoexec", SetRecursive(attr::NOEXEC)),
    ("rnorelatime", AccessTimesRecursive(attr::RELATIME)),
    ("rnostrictatime", AccessTimesRecursive(attr::RELATIME)),
    ("rnosuid", SetRecursive(attr::NOSUID)),
    ("rnosymfollow", SetRecursive(attr::NOSYMFOLLOW)),
    ("ro", Set(attr::RDONLY)),
    ("rprivate", propagate(MsFlags::MS_PRIVATE, true)),
    ("rrelatime", AccessTimesRecursive(attr::RELATIME)),
    ("rro", SetRecursive(attr::RDONLY)),
    ("rrw", ClearRecursive(attr::RDONLY)),
    ("rshared", propagate(MsFlags::MS_SHARED, true)),
    ("rslave", propagate(MsFlags::MS_SLAVE, true)),
    ("rstrictatime", AccessTimesRecursive(attr::STRICTATIME)),
    ("rsuid", ClearRecursive(attr::NOSUID)),
    ("rsymfollow", ClearRecursive(attr::NOSYMFOLLOW)),
    ("runbindable", propagate(MsFlags::MS_UNBINDABLE, true)),
    ("rw", Clear(attr::RDONLY)),
    ("shared", propagate(MsFlags::MS_SHARED, false)),
    ("silent", Nothing),
    ("slave", propagate(MsFlags::MS_SLAVE, false)),
    ("src-nofollow", SourceNoFollow),
    ("strictatime", AccessTimes(attr::STRICTATIME)),
    ("suid", Clear(attr::NOSUID)),
    ("symfollow", Clear(attr::NOSYMFOLLOW)),
    ("sync", SetSuper(MsFlags::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", propagate(MsFlags::MS_UNBINDABLE, false)),
];

/// The names of the options, for the `features` command.
pub fn known() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// What the option does; `None` for one of the file system.
pub fn effect(option: &str) -> Option<Effect> {
    let named = |name: &str| OPTIONS.iter().find(|row| row.0 == name).map(|row| row.1);
    // Only idmap and ridmap may have a value, as crun and Podman write it.
    named(option).or_else(|| named(option.split_once('=')?.0).filter(|effect| *effect == IdMap))
}

/// `linux.rootfsPropagation` and the like: a word that must be one of propagation.
pub fn propagation(word: &str) -> Option<Propagation> {
    match effect(word) {
        Some(Propagate(propagation)) => Some(propagation),
        _ => None,
    }
}

/// What becomes of the source of a bind mount that is a symbolic link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Links {
    /// It is followed.
    #[default]
    Follow,
    /// It is mounted itself (`src-nofollow`).
    Mount,
    /// It is made again at the destination, without a mount (`copy-symlink`).
    Copy,
}

/// The options of one mount, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `Some(recursive)` for a bind mount.
    pub bind: Option<bool>,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// What becomes of a source that is a symbolic link.
    pub links: Links,
    /// `dest-nofollow`.
    pub dest_nofollow: bool,
    /// For the mount itself.
    pub attributes: Attributes,
    /// For the mount and all below it.
    pub recursive: Attributes,
    /// Flags of the superblock.
    pub superblock: MsFlagsBits,
    /// In the order given.
    pub propagation: Vec<Propagation>,
    /// For the file system, in the order given.
    pub data: Vec<String>,
}

/// [`MsFlags`] with a default, empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsFlagsBits(pub MsFlags);

impl Default for MsFlagsBits {
    fn default() -> Self {
        MsFlagsBits(MsFlags::empty())
    }
}

impl Options {
    /// Reads the words of `mounts[].options`.
    pub fn parse(words: &[String]) -> Self {
        let mut options = Options::default();
        for word in words {
            match effect(word) {
                None if word.is_empty() => {}
                None => options.data.extend(split(word)),
                Some(Set(bits)) => options.attributes.set(bits),
                Some(Clear(bits)) => options.attributes.clear(bits),
                Some(AccessTimes(value)) => options.attributes.access_times(value),
                Some(NotAccessTimes(value)) if options.attributes.set & attr::ATIME == value => {
                    options.attributes.access_times(attr::RELATIME);
                }
                Some(SetRecursive(bits)) => options.recursive.set(bits),
                Some(ClearRecursive(bits)) => options.recursive.clear(bits),
                Some(AccessTimesRecursive(value)) => options.recursive.access_times(value),
                Some(SetSuper(flag)) => options.superblock.0 |= flag,
                Some(ClearSuper(flag)) => options.superblock.0 &= !flag,
                Some(Propagate(propagation)) => options.propagation.push(propagation),
                // rbind wins over bind, whatever the order (as mount(2) flags would add up).
                Some(Bind { recursive }) => {
                    options.bind = Some(recursive || options.bind == Some(true));
                }
                Some(Remount) => options.remount = true,
                Some(CopyUp) => options.copy_up = true,
                Some(CopySymlink) => options.links = Links::Copy,
                Some(SourceNoFollow) => options.links = Links::Mount,
                Some(DestinationNoFollow) => options.dest_nofollow = true,
                Some(NotAccessTimes(_) | IdMap | Nothing) => {}
            }
        }
        options
    }
}

/// Splits `a=1,b="x,y"` at the commas that stand outside quotes: one word of config.json may
/// hold several options, and an SELinux context holds commas.
fn split(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in word.chars() {
        match (c, parts.last_mut()) {
            (',', _) if !quoted => parts.push(String::new()),
            (_, Some(part)) => {
                quoted ^= c == '"';
                part.push(c);
            }
            (_, None) => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|w| (*w).to_string()).collect();
        Options::parse(&words)
    }

    /// Every name of the spec's table "Linux mount options" (config.md, 1.3).
    #[test]
    fn every_option_of_the_spec_is_known() {
        let spec = "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud \
            mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime \
            nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount \
            rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
            rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
            rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync \
            tmpcopyup unbindable";
        let known: Vec<_> = known().collect();
        for name in spec.split_whitespace() {
            assert!(known.contains(&name), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = OPTIONS.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), OPTIONS.len());
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(parse(&["ro", "rw"]).attributes, Attributes { set: 0, clear: 0x01 });
        assert_eq!(parse(&["dev", "nodev"]).attributes, Attributes { set: 0x04, clear: 0 });
        // mount_setattr(2): an access time value is set by clearing the whole field.
        assert_eq!(
            parse(&["noatime", "strictatime"]).attributes,
            Attributes { set: 0x20, clear: 0x70 }
        );
        assert_eq!(
            parse(&["strictatime", "nostrictatime"]).attributes,
            Attributes { set: 0, clear: 0x70 }
        );
        assert!(parse(&["nostrictatime"]).attributes.is_empty());
        assert_eq!(parse(&["rrelatime"]).recursive, Attributes { set: 0, clear: 0x70 });
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(true));
    }

    #[test]
    fn the_rest_is_for_the_file_system() {
        let options = parse(&["nosuid", "mode=755,size=64k", "context=\"a:s0:c1,c2\"", "newinst"]);
        assert_eq!(
            options.data,
            ["mode=755", "size=64k", "context=\"a:s0:c1,c2\"", "newinst"].map(String::from)
        );
        assert_eq!(options.attributes.set, 0x02);
    }

    #[test]
    fn words_about_ids_and_links_are_not_for_the_file_system() {
        let options = parse(&["idmap=uids=0-1-2;gids=0-1-2", "ridmap", "src-nofollow"]);
        assert_eq!(options, Options { links: Links::Mount, ..Options::default() });
        let options = parse(&["copy-symlink", "dest-nofollow", "ro=5"]);
        assert_eq!((options.links, options.dest_nofollow), (Links::Copy, true));
        assert_eq!(options.data, ["ro=5"]);
    }
}
