//! A host whose tables are in a REST catalog.
//!
//! ```text
//! cargo run --manifest-path examples/rest/Cargo.toml -- HOME URI [NAMESPACE [NOW_MS]]
//! ```
//!
//! Takes the files below `HOME/bucket/data/{table}/` into the tables `NAMESPACE.{table}` (`app` by default; `.` between
//! levels) of the catalog at `URI`, whose files go below `HOME/tables`, and prints a line of JSON for each commit and
//! each error. `TOKEN` and `WAREHOUSE` are taken from the environment. The catalog must be one that lets its clients
//! choose locations.
//!
//! Time is `NOW_MS` and what follows, up to a day: nothing is waited for, the clock is set to the next deadline.

mod http;
#[path = "../../support/mod.rs"]
#[allow(dead_code, reason = "this host sets its clock itself")]
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use firnline::iceberg::{IcebergOptions, IcebergSink, RestCatalog, RestOptions};
use firnline::object_store::path::Path as ObjectPath;
use firnline::{
    Clock, Compactor, CompactorBuilder, Error, ErrorKind, Namespace, ObjectStoreStateStore, Options, Place, Result,
    SortField, Table, TableFormat, TableProvider, Timestamp,
};
use futures::executor::block_on;
use serde_json::json;

use http::Ureq;
use support::{SystemClock, directory};

/// A failed step is tried again this often before the host gives up.
const MOST_FAILURES: usize = 30;
const DAY_MS: u64 = 86_400_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (home, uri, rest) = match args.as_slice() {
        [home, uri, rest @ ..] if rest.len() <= 2 => (Path::new(home), *uri, rest),
        _ => {
            eprintln!("usage: firnline-rest-example HOME URI [NAMESPACE [NOW_MS]]");
            return ExitCode::from(2);
        }
    };
    let namespace = rest.first().copied().unwrap_or("app");
    let start = rest.get(1).and_then(|ms| ms.parse().ok()).map(Timestamp::from_millis);
    match block_on(run(home, uri, namespace, SystemClock::starting_at(start).now())) {
        Ok(code) => code,
        Err(error) => {
            println!("{}", json!({ "error": error.chain() }));
            ExitCode::FAILURE
        }
    }
}

async fn run(home: &Path, uri: &str, namespace: &str, mut now: Timestamp) -> Result<ExitCode> {
    let options = Options::default()
        .with_target_format(TableFormat::Iceberg)
        .with_min_files_to_compact(2)
        .with_delete_grace_ms(600_000)
        .with_sort_order(vec![SortField::ascending("id")]);
    let tables = Tables {
        catalog: catalog(uri, namespace)?,
        namespace: namespace.split('.').map(str::to_owned).collect(),
        place: directory(&home.join("tables"))?,
        sort_order: options.sort_order.clone(),
    };
    let (bucket, control) = (directory(&home.join("bucket"))?, directory(&home.join("control"))?);
    let state = ObjectStoreStateStore::new(Arc::clone(control.store()), ObjectPath::from("state"));
    let builder = CompactorBuilder::new(bucket, control, Arc::new(tables), state, options);
    let mut compactor = builder.open(now).await?;
    let until = now + DAY_MS;
    let mut failures = 0;
    loop {
        let failed = work(&mut compactor, now).await?;
        failures += usize::from(failed);
        match compactor.next_deadline(now) {
            Some(next) if next <= until && failures <= MOST_FAILURES => now = now.max(next),
            _ => break,
        }
    }
    let status = compactor.status(now);
    for halt in &status.halts {
        println!("{}", json!({ "halt": halt }));
    }
    for file in &status.quarantine.files {
        println!("{}", json!({ "quarantined": file.key, "reason": file.reason }));
    }
    let is_settled = status.halts.is_empty() && status.plans.is_empty() && status.quarantine.count == 0;
    let is_well = failures <= MOST_FAILURES && is_settled;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes in what there is and does what is due; whether something failed.
async fn work(compactor: &mut Compactor, now: Timestamp) -> Result<bool> {
    let mut failed = false;
    compactor.reconcile(now).await?;
    while let Some(job) = compactor.poll_job(now) {
        let outcome = job.run().await;
        let report = compactor.finish_job(outcome, now).await?;
        for plan in &report.committed {
            println!(
                "{}",
                json!({ "seq": plan.seq, "rows": plan.rows, "files": plan.sources })
            );
        }
        if let Some(error) = &report.error {
            failed = true;
            println!("{}", json!({ "error": error.chain() }));
        }
    }
    Ok(failed)
}

/// The server; the name of a table is not known yet.
fn catalog(uri: &str, namespace: &str) -> Result<RestCatalog> {
    let options = RestOptions::new(uri)
        .with_warehouse(std::env::var("WAREHOUSE").ok())
        .with_access_delegation(Some("vended-credentials".to_owned()));
    let client = Arc::new(Ureq::new(std::env::var("TOKEN").ok()));
    let namespace = namespace.split('.').map(str::to_owned).collect();
    RestCatalog::new(client, options, namespace, "any")
}

/// One table of the catalog per namespace of the bucket.
#[derive(Debug)]
struct Tables {
    catalog: RestCatalog,
    namespace: Vec<String>,
    place: Place,
    sort_order: Vec<SortField>,
}

impl TableProvider for Tables {
    fn table(&self, namespace: &Namespace) -> Result<Table> {
        let name = namespace.as_str();
        let root = ObjectPath::parse(name).map_err(|e| {
            Error::new(ErrorKind::Invalid, format!("not the name of a table. name=`{name}`")).with_source(e)
        })?;
        let location = format!("{}/{root}", self.place.url());
        let catalog = self.catalog.table(self.namespace.clone(), name)?;
        let store = Arc::clone(self.place.store());
        let sink = IcebergSink::new(Arc::new(catalog), store, root, &location, IcebergOptions::default())
            .with_sort_order(self.sort_order.clone());
        Ok(Table {
            location,
            format: "iceberg".to_owned(),
            sink: Arc::new(sink),
        })
    }
}
