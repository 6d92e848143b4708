//! What the command prints.

use std::collections::{BTreeMap, BTreeSet};

use bytesize::ByteSize;
use firnline::{Compactor, FileNameParser, JobReport, Namespace, NotSourceFile, ObjectKey, SortField, Timestamp};
use serde_json::{Value, json};

use crate::command::arguments::reason;

/// What was done, gathered while it is done.
#[derive(Debug, Default)]
pub(crate) struct Report {
    order: Vec<SortField>,
    plans: BTreeMap<String, Vec<Value>>,
    /// What the operator's doors did.
    pub(crate) doors: Vec<String>,
    /// What stands in `--events` and is no notification.
    pub(crate) skipped_lines: usize,
    /// What is still wrong.
    pub(crate) errors: Vec<String>,
    pub(crate) reclaimed: usize,
    /// Sources in quarantine that a line was printed for.
    told: BTreeSet<ObjectKey>,
}

impl Report {
    /// The report of a run that asks for sources of this order.
    pub(crate) fn new(order: Vec<SortField>) -> Self {
        Self {
            order,
            ..Self::default()
        }
    }

    /// Takes in what a job has come to; returns what is worth a line.
    pub(crate) fn add(&mut self, namespace: &Namespace, report: &JobReport) -> Vec<String> {
        let mut lines = Vec::new();
        for plan in &report.committed {
            let bytes_out: u64 = plan.outputs.iter().map(|file| file.size).sum();
            lines.push(format!(
                "{} seq {}: {} files, {} rows, {} -> {} in {} ({} ms)",
                plan.window_key,
                plan.seq,
                plan.sources,
                plan.rows,
                ByteSize(plan.bytes_in),
                ByteSize(bytes_out),
                files(plan.outputs.len()),
                plan.duration_ms,
            ));
            self.plans.entry(namespace.to_string()).or_default().push(json!({
                "seq": plan.seq,
                "windowKey": plan.window_key,
                "generation": plan.generation,
                "sources": plan.sources,
                "rows": plan.rows,
                "bytesIn": plan.bytes_in,
                "bytesOut": bytes_out,
                "outputs": plan.outputs.iter().map(|file| &file.path).collect::<Vec<_>>(),
                "ms": plan.duration_ms,
            }));
        }
        for seq in &report.voided {
            lines.push(format!(
                "{namespace} seq {seq}: void, its readable sources are planned again"
            ));
        }
        for (key, why) in &report.quarantined {
            lines.push(format!("quarantine {key}: {}", reason(why, &self.order)));
            self.told.insert(key.clone());
        }
        if report.reclaimed_sources > 0 {
            lines.push(format!("{namespace}: {} deleted", files(report.reclaimed_sources)));
            self.reclaimed += report.reclaimed_sources;
        }
        if let Some(halt) = &report.halted {
            lines.push(format!("halted {namespace}: {halt}"));
        }
        if let Some(error) = &report.error {
            lines.push(format!("failed {namespace}: {}", error.chain()));
        }
        lines
    }

    /// The document of `--json`.
    pub(crate) fn document(
        &self,
        compactor: &Compactor,
        parser: &dyn FileNameParser,
        now: Timestamp,
        exit_code: u8,
    ) -> Value {
        let status = compactor.status(now);
        let mut namespaces: BTreeMap<String, Value> = BTreeMap::new();
        for namespace in compactor.namespaces() {
            let prefix = format!("{namespace}:");
            let of_it = |key: &str| {
                key.strip_prefix(&prefix)
                    .is_some_and(|start| start.parse::<i64>().is_ok())
            };
            let pending: usize = status
                .windows
                .iter()
                .filter(|w| of_it(&w.key))
                .map(|w| w.file_count)
                .sum();
            let halt = status.halts.iter().find(|halt| halt.namespace == *namespace);
            namespaces.insert(
                namespace.to_string(),
                json!({
                    "plans": self.plans.get(namespace.as_str()).cloned().unwrap_or_default(),
                    "pending": pending,
                    "quarantine": [],
                    "halted": halt.map(|halt| &halt.reason),
                }),
            );
        }
        // Keys that do not parse have no namespace.
        let mut without_namespace = Vec::new();
        for file in compactor.quarantined(now) {
            let why = reason(&file.reason, &self.order);
            let entry = json!({ "key": file.key, "reason": why, "detail": file.reason });
            let namespace = match parser.parse(&file.key) {
                Ok(name) => name.namespace.to_string(),
                Err(NotSourceFile::Malformed(_) | NotSourceFile::OutsidePrefix | NotSourceFile::Unrelated) => {
                    String::new()
                }
            };
            match namespaces
                .get_mut(&namespace)
                .and_then(|doc| doc["quarantine"].as_array_mut())
            {
                Some(entries) => entries.push(entry),
                None => without_namespace.push(entry),
            }
        }
        json!({
            "namespaces": namespaces,
            "quarantine": without_namespace,
            "reclaimedSources": self.reclaimed,
            "doors": self.doors,
            "skippedLines": self.skipped_lines,
            "errors": self.errors,
            "status": status,
            "exitCode": exit_code,
        })
    }
}

/// The end of the run for a person.
pub(crate) fn summary(report: &Report, compactor: &Compactor, now: Timestamp) -> String {
    use std::fmt::Write as _;

    let status = compactor.status(now);
    let plans: usize = report.plans.values().map(Vec::len).sum();
    let pending: usize = status.windows.iter().map(|window| window.file_count).sum();
    let mut text = format!(
        "{plans} plans committed, {} deleted, {} pending in {} windows, {} in quarantine\n",
        files(report.reclaimed),
        files(pending),
        status.active_windows,
        files(status.quarantine.count),
    );
    for reason in &status.health.reasons {
        let _ = writeln!(text, "  {}", reason.message);
    }
    let untold = (status.quarantine.files.iter()).filter(|file| !report.told.contains(&file.key));
    for file in untold.take(20) {
        let why = reason(&file.reason, &report.order);
        let _ = writeln!(text, "  quarantine {}: {why}", file.key);
    }
    text
}

fn files(count: usize) -> String {
    format!("{count} file{}", if count == 1 { "" } else { "s" })
}
