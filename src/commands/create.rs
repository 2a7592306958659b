//! `create` and `run`: bundle -> spec -> checked -> plan -> launched -> on record.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::lifecycle;
use super::output::{self, Sockets};
use crate::cgroups::{self, CgroupPlan, GroupPlan, Version};
use crate::cli::{CreateArgs, RunArgs};
use crate::config::{bundle, validate};
use crate::error::{Context, Fault, Kind, Result};
use crate::hooks;
use crate::launch::parent::{Launch, Launched, launch, start};
use crate::launch::program::Go;
use crate::launch::protocol::Tag;
use crate::notify::{self, Proxy};
use crate::plan::ContainerPlan;
use crate::plan::mounts::CgroupMount;
use crate::rdt::{self, RdtGroup};
use crate::rootfs;
use crate::security::{caps, lsm};
use crate::state::{self, Lock, Phase, Process, State, StateDir, Status, gate};
use crate::supervise::{Foreground, HeldSignals};

/// `create`: everything up to the program, which waits for `start`.
pub fn create(root: &Path, args: &CreateArgs) -> Result<()> {
    let request = Request::read(root, args, true)?;
    let _held = HeldSignals::hold()?;
    let made = request.make(root, true).with_context(|| request.story())?;
    made.hand_over(args).with_context(|| request.story())
}

/// `run`: create and start, and, unless detached, wait and delete. Gives the exit status.
pub fn run(root: &Path, args: &RunArgs) -> Result<i32> {
    let request = Request::read(root, &args.create, args.detach)?;
    if request.plan.process.is_none() {
        return Err(lifecycle::nothing_to_start());
    }
    let mut foreground = match args.detach {
        true => None,
        false => Some(Foreground::prepare(!args.no_subreaper)?),
    };
    let made = request.make(root, false).with_context(|| request.story())?;
    let started =
        made.hand_over_and_start(&request, foreground.as_mut()).with_context(|| request.story())?;
    let Started { pid, pidfd, dir, proxy } = started;
    let Some(foreground) = foreground else {
        if let Some(proxy) = proxy {
            proxy.wait(pidfd.as_fd(), pid)?;
        }
        return Ok(0);
    };
    let status = foreground.run(pid, proxy)?;
    if !args.keep {
        lifecycle::destroy(&dir)?;
    }
    Ok(status)
}

/// What is known before anything is done.
struct Request<'a> {
    args: &'a CreateArgs,
    plan: ContainerPlan,
    cgroup: CgroupPlan,
    rdt: Option<RdtGroup>,
    rootfs: PathBuf,
    oci_version: String,
    /// config.json as it was read.
    config: String,
    sockets: Sockets,
    preserve_fds: u32,
    /// The container gets a socket for sd_notify(3).
    notifies: bool,
}

impl<'a> Request<'a> {
    /// Reads and checks everything; no effect.
    fn read(root: &Path, args: &'a CreateArgs, detached: bool) -> Result<Self> {
        validate::container_id(&args.id)?;
        let bundle = bundle::load(&args.bundle)?;
        validate::container(&bundle.spec, &bundle.dir)?;
        let mut plan = ContainerPlan::build(&bundle.spec, &args.id, &bundle.dir, args.no_pivot)?;
        let mut preserve_fds = args.preserve_fds;
        let terminal = plan.process.as_ref().is_some_and(|process| process.terminal);
        let own_user = plan.namespaces.has(crate::plan::namespaces::Namespace::User);
        if let Some(process) = &mut plan.process {
            lsm::check(process, "config.json: process")?;
            process.caps = caps::narrow(&process.caps, own_user)?;
            preserve_fds += output::pass_listen_fds(process)?;
        }
        let notifies = offer_notify_socket(&mut plan, root)?;
        output::check_preserved(preserve_fds)?;
        let hierarchies = cgroups::hierarchies()?;
        let linux = bundle.spec.linux().as_ref();
        let cgroup = CgroupPlan::build(
            &hierarchies,
            linux.and_then(|linux| linux.cgroups_path().as_deref()),
            &args.id,
        )?;
        let rdt = match &plan.rdt {
            Some(rdt) => Some(RdtGroup::choose(rdt, &args.id, &rdt::mount_point()?)?),
            None => None,
        };
        let sockets = Sockets::connect(
            args.console_socket.as_deref(),
            args.pidfd_socket.as_deref(),
            terminal,
            detached,
        )?;
        Ok(Request {
            args,
            rootfs: plan.rootfs.path.clone(),
            plan,
            cgroup,
            rdt,
            oci_version: bundle.spec.version().clone(),
            config: bundle.raw,
            sockets,
            preserve_fds,
            notifies,
        })
    }

