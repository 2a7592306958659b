//! What `events` tells of resctrl, in runc's shape.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{RdtGroup, read};
use crate::error::Result;

impl RdtGroup {
    /// The machine's limits, the schemata of the default group and of the container's, and the
    /// counts of its monitoring group, or else of its class of service. What the machine does not
    /// have is left out.
    pub fn stats(&self) -> Result<Map<String, Value>> {
        let mut stats = Map::new();
        let schemata = |dir: &Path| read(dir.join("schemata")).map(Option::unwrap_or_default);
        let (root, own) = (schemata(&self.root)?, schemata(&self.path)?);
        let resources: [(&str, &str, &[&str]); 2] = [
            ("L3", "l3_cache", &["cbm_mask", "min_cbm_bits", "num_closids"]),
            ("MB", "mem_bw", &["bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"]),
        ];
        for (resource, name, files) in resources {
            let info = self.root.join("info").join(resource);
            if !info.is_dir() {
                continue;
            }
            let mut limits = Map::new();
            for file in files {
                if let Some(text) = read(info.join(file))? {
                    // A mask is hexadecimal and stays text.
                    let number = text.parse::<u64>().ok().filter(|_| *file != "cbm_mask");
                    limits.insert((*file).to_owned(), number.map_or(text.into(), Value::from));
                }
            }
            stats.insert(format!("{name}_info"), limits.into());
            for (suffix, text) in [("schema_root", &root), ("schema", &own)] {
                let mut lines = text.lines().map(str::trim);
                let line = lines.find(|line| line.split(':').next() == Some(resource));
                stats.extend(line.map(|line| (format!("{name}_{suffix}"), line.into())));
            }
        }
        let lines: Vec<&str> = own.lines().map(str::trim).collect();
        if !lines.is_empty() {
            stats.insert("schemata".to_owned(), json!(lines));
        }
        let features = read(self.root.join("info/L3_MON/mon_features"))?.unwrap_or_default();
        let has = |feature: &str| features.lines().any(|line| line.trim() == feature);
        let data = self.monitor.as_ref().unwrap_or(&self.path).join("mon_data");
        let lists: [(&str, &[&str]); 2] = [
            ("mbm_stats", &["mbm_total_bytes", "mbm_local_bytes"]),
            ("cmt_stats", &["llc_occupancy"]),
        ];
        for (name, counters) in lists {
            if counters.iter().any(|counter| has(counter)) {
                stats.insert(name.to_owned(), counts(&data, counters)?.into());
            }
        }
        Ok(stats)
    }
}

/// One object for each domain (`mon_data/mon_L3_00`), in their order.
fn counts(data: &Path, counters: &[&str]) -> Result<Vec<Value>> {
    let entries = std::fs::read_dir(data).map(|dir| dir.flatten().map(|e| e.path()).collect());
    let mut domains: Vec<_> = entries.unwrap_or_default();
    domains.sort();
    let mut list = Vec::new();
    for domain in domains {
        let mut counts = Map::new();
        for counter in counters {
            let text = read(domain.join(counter))?;
            // "Unavailable" and "Error" are no numbers.
            let count = text.and_then(|text| text.parse::<u64>().ok());
            counts.extend(count.map(|count| ((*counter).to_owned(), count.into())));
        }
        list.push(counts.into());
    }
    Ok(list)
}
