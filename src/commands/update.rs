//! `update`: flags become the `linux.resources` that `--resources` would have held, so that both
//! are read and checked in one place.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use serde_json::{Value, json};

use super::{open, status, wrong_state};
use crate::cgroups::{Cgroup, Field};
use crate::cli::UpdateArgs;
use crate::config::{bundle, validate};
use crate::error::{Context, Fault, Result, render_line};
use crate::plan::resources::ResourcesPlan;
use crate::state::Status;

/// `update`: all of the new limits, or on an error the old ones.
pub fn update(root: &Path, args: &UpdateArgs) -> Result<()> {
    let changes = Changes::of(args)?;
    let schemata = schemata(args)?;
    let (dir, _) = open(root, &args.id)?;
    let _lock = dir.lock()?;
    let mut state = dir.read()?;
    if matches!(status(&dir, &state), Status::Stopped | Status::Creating) {
        // containerd looks for this text.
        return Err(wrong_state("container not running"));
    }
    let group = match &state.rdt {
        None if !schemata.is_empty() => {
            let text = "the container has no linux.intelRdt that could be updated";
            return Err(Fault::bad_input(text).into());
        }
        group => group.as_ref(),
    };
    let mut merged = state.resources.clone();
    merged.merge_update(&changes.plan);
    let cgroup = Cgroup::open(&state.cgroup)?;
    let updated = cgroup.update(&merged).and_then(|()| match group {
        Some(group) => group.write_schemata(&schemata, "--l3-cache-schema, --mem-bw-schema"),
        None => Ok(()),
    });
    if let Err(error) = updated {
        if let Err(back) = cgroup.update(&state.resources) {
            log::warn!("the old limits could not all be set again: {}", render_line(&back));
        }
        let source = error.downcast_ref::<Field>().map(|field| changes.source(args, &field.0));
        let error = source.into_iter().fold(error, |error, source| error.context(source));
        return Err(error.context(format!("while updating container {:?}", args.id)));
    }
    state.resources = merged;
    dir.write(&state)
}

/// What is to change, checked; and as it was given, which tells where a bad value is from.
struct Changes {
    plan: ResourcesPlan,
    given: Value,
    file: &'static str,
}

impl Changes {
    fn of(args: &UpdateArgs) -> Result<Changes> {
        let (text, file) = match &args.resources {
            Some(path) => (read(path)?, "--resources"),
            None => (from_flags(args)?.to_string(), "update"),
        };
        let resources = bundle::parse_resources(&text).context(file)?;
        let name = |field: &str| flag(args, field).unwrap_or(field).to_owned();
        validate::resources(&resources, file, &name)?;
        let plan = ResourcesPlan::build(Some(&resources))?;
        Ok(Changes { plan, given: serde_json::from_str(&text).context(file)?, file })
    }

    /// Where the value of `field` stands, which may be an old one.
    fn source(&self, args: &UpdateArgs, field: &str) -> &'static str {
        let path = field.split(['[', ' ']).next().unwrap_or(field).replace('.', "/");
        match self.given.pointer(&format!("/{path}")) {
            Some(_) => flag(args, field).unwrap_or(self.file),
            None => "config.json",
        }
    }
}

/// The lines for resctrl, in the order of the spec.
fn schemata(args: &UpdateArgs) -> Result<Vec<String>> {
    // An empty text counts as not given, as in Go.
    let given = |flag: &Option<String>| flag.clone().filter(|line| !line.is_empty());
    let (l3, mb) = (given(&args.l3_cache_schema), given(&args.mem_bw_schema));
    if let Some(why) = mb.as_deref().and_then(validate::bad_mem_bw_schema) {
        return Err(Fault::bad_input(format!("--mem-bw-schema: {why}")).into());
    }
    Ok([l3, mb].into_iter().flatten().collect())
}

/// `--resources`: a file, or standard input.
fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => stdin().lock().take(bundle::MAX_SIZE).read_to_string(&mut text),
        false => File::open(path).and_then(|f| f.take(bundle::MAX_SIZE).read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read {} (--resources)", path.display()))?;
    Ok(text)
}

/// The flags as JSON in the form of `linux.resources`.
fn from_flags(args: &UpdateArgs) -> Result<Value> {
    let mut resources = json!({});
    for (flag, value, field, form) in flags(args) {
        // An empty text counts as not given, as in Go.
        let Some(text) = value.as_deref().filter(|text| !text.is_empty()) else { continue };
        let (group, name) = field.split_once('.').unwrap_or((field, ""));
        resources[group][name] = match form {
            Form::Unsigned => number(flag, text, false)?,
            Form::Weight => weight(flag, text)?,
            Form::Signed => number(flag, text, true)?,
            Form::Bytes => bytes(flag, text)?,
            Form::Text => text.into(),
        };
    }
    Ok(resources)
}

