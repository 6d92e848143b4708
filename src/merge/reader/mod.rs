//! Reads one input: batches of the plan's columns with their keys, in the order in which they are checked.

mod copying;
mod decoder;
mod key_check;

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::RowGroupMetaData;

use self::decoder::Decoder;
use self::key_check::KeyCheck;
use super::at_once::{Whole, beyond, decode_at_once};
use super::batch::{Batch, MAX_BATCH_ROWS, with_ordinal};
use super::budget::{Held, allotment_for, fetch_limit, to_usize};
use super::decode::{Piece, arrow_metadata, build, find};
use super::error::{MergeError, SourceError};
use super::fetch::{Extent, coalesced, fetch_ranges, length};
use super::input::{Input, Origin, Plan};
use super::keys::InOrder;
use super::merging::Stop;
use super::page_index::read_page_index;
use super::pages::measure;
use super::slices::{self, Division, Slice};
use crate::quarantine::QuarantineReason;
use crate::schema::Caster;

/// The part of an allotment that one batch may take.
const BATCH_SHARE: u64 = 8;

/// Why an input cannot be read on.
enum Refusal {
    Failed(MergeError),
    Source(SourceError),
    /// It would need an allotment of this size.
    NeedsMore {
        what: &'static str,
        needed: u64,
    },
}

impl Refusal {
    /// As the stop that it is for the input `index`.
    fn at(self, index: usize) -> Stop {
        match self {
            Self::Failed(error) => error.into(),
            Self::Source(error) => error.at(index).into(),
            Self::NeedsMore { what, needed } => Stop::NeedsMore { index, what, needed },
        }
    }
}

