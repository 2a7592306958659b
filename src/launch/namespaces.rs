//! Making, joining and filling namespaces; one function a step.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

use crate::error::{Context, Error, Fault, Kind, Result};
use crate::plan::namespaces::{IdMap, Namespace, NamespacesPlan};

/// A namespace to join, opened on the host.
pub struct Join {
    kind: Namespace,
    path: PathBuf,
    file: OwnedFd,
}

impl Join {
    fn enter(&self) -> Result<(), Errno> {
        setns(self.file.as_fd(), self.kind.flag())
    }

    fn explain(&self, errno: Errno) -> Error {
        let error = Error::from(errno).context(format!(
            "cannot join {} namespace {}",
            self.kind.name(),
            self.path.display()
        ));
        match errno {
            Errno::EINVAL => Fault::new(Kind::BadInput, crate::error::render_line(&error))
                .hint(format!(
                    "is it a {} namespace (/proc/PID/ns/{})?",
                    self.kind.name(),
                    self.kind.file()
                ))
                .into(),
            _ => error,
        }
    }
}

/// The container's network namespace: the joined one, or the new one of its init.
pub fn open_network(init: Pid, joins: &[Join]) -> Result<OwnedFd> {
    match network(joins) {
        Some(joined) => joined.try_clone_to_owned().context("cannot duplicate a descriptor"),
        None => open_namespace(format!("/proc/{init}/ns/net").as_ref()),
    }
}

/// The network namespace among those to join.
pub fn network(joins: &[Join]) -> Option<BorrowedFd<'_>> {
    let join = joins.iter().find(|join| join.kind == Namespace::Network);
    join.map(|join| join.file.as_fd())
}

fn open_namespace(path: &std::path::Path) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open namespace {}", path.display()))
}

/// Opens everything that is to be joined. A user namespace that is already ours needs no joining
/// (and setns(2) would refuse it).
pub fn open_joins(plan: &NamespacesPlan) -> Result<Vec<Join>> {
    let mut joins = Vec::new();
    for (kind, path) in &plan.join {
        let file = open_namespace(path).context("config.json: linux.namespaces")?;
        if *kind == Namespace::User && is_ours(&file, *kind)? {
            continue;
        }
        joins.push(Join { kind: *kind, path: path.clone(), file });
    }
    Ok(joins)
}

