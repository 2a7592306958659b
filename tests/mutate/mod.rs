//! Makes bad input of good: changes of JSON documents that know what such documents hold. The same
//! seed makes the same changes.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// xorshift64* (Vigna 2016).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds are to give different streams, and 0 would give only zeros.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `limit` - 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Good documents, and what stands in them under which name.
#[derive(Default)]
pub struct Corpus {
    pub documents: Vec<Value>,
    /// Values by the name of their field; an element of a list counts under the list's name.
    values: BTreeMap<String, Vec<Value>>,
    strings: Vec<String>,
    words: Vec<&'static str>,
    numbers: Vec<&'static str>,
}

/// Words that mean something in some field, or nearly; the rest comes from the documents.
const WORDS: &str = "/ // . .. ../.. /.. /./a /proc /proc/self/ns/net /proc/self/fd/3 /dev /dev/ptmx \
    /sys =,- CAP_ CAP_ALL 1.0.0- 2.0.0 4294967295-0 0-3,,7 net.//. net.ipv4.x \
    kernel.shm_rmid_forced fs.mqueue.a -1 0 1e9 max 0x10 18446744073709551616 bind rbind ro rro rw \
    nosuid rnosuid remount shared rslave unbindable idmap ridmap ridmap=0-1-2 \
    idmap=uids=0-1-2;gids=0-1-2 tmpcopyup copy-symlink size=10% size= mode=9 mode=0777777 uid=-1 = \
    a=\"b context=x dest-nofollow src-nofollow tmpfs proc sysfs mqueue devpts cgroup cgroup2 overlay \
    nosuchfs none c b u p a rwm rwmx SCMP_ACT_KILL_PROCESS SCMP_ACT_TRACE SCMP_ACT_LOG \
    SCMP_ACT_NOTIFY SCMP_ACT_ALLOW SCMP_CMP_NE SCMP_CMP_MASKED_EQ SCMP_ARCH_X32 SCMP_ARCH_ARM read \
    write openat SCHED_FIFO SCHED_ISO SCHED_DEADLINE SCHED_FLAG_UTIL_CLAMP_MIN IOPRIO_CLASS_RT \
    RLIMIT_NOFILE RLIMIT_NICE MPOL_BIND MPOL_F_NUMA_BALANCING LINUX32 LINUX user network time \
    monotonic realtime 4KB 2MB cpu.max memory.max ../cgroup.procs cgroup.procs eth0 lo %d a/b";

/// Text that no field is made for.
const ODD: [&str; 11] = [
    "",
    "\0",
    " ",
    "a\nb",
    "\u{1b}[2J",
    "ä",
    "\u{202e}x",
    "\u{fffd}",
    "a=\0",
    "L3:0=ff\nMB:0=50",
    "\"",
];

/// Next to a limit of some field; below 0 as well.
const NUMBERS: &str = "0 1 2 7 8 9 10 19 20 21 64 99 100 255 256 340 511 512 999 1000 1001 1023 1024 \
    4094 4095 4096 65535 65536 1048575 1048576 2147483647 2147483648 2147483649 4294967295 \
    4294967296 9007199254740993 9223372036854775807 9223372036854775808 9223372036854775809 \
    18446744073709551615 18446744073709551616";

