//! One count of all operations of a run, the fault that strikes at one of them, and the log of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt};

use super::SeededRandomness;

/// Operations after which a request arrives that is late and whose lateness is not drawn.
const USUAL_DELAY: usize = 10;
/// A request whose lateness is drawn arrives within so many operations.
const LONGEST_DELAY: u64 = 300;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The operation is carried out, but its caller sees an error.
    AppliedButError,
    /// The caller of a write sees an error, but the request is on its way: it arrives some operations later, which the log
    /// shows as an operation of its own. Reads and the steps of an upload but its last are not carried out.
    AppliedLate,
    /// The operation is carried out; its caller and all later operations fail: the process is gone.
    CrashAfter,
    /// This and all later operations fail, nothing is carried out: the process is gone.
    CrashBefore,
    /// The operation is not carried out and its caller sees an error.
    ErrorNotApplied,
    /// The operation is not carried out and never ends.
    Hang,
    /// The operation is carried out, but its caller never hears of it.
    HangAfter,
    /// A read answers as before the newest write: an object is not found, a listing lacks what was written
    /// last, a state is that of the save before. Writes are not touched.
    StaleRead,
    /// The operation is not carried out; the store asks for fewer requests.
    Throttle,
    /// The body of a read ends in an error after half of its bytes. Other operations are throttled.
    TornBody,
}

impl Fault {
    /// All faults, for loops over them.
    pub const ALL: [Self; 10] = [
        Self::AppliedButError,
        Self::AppliedLate,
        Self::CrashAfter,
        Self::CrashBefore,
        Self::ErrorNotApplied,
        Self::Hang,
        Self::HangAfter,
        Self::StaleRead,
        Self::Throttle,
        Self::TornBody,
    ];
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OperationKind {
    /// Gives up a multipart upload.
    AbortMultipart,
    /// Publishes a multipart upload.
    CompleteMultipart,
    /// Copies an object.
    Copy,
    /// Begins a multipart upload.
    CreateMultipart,
    /// Deletes an object.
    Delete,
    /// Reads an object or ranges of it.
    Get,
    /// Reads what a store says of an object.
    Head,
    /// Lists objects.
    List,
    /// Uploads a part.
    Part,
    /// Writes an object, whatever is there.
    Put,
    /// Writes an object if there is none.
    PutCreate,
    /// Writes an object if it is still the same.
    PutUpdate,
    /// Renames an object.
    Rename,
    /// Deletes a state.
    StateDelete,
    /// Lists states.
    StateList,
    /// Loads a state.
    StateLoad,
    /// Saves a state.
    StateSave,
}

/// One operation as it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// Its number, from 0, over all wrapped stores.
    pub index: usize,
    /// The name of the wrapped store.
    pub store: String,
    /// What it does.
    pub kind: OperationKind,
    /// The object, the prefix or the key.
    pub path: String,
    /// Bytes written.
    pub bytes: usize,
    /// Whether it reached the store and the store did it.
    pub applied: bool,
    /// The error that its caller saw.
    pub error: Option<String>,
    /// The fault that struck it. None where a request [arrives late](Fault::AppliedLate).
    pub fault: Option<Fault>,
}

/// The faults of a run and the log of its operations; clones share both.
///
/// Wrap every store of a run with the same `Faults`: one count spans them all, so a test first runs without
/// faults, reads [`operations`](Faults::operations), and then strikes at each number in turn.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    planned: BTreeMap<usize, Fault>,
    drawn: Option<Drawn>,
    late: Vec<Late>,
    log: Vec<Operation>,
    crashed: bool,
}

/// A request that is on its way while its caller believes that it failed.
struct Late {
    /// The number of the operation that sent it.
    sent: usize,
    /// It arrives before the operation of this number, or at the next one after it.
    due: usize,
    /// Says why it was not carried out.
    request: BoxFuture<'static, Result<(), String>>,
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Late {{ sent: {}, due: {} }}", self.sent, self.due)
    }
}

/// Faults that strike at random.
#[derive(Debug)]
struct Drawn {
    dice: SeededRandomness,
    one_in: u64,
    faults: Vec<Fault>,
}

impl Drawn {
    fn fault(&self, kind: OperationKind) -> Option<Fault> {
        if self.dice.below(self.one_in) != 0 {
            return None;
        }
        let drawn = usize::try_from(self.dice.below(self.faults.len() as u64)).ok()?;
        let fault = self.faults.get(drawn).copied()?;
        // Objects themselves are read as they were written last, by every store that is supported.
        let may_be_stale = [OperationKind::List, OperationKind::StateList, OperationKind::StateLoad];
        (fault != Fault::StaleRead || may_be_stale.contains(&kind)).then_some(fault)
    }
}

impl Faults {
    /// No faults: only counts and logs.
    pub fn none() -> Self {
        Self::default()
    }

    /// `fault` at operation number `index`.
    pub fn at(index: usize, fault: Fault) -> Self {
        Self::default().and(index, fault)
    }

    /// Adds `fault` at operation number `index`.
    #[must_use]
    pub fn and(self, index: usize, fault: Fault) -> Self {
        self.lock().planned.insert(index, fault);
        self
    }

