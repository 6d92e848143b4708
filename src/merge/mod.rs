//! Merges sorted Parquet files into few large ones, inside a memory budget.
//!
//! ```text
//!  footer ──► chain ──► job ──────────► merging ───────────► output ──► upload
//!  (claims    (what     (allotments,    (cursors: inputs     (row       (equal
//!   checked)   follows)  passes)         ► kway ► gather)     groups)    parts)
//!                         ▲    │               │        └──► fan out ──► one output per partition
//!                         │    ▼               └► copying: row groups as they are ──► output
//!                        runs: intermediate files of passes, and of resort
//! ```
//!
//! What counts against the budget, beside bytes and rows: the state of codecs (zstd keeps about 100 KiB for every
//! column chunk that is open for reading, 600 KiB or more for writing), dictionaries, and parsed footers. So short
//! slices are decoded at once and wide row groups encoded one column after the other; footers that together take more
//! than their share are read again when their turn comes. The shares follow from the options alone, and an input is
//! judged by what it needs of them by itself.
//!
//! With a spawner, rows are encoded by tasks while the next ones are merged: one step of rows is then held twice. Others
//! decode the next batch of each input meanwhile, that of the input after it when the last rows of one are at hand, and
//! read the keys of row groups that are copied. Columns of a slice that is decoded at once are decoded side by side, as
//! far as the bytes for that suffice. Tasks decode and encode and do nothing else: requests to the store are made where
//! the merge is polled, since the executor of the tasks may have no reactor.
//!
//! What does not count: the program, holes that an allocator keeps (glibc's keeps some for every thread, which
//! `MALLOC_ARENA_MAX=2` bounds, and up to twice the budget where columns are many, unless `MALLOC_ARENA_MAX=1
//! MALLOC_MMAP_THRESHOLD_=32768` is set), and what a column takes for a
//! moment when it is wider than its pages tell. A row group without page index is fetched as a whole; one whose
//! compressed bytes, with a page of every column and what their codec takes, do not fit the readers' share, about half of
//! the budget, is too large.

mod ahead;
mod at_once;
mod batch;
mod budget;
mod chain;
mod copying;
mod cursor;
mod cut;
mod decode;
mod encoders;
mod encodings;
mod error;
mod fan_out;
mod fetch;
mod float_check;
mod floats;
mod footer;
mod forms;
mod gather;
mod hash;
mod input;
mod job;
mod keys;
mod kway;
mod merging;
mod metrics;
mod options;
mod order;
mod output;
mod page_index;
mod pages;
mod passes;
mod reader;
mod resort;
mod row_group;
mod runs;
mod slices;
mod sources;
mod spawner;
mod step;
mod streaming;
mod thrift;
mod turns;
mod upload;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::Stream;
use futures::task::Spawn;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

pub use error::{MergeError, SourceError};
pub use footer::{SourceFooter, read_footer};
pub use options::{DEFAULT_MAX_ROW_GROUP_ROWS, MIN_MEMORY_BUDGET_BYTES, MergeOptions};
pub(crate) use order::is_sortable;

use self::cursor::Chain;
use self::fan_out::Outputs;
use self::hash::RowHash;
use self::input::{Input, Origin, Plan};
use self::job::{Fit, Job};
use self::merging::{Merging, Step, Stop};
use self::order::KeyEncoder;
use self::output::{OutputOptions, location};
use self::passes::Scratch;
use self::reader::InputReader;
pub(crate) use self::sources::Sources;
use self::spawner::Spawner;
use self::streaming::Streaming;
use self::upload::largest_target;
use crate::data_file::DataFile;
use crate::error::{Error, ErrorKind};
use crate::naming::WriterId;
use crate::options::{OnUnsorted, SortField};
use crate::partitioning::{Partitioner, stored};
use crate::quarantine::QuarantineReason;
use crate::schema::{strip_metadata, with_stored_names};

