//! The command line, with runc's names: types only, read by clap.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

/// Flags before the command, and the command.
#[derive(Debug, Parser)]
#[command(
    name = "corten",
    about = "Runs OCI containers from bundles: directories with a config.json and a root filesystem",
    disable_version_flag = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = false
)]
pub struct Cli {
    /// See [`Global`].
    #[command(flatten)]
    pub global: Global,
    /// Print the version and exit
    #[arg(short = 'v', long)]
    pub version: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command; they stand before its name.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory for the containers' state, better on a tmpfs [default: /run/corten]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append log records to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of log records
    #[arg(long, value_name = "FORMAT", default_value = "text",
          value_parser = PossibleValuesParser::new(["text", "json"]))]
    pub log_format: String,
    /// Log more
    #[arg(long)]
    pub debug: bool,
    /// Let systemd manage the control groups (not in this version)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          hide_possible_values = true)]
    pub systemd_cgroup: bool,
    /// Ignore that control groups may not be changed (not in this version)
    #[arg(long, value_name = "WHEN", default_value = "auto",
          value_parser = PossibleValuesParser::new(["true", "false", "auto"]))]
    pub rootless: String,
    /// Who manages the control groups
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs",
          value_parser = PossibleValuesParser::new(["cgroupfs", "systemd", "disabled"]))]
    pub cgroup_manager: String,
}

/// The commands; each reads its own flags only when it is the one given.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Create a container; its program waits for `start`
    Create(CreateArgs),
    /// Start the program of a created container
    Start(IdArgs),
    /// Create a container, start it, and wait for its end
    Run(RunArgs),
    /// Run another program in a running container
    Exec(ExecArgs),
    /// Send a signal to a container's init
    Kill(KillArgs),
    /// Delete a stopped container and what it holds
    Delete(DeleteArgs),
    /// Print the state of a container as JSON
    State(IdArgs),
    /// List the containers of the root directory
    List(ListArgs),
    /// Show the processes of a container
    Ps(PsArgs),
    /// Freeze all processes of a container
    Pause(IdArgs),
    /// Let the processes of a paused container go on
    Resume(IdArgs),
    /// Change the limits of a container
    Update(UpdateArgs),
    /// Print statistics and out-of-memory events as lines of JSON
    Events(EventsArgs),
    /// Write a config.json to begin with
    Spec(SpecArgs),
    /// Print what this version supports as JSON
    Features,
}

/// A container, nothing else.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// A name for the new container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// The directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Unix socket that gets the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the container's init
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Write the process id of the container's init to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Change the root by move and chroot, for a root filesystem on the initial ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Hand down N descriptors from 3 on (after those of $LISTEN_FDS)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub preserve_fds: u32,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Those of `create`.
    #[command(flatten)]
    pub create: CreateArgs,
    /// Return once the program runs
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when it ends
    #[arg(long)]
    pub keep: bool,
    /// Do not adopt and reap the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The container, then the program and its arguments (those not with --process)
    #[arg(value_name = "CONTAINER-ID [PROGRAM [ARGS]]", required = true, num_args = 1..,
          trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
    /// Unix socket that gets the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Set an environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Make a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User and group id
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Add a supplementary group; may be repeated
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',')]
    pub additional_gids: Vec<u32>,
    /// Read the whole process from this JSON file
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Return once the program runs
    #[arg(short, long)]
    pub detach: bool,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub no_new_privs: Option<bool>,
    /// Add a capability; may be repeated
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Hand down N descriptors from 3 on (after those of $LISTEN_FDS)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub preserve_fds: u32,
    /// Existing control group below the container's; may be repeated
    #[arg(long, value_name = "[CONTROLLER,...:]PATH")]
    pub cgroup: Vec<String>,
    /// Allow it in a paused container, where the program waits for `resume`
    #[arg(long)]
    pub ignore_paused: bool,
}