/// The words of a list above.
fn words(list: &'static str) -> Vec<&'static str> {
    list.split_whitespace().collect()
}

impl Corpus {
    pub fn new(documents: Vec<Value>) -> Self {
        let mut corpus = Corpus {
            words: [words(WORDS), ODD.into()].concat(),
            numbers: words(NUMBERS),
            ..Corpus::default()
        };
        for document in &documents {
            corpus.learn("", document);
        }
        corpus.documents = documents;
        corpus
    }

    fn learn(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| self.learn(key, value)),
            Value::Array(list) => list.iter().for_each(|value| self.learn(name, value)),
            Value::String(text) if !self.strings.contains(text) => self.strings.push(text.clone()),
            _ => {}
        }
        let known = self.values.entry(name.to_owned()).or_default();
        // A seccomp profile has hundreds.
        if known.len() < 40 && !known.contains(value) {
            known.push(value.clone());
        }
    }

    /// One of the documents.
    pub fn document(&self, random: &mut Random) -> Value {
        random.pick(&self.documents).clone()
    }

    /// Some text: a word, or one made from words.
    pub fn text(&self, random: &mut Random) -> String {
        let word = |random: &mut Random| match random.below(3) {
            0 => (*random.pick(&self.words)).to_owned(),
            _ => random.pick(&self.strings).clone(),
        };
        let mut text = word(random);
        match random.below(12) {
            0 => text += &word(random),
            1 => text.truncate(text.floor_char_boundary(random.below(text.len() + 1))),
            2 => text = text.to_uppercase(),
            3 => {
                let at = text.floor_char_boundary(random.below(text.len() + 1));
                text.insert(
                    at,
                    *random.pick(&[
                        '\0', '\n', '\u{7f}', '/', '=', ',', ':', '.', '-', '+', ' ', 'é', '"',
                    ]),
                );
            }
            4 => text = text.repeat(*random.pick(&[2, 3, 17, 300])),
            5 => {
                text = random
                    .pick(&["x", "/x", "ä", "../", "a,"])
                    .repeat(*random.pick(&[60, 64, 65, 255, 256, 4096, 9000]))
            }
            6 => text = self.digits(random),
            _ => {}
        }
        text.truncate(text.floor_char_boundary(100_000));
        text
    }

    fn digits(&self, random: &mut Random) -> String {
        let sign = if random.one_in(3) { "-" } else { "" };
        format!("{sign}{}", random.pick(&self.numbers))
    }

    fn number(&self, random: &mut Random) -> Value {
        match random.below(8) {
            0 => json!(1.5),
            1 => json!(random.next()),
            2 => json!(-1e300),
            _ => serde_json::from_str(&self.digits(random)).unwrap(),
        }
    }

    /// A value for the field `name`, of the right kind more often than not.
    fn value(&self, name: &str, random: &mut Random) -> Value {
        match random.below(10) {
            0..4 => match self.values.get(name) {
                Some(known) => random.pick(known).clone(),
                None => json!(self.text(random)),
            },
            4 | 5 => json!(self.text(random)),
            6 | 7 => self.number(random),
            8 => {
                let names: Vec<&String> = self.values.keys().collect();
                self.values
                    .get(*random.pick(&names))
                    .map_or(Value::Null, |known| random.pick(known).clone())
            }
            _ => random
                .pick(&[
                    json!(null),
                    json!(true),
                    json!(false),
                    json!([]),
                    json!({}),
                    json!([[]]),
                    json!([null]),
                    json!({"": ""}),
                    json!([{}]),
                ])
                .clone(),
        }
    }

    /// A number or a text that differs from `value` a little, another value for everything else.
    fn near(&self, name: &str, value: &Value, random: &mut Random) -> Value {
        match value {
            Value::Number(number) if random.one_in(2) => match (number.as_i64(), random.below(4)) {
                (Some(n), 0) => json!(n.wrapping_add(1)),
                (Some(n), 1) => json!(n.wrapping_sub(1)),
                (Some(n), 2) => json!(n.wrapping_neg()),
                _ => json!(number.to_string()),
            },
            Value::String(text) if random.one_in(2) && !text.is_empty() => {
                let mut chars: Vec<char> = text.chars().collect();
                let at = random.below(chars.len());
                match random.below(3) {
                    0 => drop(chars.remove(at)),
                    1 => chars.insert(at, chars[at]),
                    _ => {
                        chars[at] = *random
                            .pick(&['\0', '\u{1b}', '/', '.', 'Ä', '0', '9', 'z', '=', ':', '-'])
                    }
                }
                json!(chars.into_iter().collect::<String>())
            }
            Value::Array(list) if random.one_in(4) => Value::Object(
                list.iter().enumerate().map(|(i, v)| (i.to_string(), v.clone())).collect(),
            ),
            Value::Object(map) if random.one_in(4) => map.values().cloned().collect(),
            _ => self.value(name, random),
        }
    }

    /// Changes one place of `value`, which stands under `name`.
    pub fn mutate(&self, name: &str, value: &mut Value, random: &mut Random) {
        match value {
            Value::Object(map) if !random.one_in(12) => self.mutate_object(map, random),
            Value::Array(list) if !list.is_empty() && !random.one_in(12) => {
                let at = random.below(list.len());
                match random.below(10) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    2 => list.insert(at, self.value(name, random)),
                    3 if random.one_in(20) => {
                        *list = vec![list[at].clone(); *random.pick(&[33, 341, 5000])]
                    }
                    _ => self.mutate(name, &mut list[at], random),
                }
            }
            other => *other = self.near(name, other, random),
        }
    }

    fn mutate_object(&self, map: &mut Map<String, Value>, random: &mut Random) {
        let choice = random.below(14);
        if map.is_empty() || choice == 0 {
            let names: Vec<&String> = self.values.keys().collect();
            let key = (*random.pick(&names)).clone();
            let value = self.value(&key, random);
            map.insert(key, value);
            return;
        }
        let key = map.keys().nth(random.below(map.len())).unwrap().clone();
        match choice {
            1 => drop(map.remove(&key)),
            2 => {
                let moved = map.remove(&key).unwrap();
                map.insert(self.text(random), moved);
            }
            3 => {
                let value = self.value(&key, random);
                map.insert(key, value);
            }
            4 if random.one_in(10) => {
                let moved = map.remove(&key).unwrap();
                let depth = *random.pick(&[1, 10, 60, 200]);
                let nested = (0..depth).fold(moved, |inner, i| {
                    if i % 2 == 0 { json!([inner]) } else { json!({&key: inner}) }
                });
                map.insert(key, nested);
            }
            _ => self.mutate(&key, map.get_mut(&key).unwrap(), random),
        }
    }
}

/// A number from the environment.
pub fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