/// A source to be merged. Among rows with equal keys those of the lesser (writer, sequence) come first, then
/// those earlier in the file.
#[derive(Clone, Debug)]
pub struct MergeInput {
    /// Its footer; only the content that it describes is read.
    pub footer: SourceFooter,
    /// Who wrote it.
    pub writer: WriterId,
    /// Its place among the writer's files.
    pub sequence: u64,
}

/// Where the outputs of a merge go.
#[derive(Clone, Debug)]
pub struct MergeTarget {
    /// The store of the outputs.
    pub store: Arc<dyn ObjectStore>,
    /// Their directory.
    pub dir: Path,
    /// The begin of their names: `{dir}/{stem}-{part:05}.parquet`. Must be new, so that nothing is overwritten.
    pub stem: String,
    /// Their columns; each input's are a subset of them but for types that widen without loss, and for columns of
    /// type `Null`. Those of an input without rows do not matter. Metadata named `PARQUET:field_id` become the ids
    /// of the columns, those named [`STORED_NAME_KEY`](crate::STORED_NAME_KEY) their names in the files.
    pub schema: SchemaRef,
    /// How files are cut by partition; `None`: they are not.
    pub partitioner: Option<Arc<dyn Partitioner>>,
    /// Key-value metadata of every file.
    pub key_value_metadata: Vec<(String, String)>,
    /// Store and directory of intermediate files; without one, a merge that does not fit the budget at once
    /// fails with [`MergeError::Budget`].
    pub scratch: Option<(Arc<dyn ObjectStore>, Path)>,
}

/// Watches a merge. `()` watches nothing.
pub trait MergeObserver: Send + Sync {
    /// `merged` of `total` rows have been merged. Called often; goes back to 0 if the merge is planned anew.
    fn rows(&self, merged: u64, total: u64);
}

impl MergeObserver for () {
    fn rows(&self, _merged: u64, _total: u64) {}
}

impl<T: MergeObserver + ?Sized> MergeObserver for Arc<T> {
    fn rows(&self, merged: u64, total: u64) {
        (**self).rows(merged, total);
    }
}

/// What a merge has written.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeOutput {
    /// The files, in order; none if no input had a row. Those of one partition are in order, and stand among those of
    /// others.
    pub files: Vec<DataFile>,
    /// Rows of the files, which are those of the inputs.
    pub rows: u64,
    /// Those of row groups that were copied as they are.
    pub rows_copied: u64,
    /// Bytes of the inputs.
    pub bytes_in: u64,
    /// Bytes of the files.
    pub bytes_out: u64,
    /// The most memory that was counted against the budget at once.
    pub peak_memory_bytes: u64,
}

/// Merges sorted Parquet files. Useful alone.
#[derive(Clone, Debug, Default)]
pub struct ParquetMerger {
    options: MergeOptions,
    spawner: Option<Spawner>,
}

impl ParquetMerger {
    /// A merger with these settings.
    pub fn new(options: MergeOptions) -> Self {
        Self { options, spawner: None }
    }

    /// Decodes rows and encodes columns in tasks on `spawner`, an executor of the host's with threads of its own, while
    /// the merge goes on where it is polled. Without one, all is done where it is polled. The rows of the outcome and
    /// their order are the same; where its pages end may differ.
    ///
    /// Dropping the merge lets its tasks run to the end of their step, which is short, and drops what they have done.
    #[must_use]
    pub fn with_spawner(mut self, spawner: Arc<dyn Spawn + Send + Sync>) -> Self {
        self.spawner = Some(Spawner::new(spawner));
        self
    }

    /// The same with other settings.
    pub(crate) fn with_options(&self, options: MergeOptions) -> Self {
        Self {
            options,
            spawner: self.spawner.clone(),
        }
    }

    /// The settings.
    pub fn options(&self) -> &MergeOptions {
        &self.options
    }

