//! How the columns of the outputs are encoded, by how all inputs hold them. Pure.
//!
//! A dictionary is worth its hashing only where values repeat. Those who wrote the inputs have tried, unless they were
//! told not to: where they gave a dictionary up, or where a large one takes most of a column, values hardly repeat. Small
//! dictionaries tell nothing: what is new in each of many small files may still be the same few values. But integers that
//! hardly repeat within a file and lie close to each other take no more bits packed than as numbers of dictionary entries.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::statistics::Statistics;
use parquet::schema::types::SchemaDescriptor;

use super::budget::natural;

/// Compressed bytes from which on a dictionary tells of the values: a tenth of what makes writers give it up, usually.
const LARGE_DICTIONARY_BYTES: u64 = 96 << 10;
/// Fewer values do not tell whether they repeat.
const TELLING_VALUES: u64 = 1_024;
/// Integers are close to each other if there is room for so many times as many, in powers of two.
const CLOSE_BITS: u32 = 7;

/// Writers that try a dictionary unless they are told not to, and leave no trace of one that they have given up. Of others
/// a column without one tells nothing.
const WITHOUT_TRACE: [&str; 4] = ["DuckDB", "Polars", "firnline", "parquet-mr"];

/// What the inputs tell of how their columns are encoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Encodings {
    /// By top-level column, of each of its leaves: names below that differ from writer to writer.
    columns: BTreeMap<String, Vec<Evidence>>,
}

/// Compressed bytes of the chunks of a leaf column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Evidence {
    /// Of those whose values may repeat.
    repeating: u64,
    /// Of these those of integers that hardly repeat and lie close to each other.
    close: u64,
    /// Of those whose values hardly do.
    scattered: u64,
}

impl Encodings {
    /// Takes note of an input.
    pub(super) fn add(&mut self, footer: &ParquetMetaData) {
        let parquet = footer.file_metadata().schema_descr();
        let writer = footer.file_metadata().created_by().unwrap_or_default();
        let leaves_no_trace = WITHOUT_TRACE.iter().any(|name| writer.starts_with(name));
        for (root, leaves) in roots(parquet) {
            let name = root.to_owned();
            let columns = self.columns.entry(name).or_default();
            columns.resize(columns.len().max(leaves.len()), Evidence::default());
            for group in footer.row_groups() {
                for (evidence, leaf) in columns.iter_mut().zip(leaves.clone()) {
                    let chunk = chunk(group, leaf);
                    if let Some(chunk) = chunk.filter(|chunk| leaves_no_trace || has_dictionary(chunk)) {
                        evidence.add(chunk);
                    }
                }
            }
        }
    }

    /// Sets how the columns of `schema`, which may have other names in `parquet`, are encoded, where it is known that a
    /// dictionary does not pay.
    pub(super) fn apply(
        &self,
        schema: &Schema,
        parquet: &SchemaDescriptor,
        properties: WriterPropertiesBuilder,
    ) -> WriterPropertiesBuilder {
        let mut properties = properties;
        for (field, (_, leaves)) in schema.fields().iter().zip(roots(parquet)) {
            let evidence = self.columns.get(field.name()).into_iter().flatten();
            for (evidence, leaf) in evidence.zip(leaves) {
                if evidence.is_repetitive() {
                    continue;
                }
                let column = parquet.column(leaf);
                properties = properties.set_column_dictionary_enabled(column.path().clone(), false);
                if is_integer(column.physical_type()) {
                    // Packs values into the bits that they need, which leaves the codec less to do.
                    properties = properties.set_column_encoding(column.path().clone(), Encoding::DELTA_BINARY_PACKED);
                }
            }
        }
        properties
    }
}

impl Evidence {
    fn add(&mut self, chunk: &ColumnChunkMetaData) {
        let Some(pages) = chunk.page_encoding_stats_mask() else {
            return;
        };
        let bytes = natural(chunk.compressed_size());
        let dictionary = chunk
            .dictionary_page_offset()
            .filter(|_| pages.is_only(Encoding::RLE_DICTIONARY) || pages.is_only(Encoding::PLAIN_DICTIONARY));
        let repeats = dictionary.is_some_and(|start| {
            let dictionary = natural(chunk.data_page_offset()).saturating_sub(natural(start));
            dictionary < LARGE_DICTIONARY_BYTES || dictionary <= bytes / 2
        });
        let side = if repeats {
            &mut self.repeating
        } else {
            &mut self.scattered
        };
        *side = side.saturating_add(bytes);
        if repeats && dictionary.is_some_and(|start| are_close(chunk, natural(start))) {
            self.close = self.close.saturating_add(bytes);
        }
    }

