//! The contract of [`TableSink`].

mod columns;
mod desk;
mod entries;
mod lanes;
mod others;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::sink::{Entry, TableSink};

/// What [`table_sink`] asks of a [`TableSink`]: it panics with one of these.
pub const TABLE_SINK_RULES: &[&str] = &[
    columns::CANONICAL,
    columns::PREPARED,
    columns::WRITES_NOTHING,
    columns::TABLE_ORDER,
    columns::REFUSED,
    columns::EVOLVED,
    entries::ABSENT,
    entries::COMMITTED,
    entries::VISIBLE,
    entries::MARKED,
    entries::TABLE_ID,
    entries::AGAIN,
    entries::ONCE,
    entries::OLDER,
    entries::VOID,
    entries::SPENT,
    entries::VOID_CREATES,
    entries::EMPTY,
    entries::BASE,
    entries::CONFIRMED,
    entries::REFUTED,
    others::SHARED,
    others::RACE,
    others::REBASED,
    others::MARKER_KEPT,
    others::FOREIGN_KEPT,
    others::SET_BACK,
    others::DROPPED,
    lanes::ONE_LANE,
    lanes::ADOPTED,
    lanes::ADOPTED_AGAIN,
    lanes::NAMED_ONLY,
    lanes::SUPERSEDED,
];

/// A place for a table that is tried, and what can be done there without a sink: best by means that know nothing of the
/// sink, such as another implementation of the format.
#[async_trait]
pub trait TableTrial: fmt::Debug + Send + Sync {
    /// A sink of the table, as another worker opens it: a new one each time.
    fn sink(&self) -> Arc<dyn TableSink>;

    /// The data files that a reader of the table reads now, by their [paths](crate::OutputFile::path); none where there
    /// is no table. A file that is in the table twice is named twice.
    async fn live_files(&self) -> Vec<String>;

    /// Changes the table that is there, as a writer does that knows nothing of lanes: adds a file, which nobody is going to
    /// open, or at least sets a property.
    async fn foreign_commit(&self);

    /// Sets the table back, with the means of the format, to what it was before `entry`, its newest. `false` where the
    /// format has no such means.
    async fn set_back(&self, entry: &Entry) -> bool;
}

/// Checks the contract of [`TableSink`].
///
/// `make` gives a place where no table is yet, or one without rows that somebody else has created, of the columns `id`, a
/// nullable 64-bit integer, and `name`, nullable text, partitioned or not. It is called some ten times. The suite
/// writes real files, of few rows.
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use firnline::object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
/// use firnline::testing::conformance::{self, TableTrial};
/// use firnline::{DeltaSink, Entry, TableSink};
///
/// /// A Delta table in memory. A host has its own format here, and a reader for it.
/// #[derive(Debug, Default)]
/// struct Trial(Arc<InMemory>);
///
/// impl Trial {
///     /// The commits of the table.
///     async fn log(&self) -> Vec<String> {
///         let mut commits = Vec::new();
///         while let Ok(found) = self.0.get(&commit(commits.len())).await {
///             let bytes = found.bytes().await.unwrap();
///             commits.push(String::from_utf8(bytes.to_vec()).unwrap());
///         }
///         commits
///     }
/// }
///
/// fn commit(version: usize) -> Path {
///     Path::from(format!("users/_delta_log/{version:020}.json"))
/// }
///
/// #[async_trait]
/// impl TableTrial for Trial {
///     fn sink(&self) -> Arc<dyn TableSink> {
///         let store = Arc::clone(&self.0) as Arc<dyn ObjectStore>;
///         Arc::new(DeltaSink::new(store, Path::from("users"), Default::default()))
///     }
///
///     async fn live_files(&self) -> Vec<String> {
///         // Nothing is ever removed from this table.
///         let log = self.log().await.join("\n");
///         let adds = log.lines().filter_map(|action| action.strip_prefix(r#"{"add":{"path":""#));
///         let paths = adds.filter_map(|add| add.split('"').next());
///         paths.map(|path| format!("users/{path}")).collect()
///     }
///
///     async fn foreign_commit(&self) {
///         let add = r#"{"add":{"path":"theirs","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#;
///         let version = self.log().await.len();
///         let theirs = add.replace("theirs", &format!("theirs-{version}.parquet"));
///         self.0.put(&commit(version), theirs.into()).await.unwrap();
///     }
///
///     async fn set_back(&self, _: &Entry) -> bool {
///         false // nobody restores this table
///     }
/// }
///
/// futures::executor::block_on(conformance::table_sink(|| async {
///     Arc::new(Trial::default()) as Arc<dyn TableTrial>
/// }));
/// ```
pub async fn table_sink<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn TableTrial>>,
{
    columns::layouts(&*make().await).await;
    entries::nothing_is_there(&*make().await).await;
    columns::drift(&*make().await).await;
    entries::a_lane(&*make().await).await;
    entries::a_void_comes_first(&*make().await).await;
    others::workers_see_each_other(&*make().await).await;
    others::workers_race(&*make().await).await;
    others::foreign_writers(&*make().await).await;
    others::a_table_is_set_back(&*make().await).await;
    others::dropped_commits(&*make().await).await;
    lanes::one_lane_and_its_heir(&*make().await).await;
}