    fn story(&self) -> String {
        format!(
            "while creating container {:?} from bundle {}",
            self.args.id,
            self.plan.bundle.display()
        )
    }

    fn state(&self) -> State {
        let joined = self.plan.namespaces.join.iter().map(|(kind, path)| (*kind, path.clone()));
        let made = crate::plan::namespaces::NAMESPACES
            .iter()
            .filter(|row| self.plan.namespaces.makes(row.0))
            .map(|row| (row.0, PathBuf::new()));
        State {
            oci_version: self.oci_version.clone(),
            id: self.args.id.clone(),
            bundle: self.plan.bundle.clone(),
            rootfs: self.rootfs.clone(),
            annotations: self.plan.annotations.clone(),
            init_process_pid: 0,
            init_process_start: 0,
            created: state::now(),
            owner: nix::unistd::Uid::effective().as_raw(),
            phase: Phase::Creating,
            cgroup: self.cgroup.clone(),
            rdt: self.rdt.clone(),
            resources: self.plan.resources.clone(),
            namespaces: made
                .chain(joined)
                .map(|(kind, path)| (kind.name().to_owned(), path))
                .collect(),
            host_mounts: Vec::new(),
            hooks: self.plan.hooks.clone(),
            new_keyring: !self.args.no_new_keyring,
            has_process: self.plan.process.is_some(),
        }
    }

    /// Claims the id and makes the container; on error all is undone.
    fn make(&self, root: &Path, gated: bool) -> Result<Made> {
        let (dir, lock) = StateDir::claim(root, &self.args.id)?;
        let mut state = self.state();
        match self.make_in(&dir, &mut state, gated) {
            Ok(launched) => Ok(Made { dir, lock, state, launched }),
            Err(error) => {
                undo(&dir, &state, lock);
                Err(error)
            }
        }
    }

    fn make_in(&self, dir: &StateDir, state: &mut State, gated: bool) -> Result<Launched> {
        // On record before it is made.
        dir.write(state)?;
        dir.write_file(state::CONFIG, self.config.as_bytes())?;
        if let Some(seccomp) = &self.plan.seccomp {
            let json = serde_json::to_vec(seccomp).context("cannot store the seccomp filter")?;
            dir.write_file(state::SECCOMP, &json)?;
        }
        if self.notifies {
            notify::prepare(dir)?;
        }
        let launched = launch(Launch {
            plan: &self.plan,
            cgroup: &self.cgroup,
            rdt: self.rdt.as_ref(),
            cgroup_mounts: &cgroup_mounts(&self.cgroup),
            go: if gated { Go::Gate(gate::close(dir)?) } else { Go::Parent },
            preserve_fds: self.preserve_fds,
            new_keyring: !self.args.no_new_keyring,
            record: &mut |pid: Pid, mounts: &[PathBuf]| {
                state.init_process_pid = pid.as_raw();
                state.init_process_start = Process::read(pid.as_raw()).map_or(0, |p| p.start_time);
                state.host_mounts = mounts.to_vec();
                dir.write(state)
            },
        })?;
        self.sockets.send(&launched)?;
        Ok(launched)
    }
}

/// sd_notify(3): adds the mount and the variable, unless config.json names a socket of its own.
fn offer_notify_socket(plan: &mut ContainerPlan, root: &Path) -> Result<bool> {
    let private = plan.rootfs.private_mounts && !plan.rootfs.joined_mounts;
    let process = plan.process.as_mut().filter(|process| !process.has_env(notify::VARIABLE));
    let Some(process) = process.filter(|_| private && notify::caller().is_some()) else {
        return Ok(false);
    };
    process.set_env(&notify::environment(), "NOTIFY_SOCKET")?;
    plan.rootfs.add_bind(&notify::directory(root, &plan.id), notify::INSIDE)?;
    Ok(true)
}