    /// Whether values repeat, as far as is known, so that a dictionary pays.
    fn is_repetitive(self) -> bool {
        let others = self.repeating.saturating_sub(self.close);
        self.scattered.saturating_add(self.close) <= others
    }
}

fn is_integer(physical: PhysicalType) -> bool {
    matches!(physical, PhysicalType::INT32 | PhysicalType::INT64)
}

/// Whether a chunk, with a dictionary at `start`, is of integers that hardly repeat and lie close to each other.
fn are_close(chunk: &ColumnChunkMetaData, start: u64) -> bool {
    let (least, greatest) = match chunk.statistics() {
        Some(Statistics::Int32(s)) => match (s.min_opt(), s.max_opt()) {
            (Some(min), Some(max)) => (i64::from(*min), i64::from(*max)),
            _ => return false,
        },
        Some(Statistics::Int64(s)) => match (s.min_opt(), s.max_opt()) {
            (Some(min), Some(max)) => (*min, *max),
            _ => return false,
        },
        _ => return false,
    };
    let nulls = chunk.statistics().and_then(Statistics::null_count_opt).unwrap_or(0);
    let values = natural(chunk.num_values()).saturating_sub(nulls);
    if chunk.column_descr().max_rep_level() > 0 || values < TELLING_VALUES {
        return false;
    }
    // A bit tells of each value whether it is null; numbers of entries have the bits that the count of entries needs.
    let levels = if nulls > 0 { natural(chunk.num_values()) / 8 } else { 0 };
    let dictionary = natural(chunk.data_page_offset()).saturating_sub(start);
    let numbers = natural(chunk.compressed_size()).saturating_sub(dictionary.saturating_add(levels));
    let quarter_bits = u64::from(u128::from(values.min(1 << 31)).pow(4).ilog2());
    let hardly_repeat = numbers.saturating_mul(4 * 8) >= quarter_bits.saturating_mul(values);
    let room = greatest.abs_diff(least).checked_ilog2().unwrap_or(0);
    hardly_repeat && room <= values.ilog2() + CLOSE_BITS
}

/// The names of the top-level columns with the numbers of their leaves.
fn roots(parquet: &SchemaDescriptor) -> Vec<(&str, std::ops::Range<usize>)> {
    let mut roots: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
    let fields = parquet.root_schema().get_fields();
    let mut last = None;
    for leaf in 0..parquet.num_columns() {
        let root = parquet.get_column_root_idx(leaf);
        match roots.last_mut() {
            Some((_, leaves)) if last == Some(root) => leaves.end = leaf + 1,
            _ => roots.extend(fields.get(root).map(|field| (field.name(), leaf..leaf + 1))),
        }
        last = Some(root);
    }
    roots
}

fn has_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    chunk.dictionary_page_offset().is_some()
}