impl From<MergeError> for Refusal {
    fn from(error: MergeError) -> Self {
        Self::Failed(error)
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<QuarantineReason> for Refusal {
    fn from(reason: QuarantineReason) -> Self {
        Self::Source(reason.into())
    }
}

/// Reads an input from its first row to its last.
#[derive(Debug)]
pub(super) struct InputReader {
    origin: Origin,
    plan: Plan,
    /// `None` once the last slice has been decoded: where inputs are many, even their footers are much.
    file: Option<File>,
    /// Bytes that this reader may hold.
    allotment: u64,
    extents: Arc<Vec<Extent>>,
    held: Held,
    /// Only what a slice needs is fetched for it.
    narrow: bool,
    open: Option<OpenSlice>,
    /// A slice that is to be opened next.
    postponed: Option<Piece>,
    /// Bytes of the last batch, if it is a whole slice.
    at_once: u64,
    in_order: InOrder,
    /// Reads the keys of the last row group, which is being copied.
    key_check: Option<KeyCheck>,
    /// If the rows may be in any order, the number of the next batch.
    unordered: Option<u64>,
}

/// What is known of the file being read, and how far it has been read.
#[derive(Debug)]
struct File {
    input: Input,
    caster: Caster,
    arrow: ArrowReaderMetadata,
    next_group: usize,
    /// A row group that is not copied, whatever the rule says.
    decoded: Option<usize>,
    /// The row group before `next_group`, if it is read in parts.
    division: Option<(ArrowReaderMetadata, Division)>,
}

impl File {
    fn is_at_its_end(&self) -> bool {
        self.division.as_ref().is_none_or(|(_, division)| division.is_done())
            && self.next_group >= self.input.footer.metadata.num_row_groups()
    }

    /// A part of a slice that takes more than was told, if it can be cut.
    async fn smaller(&mut self, piece: &Piece, allotment: u64) -> Result<Option<Piece>, SourceError> {
        if let Some((arrow, division)) = &mut self.division {
            return Ok(division.smaller(&piece.slice).map(|slice| Piece {
                arrow: arrow.clone(),
                group: 0,
                slice,
            }));
        }
        let metadata = Arc::clone(&self.input.footer.metadata);
        let group = metadata.row_groups().get(piece.group);
        let Some(group) = group.filter(|group| slices::is_divisible(group)) else {
            return Ok(None);
        };
        let (arrow, index) = read_page_index(&self.input, group).await?;
        let mut division = Division::new(group, &index)?;
        let first = division.next(allotment / 2);
        self.division = Some((arrow.clone(), division));
        Ok(first.and_then(Result::ok).map(|slice| Piece { arrow, group: 0, slice }))
    }

    /// Of the page index being used.
    fn memory_size(&self) -> u64 {
        self.division.as_ref().map_or(0, |(_, division)| division.memory_size())
    }
}

#[derive(Debug)]
enum OpenSlice {
    /// Decoded as a whole.
    AtOnce(RecordBatch),
    /// Decoded batch by batch.
    InBatches {
        piece: Piece,
        decoder: Decoder,
        /// Rows of the slice that have been read.
        done: usize,
        batch_rows: usize,
    },
}

impl InputReader {
    /// Prepares to read `input` with at most `allotment` bytes; reads nothing yet.
    pub(super) fn new(input: Input, plan: &Plan, allotment: u64) -> Result<Self, MergeError> {
        let origin = input.origin;
        Self::prepare(input, plan, allotment).map_err(|reason| SourceError::from(reason).at(origin.index))
    }

    fn prepare(mut input: Input, plan: &Plan, allotment: u64) -> Result<Self, QuarantineReason> {
        let target = &plan.columns;
        // Without rows, there is nothing that could not be converted.
        let source = if input.footer.rows == 0 {
            target
        } else {
            &input.footer.schema
        };
        let caster = Caster::new(source, target)?;
        let arrow = arrow_metadata(Arc::clone(&input.footer.metadata))?;
        let extents: Vec<_> = input
            .footer
            .content
            .take()
            .map(|bytes| Extent { start: 0, bytes })
            .into_iter()
            .collect();
        let held = plan.memory.hold(bytes_of(&extents));
        Ok(Self {
            origin: input.origin,
            plan: plan.clone(),
            file: Some(File {
                input,
                caster,
                arrow,
                next_group: 0,
                decoded: None,
                division: None,
            }),
            allotment,
            extents: Arc::new(extents),
            held,
            narrow: false,
            open: None,
            postponed: None,
            at_once: 0,
            in_order: InOrder::default(),
            key_check: None,
            unordered: None,
        })
    }

    /// Rows may be in any order. Where rows carry their rank, they also carry the number of their batch.
    pub(super) fn unordered(mut self) -> Self {
        self.unordered = Some(0);
        self
    }

    /// Hands over what has been fetched of the input already.
    pub(super) fn with_fetched(mut self, extents: Vec<Extent>, held: Held) -> Self {
        self.extents = Arc::new(extents);
        self.held = held;
        self
    }

    /// Bytes that this reader will not need any more: what is left of its allotment once its last slice is open.
    pub(super) fn spare(&self) -> u64 {
        if self.file.as_ref().is_none_or(File::is_at_its_end) {
            fetch_limit(self.allotment)
                .saturating_sub(self.held.bytes())
                .saturating_sub(self.at_once)
        } else {
            0
        }
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// The next rows, `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Stop> {
        let origin = self.origin;
        loop {
            if let Some(batch) = self.decode().await? {
                let batch = self.finish(&batch)?;
                if self.open.is_none() && self.file.as_ref().is_some_and(File::is_at_its_end) {
                    self.close();
                }
                return Ok(Some(batch));
            }
            let opened = self.open_next(None).await.map_err(|refusal| refusal.at(origin.index))?;
            if !opened {
                self.close();
                return Ok(None);
            }
        }
    }

    /// Opens the first slice and has it decoded by the spawner, if it can be while rows of another input take `beside`
    /// bytes of the allotment.
    pub(super) async fn open_ahead(&mut self, beside: u64) -> Result<(), Stop> {
        if self.claim().is_none() {
            let opened = self.open_next(Some(beside)).await;
            opened.map_err(|refusal| refusal.at(self.origin.index))?;
        }
        Ok(())
    }

    /// Whether it has given its last rows.
    pub(super) fn is_closed(&self) -> bool {
        self.file.is_none()
    }

    /// Lets go of everything but the last key.
    fn close(&mut self) {
        self.file = None;
        self.extents = Arc::default();
        self.held.resize(0);
    }

    /// Opens the next slice, or postpones that if it cannot be while so many bytes of the allotment are `taken`; `false`
    /// after the last.
    async fn open_next(&mut self, taken: Option<u64>) -> Result<bool, Refusal> {
        let piece = match self.postponed.take() {
            Some(piece) => Some(piece),
            None => self.next_piece().await?,
        };
        match piece {
            Some(piece) => self.open(piece, taken).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Decodes a batch of the open slice, `None` if there is none or it is at its end.
    async fn decode(&mut self) -> Result<Option<RecordBatch>, MergeError> {
        let index = self.origin.index;
        let at = |reason: QuarantineReason| SourceError::from(reason).at(index);
        let (Some(open), Some(file)) = (&mut self.open, &self.file) else {
            return Ok(None);
        };
        let (piece, decoder, done, batch_rows) = match open {
            OpenSlice::AtOnce(batch) => {
                let batch = batch.clone();
                self.at_once = batch.get_array_memory_size() as u64;
                self.open = None;
                return Ok(Some(batch));
            }
            OpenSlice::InBatches {
                piece,
                decoder,
                done,
                batch_rows,
            } => (piece, decoder, done, batch_rows),
        };
        let expected = piece.slice.rows.len();
        let Some(batch) = decoder.read().await?.map_err(at)? else {
            return Err(at(QuarantineReason::corrupt("a row group ends before its last row")));
        };
        *done += batch.num_rows();
        if *done >= expected {
            if *done > expected || decoder.read().await?.map_err(at)?.is_some() {
                return Err(at(QuarantineReason::corrupt("a row group goes on after its last row")));
            }
            self.open = None;
            return Ok(Some(batch));
        }
        let bytes = batch.get_array_memory_size() as u64;
        let wanted = self.allotment / BATCH_SHARE;
        if bytes > wanted.saturating_mul(2) && *batch_rows > 1 {
            // Wider rows than the pages told: go on with fewer at a time.
            let rows = (*batch_rows as u64).saturating_mul(wanted) / bytes.max(1);
            *batch_rows = to_usize(rows).max(1);
            let reader = build(piece, *done, *batch_rows, &self.extents, file.input.footer.size);
            *decoder = Decoder::new(reader.map_err(at)?);
        }
        if let Some(spawner) = &self.plan.spawner {
            decoder.go_ahead(spawner, self.plan.memory.hold(bytes))?;
        }
        Ok(Some(batch))
    }

    /// Converts a batch, encodes its keys and checks their order.
    fn finish(&mut self, decoded: &RecordBatch) -> Result<Batch, MergeError> {
        let origin = self.origin;
        let Some(file) = &self.file else {
            return Err(MergeError::internal("rows of a file that is closed"));
        };
        let mut rows = file
            .caster
            .cast(decoded)
            .map_err(|reason| SourceError::from(reason).at(origin.index))?;
        if let Some(hash) = &self.plan.hash {
            hash.lock().unwrap_or_else(PoisonError::into_inner).add(&rows)?;
        }
        if self.plan.has_ordinal() {
            let batch = self.unordered.unwrap_or(0);
            rows = with_ordinal(&rows, &self.plan.schema, (u64::from(origin.rank) << 32) | batch)?;
        }
        let bytes = rows.get_array_memory_size() as u64;
        let batch = Batch::new(rows, bytes, &self.plan)?;
        match (&mut self.unordered, &batch.keys) {
            (None, Some(keys)) => {
                let added = self.in_order.add(keys);
                added.map_err(|reason| SourceError::from(reason).at(origin.index))?;
            }
            (Some(number), _) => *number += 1,
            (None, None) => {}
        }
        Ok(batch)
    }

    /// The next slice to read; divides the next row group when needed.
    async fn next_piece(&mut self) -> Result<Option<Piece>, Refusal> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let metadata = Arc::clone(&file.input.footer.metadata);
        loop {
            if let Some((arrow, division)) = &mut file.division {
                match division.next(self.allotment) {
                    Some(Ok(slice)) => {
                        let arrow = arrow.clone();
                        return Ok(Some(Piece { arrow, group: 0, slice }));
                    }
                    Some(Err(needed)) => {
                        let what = "one page of every column";
                        return Err(Refusal::NeedsMore { what, needed });
                    }
                    None => file.division = None,
                }
            }
            let group = file.next_group;
            let Some(row_group) = metadata.row_groups().get(group) else {
                return Ok(None);
            };
            file.next_group += 1;
            if row_group.num_rows() == 0 {
                continue;
            }
            let needed = slices::cost_in_batches(row_group).min(slices::cost_at_once(row_group));
            if needed <= self.allotment {
                return Ok(Some(Piece {
                    arrow: file.arrow.clone(),
                    group,
                    slice: Slice::whole(row_group),
                }));
            }
            if !slices::is_divisible(row_group) {
                let what = "row group without page index";
                return Err(Refusal::NeedsMore { what, needed });
            }
            let (arrow, index) = read_page_index(&file.input, row_group).await?;
            file.division = Some((arrow, Division::new(row_group, &index)?));
        }
    }

    /// Fetches what a slice needs and is not held yet, measures it, and opens the decoder. While bytes of
    /// the allotment are `taken`, it is postponed unless it is decoded batch by batch and fits beside them.
    async fn open(&mut self, mut piece: Piece, taken: Option<u64>) -> Result<(), Refusal> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        loop {
            let footer = &file.input.footer;
            let ranges = piece.slice.ranges();
            let least = length(&coalesced(&ranges));
            let index = file.memory_size();
            if ranges.iter().any(|range| find(&self.extents, range).is_none()) {
                self.extents = Arc::default();
                let whole = if self.narrow {
                    None
                } else {
                    whole_file(&file.input, self.allotment)
                };
                let ranges = whole.unwrap_or_else(|| ranges.clone());
                // Counted before it is there, so that what is in flight is counted too.
                self.held.resize(length(&coalesced(&ranges)));
                let extents = fetch_ranges(&*file.input.store, &footer.location, &footer.etag, &ranges).await?;
                self.extents = Arc::new(extents);
            }
            let fetched = bytes_of(&self.extents).saturating_add(index);
            let measured = measure(&piece.slice, &self.extents)?;
            let in_batches = fetched.saturating_add(measured.resident());
            let with_batch = in_batches.saturating_add(self.allotment / BATCH_SHARE);
            let fits = in_batches <= fetch_limit(self.allotment);
            if taken.is_some_and(|taken| !fits || with_batch.saturating_add(taken) > self.allotment) {
                self.postponed = Some(piece);
                return Ok(());
            }
            if fits {
                self.held.resize(in_batches);
                let batch_rows =
                    to_usize(self.allotment / BATCH_SHARE / measured.row_width.max(1)).clamp(1, MAX_BATCH_ROWS);
                let mut decoder = Decoder::new(build(&piece, 0, batch_rows, &self.extents, footer.size)?);
                if let Some(spawner) = &self.plan.spawner {
                    let rows = piece.slice.rows.len().min(batch_rows) as u64;
                    let bytes = measured.row_width.saturating_mul(rows);
                    decoder.go_ahead(spawner, self.plan.memory.hold(bytes))?;
                }
                self.open = Some(OpenSlice::InBatches {
                    piece,
                    decoder,
                    done: 0,
                    batch_rows,
                });
                return Ok(());
            }
            let (count, leaves) = (piece.slice.rows.len() as u64, piece.slice.columns.len() as u64);
            let decoded = measured.row_width.saturating_mul(count);
            let beside = fetched.saturating_add(beyond(&piece, &measured.open, self.plan.decoding.bytes()));
            let at_once = slices::at_once(beside, decoded, count, leaves);
            if at_once <= self.allotment {
                self.held.resize(beside);
                let slice = Whole {
                    piece: piece.clone(),
                    extents: Arc::clone(&self.extents),
                    size: footer.size,
                    limit: self.allotment.saturating_sub(beside),
                };
                if let Some(batch) = decode_at_once(slice, &measured.open, &self.plan).await?? {
                    self.open = Some(OpenSlice::AtOnce(batch));
                    return Ok(());
                }
            }
            if bytes_of(&self.extents) > least && !self.narrow {
                // More has been fetched than this slice needs: without that it may do.
                self.narrow = true;
                self.extents = Arc::default();
                continue;
            }
            if let Some(smaller) = file.smaller(&piece, self.allotment).await? {
                piece = smaller;
                self.narrow = true;
                self.extents = Arc::default();
                continue;
            }
            // Rows wider than their pages tell may be twice as wide, or more: that shows next time.
            let at_once = if at_once <= self.allotment {
                self.allotment.saturating_mul(2)
            } else {
                at_once
            };
            return Err(Refusal::NeedsMore {
                what: "decompressed pages",
                needed: allotment_for(in_batches).min(at_once),
            });
        }
    }
}

/// The ranges of all row groups, if the whole file may be held at once.
fn whole_file(input: &Input, allotment: u64) -> Option<Vec<std::ops::Range<u64>>> {
    let groups = input.footer.metadata.row_groups();
    let bytes = groups
        .iter()
        .flat_map(RowGroupMetaData::columns)
        .fold(0_u64, |sum, chunk| sum.saturating_add(chunk.byte_range().1));
    let needs = groups
        .iter()
        .map(|group| slices::cost_in_batches(group).min(slices::cost_at_once(group)));
    let fits = bytes.saturating_add(needs.max().unwrap_or(0)) <= allotment;
    fits.then(|| input.ranges())
}

fn bytes_of(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.bytes.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Builder, Int64Array, Int64Builder, ListBuilder, StringArray, StructBuilder};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field};
    use futures::executor::block_on;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::super::budget::Memory;
    use super::super::read_footer;
    use super::super::turns::Turns;
    use super::*;