impl ExecArgs {
    /// The container.
    pub fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The program and its arguments; empty when only the container was named.
    pub fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// `kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Name, with or without SIG, or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
    /// Send it to every process of the container
    #[arg(short, long)]
    pub all: bool,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Kill it first if it runs; one that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table",
          value_parser = PossibleValuesParser::new(["table", "json"]))]
    pub format: String,
    /// Only the ids
    #[arg(short, long)]
    pub quiet: bool,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// The container, then options for ps(1) (-ef when there are none)
    #[arg(value_name = "CONTAINER-ID [PS OPTIONS]", required = true, num_args = 1..,
          trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table",
          value_parser = PossibleValuesParser::new(["table", "json"]))]
    pub format: String,
}

impl PsArgs {
    /// The container.
    pub fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Options for ps(1).
    pub fn options(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// `update`; values are texts, read by the command with the flag's name in the message.
#[derive(Debug, Default, Args)]
pub struct UpdateArgs {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Read linux.resources from this JSON file, `-` for standard input; the other flags are
    /// ignored then
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<String>,
    /// Period of the CPU quota in microseconds, 0 for the system's default
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<String>,
    /// CPU time in a period in microseconds, -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// CPU time that may be saved up for a burst in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_burst: Option<String>,
    /// CPU shares relative to other containers
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<String>,
    /// Period of the real-time CPU limit in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<String>,
    /// Real-time CPU time in a period in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,
    /// 1 to run only when nothing else does (SCHED_IDLE), 0 for the default
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,
    /// CPUs to run on, as 0-3,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// No effect
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// No effect
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Memory limit in bytes, or with a unit as 64M; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Soft memory limit, likewise
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Memory and swap together, likewise
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// How many processes it may have, -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Schema of the L3 cache (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Schema of the memory bandwidth (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
}

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Print the statistics once
    #[arg(long)]
    pub stats: bool,
    /// Time between two statistics, as 5s, 100ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub interval: String,
}

/// `spec`.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Where to write it
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// For a container of a user without privileges
    #[arg(long)]
    pub rootless: bool,
    /// Which seccomp profile of Corten's own to put in
    #[arg(long, value_name = "PROFILE", default_value = "none",
          value_parser = PossibleValuesParser::new(["default", "strict", "none"]))]
    pub seccomp: String,
}

/// What the command line says, or what to print instead.
pub enum Parsed {
    /// A command.
    Command(Box<Global>, Box<Command>),
    /// `--version`.
    Version,
    /// Help that was asked for.
    Help(String),
    /// Why it cannot be understood, with the usage, and the `--log` and its format that could be
    /// read in spite of it: engines look there for the reason.
    Wrong(String, Option<(PathBuf, String)>),
}

/// The reason alone of a [`Parsed::Wrong`], as a log record has it.
pub fn first_line(wrong: &str) -> &str {
    let line = wrong.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

/// `--log` and `--log-format` of a command line with mistakes.
fn log_of(args: &[OsString]) -> Option<(PathBuf, String)> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args).ok()?;
    let format = matches.get_one::<String>("log_format").cloned();
    let log = matches.get_one::<PathBuf>("log").cloned();
    log.map(|log| (log, format.unwrap_or_default()))
}

/// Reads the arguments, the program's name first.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => return Parsed::Help(error.to_string()),
        // Without a command runc prints its help and succeeds.
        Err(error)
            if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            return Parsed::Help(error.to_string());
        }
        Err(error) => return Parsed::Wrong(error.to_string(), log_of(&args)),
    };
    if cli.version {
        return Parsed::Version;
    }
    let Some(command) = cli.command else {
        return Parsed::Help(Cli::command().render_help().to_string());
    };
    // clap takes an unknown flag for a word where a program's own flags may follow.
    let first = match &command {
        Command::Exec(args) => args.id(),
        Command::Ps(args) => args.id(),
        _ => "",
    };
    if first.starts_with('-') {
        let text = format!("error: unexpected argument '{first}' found\n");
        return Parsed::Wrong(text, log_of(&args));
    }
    Parsed::Command(Box::new(cli.global), Box::new(command))
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