fn chunk(group: &RowGroupMetaData, leaf: usize) -> Option<&ColumnChunkMetaData> {
    group.columns().get(leaf)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use parquet::arrow::{ArrowWriter, parquet_to_arrow_schema};
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;
    use parquet::schema::types::ColumnPath;

    use super::*;

    fn footer(rows: std::ops::Range<i64>, properties: WriterProperties) -> ParquetMetaData {
        let scattered = |row: i64| row.wrapping_mul(0x1e37_79b9_7f4a_7c15);
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "unique",
                Arc::new(Int64Array::from_iter_values(rows.clone().map(scattered))),
            ),
            (
                "kind",
                Arc::new(StringArray::from_iter_values(
                    rows.clone().map(|row| format!("kind {}", row % 9)),
                )),
            ),
            (
                "price",
                Arc::new(Float64Array::from_iter_values(
                    rows.clone()
                        .map(|row| f64::from_bits(scattered(row).cast_unsigned() & !(0x7ff << 52))),
                )),
            ),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                    rows.clone()
                        .map(|row| Some(vec![Some(i32::try_from(row % 5).unwrap())])),
                )),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let bytes = bytes::Bytes::from(writer.into_inner().unwrap());
        ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap()
    }

    /// Whether a column gets a dictionary, and how it is encoded else.
    fn chosen(encodings: &Encodings, footer: &ParquetMetaData, column: &[&str]) -> (bool, Option<Encoding>) {
        let parquet = footer.file_metadata().schema_descr();
        let schema = parquet_to_arrow_schema(parquet, None).unwrap();
        let properties = encodings.apply(&schema, parquet, WriterProperties::builder()).build();
        let path = ColumnPath::new(column.iter().map(|name| (*name).to_owned()).collect());
        (properties.dictionary_enabled(&path), properties.encoding(&path))
    }

    #[test]
    fn dictionaries_are_for_values_that_repeat() {
        let mut encodings = Encodings::default();
        let inputs = [0..20_000, 20_000..40_000].map(|rows| footer(rows, WriterProperties::default()));
        for input in &inputs {
            encodings.add(input);
        }
        let chosen = |column: &[&str]| chosen(&encodings, &inputs[0], column);
        assert_eq!(chosen(&["kind"]), (true, None));
        assert_eq!(chosen(&["list", "list", "item"]), (true, None));
        assert_eq!(chosen(&["unique"]), (false, Some(Encoding::DELTA_BINARY_PACKED)));
        assert_eq!(chosen(&["price"]), (false, None));
    }

    /// A footer of 20,000 integers below `limit`, times `stride`; every tenth of `m` is null.
    fn integers(limit: i64, stride: i64) -> ParquetMetaData {
        let value = |row: i64| (row.wrapping_mul(0x1e37_79b9_7f4a_7c15) >> 3).rem_euclid(limit) * stride;
        let values = (0..20_000).map(|row| i32::try_from(value(row)).unwrap());
        let nullable = values
            .clone()
            .zip(0..)
            .map(|(value, row)| (row % 10 > 0).then_some(value));
        let columns: [(&str, ArrayRef, bool); 2] = [
            ("n", Arc::new(Int32Array::from_iter_values(values.clone())), false),
            ("m", Arc::new(nullable.collect::<Int32Array>()), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = bytes::Bytes::from(writer.into_inner().unwrap());
        ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap()
    }

    #[test]
    fn integers_that_hardly_repeat_and_lie_close_are_packed() {
        let packed = (false, Some(Encoding::DELTA_BINARY_PACKED));
        for (limit, stride, expected) in [
            (200_000, 1, packed),
            (60_000, 1, packed),
            // They repeat.
            (1_000, 1, (true, None)),
            (8_000, 1, (true, None)),
            // They lie far from each other.
            (60_000, 1_000, (true, None)),
        ] {
            let input = integers(limit, stride);
            let mut encodings = Encodings::default();
            encodings.add(&input);
            for column in ["n", "m"] {
                assert_eq!(
                    chosen(&encodings, &input, &[column]),
                    expected,
                    "{column} {limit} {stride}"
                );
            }
        }
    }

    #[test]
    fn what_was_given_up_by_most_of_the_bytes_is_not_tried_again() {
        let small = WriterProperties::builder().set_dictionary_page_size_limit(64).build();
        let (gave_up, kept) = (footer(0..5_000, small), footer(0..50, WriterProperties::default()));
        let mut encodings = Encodings::default();
        encodings.add(&kept);
        encodings.add(&gave_up);
        assert!(
            !chosen(&encodings, &kept, &["kind"]).0,
            "all but the first values are outside"
        );
        let mut encodings = Encodings::default();
        encodings.add(&kept);
        assert!(chosen(&encodings, &kept, &["kind"]).0);
    }

    #[test]
    fn a_writer_that_was_told_to_use_no_dictionaries_tells_nothing() {
        for (writer, tries) in [("parquet-rs version 60", true), ("DuckDB version v1.5", false)] {
            let properties = WriterProperties::builder().set_dictionary_enabled(false);
            let input = footer(0..20_000, properties.set_created_by(writer.to_owned()).build());
            let mut encodings = Encodings::default();
            encodings.add(&input);
            assert_eq!(chosen(&encodings, &input, &["kind"]).0, tries, "{writer}");
        }
    }

    #[test]
    fn without_evidence_nothing_is_changed() {
        let input = footer(0..10, WriterProperties::default());
        assert_eq!(chosen(&Encodings::default(), &input, &["unique"]), (true, None));
    }
}