    /// Rows of very different widths, with lists of structs.
    fn rows() -> RecordBatch {
        let fields = vec![
            Field::new("a", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
        ];
        let item = StructBuilder::new(
            fields,
            vec![Box::new(Int64Builder::new()), Box::new(Float64Builder::new())],
        );
        let mut list = ListBuilder::new(item);
        for row in 0..3_000_i32 {
            for item in 0..row % 5 {
                let values = list.values();
                values
                    .field_builder::<Int64Builder>(0)
                    .unwrap()
                    .append_option((item > 0).then(|| row.into()));
                values
                    .field_builder::<Float64Builder>(1)
                    .unwrap()
                    .append_value(row.into());
                values.append(item != 2);
            }
            list.append(row % 7 != 0);
        }
        let text: StringArray = (0..3_000_usize)
            .map(|row| Some(format!("{row}").repeat(row % 40)))
            .collect();
        RecordBatch::try_from_iter_with_nullable([
            (
                "id",
                Arc::new(Int64Array::from_iter_values(0..3_000)) as ArrayRef,
                false,
            ),
            ("text", Arc::new(text), true),
            ("list", Arc::new(list.finish()), true),
        ])
        .unwrap()
    }

    /// What a reader of these inputs is told.
    fn plan(input: &Input) -> Plan {
        let schema = crate::schema::strip_metadata(&input.footer.schema);
        Plan {
            copying: None,
            spawner: None,
            columns: Arc::clone(&schema),
            schema,
            keys: None,
            memory: Memory::default(),
            decoding: Turns::new(0),
            hash: None,
        }
    }

    /// The rows as an allotment lets them be read, and in how many batches; `None` if it is too small.
    fn read(input: &Input, allotment: u64) -> Option<(RecordBatch, usize)> {
        let plan = plan(input);
        let reader = InputReader::new(input.clone(), &plan, allotment).unwrap();
        read_all(reader, &plan, allotment)
    }

    fn read_all(mut reader: InputReader, plan: &Plan, allotment: u64) -> Option<(RecordBatch, usize)> {
        let mut batches = Vec::new();
        loop {
            match block_on(reader.next()) {
                Ok(Some(batch)) => batches.push(batch.rows),
                Ok(None) => break,
                Err(Stop::NeedsMore { needed, .. }) => {
                    assert!(needed > allotment, "{needed} {allotment}");
                    return None;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        Some((concat_batches(&plan.columns, &batches).unwrap(), batches.len()))
    }

    /// An input of these rows, in many pages.
    fn input_of(rows: &RecordBatch, dictionary: bool) -> Input {
        let properties = WriterProperties::builder()
            .set_data_page_row_count_limit(70)
            .set_write_batch_size(10)
            .set_dictionary_enabled(dictionary)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("x");
        block_on(store.put(&path, writer.into_inner().unwrap().into())).unwrap();
        Input {
            footer: block_on(read_footer(&*store, &path, None)).unwrap().without_content(),
            store,
            origin: Origin { index: 0, rank: 0 },
            may_copy: true,
        }
    }

    #[test]
    fn what_is_opened_ahead_fits_beside_the_rows_before_it() {
        let expected = rows();
        let input = input_of(&expected, true);
        let (mut opened, mut postponed) = (0, 0);
        let allotments = (0..96).map(|step| (16_u64 + step % 16) << (14 + step / 16));
        let enough = allotments.filter(|allotment| read(&input, *allotment).is_some());
        for (allotment, share) in enough.flat_map(|allotment| [2, 3, 8, 100].map(|share| (allotment, share))) {
            let plan = plan(&input);
            let mut reader = InputReader::new(input.clone(), &plan, allotment).unwrap();
            let taken = allotment / share;
            block_on(reader.open_ahead(taken)).unwrap();
            match &reader.open {
                None => postponed += 1,
                Some(OpenSlice::AtOnce(_)) => {
                    panic!("{allotment} {taken}: all rows are there beside those before them")
                }
                Some(OpenSlice::InBatches { .. }) => {
                    opened += 1;
                    let held = plan.memory.peak();
                    assert!(
                        held + allotment / BATCH_SHARE + taken <= allotment,
                        "{allotment} {taken}: {held}"
                    );
                }
            }
            let (rows, _) = read_all(reader, &plan, allotment).unwrap();
            assert_eq!(rows, expected, "{allotment} {taken}");
        }
        assert!(opened > 0 && postponed > 0, "{opened} {postponed}");
    }

    #[test]
    fn every_allotment_gives_the_same_rows_or_says_that_it_is_too_small() {
        let expected = rows();
        for dictionary in [false, true] {
            let input = input_of(&expected, dictionary);
            let (mut refused, mut batches) = (0, Vec::new());
            for allotment in (10..24).map(|power| 1 << power) {
                let Some((rows, count)) = read(&input, allotment) else {
                    assert!(batches.is_empty(), "what suffices must go on to suffice");
                    refused += 1;
                    continue;
                };
                for (column, expected) in rows.columns().iter().zip(expected.columns()) {
                    assert_eq!(column.to_data(), expected.to_data(), "allotment {allotment}");
                }
                batches.push(count);
            }
            assert!(
                refused > 0 && batches.is_sorted_by(|a, b| a >= b),
                "{refused} {batches:?}"
            );
            assert_eq!(batches.last(), Some(&1));
        }
    }
}
