//! The whole way: notifications in, a table out, sources reclaimed.

mod damaged;
mod delta_tables;
mod doors;
mod drift;
mod dropped;
mod dropped_calls;
mod field_ids;
mod forgotten;
mod grace;
mod hostile_names;
mod invoked;
mod late;
mod many;
mod mapped;
mod outputs;
mod partitioned;
mod reconcile;
mod register;
mod requests;
mod run_loop;
mod schemas;
mod send;
mod settings;
mod sources;
mod stuck;
mod support;
mod types;
mod upkeep;
use futures::executor::block_on;

use crate::world::{HOUR, World, at, work, work_until};

#[test]
fn a_window_of_two_writers_ends_in_the_table_and_its_sources_are_gone() {
    let world = World::new();
    let now = at(HOUR + 3_600_000);
    let mut compactor = world.open(now);
    let (first, mut rows) = world.write_some("users", HOUR + 1_000, "w1", 0, 50);
    let (second, more) = world.write_some("users", HOUR + 2_000, "w2", 0, 50);
    rows.extend(more);
    rows.sort();
    let handled = block_on(compactor.handle_events(&[first.clone(), second, first], now));
    assert!(handled.all_saved(), "{handled:?}");
    assert!(
        work(&mut compactor, now)
            .iter()
            .all(|report| report.error.is_none() && report.halted.is_none())
    );
    assert_eq!(world.sources().len(), 2, "nothing is ready yet");
    let later = at(HOUR + 2 * 3_600_000);
    let reports = work_until(&mut compactor, now, later);
    let committed: Vec<_> = reports.iter().flat_map(|report| &report.committed).collect();
    assert_eq!(committed.len(), 1, "{reports:#?}");
    assert_eq!((committed[0].rows, committed[0].sources), (100, 2));
    assert_eq!(world.table_rows("users"), rows);
    assert_eq!(world.sources(), Vec::<String>::new());
    let status = compactor.status(later);
    assert_eq!(
        (status.active_windows, status.plans.len(), status.quarantine.count),
        (0, 0, 0),
        "{status:#?}"
    );
}
