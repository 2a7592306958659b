//! `update`: flags become the `linux.resources` that `--resources` would have held, so that both
//! are read and checked in one place.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use serde_json::{Value, json};

use super::{open, status, wrong_state};
use crate::cgroups::Cgroup;
use crate::cli::UpdateArgs;
use crate::config::{bundle, validate};
use crate::error::{Context, Fault, Kind, Result, render_line};
use crate::plan::resources::ResourcesPlan;
use crate::state::Status;

/// `update`: all of the new limits, or on an error the old ones.
pub fn update(root: &Path, args: &UpdateArgs) -> Result<()> {
    let newer = changes(args)?;
    let (dir, _) = open(root, &args.id)?;
    let _lock = dir.lock()?;
    let mut state = dir.read()?;
    if matches!(status(&dir, &state), Status::Stopped | Status::Creating) {
        // containerd looks for this text.
        return Err(wrong_state("container not running"));
    }
    let mut merged = state.resources.clone();
    merged.merge_update(&newer);
    let cgroup = Cgroup::open(&state.cgroup)?;
    if let Err(error) = cgroup.update(&merged) {
        if let Err(back) = cgroup.update(&state.resources) {
            log::warn!("the old limits could not all be set again: {}", render_line(&back));
        }
        return Err(error.context(format!("while updating container {:?}", args.id)));
    }
    state.resources = merged;
    dir.write(&state)
}

/// What is to change, checked.
fn changes(args: &UpdateArgs) -> Result<ResourcesPlan> {
    let (text, file) = match &args.resources {
        Some(path) => (read(path)?, "--resources"),
        None => (from_flags(args)?.to_string(), "update"),
    };
    let resources = bundle::parse_resources(&text).context(file)?;
    validate::resources(&resources, file)?;
    if resources
        .memory()
        .is_some_and(|memory| memory.kernel().is_some() || memory.kernel_tcp().is_some())
    {
        log::warn!("limits of kernel memory are ignored: the kernel has none any more");
    }
    ResourcesPlan::build(Some(&resources))
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
    let schema =
        [("--l3-cache-schema", &args.l3_cache_schema), ("--mem-bw-schema", &args.mem_bw_schema)];
    if let Some((flag, _)) = schema.iter().find(|(_, value)| value.is_some()) {
        let text = format!("{flag}: Intel RDT is not supported by this version of Corten");
        return Err(Fault::new(Kind::Unsupported, text).into());
    }
    let mut cpu = json!({});
    for (flag, value, field, signed) in [
        ("--cpu-share", &args.cpu_share, "shares", false),
        ("--cpu-period", &args.cpu_period, "period", false),
        ("--cpu-quota", &args.cpu_quota, "quota", true),
        ("--cpu-burst", &args.cpu_burst, "burst", false),
        ("--cpu-rt-period", &args.cpu_rt_period, "realtimePeriod", false),
        ("--cpu-rt-runtime", &args.cpu_rt_runtime, "realtimeRuntime", true),
        ("--cpu-idle", &args.cpu_idle, "idle", true),
    ] {
        set(&mut cpu, field, value, |text| number(flag, text, signed))?;
    }
    for (value, field) in [(&args.cpuset_cpus, "cpus"), (&args.cpuset_mems, "mems")] {
        set(&mut cpu, field, value, |text| Ok(text.into()))?;
    }
    let mut memory = json!({});
    for (flag, value, field) in [
        ("--memory", &args.memory, "limit"),
        ("--memory-reservation", &args.memory_reservation, "reservation"),
        ("--memory-swap", &args.memory_swap, "swap"),
        ("--kernel-memory", &args.kernel_memory, "kernel"),
        ("--kernel-memory-tcp", &args.kernel_memory_tcp, "kernelTCP"),
    ] {
        set(&mut memory, field, value, |text| bytes(flag, text))?;
    }
    let mut block_io = json!({});
    set(&mut block_io, "weight", &args.blkio_weight, |text| number("--blkio-weight", text, false))?;
    let mut pids = json!({});
    set(&mut pids, "limit", &args.pids_limit, |text| number("--pids-limit", text, true))?;
    let groups = [("cpu", cpu), ("memory", memory), ("blockIO", block_io), ("pids", pids)];
    let given = groups.into_iter().filter(|(_, group)| group != &json!({}));
    Ok(given
        .map(|(name, group)| (name.to_owned(), group))
        .collect::<serde_json::Map<_, _>>()
        .into())
}

/// Sets a field of a group when its flag was given; an empty text counts as not given, as in Go.
fn set(
    group: &mut Value,
    field: &str,
    value: &Option<String>,
    read: impl Fn(&str) -> Result<Value>,
) -> Result<()> {
    if let Some(text) = value.as_deref().filter(|text| !text.is_empty())
        && let Some(fields) = group.as_object_mut()
    {
        fields.insert(field.to_owned(), read(text)?);
    }
    Ok(())
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
        let plan = changes(&args).unwrap();
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
            render_line(&changes(&args).unwrap_err()),
            "--cpu-period -5: not a whole number from 0 up"
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
            assert_eq!(changes(&args).unwrap_err().to_string(), message);
        }
        let args = UpdateArgs { mem_bw_schema: Some("MB:0=5".into()), ..UpdateArgs::default() };
        assert_eq!(crate::error::kind(&changes(&args).unwrap_err()), Kind::Unsupported);
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
        assert_eq!(changes(&args).unwrap().memory.limit, Some(1 << 20));
        let args = UpdateArgs { resources: Some("/no/such".into()), ..UpdateArgs::default() };
        assert_eq!(
            render_line(&changes(&args).unwrap_err()),
            "cannot read /no/such (--resources): no such file or directory"
        );
    }
}
