//! One container of the runtime under test; deleted by force when dropped.

use super::cgroup;
use super::{Context, Output, Run, wait_for};
use serde_json::Value;
use std::path::PathBuf;

pub struct Container<'a> {
    context: &'a Context,
    pub bundle: PathBuf,
    pub id: String,
    /// Where stdout of `create` (and so of the container's process) goes.
    pub out: PathBuf,
    gone: std::cell::Cell<bool>,
}

impl<'a> Container<'a> {
    pub fn new(context: &'a Context, bundle: PathBuf, id: &str) -> Self {
        let out = context.path("container");
        Container { context, bundle, id: id.to_string(), out, gone: false.into() }
    }

    /// `COMMAND --bundle DIR FLAGS ID`.
    pub fn new_command(&self, command: &str, flags: &[&str]) -> Run<'a> {
        let run = self.context.runtime().arg(command).arg("--bundle").arg(&self.bundle);
        run.args(flags).arg(&self.id)
    }

    /// `run` in the foreground to the end.
    #[track_caller]
    pub fn run(&self, flags: &[&str]) -> Output {
        self.new_command("run", flags).output()
    }

    #[track_caller]
    pub fn create(&self, flags: &[&str]) -> Output {
        self.new_command("create", flags).out(self.out.clone()).output()
    }

    /// `COMMAND ID`.
    #[track_caller]
    pub fn command(&self, command: &str) -> Output {
        self.context.runtime().arg(command).arg(&self.id).output()
    }

    /// `exec FLAGS ID ARGS`, not run yet.
    pub fn exec_command(&self, flags: &[&str], args: &[&str]) -> Run<'a> {
        self.context.runtime().arg("exec").args(flags).arg(&self.id).args(args)
    }

    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_command(&[], args).output()
    }

    /// A shell script in the container; must succeed; its trimmed output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-euc", script]).ok()
    }

    /// What `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        let text = self.command("state").ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("state is not JSON: {e}\n{text}"))
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().unwrap();
        assert_ne!(pid, 0, "no process");
        pid as i32
    }

    #[track_caller]
    pub fn wait_status(&self, status: &str) {
        wait_for(&format!("{} to be {status}", self.id), 10, || self.status() == status);
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) {
        self.context.runtime().args(["kill", &self.id, signal]).output().exits(0);
    }

    /// Kills, waits until it is stopped, deletes: all must succeed.
    #[track_caller]
    pub fn end(&self) {
        self.kill("KILL");
        self.wait_status("stopped");
        self.command("delete").exits(0);
        self.gone.set(true);
    }

    /// What the container's process has printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub fn wait_printed(&self, text: &str) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.printed().contains(text) {
            let so_far = self.printed();
            assert!(std::time::Instant::now() < end, "{text:?} was not printed, only:\n{so_far}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The container's cgroup directory in the hierarchy of `controller` (v1, or v2 where it is not v1's).
    #[track_caller]
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        cgroup::of_process(self.pid(), controller)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.gone.get() {
            return;
        }
        self.context.runtime().args(["delete", "--force", &self.id]).output();
    }
}
