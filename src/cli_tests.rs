//! Tests of the command line, with the invocations that engines make.

use super::*;

fn parsed(line: &str) -> Parsed {
    parse(std::iter::once("corten").chain(line.split_whitespace()).map(Into::into))
}

fn command(line: &str) -> (Global, Command) {
    match parsed(line) {
        Parsed::Command(global, command) => (*global, *command),
        Parsed::Wrong(text, _) | Parsed::Help(text) => panic!("{line}: {text}"),
        Parsed::Version => panic!("{line}: version"),
    }
}

fn wrong(line: &str) -> String {
    match parsed(line) {
        Parsed::Wrong(text, _) => text,
        _ => panic!("{line} was understood"),
    }
}

#[test]
fn clap_finds_no_fault_in_the_types() {
    let mut all = Cli::command();
    all.build();
    all.debug_assert();
}

#[test]
fn what_containerd_and_conmon_call() {
    let (global, create) =
        command("--root R --log L --log-format json create --bundle B --pid-file P --no-pivot web");
    assert_eq!(global.root, Some("R".into()));
    assert_eq!(global.log_format, "json");
    let Command::Create(args) = create else { panic!() };
    assert_eq!((args.id.as_str(), args.bundle), ("web", "B".into()));
    assert!(args.no_pivot && args.pid_file == Some("P".into()));

    let (global, exec) = command(
        "--log-format=json --log L exec --pid-file P --process J --detach --tty --console-socket S web",
    );
    assert_eq!(global.log_format, "json");
    let Command::Exec(args) = exec else { panic!() };
    assert!(args.tty && args.detach && args.args().is_empty());
    assert_eq!((args.id(), &args.process), ("web", &Some("J".into())));

    let (_, kill) = command("--root R kill --all web 9");
    let Command::Kill(args) = kill else { panic!() };
    assert!(args.all && args.signal == "9" && args.id == "web");
    let (_, kill) = command("kill web");
    assert!(matches!(kill, Command::Kill(args) if args.signal == "SIGTERM" && !args.all));

    let (_, delete) = command("--root R --log L --log-format json delete --force web");
    assert!(matches!(delete, Command::Delete(args) if args.force));
    let (global, _) = command("--cgroup-manager disabled --systemd-cgroup --rootless true list -q");
    assert!(global.systemd_cgroup && global.rootless == "true");
    assert_eq!(global.cgroup_manager, "disabled");
    assert!(!command("--systemd-cgroup=false list").0.systemd_cgroup);
}

#[test]
fn a_program_keeps_its_own_flags() {
    let (_, exec) = command("exec -t --env A=1 -e B=2 web ls -l --tty -- -e x");
    let Command::Exec(args) = exec else { panic!() };
    assert_eq!(args.id(), "web");
    assert_eq!(args.args(), ["ls", "-l", "--tty", "--", "-e", "x"]);
    assert_eq!(args.env, ["A=1", "B=2"]);
    let (_, exec) = command("exec -u 1:2 -g 3 -g 4,5 --cap CAP_KILL --no-new-privs web --tty");
    let Command::Exec(args) = exec else { panic!() };
    assert_eq!(args.args(), ["--tty"]);
    assert!(!args.tty);
    assert_eq!(args.additional_gids, [3, 4, 5]);
    assert_eq!(args.no_new_privs, Some(true));
    let (_, ps) = command("ps web -e -x");
    assert!(
        matches!(ps, Command::Ps(args) if args.id() == "web" && args.options() == ["-e", "-x"])
    );
    let (_, ps) = command("ps -f json web");
    assert!(matches!(ps, Command::Ps(args) if args.format == "json" && args.options().is_empty()));
}

#[test]
fn update_takes_negative_limits_and_flags_after_the_id() {
    let (_, update) =
        command("update web --memory -1 --memory-swap -1 --cpu-quota -1 --pids-limit -1");
    let Command::Update(args) = update else { panic!() };
    assert_eq!(args.memory.as_deref(), Some("-1"));
    assert_eq!(args.pids_limit.as_deref(), Some("-1"));
    let (_, update) = command("update -r - web");
    assert!(matches!(update, Command::Update(args) if args.resources == Some("-".into())));
}

#[test]
fn defaults() {
    let (global, run) = command("run web");
    assert_eq!((global.root, global.log_format.as_str()), (None, "text"));
    assert_eq!((global.rootless.as_str(), global.cgroup_manager.as_str()), ("auto", "cgroupfs"));
    let Command::Run(args) = run else { panic!() };
    assert_eq!(args.create.bundle, PathBuf::from("."));
    assert!(!args.detach && !args.keep && !args.no_subreaper);
    let (_, events) = command("events web");
    assert!(matches!(events, Command::Events(args) if args.interval == "5s" && !args.stats));
    let (_, spec) = command("spec");
    assert!(matches!(spec, Command::Spec(args) if args.seccomp == "none"));
    assert!(matches!(parsed("-v"), Parsed::Version));
    assert!(matches!(parsed("--version"), Parsed::Version));
}

#[test]
fn what_is_wrong() {
    assert!(wrong("kill").contains("<CONTAINER-ID>"));
    assert!(wrong("nope").contains("unrecognized subcommand 'nope'"));
    assert!(wrong("--bogus list").contains("unexpected argument '--bogus'"));
    assert!(wrong("exec --bogus web ls").contains("unexpected argument '--bogus'"));
    assert!(wrong("run a b").contains("unexpected argument 'b'"));
    assert!(wrong("list -f xml").contains("[possible values: table, json]"));
    assert!(wrong("--rootless maybe list").contains("'maybe'"));
    // Global flags stand before the command, as with runc.
    assert!(wrong("list --root R").contains("unexpected argument '--root'"));
    assert!(matches!(parsed(""), Parsed::Help(_)));
    assert!(matches!(parsed("create --help"), Parsed::Help(_)));
}
