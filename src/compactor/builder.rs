//! Putting a compactor together.

use std::sync::Arc;

use futures::task::Spawn;

use crate::compactor::Compactor;
use crate::compactor::lane_merge::merge_options;
use crate::compactor::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Randomness, SystemRandomness};
use crate::ledger::objects::{self, Created};
use crate::merge::ParquetMerger;
use crate::naming::{DefaultFileNames, FileNameParser};
use crate::options::Options;
use crate::place::{Place, check_url, overlap};
use crate::sink::TableProvider;
use crate::state::StateStore;
use crate::time::Timestamp;

/// Settings and parts of a [`Compactor`].
#[derive(Debug)]
pub struct CompactorBuilder {
    options: Options,
    bucket: Place,
    bucket_name: Option<String>,
    control: Place,
    tables_root: Option<String>,
    state: Arc<dyn StateStore>,
    tables: Arc<dyn TableProvider>,
    parser: Option<Arc<dyn FileNameParser>>,
    randomness: Arc<dyn Randomness>,
    merger: ParquetMerger,
}

impl CompactorBuilder {
    /// A compactor of the sources in `bucket` into `tables`, which keeps plans and scratch in `control` and
    /// what it remembers between runs in `state`.
    pub fn new(
        bucket: Place,
        control: Place,
        tables: impl TableProvider,
        state: impl StateStore,
        options: Options,
    ) -> Self {
        Self {
            bucket,
            bucket_name: None,
            control,
            tables_root: None,
            state: Arc::new(state),
            tables: Arc::new(tables),
            parser: None,
            merger: ParquetMerger::default(),
            options,
            randomness: Arc::new(SystemRandomness),
        }
    }

    /// Ignores events that name another bucket.
    #[must_use]
    pub fn with_bucket_name(mut self, name: impl Into<String>) -> Self {
        self.bucket_name = Some(name.into());
        self
    }

    /// Reads keys with another grammar than the guide's.
    #[must_use]
    pub fn with_file_names(mut self, parser: impl FileNameParser) -> Self {
        self.parser = Some(Arc::new(parser));
        self
    }

    /// Draws ids from another source.
    #[must_use]
    pub fn with_randomness(mut self, randomness: impl Randomness) -> Self {
        self.randomness = Arc::new(randomness);
        self
    }

    /// Decodes and encodes in tasks on an executor of the host's: see [`ParquetMerger::with_spawner`].
    #[must_use]
    pub fn with_spawner(mut self, spawner: Arc<dyn Spawn + Send + Sync>) -> Self {
        self.merger = self.merger.with_spawner(spawner);
        self
    }

    /// Names the URL under which all tables lie, so that places that overlap are refused at once and not only
    /// with the first namespace.
    #[must_use]
    pub fn with_tables_root(mut self, url: impl Into<String>) -> Self {
        self.tables_root = Some(url.into());
        self
    }

    /// Checks settings and places, and opens every lane there is.
    ///
    /// # Errors
    ///
    /// `Invalid` names a setting or two places that overlap; `Unsupported` a store that cannot create an object
    /// only if it is absent; `Unavailable` is worth another try.
    pub async fn open(self, now: Timestamp) -> Result<Compactor> {
        self.open_as(now, Mode::ReadWrite).await
    }

    /// The same, to look and not to touch: [`Compactor::status`] works, and nothing is written.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub async fn open_read_only(self, now: Timestamp) -> Result<Compactor> {
        self.open_as(now, Mode::ReadOnly).await
    }

    async fn open_as(self, now: Timestamp, mode: Mode) -> Result<Compactor> {
        let options = self.options.validated()?;
        if let Some(root) = &self.tables_root {
            check_url(root)?;
            apart("control", self.control.url(), "tables", root)?;
            let sources = sources_url(&self.bucket, &options.namespace_prefix);
            apart("sources", &sources, "tables", root)?;
        }
        let parser = self
            .parser
            .unwrap_or_else(|| Arc::new(DefaultFileNames::from_options(&options)));
        let merger = self.merger.with_options(merge_options(&options));
        let shared = Shared {
            options,
            bucket: self.bucket,
            bucket_name: self.bucket_name,
            control: self.control,
            state: self.state,
            tables: self.tables,
            parser,
            randomness: self.randomness,
            merger,
        };
        if mode == Mode::ReadWrite {
            probe(&shared.control).await?;
        }
        Compactor::open(shared, mode, now).await
    }
}

/// Whether a compactor may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadOnly,
    ReadWrite,
}

/// The URL below which all sources lie.
pub(crate) fn sources_url(bucket: &Place, prefix: &str) -> String {
    format!("{}/{}", bucket.url(), prefix.trim_end_matches('/'))
        .trim_end_matches('/')
        .to_owned()
}

/// Refuses two places of which one holds the other: VACUUM and orphan cleaners delete what they do not know.
pub(crate) fn apart(a: &str, a_url: &str, b: &str, b_url: &str) -> Result<()> {
    if overlap(a_url, b_url) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("places overlap: {a} and {b} must lie apart. {a}=`{a_url}` {b}=`{b_url}`"),
        ));
    }
    Ok(())
}

/// Refuses a store on which an object can be created twice.
async fn probe(control: &Place) -> Result<()> {
    let path = control.prefix().clone().join("firnline.json");
    let store = control.store().as_ref();
    let content = "{\"version\":1}";
    objects::create_once(store, &path, content.into()).await?;
    match objects::create_once(store, &path, "{}".into()).await? {
        Created::Theirs(_) => Ok(()),
        Created::Ours => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the store overwrites an object that was to be created only if absent (put-if-absent). object=`{path}`"
            ),
        )),
    }
}
