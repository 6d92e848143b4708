//! The status document: the guide's, and what an operator wants to know beyond it.

mod health;

use serde::{Deserialize, Serialize};

use crate::ids::Seq;
use crate::naming::{Namespace, ObjectKey, WriterId};
use crate::quarantine::QuarantineReason;
use crate::time::Timestamp;

pub use health::{Health, HealthReason, HealthState, HealthTopic};

/// What a compactor is doing and waiting for. Its JSON has the names of the guide's status document, and
/// more; a document that has only those is read too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Windows with pending files.
    pub active_windows: usize,
    /// Every writer that is remembered, of all namespaces.
    pub known_writers: Vec<WriterId>,
    /// Those that windows wait for.
    pub active_writers: Vec<WriterId>,
    /// Windows with pending files, by namespace, then oldest first.
    pub windows: Vec<WindowStatus>,
    /// Plans that are not finished.
    #[serde(default)]
    pub plans: Vec<PlanStatus>,
    /// Sources that have been set aside.
    #[serde(default)]
    pub quarantine: QuarantineStatus,
    /// Namespaces in which nothing is done until an operator decides.
    #[serde(default)]
    pub halts: Vec<HaltStatus>,
    /// What has come in.
    #[serde(default)]
    pub counters: Counters,
    /// Whether all is well, and if not, why.
    #[serde(default)]
    pub health: Health,
}

/// A window with pending files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowStatus {
    /// `{namespace}:{start ms}`.
    pub key: String,
    /// Belongs to the window.
    #[serde(with = "iso")]
    pub window_start: Timestamp,
    /// Belongs to the next one.
    #[serde(with = "iso")]
    pub window_end: Timestamp,
    /// Writers with a pending file in it.
    pub writers: Vec<WriterId>,
    /// Pending files.
    pub file_count: usize,
    /// Their bytes, as far as known.
    pub total_size: u64,
    /// How often the window has been planned and committed.
    #[serde(default)]
    pub generation: u64,
    /// Active writers without a pending file in it.
    #[serde(default)]
    pub missing_writers: Vec<WriterId>,
    /// Why it can be planned now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Readiness>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// When it is planned at the latest; absent when that depends on an input.
    #[serde(default, with = "iso_option", skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Files held back because they claim a time too far in the future.
    #[serde(default)]
    pub held: usize,
}

/// Why a window is planned, strongest reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Readiness {
    /// Everything known is to be planned.
    Drained,
    /// An earlier plan of its files came to nothing.
    Voided,
    /// Every active writer has shown a file from after its end.
    WatermarkQuorum,
    /// Every active writer has a file in it.
    PresenceQuorum,
    /// It has waited for silent writers long enough.
    Timeout,
    /// It has waited twice as long, though files were still arriving.
    UnsettledTimeout,
    /// It has waited for more files long enough.
    Age,
    /// It holds more than a plan may have.
    Full,
}

/// What a window waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
#[non_exhaustive]
pub enum WaitingFor {
    /// Its namespace is halted.
    Halt,
    /// Its namespace's plan before it.
    Turn,
    /// A listing of its namespace that is under way.
    Listing,
    /// The end of a pause after a plan that could not be made.
    Retry,
    /// The clock, to reach the time that its files claim.
    Clock,
    /// Its files are older than what is remembered: they are to be set aside.
    Quarantine,
    /// Its own end.
    WindowEnd,
    /// More files.
    MinimumFiles {
        /// Pending.
        have: usize,
        /// `minFilesToCompact`.
        need: usize,
    },
    /// That nothing arrives for a while.
    Settling,
    /// Writers that have not reported.
    Writers,
}

/// A plan that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Place in its lane.
    pub seq: Seq,
    /// `{namespace}:{start ms}`.
    pub window_key: String,
    /// How far it is.
    pub phase: PlanPhase,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// When the try began.
    #[serde(with = "iso")]
    pub started_at: Timestamp,
    /// How much of the merge is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<PlanProgress>,
    /// Why the try before failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum PlanPhase {
    /// Written into the register.
    Planned,
    /// Its sources are being merged.
    Merging,
    /// Its files are being published.
    Committing,
    /// In the table; its sources wait to be deleted.
    Reclaiming,
}

/// How much of a merge is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanProgress {
    /// Rows merged.
    pub rows_done: u64,
    /// Rows of all sources.
    pub rows_total: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

/// Sources that have been set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineStatus {
    /// All of them.
    pub count: usize,
    /// The first [`MAX_FILES`](Self::MAX_FILES).
    pub files: Vec<QuarantinedFile>,
}

impl QuarantineStatus {
    /// Most files that are listed.
    pub const MAX_FILES: usize = 100;

    /// Counts `files` and keeps the first.
    pub fn new(files: impl IntoIterator<Item = QuarantinedFile>) -> Self {
        let mut status = Self::default();
        for file in files {
            status.count += 1;
            if status.files.len() < Self::MAX_FILES {
                status.files.push(file);
            }
        }
        status
    }
}

/// A source that has been set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedFile {
    /// Its key.
    pub key: ObjectKey,
    /// Why.
    pub reason: QuarantineReason,
    /// Since when.
    #[serde(with = "iso")]
    pub since: Timestamp,
}

/// A namespace in which nothing is done until an operator decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HaltStatus {
    /// Which.
    pub namespace: Namespace,
    /// Why.
    pub reason: String,
}

/// What has come in since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Notifications of new objects.
    pub events_received: u64,
    /// Those that told nothing new.
    pub duplicates: u64,
    /// Those of keys that are not source files.
    pub unrelated_keys: u64,
    /// Those of keys with a wrong name.
    pub malformed_keys: u64,
    /// Messages that could not be read.
    pub bad_messages: u64,
    /// Objects and entries of the state store that were damaged, and count as lost.
    pub damaged_state: u64,
    /// Files that a listing found and no notification had announced.
    pub found_by_listing: u64,
    /// Whether notifications are to be expected: one has come, or a source of them is listened to.
    pub events_expected: bool,
    /// When the last notification came.
    #[serde(with = "iso_option", skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<Timestamp>,
    /// When the last listing ended.
    #[serde(with = "iso_option", skip_serializing_if = "Option::is_none")]
    pub last_listing_at: Option<Timestamp>,
}

/// Times as ISO-8601 with milliseconds and `Z`; those beyond the calendar as plain milliseconds.
mod iso {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_iso())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<i64>() {
            Ok(millis) => Ok(Timestamp::from_millis(millis)),
            Err(_) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

mod iso_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Timestamp, iso};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Iso(#[serde(with = "iso")] Timestamp);

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Iso).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<Iso>::deserialize(deserializer)?.map(|Iso(time)| time))
    }
}