fn is_ours(file: &OwnedFd, kind: Namespace) -> Result<bool> {
    let own = nix::sys::stat::stat(format!("/proc/self/ns/{}", kind.file()).as_str())
        .context("cannot look at our own namespaces")?;
    let other = nix::sys::stat::fstat(file).context("cannot look at a namespace")?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// The parent, standing with one foot in namespaces that only children enter: pid and time.
pub struct Stepped(Vec<(Namespace, OwnedFd)>);

/// Steps into a joined pid namespace and a new time namespace, so that the next child is born
/// there: setns(2) and unshare(2) of these two change only where children go.
pub fn step_in(plan: &NamespacesPlan, joins: &[Join]) -> Result<Stepped> {
    let mut back = Vec::new();
    let own = |kind: Namespace| open_namespace(format!("/proc/self/ns/{}", kind.file()).as_ref());
    if joins.iter().any(|join| join.kind == Namespace::Pid) {
        back.push((Namespace::Pid, own(Namespace::Pid)?));
        join_pid(joins)?;
    }
    if plan.makes(Namespace::Time) {
        back.push((Namespace::Time, own(Namespace::Time)?));
        unshare(Namespace::Time.flag()).context("cannot make a time namespace")?;
        if !plan.time_offsets.is_empty() {
            let lines: String = plan
                .time_offsets
                .iter()
                .map(|(clock, secs, nanos)| format!("{clock} {secs} {nanos}\n"))
                .collect();
            std::fs::write("/proc/self/timens_offsets", &lines).with_context(|| {
                let lines = lines.trim_end().replace('\n', ", ");
                format!("config.json: cannot set linux.timeOffsets to {lines}")
            })?;
        }
    }
    Ok(Stepped(back))
}

impl Stepped {
    /// Steps back, so that later children (hooks) are born in our own.
    pub fn back(self) -> Result<()> {
        for (kind, own) in self.0 {
            setns(own.as_fd(), kind.flag())
                .with_context(|| format!("cannot step back from the {} namespace", kind.name()))?;
        }
        Ok(())
    }
}

/// The flags for clone3(2): the time namespace was made by [`step_in`], the rest follows by
/// [`made_by_init`].
pub fn clone_flags(plan: &NamespacesPlan) -> CloneFlags {
    plan.new - Namespace::Time.flag() - made_by_init(plan)
}

/// What init makes by itself: the cgroup namespace once it is in its cgroups, whose root they are;
/// in a user namespace also that of ipc, whose maker owns its message queues, once it is root.
pub fn made_by_init(plan: &NamespacesPlan) -> CloneFlags {
    let mut flags = Namespace::Cgroup.flag();
    flags.set(Namespace::Ipc.flag(), plan.has(Namespace::User));
    plan.new & flags
}

/// Joins everything but a pid namespace. The host's root may join any of them before it enters
/// a user namespace; what that refuses is tried again from inside.
pub fn join_all(joins: &[Join]) -> Result<()> {
    let user = joins.iter().find(|join| join.kind == Namespace::User);
    let mut later = Vec::new();
    for join in joins.iter().filter(|j| !matches!(j.kind, Namespace::User | Namespace::Pid)) {
        match join.enter() {
            Ok(()) => {}
            Err(Errno::EPERM) if user.is_some() => later.push(join),
            Err(errno) => return Err(join.explain(errno)),
        }
    }
    if let Some(user) = user {
        user.enter().map_err(|errno| user.explain(errno))?;
    }
    for join in later {
        join.enter().map_err(|errno| join.explain(errno))?;
    }
    Ok(())
}

/// Children are born in the joined pid namespace from here on.
pub fn join_pid(joins: &[Join]) -> Result<()> {
    match joins.iter().find(|join| join.kind == Namespace::Pid) {
        Some(join) => join.enter().map_err(|errno| join.explain(errno)),
        None => Ok(()),
    }
}

/// Writes the id mappings of a new user namespace, see user_namespaces(7).
pub fn write_id_maps(pid: Pid, plan: &NamespacesPlan) -> Result<()> {
    let write = |file: &str, field: &str, map: &[IdMap]| -> Result<()> {
        let lines = IdMap::lines(map);
        std::fs::write(format!("/proc/{pid}/{file}"), &lines)
            .with_context(|| format!("cannot apply config.json: linux.{field} {lines:?}"))
    };
    write("uid_map", "uidMappings", &plan.uid_map)?;
    write("gid_map", "gidMappings", &plan.gid_map)
}

/// Takes the first mapped ids, 0 where it is mapped: with unmapped ones no file can be made.
pub fn become_root(plan: &NamespacesPlan) -> Result<()> {
    let first = |map: &[IdMap]| map.iter().map(|m| m.container).min().unwrap_or(0);
    let (uid, gid) = (Uid::from_raw(first(&plan.uid_map)), Gid::from_raw(first(&plan.gid_map)));
    setresgid(gid, gid, gid).context("cannot become group 0 of the user namespace")?;
    setresuid(uid, uid, uid).context("cannot become user 0 of the user namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_cannot_be_opened_names_its_field() {
        let join = vec![(Namespace::Network, PathBuf::from("/no/such"))];
        let plan = NamespacesPlan { join, ..NamespacesPlan::build(None) };
        let error = open_joins(&plan).err().unwrap();
        assert_eq!(
            crate::error::render_line(&error),
            "config.json: linux.namespaces: cannot open namespace /no/such: no such file or directory"
        );
    }
}
