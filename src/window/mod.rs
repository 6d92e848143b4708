//! Which files belong together, and when they are planned: pure, without I/O, clock or randomness.
//!
//! ```text
//!   handle_file ──► Namespace ──► Generation (the pending files of one window)
//!                      │               │ facts
//!                      │ Roster ──► readiness: a time for each rule, the earliest is the deadline
//!                      ▼               │
//!                   take turns ◄───────┘ ──► PlanDraft ──► committed | voided | abandoned
//! ```

mod generation;
mod namespace;
mod pending;
mod readiness;
mod record;
mod roster;
mod sizes;
mod tracker;

pub use pending::{Arrival, ArrivedBy, PendingFile};
pub use record::{FileRecord, RosterRecord, TrackerKey, WindowRecord, WriterRecord};
pub use sizes::{WindowSizeChange, WindowSizes};
pub use tracker::{Observed, PlanDraft, TrackerStatus, WindowTracker};