    /// Merges `inputs`, given in (timestamp, writer, sequence) order, into files at `target`.
    ///
    /// Rows in equal rows out, or the merge fails. Without a sort order the inputs are concatenated as given.
    /// Dropping the future at any point leaves at most orphans: files that nothing refers to, parts of unfinished
    /// uploads.
    ///
    /// # Errors
    ///
    /// [`MergeError::Source`] names a bad input: set it aside, merge the rest. [`MergeError::SourceUnavailable`],
    /// [`MergeError::Output`], [`MergeError::Scratch`]: try again later. [`MergeError::Budget`]: merge fewer
    /// inputs, or with more memory or a scratch place. [`MergeError::Invalid`]: correct the options.
    pub async fn merge(
        &self,
        store: &Arc<dyn ObjectStore>,
        inputs: Vec<MergeInput>,
        target: MergeTarget,
        observer: &dyn MergeObserver,
    ) -> Result<MergeOutput, MergeError> {
        let mut sources = self.sources(store, &target.schema)?;
        for input in inputs {
            sources.add(input);
        }
        self.merge_sources(sources, target, observer).await
    }

    /// No inputs yet, of a merge into columns of `schema`: added one by one they take less memory than all together.
    pub(crate) fn sources(&self, store: &Arc<dyn ObjectStore>, schema: &SchemaRef) -> Result<Sources, MergeError> {
        Job::sources(&self.options, store, &strip_metadata(schema))
    }

    /// As [`ParquetMerger::merge`], of sources for the schema of `target`.
    pub(crate) async fn merge_sources(
        &self,
        sources: Sources,
        target: MergeTarget,
        observer: &dyn MergeObserver,
    ) -> Result<MergeOutput, MergeError> {
        let mut job = Job::new(&self.options, sources, &strip_metadata(&target.schema));
        job.spawner = self.spawner.clone();
        job.stored = stored(&job.schema, target.partitioner.as_deref());
        let shares = job.shares();
        let options = OutputOptions {
            store: Arc::clone(&target.store),
            dir: target.dir.clone(),
            stem: target.stem.clone(),
            schema: Arc::clone(&target.schema),
            sort_order: self.options.sort_order.clone(),
            key_value_metadata: target.key_value_metadata.clone(),
            codec: self.options.codec,
            target_file_size: self.options.target_file_size_bytes.min(largest_target(shares.part)),
            part_size: shares.part,
            row_group_bytes: shares.row_group,
            row_group_rows: self.options.max_row_group_rows.max(1),
            encodings: job.encodings.clone(),
            spawner: self.spawner.clone(),
            memory: job.memory.clone(),
        };
        let mut output = Outputs::new(options, target.partitioner.as_ref())?;
        if self.options.on_unsorted == OnUnsorted::Resort {
            if target.scratch.is_none() {
                let detail = "to sort inputs needs a scratch place".to_owned();
                return Err(MergeError::Invalid { detail });
            }
            job.unsorted = Some(BTreeSet::new());
        }
        let mut scratch = target
            .scratch
            .clone()
            .map(|(store, dir)| Scratch::new(store, dir, target.stem.clone()));
        let merged = loop {
            match attempt(&job, &mut output, scratch.as_mut(), observer).await {
                Ok(merged) => break Ok(merged),
                Err(stop) => {
                    for file in output.restart().await {
                        // Nothing refers to it yet; what cannot be deleted is an orphan.
                        let _ = target.store.delete(&location(&file)).await;
                    }
                    if let Err(error) = job.learn(stop) {
                        break Err(error);
                    }
                }
            }
        };
        if let Some(scratch) = &mut scratch {
            scratch.clear().await;
        }
        let Done { files, plan, copied } = merged?;
        let rows = files.iter().map(|file| file.rows).sum();
        if rows != job.rows {
            return Err(MergeError::internal(format!(
                "rows in and out differ. in=`{}` out=`{rows}`",
                job.rows
            )));
        }
        let merged = MergeOutput {
            bytes_out: files.iter().map(|file| file.size).sum(),
            files,
            rows,
            rows_copied: copied,
            bytes_in: job.bytes,
            peak_memory_bytes: job.memory.peak(),
        };
        self.verify_outputs(&job, &plan, &target, &merged.files).await?;
        Ok(merged)
    }