/// How the value of a flag is written.
enum Form {
    Unsigned,
    Weight,
    Signed,
    Bytes,
    Text,
}

/// A flag, its value, its field of `linux.resources`.
type Flag<'a> = (&'static str, &'a Option<String>, &'static str, Form);

fn flags(args: &UpdateArgs) -> [Flag<'_>; 16] {
    use Form::{Bytes, Signed, Text, Unsigned, Weight};
    [
        ("--cpu-share", &args.cpu_share, "cpu.shares", Unsigned),
        ("--cpu-period", &args.cpu_period, "cpu.period", Unsigned),
        ("--cpu-quota", &args.cpu_quota, "cpu.quota", Signed),
        ("--cpu-burst", &args.cpu_burst, "cpu.burst", Unsigned),
        ("--cpu-rt-period", &args.cpu_rt_period, "cpu.realtimePeriod", Unsigned),
        ("--cpu-rt-runtime", &args.cpu_rt_runtime, "cpu.realtimeRuntime", Signed),
        ("--cpu-idle", &args.cpu_idle, "cpu.idle", Signed),
        ("--cpuset-cpus", &args.cpuset_cpus, "cpu.cpus", Text),
        ("--cpuset-mems", &args.cpuset_mems, "cpu.mems", Text),
        ("--memory", &args.memory, "memory.limit", Bytes),
        ("--memory-reservation", &args.memory_reservation, "memory.reservation", Bytes),
        ("--memory-swap", &args.memory_swap, "memory.swap", Bytes),
        ("--kernel-memory", &args.kernel_memory, "memory.kernel", Bytes),
        ("--kernel-memory-tcp", &args.kernel_memory_tcp, "memory.kernelTCP", Bytes),
        ("--blkio-weight", &args.blkio_weight, "blockIO.weight", Weight),
        ("--pids-limit", &args.pids_limit, "pids.limit", Signed),
    ]
}

/// The flag for the field, unless `--resources` stands in the place of them all.
fn flag(args: &UpdateArgs, field: &str) -> Option<&'static str> {
    let found = flags(args).into_iter().find(|(_, _, name, _)| *name == field);
    found.filter(|_| args.resources.is_none()).map(|(flag, ..)| flag)
}

fn number(flag: &str, text: &str, signed: bool) -> Result<Value> {
    let number: Option<i64> = text.parse().ok();
    let large: Option<u64> = text.parse().ok();
    match (number.filter(|number| signed || *number >= 0), large.filter(|_| !signed)) {
        (Some(number), _) => Ok(number.into()),
        (None, Some(number)) => Ok(number.into()),
        (None, None) => {
            let what = if signed { "a whole number" } else { "a whole number from 0 up" };
            Err(Fault::bad_input(format!("{flag} {}: not {what}", text.escape_debug())).into())
        }
    }
}

/// What the 16 bits of the field hold; the checks know the bounds.
fn weight(flag: &str, text: &str) -> Result<Value> {
    match number(flag, text, false)? {
        large if large.as_u64() > Some(u16::MAX.into()) => {
            Err(Fault::bad_input(format!("{flag} {text}: is above {}", u16::MAX)).into())
        }
        weight => Ok(weight),
    }
}