/// The container's cgroups, for a mount of type cgroup.
fn cgroup_mounts(plan: &CgroupPlan) -> Vec<CgroupMount> {
    let mount = |group: &GroupPlan| {
        let named = group.controllers.iter().any(|name| name.starts_with("name="));
        let controllers = group.controllers.join(",");
        CgroupMount {
            name: group.mountpoint.file_name().unwrap_or_default().into(),
            options: if named { format!("none,{controllers}") } else { controllers },
            mountpoint: group.mountpoint.clone(),
            host_dir: group.path.clone(),
            is_v2: group.version == Version::V2,
        }
    };
    plan.groups.iter().map(mount).collect()
}

/// After a failure: what the launch itself did not undo.
fn undo(dir: &StateDir, state: &State, lock: Lock) {
    rootfs::unmount(&state.host_mounts);
    // The spec has them run whenever a container is destroyed, also half made (runtime.md,
    // "Lifecycle", steps 5 and 12).
    if state.init_process_pid != 0 {
        lifecycle::run_poststop(state);
    }
    if let Err(error) = dir.remove() {
        log::warn!("ignoring: {}", crate::error::render_line(&error));
    }
    drop(lock);
}

/// A container whose program runs.
struct Started {
    pid: Pid,
    pidfd: OwnedFd,
    dir: StateDir,
    proxy: Option<Proxy>,
}

/// A container whose init is ready, not yet handed over to the caller.
struct Made {
    dir: StateDir,
    lock: Lock,
    state: State,
    launched: Launched,
}

impl Made {
    /// Tells the caller the pid and marks the container as created; on error it is destroyed.
    fn hand_over(mut self, args: &CreateArgs) -> Result<()> {
        // Without this init would not survive us.
        match self.finish(args).and_then(|()| self.launched.channel.send(Tag::Start)) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.destroy();
                Err(error)
            }
        }
    }

    fn finish(&mut self, args: &CreateArgs) -> Result<()> {
        if let Some(file) = &args.pid_file {
            output::write_pid(file, self.launched.pid)?;
        }
        self.state.phase = Phase::Created;
        self.dir.write(&self.state)?;
        if let Some(devices) = self.launched.devices.take() {
            devices.keep();
        }
        Ok(())
    }

    /// The same for `run`, then lets init go and runs the poststart hooks.
    fn hand_over_and_start(
        mut self,
        request: &Request<'_>,
        foreground: Option<&mut Foreground>,
    ) -> Result<Started> {
        let started = self.finish(request.args).and_then(|()| {
            request.sockets.attach(&mut self.launched, foreground)?;
            let proxy = Proxy::listen(&self.dir)?;
            start(&self.launched.channel)?;
            let pid = self.launched.pid;
            hooks::run(
                &self.state.hooks.poststart,
                &self.state.oci_json(Status::Running, pid.as_raw()),
            )?;
            Ok(proxy)
        });
        match started {
            Ok(proxy) => {
                let Launched { pid, pidfd, .. } = self.launched;
                Ok(Started { pid, pidfd, dir: self.dir, proxy })
            }
            Err(error) => {
                self.destroy();
                Err(error)
            }
        }
    }

    fn destroy(self) {
        let pidfd: &OwnedFd = &self.launched.pidfd;
        // It may have ended by itself: then there is only the reaping.
        let _ = crate::sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.launched.pid, None);
        drop(self.lock);
        if let Err(error) = lifecycle::destroy(&self.dir) {
            log::warn!("ignoring: {}", crate::error::render_line(&error));
        }
    }
}

/// A gentler word for a wrong combination of flags.
pub(super) fn refuse(text: &str, hint: &str) -> crate::error::Error {
    Fault::new(Kind::BadInput, text).hint(hint).into()
}