    /// The rows of `inputs` in merged order, with the columns of `schema`; writes nothing.
    ///
    /// # Errors
    ///
    /// As [`ParquetMerger::merge`]; the stream ends with the first error. An input whose statistics lie about its
    /// keys is then [`MergeError::Source`], since rows that have been given out cannot be taken back. So is one that is
    /// not in order, whatever the options say: there is no place to sort it.
    pub fn stream(
        &self,
        store: &Arc<dyn ObjectStore>,
        inputs: Vec<MergeInput>,
        schema: &SchemaRef,
    ) -> impl Stream<Item = Result<RecordBatch, MergeError>> + Send + use<> {
        let job = Job::sources(&self.options, store, schema).map(|mut sources| {
            for input in inputs {
                sources.add(input);
            }
            Job::new(&self.options, sources, schema)
        });
        Streaming::of(job)
    }

    /// Reads the whole of `input` alone: whether it can be decoded, converted to `schema`, and is in order if it must be.
    ///
    /// # Errors
    ///
    /// As [`ParquetMerger::merge`], with 0 as the index.
    pub async fn verify_source(
        &self,
        store: &Arc<dyn ObjectStore>,
        input: &MergeInput,
        schema: &SchemaRef,
    ) -> Result<(), MergeError> {
        self.verify_in(store, input, schema, None).await
    }

    /// As [`ParquetMerger::verify_source`], and whether each of its rows is in some partition.
    pub(crate) async fn verify_in(
        &self,
        store: &Arc<dyn ObjectStore>,
        input: &MergeInput,
        schema: &SchemaRef,
        partitioner: Option<&Arc<dyn Partitioner>>,
    ) -> Result<(), MergeError> {
        let mut sources = Job::sources(&self.options, store, schema)?;
        sources.add(input.clone());
        let mut job = Job::new(&self.options, sources, schema);
        let sources = job.shares().sources;
        let plan = job.plan(None)?;
        let Some(source) = job.inputs.first().cloned() else {
            return Ok(());
        };
        let mut reader = InputReader::new(source.open().await?, &plan, sources)?;
        if self.options.on_unsorted == OnUnsorted::Resort {
            reader = reader.unordered();
        }
        loop {
            match reader.next().await {
                Ok(Some(batch)) => {
                    if let Some(partitioner) = partitioner {
                        partitioner.columns(&batch.rows).map_err(|e| outcast(0, e))?;
                    }
                    step::yield_now().await;
                }
                Ok(None) => return Ok(()),
                Err(stop) => {
                    job.learn(stop)?;
                    return Err(MergeError::internal("an input asks for what it has"));
                }
            }
        }
    }

    async fn verify_outputs(
        &self,
        job: &Job,
        plan: &Plan,
        target: &MergeTarget,
        files: &[DataFile],
    ) -> Result<(), MergeError> {
        let Some(expected) = &plan.hash else {
            return Ok(());
        };
        let mut reread = RowHash::new(&job.stored, &job.stored)?;
        let in_files = stored(&target.schema, target.partitioner.as_deref());
        let in_files = strip_metadata(&with_stored_names(&in_files));
        // What all rows of a file have in common does not change their order.
        let order = self.options.sort_order.iter().filter_map(|field| {
            let column = in_files.fields().get(job.stored.index_of(&field.column).ok()?)?;
            let column = column.name().clone();
            Some(SortField {
                column,
                ..field.clone()
            })
        });
        let plan = Plan {
            hash: None,
            schema: Arc::clone(&in_files),
            columns: Arc::clone(&in_files),
            keys: KeyEncoder::new(&in_files, &order.collect::<Vec<_>>())?.map(Arc::new),
            ..job.plan(None)?
        };
        let internal = |e: Stop| MergeError::internal(format!("an output cannot be read back: {e:?}"));
        for file in files {
            let path = location(file);
            let footer = read_footer(&*target.store, &path, None).await;
            let footer = footer.map_err(|e| MergeError::internal(format!("an output cannot be read back: {e}")))?;
            let input = Input {
                store: Arc::clone(&target.store),
                footer,
                origin: Origin { index: 0, rank: 0 },
                may_copy: false,
            };
            let mut reader = InputReader::new(input, &plan, self.options.memory_budget_bytes)?;
            while let Some(batch) = reader.next().await.map_err(internal)? {
                reread.add(&batch.rows)?;
                step::yield_now().await;
            }
        }
        let expected = expected.lock().unwrap_or_else(PoisonError::into_inner).digest();
        if reread.digest() != expected {
            return Err(MergeError::internal("the outputs do not hold the rows of the inputs"));
        }
        Ok(())
    }
}