/// Bytes, with a unit of 1024 (`64M`, `64MB`, `64MiB`) or without; -1 is no limit.
fn bytes(flag: &str, text: &str) -> Result<Value> {
    let bad = || {
        let hint = "bytes, with a unit as 512k, 64M or 1.5G if you like, or -1 for no limit";
        let text = text.escape_debug();
        Fault::bad_input(format!("{flag} {text}: not an amount of memory")).hint(hint)
    };
    if text == "-1" {
        return Ok((-1).into());
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).ok_or_else(bad)?;
    let power = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad().into()),
    };
    let factor = 1024i64.pow(power);
    if let Ok(whole) = digits.parse::<i64>() {
        return Ok(whole.checked_mul(factor).ok_or_else(bad)?.into());
    }
    let fraction: f64 = digits.parse().map_err(|_| bad())?;
    let amount = fraction * factor as f64;
    if amount < i64::MAX as f64 { Ok((amount as i64).into()) } else { Err(bad().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (text, amount) in [
            ("0", 0i64),
            ("67108864", 67_108_864),
            ("50M", 52_428_800),
            ("50mb", 52_428_800),
            ("1GiB", 1 << 30),
            ("1.5k", 1536),
            ("2 T", 2 << 40),
            ("-1", -1),
        ] {
            assert_eq!(bytes("--memory", text).unwrap(), json!(amount), "{text}");
        }
        for text in ["", "x", "-2", "1x", "M", "1.2.3", "99999999999999999999", "9000000P", "1e9"] {
            assert!(bytes("--memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_make_the_fields_of_the_spec() {
        let text = |text: &str| Some(text.to_owned());
        let args = UpdateArgs {
            cpu_share: text("200"),
            cpu_quota: text("-1"),
            cpuset_cpus: text("0-1"),
            cpuset_mems: text(""),
            memory: text("-1"),
            pids_limit: text("0"),
            blkio_weight: text("500"),
            ..UpdateArgs::default()
        };
        assert_eq!(
            from_flags(&args).unwrap(),
            json!({
                "cpu": { "shares": 200, "quota": -1, "cpus": "0-1" },
                "memory": { "limit": -1 },
                "pids": { "limit": 0 },
                "blockIO": { "weight": 500 },
            })
        );
        assert_eq!(from_flags(&UpdateArgs::default()).unwrap(), json!({}));
        let plan = Changes::of(&args).unwrap().plan;
        assert_eq!((plan.pids, plan.memory.limit, plan.cpu.quota), (Some(0), Some(-1), Some(-1)));
    }

    #[test]
    fn no_flag_is_lost() {
        let text = |text: &str| Some(text.to_owned());
        let args = UpdateArgs {
            cpu_period: text("1"),
            cpu_burst: text("2"),
            cpu_rt_period: text("3"),
            cpu_rt_runtime: text("4"),
            cpu_idle: text("1"),
            cpuset_mems: text("0"),
            memory_reservation: text("5"),
            memory_swap: text("6"),
            ..UpdateArgs::default()
        };
        assert_eq!(
            from_flags(&args).unwrap(),
            json!({
                "cpu": {
                    "period": 1, "burst": 2, "realtimePeriod": 3, "realtimeRuntime": 4,
                    "idle": 1, "mems": "0",
                },
                "memory": { "reservation": 5, "swap": 6 },
            })
        );
    }

    #[test]
    fn a_bad_value_names_its_flag() {
        let args = UpdateArgs { cpu_period: Some("-5".into()), ..UpdateArgs::default() };
        assert_eq!(
            render_line(&Changes::of(&args).err().unwrap()),
            "--cpu-period -5: not a whole number from 0 up"
        );
        let args = UpdateArgs { mem_bw_schema: Some("L3:0=5".into()), ..UpdateArgs::default() };
        assert_eq!(
            render_line(&schemata(&args).unwrap_err()),
            "--mem-bw-schema: must start with MB:, not \"L3:0=5\""
        );
        let args = UpdateArgs { cpu_period: Some("5".into()), ..UpdateArgs::default() };
        assert_eq!(
            render_line(&Changes::of(&args).err().unwrap()),
            "update: --cpu-period: 5 is outside 1000 to 1000000 microseconds"
        );
        // No control character reaches the terminal.
        for (args, message) in [
            (
                UpdateArgs { cpu_idle: Some("\u{1b}[2J".into()), ..UpdateArgs::default() },
                "--cpu-idle \\u{1b}[2J: not a whole number",
            ),
            (
                UpdateArgs { memory: Some("5\u{7}".into()), ..UpdateArgs::default() },
                "--memory 5\\u{7}: not an amount of memory",
            ),
        ] {
            assert_eq!(Changes::of(&args).err().unwrap().to_string(), message);
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_blamed_on_who_gave_it() {
        let args = UpdateArgs { cpuset_cpus: Some("0".into()), ..UpdateArgs::default() };
        let changes = Changes::of(&args).unwrap();
        assert_eq!(changes.source(&args, "cpu.cpus"), "--cpuset-cpus");
        assert_eq!(changes.source(&args, "cpu.mems"), "config.json");
        assert_eq!(changes.source(&args, "cpu"), "update");
        assert_eq!(changes.source(&args, "unified[\"cpu.x\"]"), "config.json");
    }

    #[test]
    fn resources_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        std::fs::write(&path, r#"{"memory":{"limit":1048576}}"#).unwrap();
        let args = UpdateArgs {
            resources: Some(path),
            pids_limit: Some("ignored".into()),
            ..UpdateArgs::default()
        };
        assert_eq!(Changes::of(&args).unwrap().plan.memory.limit, Some(1 << 20));
        let args = UpdateArgs { resources: Some("/no/such".into()), ..UpdateArgs::default() };
        assert_eq!(
            render_line(&Changes::of(&args).err().unwrap()),
            "cannot read /no/such (--resources): no such file or directory"
        );
    }
}
