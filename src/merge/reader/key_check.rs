//! Reads the keys of a row group that is copied as it is.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::row::OwnedRow;
use futures::future::BoxFuture;
use parquet::arrow::ProjectionMask;
use parquet::file::metadata::ParquetMetaData;

use crate::merge::decode::{Piece, Reading, SliceReader, arrow_metadata};
use crate::merge::error::{MergeError, SourceError};
use crate::merge::fetch::Extent;
use crate::merge::input::{Input, Plan};
use crate::merge::keys::InOrder;
use crate::merge::order::KeyEncoder;
use crate::merge::slices::Slice;
use crate::merge::spawner::{Spawner, start_or_keep};
use crate::merge::step::yield_now;
use crate::quarantine::QuarantineReason;
use crate::schema::Caster;

/// The first key of a row group, and its keys added to those before them.
type Outcome = Result<(Option<OwnedRow>, InOrder), MergeError>;

/// Keys that are being read, beside the merge if there is a spawner.
pub(super) struct KeyCheck(BoxFuture<'static, Outcome>);

impl fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCheck")
    }
}

impl KeyCheck {
    /// Reads the keys that come after those `in_order`, of the input `index`.
    pub(super) fn start(
        reader: KeyReader,
        encoder: Arc<KeyEncoder>,
        in_order: InOrder,
        index: usize,
        spawner: Option<&Spawner>,
    ) -> Result<Self, MergeError> {
        let work = read(reader, encoder, in_order, index);
        Ok(Self(start_or_keep(spawner, work)?))
    }

    pub(super) async fn outcome(self) -> Outcome {
        self.0.await
    }
}

async fn read(mut reader: KeyReader, encoder: Arc<KeyEncoder>, mut in_order: InOrder, index: usize) -> Outcome {
    let at = |reason: QuarantineReason| SourceError::from(reason).at(index);
    let (mut first, before) = (None, in_order.rows);
    while let Some(columns) = reader.next().map_err(at)? {
        let keys = encoder.encode_columns(&columns)?;
        in_order.add(&keys).map_err(at)?;
        if first.is_none() && keys.len() > 0 {
            first = Some(keys.owned(0));
        }
        yield_now().await;
    }
    if in_order.rows - before != reader.rows {
        let detail = "a row group has another number of keys than rows";
        return Err(at(QuarantineReason::corrupt(detail)));
    }
    Ok((first, in_order))
}

/// Reads key columns alone.
pub(super) struct KeyReader {
    reader: SliceReader,
    rows: u64,
    caster: Caster,
    /// Where the columns that are read have those of the key.
    places: Vec<usize>,
}

impl KeyReader {
    /// Reads the slice of key columns, which has been fetched, of a row group that has the columns of the plan.
    pub(super) fn new(
        input: &Input,
        plan: &Plan,
        (metadata, slice): (&Arc<ParquetMetaData>, Slice),
        extents: &Arc<Vec<Extent>>,
        batch_rows: usize,
    ) -> Result<Self, QuarantineReason> {
        let keys = plan.keys.as_ref().map_or(&[][..], |encoder| encoder.columns());
        let mut columns = keys.to_vec();
        columns.sort_unstable();
        columns.dedup();
        let places = keys.iter().filter_map(|key| columns.binary_search(key).ok());
        let target = plan.columns.project(&columns).map_err(QuarantineReason::corrupt)?;
        let source = input
            .footer
            .schema
            .project(&columns)
            .map_err(QuarantineReason::corrupt)?;
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), columns.iter().copied());
        let piece = Piece {
            arrow: arrow_metadata(Arc::clone(metadata))?,
            group: 0,
            slice,
        };
        Ok(Self {
            rows: piece.slice.rows.len() as u64,
            caster: Caster::new(&source, &Arc::new(target))?,
            places: places.collect(),
            reader: SliceReader::open(Reading {
                piece,
                extents: Arc::clone(extents),
                size: input.footer.size,
                columns: mask,
                skip: 0,
                batch_rows,
                allotment: 0,
            })?,
        })
    }

    /// The key columns of the next rows.
    fn next(&mut self) -> Result<Option<Vec<ArrayRef>>, QuarantineReason> {
        let Some(rows) = self.reader.read()? else {
            return Ok(None);
        };
        let rows = self.caster.cast(&rows)?;
        let columns = self.places.iter().filter_map(|place| rows.columns().get(*place));
        Ok(Some(columns.cloned().collect()))
    }
}
