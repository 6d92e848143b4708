//! Futures can be moved to other threads: a host may spawn jobs on any executor. Checked by the compiler.

use std::sync::Arc;

use firnline::object_store::ObjectStore;
use firnline::{
    Clock, Compactor, CompactorBuilder, Door, EventSource, Job, JobOutcome, MergeInput, MergeTarget, Namespace,
    ParquetMerger, Timestamp,
};

fn sent<T: Send>(_: T) {}

fn sent_and_static<T: Send + 'static>(_: T) {}

#[expect(dead_code, reason = "to compile is the test")]
fn of_a_job(job: Job) {
    sent_and_static(job.run());
}

#[expect(dead_code, reason = "to compile is the test")]
fn of_a_builder(builder: CompactorBuilder, now: Timestamp) {
    sent(builder.open(now));
}

#[expect(dead_code, reason = "to compile is the test")]
fn of_a_compactor(
    compactor: &mut Compactor,
    (outcome, door): (JobOutcome, Door),
    (source, clock): (&dyn EventSource, &dyn Clock),
    namespace: &Namespace,
    now: Timestamp,
) {
    sent(compactor.handle_events(&[], now));
    sent(compactor.reconcile(now));
    sent(compactor.finish_job(outcome, now));
    sent(compactor.go_through(door, now));
    sent(compactor.adopt(namespace));
    sent(compactor.read_view(namespace, now));
    sent(compactor.run(source, clock));
}

#[expect(dead_code, reason = "to compile is the test")]
fn of_a_merger(merger: &ParquetMerger, store: &Arc<dyn ObjectStore>, inputs: Vec<MergeInput>, target: MergeTarget) {
    sent(merger.merge(store, inputs, target, &()));
}
