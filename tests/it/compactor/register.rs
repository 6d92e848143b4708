//! A register that contradicts itself or the table halts its lane, and nothing is deleted or put in on its word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::{AttemptId, Compactor, EventOutcome, PlanHash};
use futures::FutureExt;
use serde_json::{Value, json};

use super::support::{DAY, END, HookStore, MINUTE, Moment, commits, content, delete, put, tell, two_good};
use crate::world::{HOUR, World, at, work_until};

const T: i64 = END + 10 * MINUTE;

/// A window that is committed within its grace, and the directory of its lane's control objects.
fn committed() -> (World, Compactor, String) {
    let mut world = World::new();
    world.options = world.options.with_delete_grace_ms(3_600_000);
    let mut compactor = world.open(at(END));
    two_good(&world, &mut compactor);
    assert_eq!(commits(&work_until(&mut compactor, at(END), at(T))), [(1, 0, 2, 40)]);
    let dir = lane_dir(&world, "users");
    (world, compactor, dir)
}

fn lane_dir(world: &World, namespace: &str) -> String {
    let prefix = format!("lanes/{namespace}/");
    let paths = content(&world.control).into_iter().map(|(path, _)| path);
    let mut plans = paths.filter(|path| path.starts_with(&prefix) && path.ends_with("/plans/1.json"));
    plans.next().unwrap().strip_suffix("/plans/1.json").unwrap().to_owned()
}

fn read(world: &World, path: &str) -> Bytes {
    let found = content(&world.control).into_iter().find(|(there, _)| there == path);
    found.unwrap().1
}

/// The same plan in other bytes.
fn exchange_plan(world: &World, dir: &str) {
    let path = format!("{dir}/plans/1.json");
    let bytes = [&read(world, &path)[..], b" "].concat();
    let _ = put(&world.control, &path, bytes);
}

fn halts(compactor: &Compactor) -> Vec<String> {
    let halts = compactor.status(at(T)).halts;
    halts.into_iter().map(|halt| halt.reason).collect()
}

fn wrong(seq: u64, detail: &str) -> String {
    format!("plan register wrong: {detail}; `adopt` or `replay` goes on. seq=`{seq}`")
}

#[test]
fn a_plan_exchanged_after_its_decision_halts_the_next_process() {
    let (world, compactor, dir) = committed();
    drop(compactor);
    exchange_plan(&world, &dir);
    let compactor = world.open(at(T));
    assert_eq!(halts(&compactor), [wrong(1, "the decision is of another plan")]);
}

#[test]
fn a_plan_exchanged_or_a_decision_of_another_plan_keeps_the_sources_of_a_living_process() {
    for (exchanged, detail) in [
        (true, "the plan object has changed"),
        (false, "the decision is of another plan"),
    ] {
        let (world, mut compactor, dir) = committed();
        if exchanged {
            exchange_plan(&world, &dir);
        } else {
            let path = format!("{dir}/decided/1.json");
            let mut decision: Value = serde_json::from_slice(&read(&world, &path)).unwrap();
            decision["planHash"] = json!(PlanHash::of(b"another"));
            let _ = put(&world.control, &path, decision.to_string());
        }
        work_until(&mut compactor, at(T), at(T + DAY));
        assert_eq!(halts(&compactor), [wrong(1, detail)]);
        assert_eq!(world.sources().len(), 2, "{detail}");
    }
}

#[test]
fn a_plan_that_does_not_follow_the_one_before_it_halts_the_lane() {
    let (world, mut compactor, dir) = committed();
    let (event, _) = world.write_some("users", HOUR + 9, "w1", 1, 5);
    assert_eq!(tell(&mut compactor, &[event], at(T)), [Ok(EventOutcome::Recorded)]);
    assert_eq!(
        commits(&work_until(&mut compactor, at(T), at(T + 2 * DAY))),
        [(2, 1, 1, 5)]
    );
    drop(compactor);
    exchange_plan(&world, &dir);
    delete(&world.control, &format!("{dir}/decided/1.json"));
    let compactor = world.open(at(T));
    assert_eq!(
        halts(&compactor),
        [wrong(2, "the plan does not follow the plan before it")]
    );
}

#[test]
fn a_plan_of_another_lane_is_never_carried_out() {
    let (world, mut compactor, users) = committed();
    let (event, _) = world.write_some("orders", HOUR + 9, "w1", 1, 5);
    assert_eq!(tell(&mut compactor, &[event], at(T)), [Ok(EventOutcome::Recorded)]);
    let manifest: Value = serde_json::from_slice(&read(&world, "lanes/orders/lane.json")).unwrap();
    let lane = manifest["lane"].as_str().unwrap();
    let plan = read(&world, &format!("{users}/plans/1.json"));
    let _ = put(&world.control, &format!("lanes/orders/{lane}/plans/1.json"), plan);
    work_until(&mut compactor, at(T), at(T + 2 * DAY));
    let theirs = users.strip_prefix("lanes/users/").unwrap();
    let detail = format!("plan object of another lane or seq. lane=`{theirs}` seq=`1`");
    assert_eq!(halts(&compactor), [wrong(1, &detail)]);
    assert_eq!(world.live_files("orders"), Vec::<Path>::new());
}

#[test]
fn a_decision_that_differs_from_what_the_table_says_halts_the_lane() {
    let mut world = World::new();
    let (control, done) = (Arc::clone(&world.control), AtomicBool::new(false));
    world.control = HookStore::new(&world.control, move |moment, operation, path| {
        let records = (moment, operation) == (Moment::Before, "put") && path.as_ref().ends_with("/decided/1.json");
        if records && !done.swap(true, Ordering::SeqCst) {
            forge_decision(&control, path);
        }
        Ok(())
    });
    let mut compactor = world.open(at(END));
    two_good(&world, &mut compactor);
    let reports = work_until(&mut compactor, at(END), at(T));
    assert_eq!(commits(&reports), []);
    let halts = reports.iter().filter_map(|report| report.halted.as_ref());
    assert_eq!(
        halts.map(ToString::to_string).next(),
        Some(wrong(1, "the decision differs from what the table says"))
    );
    assert_eq!(world.sources().len(), 2);
}

/// Writes a decision of the first plan that names another attempt. Called in a hook, where no executor may run.
fn forge_decision(control: &Arc<dyn ObjectStore>, path: &Path) {
    let plan = Path::parse(path.as_ref().replace("/decided/", "/plans/")).unwrap();
    let bytes = control.get(&plan).now_or_never().unwrap().unwrap().bytes();
    let bytes = bytes.now_or_never().unwrap().unwrap();
    let plan: Value = serde_json::from_slice(&bytes).unwrap();
    let decision = json!({
        "version": 1,
        "lane": plan["lane"],
        "seq": 1,
        "outcome": "data",
        "planHash": PlanHash::of(&bytes),
        "attempt": AttemptId::from_u64(1),
        "tableVersion": 0,
        "outputs": [],
        "decidedAt": plan["window"]["end"],
    });
    let _ = put(control, path.as_ref(), decision.to_string());
}