    /// One of `faults` at one of `one_in` operations, drawn from `seed`, until it is [calm](Self::calm). Only listings and
    /// states are stale.
    pub fn drawn(seed: u64, one_in: u64, faults: &[Fault]) -> Self {
        let all = Self::default();
        all.lock().drawn = Some(Drawn {
            dice: SeededRandomness::new(seed),
            one_in,
            faults: faults.to_vec(),
        });
        all
    }

    /// From now on nothing is struck at random, and what is late arrives.
    pub fn calm(&self) {
        let mut shared = self.lock();
        shared.drawn = None;
        shared.late.iter_mut().for_each(|late| late.due = 0);
    }

    /// Operations begun so far.
    pub fn operations(&self) -> usize {
        self.lock().log.len()
    }

    /// What has happened so far, in the order in which operations began.
    pub fn log(&self) -> Vec<Operation> {
        self.lock().log.clone()
    }

    /// What has happened from operation number `from` on.
    pub fn log_from(&self, from: usize) -> Vec<Operation> {
        self.lock().log.get(from..).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Whether a planned crash has struck.
    pub fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Whether a planned fault of any kind has struck.
    pub fn struck(&self) -> bool {
        self.lock().log.iter().any(|operation| operation.fault.is_some())
    }

    /// Begins a new process on the same stores: a crash is over, planned faults that have not struck stay.
    pub fn restart(&self) {
        self.lock().crashed = false;
    }

    /// Counts an operation and says what happens to it.
    pub(super) fn begin(&self, store: &str, kind: OperationKind, path: &str, bytes: usize) -> Step {
        let mut shared = self.lock();
        let index = shared.log.len();
        let planned = shared.planned.get(&index).copied();
        let fault = planned.or_else(|| shared.drawn.as_ref()?.fault(kind));
        let was_crashed = shared.crashed;
        shared.log.push(Operation {
            index,
            store: store.to_owned(),
            kind,
            path: path.to_owned(),
            bytes,
            applied: false,
            error: None,
            fault: fault.filter(|_| !was_crashed),
        });
        if was_crashed {
            return Step {
                index,
                course: Course::Refuse(Fault::CrashBefore),
            };
        }
        if matches!(fault, Some(Fault::CrashBefore | Fault::CrashAfter)) {
            shared.crashed = true;
        }
        Step {
            index,
            course: fault.map_or(Course::Pass, Course::of),
        }
    }

    /// Keeps the request of `step` until it is due.
    pub(super) fn send_late(&self, step: Step, request: impl Future<Output = Result<(), String>> + Send + 'static) {
        let mut shared = self.lock();
        let drawn = shared.drawn.as_ref();
        let delay = drawn.map_or(USUAL_DELAY, |drawn| {
            usize::try_from(drawn.dice.below(LONGEST_DELAY)).unwrap_or(USUAL_DELAY)
        });
        shared.late.push(Late {
            sent: step.index,
            due: step.index + delay,
            request: request.boxed(),
        });
    }

    /// Lets requests arrive that are due.
    pub(super) async fn land(&self) {
        while let Some((index, request)) = self.next_to_land() {
            let answer = request.await;
            self.end(index, answer.is_ok(), answer.err());
        }
    }

    /// The next request that is due, as an operation of its own.
    fn next_to_land(&self) -> Option<(usize, BoxFuture<'static, Result<(), String>>)> {
        let mut shared = self.lock();
        let index = shared.log.len();
        let due = shared.late.iter().position(|late| late.due <= index)?;
        let late = shared.late.remove(due);
        let sent = shared.log.get(late.sent)?.clone();
        shared.log.push(Operation {
            index,
            error: None,
            fault: None,
            ..sent
        });
        Some((index, late.request))
    }

    /// Writes down how an operation ended.
    pub(super) fn end(&self, index: usize, applied: bool, error: Option<String>) {
        if let Some(operation) = self.lock().log.get_mut(index) {
            operation.applied = applied;
            operation.error = error;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) index: usize,
    pub(super) course: Course,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Course {
    /// Carried out, then answered with an error.
    Apply(Fault),
    ApplyAndHang,
    /// A write is kept, and answered with an error.
    Delay,
    Hang,
    Pass,
    /// Answered with an error.
    Refuse(Fault),
    Stale,
    Tear,
}

impl Course {
    fn of(fault: Fault) -> Self {
        match fault {
            Fault::AppliedButError | Fault::CrashAfter => Self::Apply(fault),
            Fault::AppliedLate => Self::Delay,
            Fault::CrashBefore | Fault::ErrorNotApplied | Fault::Throttle => Self::Refuse(fault),
            Fault::Hang => Self::Hang,
            Fault::HangAfter => Self::ApplyAndHang,
            Fault::StaleRead => Self::Stale,
            Fault::TornBody => Self::Tear,
        }
    }
}

/// The error that a caller sees; its text is distinctive, so that a test can tell it from a real one.
#[derive(Clone, Copy, Debug)]
pub(super) struct InjectedFault {
    pub(super) fault: Fault,
    pub(super) index: usize,
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "injected fault {:?}. operation=`{}`", self.fault, self.index)
    }
}

impl std::error::Error for InjectedFault {}

impl From<InjectedFault> for object_store::Error {
    fn from(fault: InjectedFault) -> Self {
        Self::Generic {
            store: "FaultStore",
            source: Box::new(fault),
        }
    }
}
