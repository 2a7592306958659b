//! docs/spec-conformance.md is whole: every field of the spec has a row, and every row a test.
//! That the tests exist and pass is scripts/check-conformance's.

use serde_json::Value;

/// Keys of these are not fields but names that the user gives; so are those of the hooks, which
/// have one row for all kinds.
const MAPS: [&str; 4] =
    ["annotations", "linux.sysctl", "linux.resources.unified", "features.annotations"];
const MAPS_OF_OBJECTS: [&str; 4] =
    ["hooks", "linux.netDevices", "linux.resources.rdma", "linux.timeOffsets"];

/// Fields of the container's state and of the state that a seccomp agent gets.
const STATES: [&str; 11] = [
    "state.ociVersion",
    "state.id",
    "state.status",
    "state.pid",
    "state.bundle",
    "state.annotations",
    "containerProcessState.ociVersion",
    "containerProcessState.fds",
    "containerProcessState.pid",
    "containerProcessState.metadata",
    "containerProcessState.state",
];

/// The fields below `at`: `process.user.uid`, `mounts[].options`, `linux.netDevices.*.name`.
fn fields(value: &Value, at: &str, found: &mut Vec<String>) {
    let join = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match value {
        Value::Object(map) if !MAPS.contains(&at) => {
            for (key, value) in map {
                if MAPS_OF_OBJECTS.contains(&at) {
                    found.push(join(key));
                    fields(value, &join("*"), found);
                } else {
                    fields(value, &join(key), found);
                }
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().for_each(|value| fields(value, &format!("{at}[]"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

/// The names of keys that the fixture invents are no fields.
fn is_invented(field: &str) -> bool {
    let (parent, _) = field.rsplit_once('.').unwrap_or_default();
    ["linux.netDevices", "linux.resources.rdma"].contains(&parent)
}

/// Every field that the spec has for Linux: of config.json by the fixture that the parser is
/// tested with, of the features document by what we print (see tests/features.rs).
fn all_fields() -> Vec<String> {
    let mut found: Vec<String> = STATES.map(String::from).to_vec();
    let config: Value = serde_json::from_str(include_str!("fixtures/every-field.json")).unwrap();
    fields(&config, "", &mut found);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corten"));
    let features = command.arg("features").output().unwrap().stdout;
    fields(&serde_json::from_slice(&features).unwrap(), "features", &mut found);
    found.retain(|field| !is_invented(field));
    found.sort();
    found.dedup();
    found
}

/// The rows of the tables: spec, must hold, code, test.
fn rows() -> Vec<[String; 4]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/spec-conformance.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let row: [String; 4] = cells.try_into().unwrap_or_else(|_| panic!("four columns: {line}"));
        if row[0] != "spec" && !row[0].starts_with("---") {
            rows.push(row);
        }
    }
    rows
}

/// The words of a cell, with `a.{b,c}` as `a.b` and `a.c`.
fn words(cell: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in cell.split([' ', '`', ';', '(', ')']).filter(|word| !word.is_empty()) {
        match word.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?))) {
            Some((head, (names, tail))) => {
                words.extend(names.split(',').map(|name| format!("{head}{name}{tail}")));
            }
            None => words.push(word.trim_matches([',', ':', '.']).to_owned()),
        }
    }
    words
}

#[test]
fn every_field_has_a_row() {
    let covered: Vec<String> = rows().iter().flat_map(|row| words(&row[0])).collect();
    let fields = all_fields();
    assert!(fields.len() > 150, "{fields:#?}");
    let without: Vec<&String> = fields.iter().filter(|field| !covered.contains(field)).collect();
    assert!(without.is_empty(), "no row for {without:#?}");
}

#[test]
fn every_row_has_code_and_a_test() {
    let rows = rows();
    assert!(rows.len() > 100, "{}", rows.len());
    for row in rows {
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        let tests: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row:?}");
        for test in tests {
            assert!(test.contains("::") || test.contains(':'), "{test:?} in {row:?}");
        }
        for word in words(&row[2]).iter().filter(|word| word.starts_with("src/")) {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
            assert!(path.exists(), "{word} in {row:?}");
        }
    }
}
