//! A state store on an object store answers rightly, or says that it does not know, whatever goes wrong at any
//! request.
#![cfg(feature = "testing")]

use std::sync::Arc;

use bytes::Bytes;
use firnline::object_store::ObjectStore;
use firnline::object_store::memory::InMemory;
use firnline::object_store::path::Path;
use firnline::testing::{Fault, FaultStore, Faults, SeededRandomness};
use firnline::{DeleteOutcome, ObjectStoreStateStore, Result, SaveOutcome, StateKey, StateStore, StateVersion};
use futures::future::FutureExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Numbered,
    Tagged,
}

fn state(store: Arc<dyn ObjectStore>, form: Form, seed: u64) -> ObjectStoreStateStore {
    let state =
        ObjectStoreStateStore::new(store, Path::from("s")).with_randomness(Arc::new(SeededRandomness::new(seed)));
    match form {
        Form::Numbered => state,
        Form::Tagged => state.with_etag_updates(),
    }
}

/// What a call is known to have done.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Conflict,
    Done,
    Unknown,
}

fn answer<T>(ended: Option<Result<T>>, done: impl FnOnce(T) -> Answer) -> Answer {
    match ended {
        None => Answer::Unknown, // it hangs, so the host drops it
        Some(Ok(outcome)) => done(outcome),
        Some(Err(error)) => {
            assert!(error.is_retryable(), "{}", error.chain());
            Answer::Unknown
        }
    }
}

/// Six writes of one key, the third a delete; after each the truth is looked at past the faults.
fn run(form: Form, faults: &Faults) -> Vec<Answer> {
    let memory = Arc::new(InMemory::new());
    let faulty = state(Arc::new(FaultStore::new(memory.clone(), "state", faults)), form, 1);
    let truth = state(memory, form, 2);
    let key = StateKey::new(["k"]);
    let load = || truth.load(&key).now_or_never().unwrap().unwrap();
    let mut answers = Vec::new();
    for n in 0..6_u8 {
        let value = Bytes::from(vec![n; 3]);
        let before = load();
        let expected: Option<StateVersion> = before.as_ref().map(|stored| stored.version.clone());
        let wanted = (n != 2).then(|| value.clone());
        let answer = match (n, &expected) {
            (2, None) => continue,
            (2, Some(expected)) => answer(faulty.delete(&key, expected).now_or_never(), |outcome| match outcome {
                DeleteOutcome::Conflict => Answer::Conflict,
                DeleteOutcome::Deleted => Answer::Done,
            }),
            _ => answer(
                faulty.save(&key, value, expected.as_ref()).now_or_never(),
                |outcome| match outcome {
                    SaveOutcome::Conflict => Answer::Conflict,
                    SaveOutcome::Saved(version) => {
                        assert_eq!(load().map(|stored| stored.version), Some(version));
                        Answer::Done
                    }
                },
            ),
        };
        let after = load();
        let written = after.as_ref().map(|stored| stored.bytes.clone()) == wanted;
        match answer {
            Answer::Done => assert!(written, "{:?}", faults.log()),
            Answer::Conflict => assert_eq!(after, before, "{:?}", faults.log()),
            Answer::Unknown => assert!(written || after == before, "{:?}", faults.log()),
        }
        faults.restart();
        answers.push(answer);
    }
    answers
}

#[test]
fn after_a_fault_at_any_request_no_answer_is_wrong() {
    for form in [Form::Numbered, Form::Tagged] {
        let faults = Faults::none();
        assert!(run(form, &faults).iter().all(|answer| *answer == Answer::Done));
        for fault in Fault::ALL {
            for index in 0..faults.operations() {
                let one = Faults::at(index, fault);
                let answers = run(form, &one);
                assert!(one.struck(), "{form:?} {fault:?} {index}");
                let unsure = answers.iter().filter(|answer| **answer != Answer::Done).count();
                assert!(unsure <= 1, "{form:?} {fault:?} {index}: {answers:?}");
            }
        }
    }
}

#[test]
fn a_lost_answer_of_an_own_write_is_recognised() {
    for form in [Form::Numbered, Form::Tagged] {
        let faults = Faults::none();
        run(form, &faults);
        let puts = faults.log().into_iter().filter(|operation| operation.bytes > 0);
        for index in puts.map(|put| put.index) {
            let answers = run(form, &Faults::at(index, Fault::AppliedButError));
            assert!(
                answers.iter().all(|answer| *answer == Answer::Done),
                "{form:?} {index}: {answers:?}"
            );
        }
    }
}
