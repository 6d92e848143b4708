//! Reads where the pages of a row group lie.

use std::sync::Arc;

use parquet::DecodeResult;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataPushDecoder, RowGroupMetaData,
};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use super::decode::{arrow_metadata, find, guarded};
use super::error::SourceError;
use super::fetch::{Extent, fetch_ranges};
use super::footer::too_large;
use super::forms;
use super::input::Input;
use super::thrift::{LIST, Malformed, Walker};
use crate::quarantine::QuarantineReason;

/// Most bytes of the page indexes of a row group.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Bytes that the place of a page takes at least: three numbers and the end.
const LEAST_PLACE_BYTES: usize = 7;

/// The offset index of a row group, in metadata of their own that have only this row group.
pub(super) async fn read_page_index(
    input: &Input,
    group: &RowGroupMetaData,
) -> Result<(ArrowReaderMetadata, Vec<OffsetIndexMetaData>), SourceError> {
    let metadata = read_page_indexes(input, group, PageIndexPolicy::Skip).await?;
    let index = metadata.page_index_for_row_group(0);
    let columns = (0..group.num_columns()).map(|column| index.offset_index(column).cloned());
    let columns = columns.collect::<Option<Vec<_>>>();
    let columns = columns.ok_or_else(|| QuarantineReason::corrupt("the offset index is incomplete"))?;
    Ok((arrow_metadata(Arc::new(metadata))?, columns))
}

/// Metadata of this row group alone with its offset index, and with its column index as `columns` says.
pub(super) async fn read_page_indexes(
    input: &Input,
    group: &RowGroupMetaData,
    columns: PageIndexPolicy,
) -> Result<ParquetMetaData, SourceError> {
    let footer = &input.footer;
    let file = footer.metadata.file_metadata().clone();
    let metadata = ParquetMetaDataBuilder::new(file).add_row_group(group.clone()).build();
    let mut decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(footer.size, metadata)
        .map_err(QuarantineReason::corrupt)?
        .with_column_index_policy(columns)
        .with_offset_index_policy(PageIndexPolicy::Required);
    loop {
        let step = guarded("the page index broke the parser", || decoder.try_decode())?;
        match step.map_err(QuarantineReason::corrupt)? {
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::Finished => return Err(QuarantineReason::corrupt("no page index").into()),
            DecodeResult::NeedsData(ranges) => {
                if let Some(range) = ranges
                    .iter()
                    .find(|range| range.end > footer.size || range.start > range.end)
                {
                    let detail = format!("the page index lies outside the file. end=`{}`", range.end);
                    return Err(QuarantineReason::corrupt(detail).into());
                }
                let bytes = ranges.iter().map(|range| range.end - range.start).sum();
                if bytes > MAX_INDEX_BYTES {
                    return Err(too_large("page index bytes", bytes, MAX_INDEX_BYTES).into());
                }
                let extents = fetch_ranges(&*input.store, &footer.location, &footer.etag, &ranges).await?;
                check_shape(group, &extents)?;
                let data = ranges
                    .iter()
                    .map(|range| find(&extents, range))
                    .collect::<Option<Vec<_>>>();
                let data = data.ok_or_else(|| QuarantineReason::corrupt("page index out of reach"))?;
                decoder.push_ranges(ranges, data).map_err(QuarantineReason::corrupt)?;
            }
        }
    }
}

/// Checks the lists of page indexes on the bytes: the parser allocates by the lengths that they claim.
fn check_shape(group: &RowGroupMetaData, extents: &[Extent]) -> Result<(), QuarantineReason> {
    let malformed = |e: Malformed| QuarantineReason::corrupt(format!("page index {e}"));
    for chunk in group.columns() {
        let columns = chunk.column_index_range().and_then(|range| find(extents, &range));
        if let Some(bytes) = columns {
            let walked = Walker::new(&bytes).fields(forms::COLUMN_INDEX, |_, _, _| Ok(false));
            walked.map_err(malformed)?;
        }
        let offsets = chunk.offset_index_range().and_then(|range| find(extents, &range));
        if let Some(bytes) = offsets {
            let walked = Walker::new(&bytes).fields(forms::OFFSET_INDEX, |walker, id, kind| {
                let mut places = walker.clone();
                if (id, kind) == (1, LIST) && places.list()?.0 > bytes.len() / LEAST_PLACE_BYTES {
                    return Err(Malformed::EndsEarly);
                }
                Ok(false)
            });
            walked.map_err(malformed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::basic::Type as PhysicalType;
    use parquet::file::metadata::ColumnChunkMetaData;
    use parquet::schema::types::{SchemaDescriptor, Type};

    use super::*;

    /// What is said of the indexes of a chunk that are these bytes.
    fn checked(offsets: &[u8], columns: &[u8]) -> Result<(), QuarantineReason> {
        let leaf = Type::primitive_type_builder("id", PhysicalType::INT64).build().unwrap();
        let root = Type::group_type_builder("schema").with_fields(vec![Arc::new(leaf)]);
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(root.build().unwrap())));
        let length = |bytes: &[u8]| Some(i32::try_from(bytes.len()).unwrap());
        let chunk = ColumnChunkMetaData::builder(schema.column(0))
            .set_offset_index_offset(Some(0))
            .set_offset_index_length(length(offsets))
            .set_column_index_offset(Some(i64::try_from(offsets.len()).unwrap()))
            .set_column_index_length(length(columns));
        let group = RowGroupMetaData::builder(schema).set_column_metadata(vec![chunk.build().unwrap()]);
        let bytes = Bytes::from([offsets, columns].concat());
        check_shape(&group.build().unwrap(), &[Extent { start: 0, bytes }])
    }

    #[test]
    fn lists_longer_than_their_bytes_are_refused_before_they_are_built() {
        // One place of a page: offset, size and first row.
        let place = [0x16, 8, 0x15, 8, 0x16, 0, 0];
        let offsets = [[0x19, 0x1c].as_slice(), &place, &[0]].concat();
        let columns = [0x19, 0x11, 2, 0];
        checked(&offsets, &columns).unwrap();
        // 2^31 of them.
        let huge = [0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
        assert!(checked(&huge, &columns).is_err());
        assert!(checked(&offsets, &[0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0]).is_err());
        // Places of a byte each would take more than three times as much as any can.
        let bare = [[0x19, 0xfc, 0x64].as_slice(), &[0; 101]].concat();
        assert!(checked(&bare, &columns).is_err());
    }
}