/// What it means that rows of an input cannot be partitioned.
fn outcast(index: usize, source: Error) -> MergeError {
    if source.kind() == ErrorKind::Data {
        let detail = source.to_string();
        let reason = QuarantineReason::NoPartition { detail };
        return MergeError::Source { index, reason };
    }
    MergeError::Partition { source }
}

/// A try at a merge that came to its end.
struct Done {
    files: Vec<DataFile>,
    plan: Plan,
    /// Rows of row groups that were copied.
    copied: u64,
}

/// One try at a merge, with what is known of its inputs so far.
async fn attempt(
    job: &Job,
    output: &mut Outputs,
    scratch: Option<&mut Scratch>,
    observer: &dyn MergeObserver,
) -> Result<Done, Stop> {
    let shares = job.shares();
    let (plan, chains) = match (job.fit()?, scratch) {
        (Fit::AtOnce(chains), _) => {
            let mut plan = job.plan(None)?;
            if job.options.copy_row_groups && plan.hash.is_none() {
                plan.copying = output.rule()?.map(Arc::new);
            }
            (plan, chains)
        }
        (Fit::InPasses(mut chains), Some(scratch)) => {
            let plan = job.plan(Some(&ordinal_name(&job.schema)))?;
            chains.extend(scratch.sort(job, &plan, shares).await?);
            let chains = scratch.reduce(job, &plan, shares, chains).await?;
            (plan, chains)
        }
        (Fit::InPasses(chains), None) => return Err(too_many(job, &chains).into()),
    };
    let mut merging = Merging::new(plan.clone(), chains, Arc::clone(&job.schema), shares.merged);
    let (mut written, mut copied) = (0, 0);
    observer.rows(0, job.rows);
    while let Some(step) = merging.next().await? {
        match step {
            Step::Rows(merged) => {
                output.write(&merged.rows).await?;
                written += merged.rows.num_rows() as u64;
            }
            Step::Offer(offer) if output.accepts(offer) => {
                if let Some(group) = merging.copy().await? {
                    copied += output.copy(group).await.map_err(Stop::of_copy)?;
                }
            }
            Step::Offer(_) => merging.decline(),
        }
        observer.rows(written + copied, job.rows);
    }
    let files = output.finish().await?;
    Ok(Done { files, plan, copied })
}

fn too_many(job: &Job, chains: &[Chain]) -> MergeError {
    let budget = job.options.memory_budget_bytes;
    let needed = chains
        .iter()
        .fold(0_u64, |sum, chain| sum.saturating_add(chain.allotment));
    let sources = job.shares().sources;
    MergeError::Budget {
        needed: budget.saturating_add(needed.saturating_sub(sources)),
        budget,
    }
}

/// A name that no column has.
fn ordinal_name(schema: &SchemaRef) -> String {
    let mut name = "ordinal".to_owned();
    while schema
        .fields()
        .iter()
        .any(|field| field.name().eq_ignore_ascii_case(&name))
    {
        name.push('_');
    }
    name
}
