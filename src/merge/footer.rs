//! Reading the footer of a source in one request, and checking what it claims.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::basic::{Compression, Type as PhysicalType};
use parquet::file::metadata::{
    ColumnChunkMetaData, KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};

use super::decode::guarded;
use super::error::SourceError;
use super::fetch::{Extent, fetch_ranges, fetch_tail, no_etag};
use super::forms;
use super::thrift::{BINARY, LIST, Malformed, STRUCT, Walker};
use crate::ids::Sha256Digest;
use crate::naming::ETag;
use crate::quarantine::QuarantineReason;
use crate::schema;

/// What the first request reads of a source's end.
const TAIL_BYTES: u64 = 64 << 10;
/// Longest footer that is read.
const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// Deepest nesting of a schema, in which a list or a map takes two levels; decoding recurses that deep. Columns may nest to
/// half of it (`schema::canonical`).
const MAX_SCHEMA_DEPTH: u64 = 130;
/// Most nodes of a schema.
const MAX_SCHEMA_NODES: u64 = 20_000;
/// Most row groups: Parquet's ordinals are 16 bits wide.
const MAX_ROW_GROUPS: u64 = 32_767;
/// Most memory that a footer takes once it is parsed, by what it lists; read, it takes up to twice its length beside.
const MAX_PARSED_BYTES: u64 = 40 << 20;
/// About what a node of the schema takes, as Parquet and as Arrow have it.
const NODE_BYTES: u64 = 512;
/// Longest value of a fixed length: each null of such a column takes as much.
const MAX_FIXED_BYTES: u64 = 1 << 20;
/// Most rows per byte of a file: even one run of a constant is denser only by intent.
const MAX_ROWS_PER_BYTE: u64 = 1 << 16;
/// Length and magic after the footer.
const TRAILER: usize = 8;

/// The footer of a source, checked.
#[derive(Clone, Debug)]
pub struct SourceFooter {
    /// Where the source lies.
    pub location: Path,
    /// Its exact bytes.
    pub size: u64,
    /// The entity tag of the content that was read.
    pub etag: ETag,
    /// SHA-256 of the footer with its length and magic.
    pub digest: Sha256Digest,
    /// Its rows.
    pub rows: u64,
    /// Its schema, from the Parquet schema alone and without metadata; see also [`named_by`](Self::named_by).
    pub schema: SchemaRef,
    /// The footer as Parquet has it.
    pub metadata: Arc<ParquetMetaData>,
    /// The whole file, if the first read covered it (at most 64 KiB), so that merging needs no other.
    pub content: Option<Bytes>,
}

impl SourceFooter {
    /// Lets go of the file's content: it is read again when it is merged.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.content = None;
        self
    }

    /// The same with the names that `table` has for the ids of columns: those that were renamed there since the file was
    /// written. Ids are metadata `PARQUET:field_id` in `table`. Only for files whose ids are those of the table.
    ///
    /// # Errors
    ///
    /// [`QuarantineReason::SchemaDrift`] naming a column that the table has under another id.
    pub fn named_by(mut self, table: &Schema) -> Result<Self, QuarantineReason> {
        self.schema = schema::named_by_ids(self.metadata.file_metadata(), &self.schema, table)?;
        Ok(self)
    }

    /// About how many bytes of memory this footer takes.
    pub fn memory_size(&self) -> u64 {
        let content = self.content.as_ref().map_or(0, Bytes::len);
        self.metadata.memory_size().saturating_add(content) as u64
    }
}

/// Reads the footer of the source at `location`: with one request, or two if the footer is long.
///
/// With `if_match` only content with that entity tag is read. Dropping the future leaves nothing behind.
///
/// # Errors
///
/// [`SourceError::Bad`]: set the source aside. [`SourceError::Unavailable`]: try again later, unless its kind is
/// `Unsupported`, which says that the store cannot be used.
pub async fn read_footer(
    store: &dyn ObjectStore,
    location: &Path,
    if_match: Option<&ETag>,
) -> Result<SourceFooter, SourceError> {
    let (meta, mut tail) = fetch_tail(store, location, if_match, TAIL_BYTES).await?;
    let etag = meta.e_tag.as_ref().map(ETag::new).ok_or_else(|| no_etag(location))?;
    let footer_start = footer_start(&tail, meta.size)?;
    if footer_start < tail.start {
        let range = footer_start..tail.start;
        let head = fetch_ranges(store, location, &etag, std::slice::from_ref(&range)).await?;
        let length = usize::try_from(meta.size - footer_start).unwrap_or(0);
        let mut bytes: Vec<u8> = Vec::with_capacity(length);
        for extent in head {
            bytes.extend_from_slice(&extent.bytes);
        }
        bytes.extend_from_slice(&tail.bytes);
        tail = Extent {
            start: footer_start,
            bytes: bytes.into(),
        };
    }
    let footer = tail
        .slice(&(footer_start..meta.size))
        .ok_or_else(|| QuarantineReason::corrupt("footer out of reach"))?;
    let metadata = parse(&footer, footer_start)?;
    let schema = guarded("the schema broke the parser", || {
        schema::from_parquet(metadata.file_metadata())
    })??;
    Ok(SourceFooter {
        location: location.clone(),
        size: meta.size,
        etag,
        digest: Sha256Digest::of(&footer),
        rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
        schema,
        metadata: Arc::new(metadata),
        content: (tail.start == 0).then_some(tail.bytes),
    })
}

/// Where the footer starts, from the last eight bytes.
fn footer_start(tail: &Extent, size: u64) -> Result<u64, QuarantineReason> {
    // `PAR1` in front, length and magic behind.
    if size < 4 + TRAILER as u64 {
        return Err(QuarantineReason::corrupt("too short to be Parquet"));
    }
    let trailer = tail.bytes.last_chunk::<TRAILER>();
    let [a, b, c, d, magic @ ..] = trailer.ok_or_else(|| QuarantineReason::corrupt("too short to be Parquet"))?;
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err(QuarantineReason::Encrypted),
        _ => return Err(QuarantineReason::corrupt("no Parquet magic at the end")),
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    if length > MAX_FOOTER_BYTES {
        return Err(too_large("footer bytes", length, MAX_FOOTER_BYTES));
    }
    size.checked_sub(TRAILER as u64 + length)
        .filter(|start| *start >= 4)
        .ok_or_else(|| QuarantineReason::corrupt("footer longer than the file"))
}

/// Parses a footer that ends in length and magic, after its claims have been checked.
fn parse(footer: &[u8], footer_start: u64) -> Result<ParquetMetaData, QuarantineReason> {
    let thrift = footer.get(..footer.len().saturating_sub(TRAILER)).unwrap_or_default();
    check_shape(thrift)?;
    let metadata = guarded("the footer broke the parser", || {
        ParquetMetaDataReader::decode_metadata(thrift)
    })?
    .map_err(QuarantineReason::corrupt)?;
    check_claims(&metadata, footer_start)?;
    Ok(metadata)
}

/// Checks counts and nesting on the bytes, before anything is allocated by them.
fn check_shape(thrift: &[u8]) -> Result<(), QuarantineReason> {
    let mut shape = Shape::default();
    let mut walker = Walker::new(thrift);
    walker
        .fields(forms::FILE_METADATA, |walker, id, kind| match (id, kind) {
            (2, LIST) => walk_schema(walker, &mut shape).map(|()| true),
            (4, LIST) => walk_row_groups(walker, &mut shape).map(|()| true),
            (8, STRUCT) => {
                shape.encrypted = true;
                Ok(false)
            }
            _ => Ok(false),
        })
        .map_err(|e| QuarantineReason::corrupt(format!("footer {e}")))?;
    if shape.encrypted {
        return Err(QuarantineReason::Encrypted);
    }
    for (what, value, limit) in [
        ("schema depth", shape.depth, MAX_SCHEMA_DEPTH),
        ("schema nodes", shape.nodes, MAX_SCHEMA_NODES),
        ("row groups", shape.row_groups, MAX_ROW_GROUPS),
        (
            "bytes of a parsed footer",
            shape.parsed(thrift.len(), walker.skipped()),
            MAX_PARSED_BYTES,
        ),
    ] {
        if value > limit {
            return Err(too_large(what, value, limit));
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Shape {
    depth: u64,
    nodes: u64,
    row_groups: u64,
    chunks: u64,
    /// Bytes of the paths of all leaves: each has the names of all that it lies in.
    paths: u64,
    /// Elements of other lists in row groups.
    elements: u64,
    encrypted: bool,
}

impl Shape {
    /// About how many bytes a footer of `length` bytes takes once it is parsed, which has so many elements in lists
    /// that are no schema and no row groups.
    fn parsed(&self, length: usize, elements: u64) -> u64 {
        let size = |count: u64, bytes: usize| count.saturating_mul(bytes as u64);
        // Texts and statistics, as they are.
        (length as u64)
            .saturating_add(self.paths)
            .saturating_add(self.nodes.saturating_mul(NODE_BYTES))
            .saturating_add(size(self.row_groups, size_of::<RowGroupMetaData>()))
            .saturating_add(size(self.chunks, size_of::<ColumnChunkMetaData>()))
            .saturating_add(size(self.elements, size_of::<i64>()))
            .saturating_add(size(elements.saturating_sub(self.elements), size_of::<KeyValue>()))
    }
}

fn walk_schema(walker: &mut Walker<'_>, shape: &mut Shape) -> Result<(), Malformed> {
    let (count, kind) = walker.list()?;
    if kind != STRUCT {
        return Err(Malformed::Unknown);
    }
    shape.nodes += count as u64;
    // Children still to come, and the bytes of the path, per level.
    let mut open: Vec<(u64, u64)> = Vec::new();
    for _ in 0..count {
        let (mut children, mut name) = (0, size_of::<String>());
        walker.fields(forms::SCHEMA_ELEMENT, |walker, id, kind| match (id, kind) {
            (4, BINARY) => {
                name += walker.binary()?;
                Ok(true)
            }
            (5, _) => {
                children = u64::try_from(walker.int(kind)?).map_err(|_| Malformed::Unknown)?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        let path = open.last().map_or(0, |(_, path)| *path).saturating_add(name as u64);
        if let Some((left, _)) = open.last_mut() {
            *left = left.saturating_sub(1);
        }
        if children > 0 {
            open.push((children, path));
            // The root is no level of nesting.
            shape.depth = shape.depth.max(open.len() as u64 - 1);
        } else {
            shape.paths = shape.paths.saturating_add(path);
        }
        while open.last().is_some_and(|(left, _)| *left == 0) {
            open.pop();
        }
        // Walking on would only use memory; the cap is reported by the caller.
        if shape.depth > MAX_SCHEMA_DEPTH {
            open.truncate(1);
        }
    }
    Ok(())
}

fn walk_row_groups(walker: &mut Walker<'_>, shape: &mut Shape) -> Result<(), Malformed> {
    let (count, kind) = walker.list()?;
    if kind != STRUCT {
        return Err(Malformed::Unknown);
    }
    shape.row_groups += count as u64;
    let before = walker.skipped();
    for _ in 0..count {
        walker.fields(forms::ROW_GROUP, |walker, id, kind| {
            if (id, kind) != (1, LIST) {
                return Ok(false);
            }
            let (chunks, kind) = walker.list()?;
            if kind != STRUCT {
                return Err(Malformed::Unknown);
            }
            shape.chunks += chunks as u64;
            for _ in 0..chunks {
                walker.fields(forms::COLUMN_CHUNK, |_, id, kind| {
                    // Column chunk: crypto metadata.
                    shape.encrypted |= (id, kind) == (8, STRUCT);
                    Ok(false)
                })?;
            }
            Ok(true)
        })?;
    }
    shape.elements += walker.skipped() - before;
    Ok(())
}

/// Checks that numbers agree with each other and with the file.
fn check_claims(metadata: &ParquetMetaData, footer_start: u64) -> Result<(), QuarantineReason> {
    let corrupt = |detail: &str| QuarantineReason::corrupt(detail);
    let natural = |number: i64| u64::try_from(number).map_err(|_| corrupt("a count in the footer is negative"));
    let rows = natural(metadata.file_metadata().num_rows())?;
    let limit = footer_start.saturating_mul(MAX_ROWS_PER_BYTE);
    if rows > limit {
        return Err(too_large("rows for its bytes", rows, limit));
    }
    let columns = metadata.file_metadata().schema_descr().columns();
    for column in columns {
        let length = u64::try_from(column.type_length()).unwrap_or(0);
        if column.physical_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY && length > MAX_FIXED_BYTES {
            return Err(too_large("bytes of a fixed length", length, MAX_FIXED_BYTES));
        }
    }
    let (mut sum, mut bytes) = (0_u64, 0_u64);
    for group in metadata.row_groups() {
        sum = sum.saturating_add(natural(group.num_rows())?);
        if group.num_columns() != columns.len() {
            return Err(corrupt("a row group lacks columns"));
        }
        for chunk in group.columns() {
            codec_available(chunk.compression())?;
            if chunk.file_path().is_some() {
                return Err(corrupt("a column chunk lies in another file"));
            }
            natural(chunk.num_values())?;
            natural(chunk.uncompressed_size())?;
            let length = natural(chunk.compressed_size())?;
            let data = natural(chunk.data_page_offset())?;
            let start = chunk.dictionary_page_offset().map_or(Ok(data), natural)?;
            let end = start
                .checked_add(length)
                .ok_or_else(|| corrupt("a column chunk overflows"))?;
            // Some writers end a table without rows with a row group of dictionaries alone; it is never read.
            let read = group.num_rows() > 0;
            if read && (start < 4 || data < start || end > footer_start) {
                return Err(corrupt("a column chunk lies outside the file"));
            }
            bytes = bytes.saturating_add(length);
        }
    }
    if sum != rows {
        return Err(corrupt("the row groups do not add up to the file's rows"));
    }
    if bytes > footer_start {
        return Err(corrupt("the column chunks overlap"));
    }
    Ok(())
}

fn codec_available(codec: Compression) -> Result<(), QuarantineReason> {
    let (name, feature, available) = match codec {
        Compression::UNCOMPRESSED => return Ok(()),
        Compression::SNAPPY => ("snappy", "snap", cfg!(feature = "snap")),
        Compression::GZIP(_) => ("gzip", "gzip", cfg!(feature = "gzip")),
        Compression::BROTLI(_) => ("brotli", "brotli", cfg!(feature = "brotli")),
        Compression::LZ4 | Compression::LZ4_RAW => ("lz4", "lz4", cfg!(feature = "lz4")),
        Compression::ZSTD(_) => ("zstd", "zstd", cfg!(feature = "zstd")),
        Compression::LZO => ("lzo", "none", false),
    };
    if available {
        return Ok(());
    }
    Err(QuarantineReason::CodecUnavailable {
        codec: name.to_owned(),
        feature: feature.to_owned(),
    })
}

pub(super) fn too_large(what: &str, value: u64, limit: u64) -> QuarantineReason {
    QuarantineReason::TooLarge {
        what: what.to_owned(),
        value,
        limit,
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::metadata::FileMetaData;
    use parquet::schema::types::{SchemaDescriptor, Type};

    use super::*;

    /// A footer's Thrift: a list of schema elements with these numbers of children, then row groups of one
    /// empty column chunk list each.
    fn thrift(children: &[u32], row_groups: u32) -> Vec<u8> {
        let varint = |out: &mut Vec<u8>, mut value: u32| {
            while value >= 0x80 {
                out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
                value >>= 7;
            }
            out.push(u8::try_from(value).unwrap());
        };
        let mut out = vec![0x29, 0xfc];
        varint(&mut out, u32::try_from(children.len()).unwrap());
        for children in children {
            out.push(0x55);
            varint(&mut out, children * 2);
            out.push(0);
        }
        out.extend([0x29, 0xfc]);
        varint(&mut out, row_groups);
        for _ in 0..row_groups {
            out.extend([0x19, 0x0c, 0]);
        }
        out.push(0);
        out
    }

    #[test]
    fn claims_are_refused_before_anything_is_built() {
        let deep = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert_eq!(check_shape(&thrift(&deep(65), 0)), Ok(()));
        let refused = |what, value, limit| Err(too_large(what, value, limit));
        assert_eq!(check_shape(&thrift(&deep(132), 0)), refused("schema depth", 131, 130));
        assert_eq!(
            check_shape(&thrift(&deep(15_000), 0)),
            refused("schema depth", 131, 130)
        );
        // A long name of a group, which the paths of all its leaves repeat.
        let mut named = vec![0x29, 0xfc, 0xe9, 0x07, 0x48, 0x80, 0x80, 0x04];
        named.extend(vec![b'a'; 1 << 16]);
        named.extend([0x15, 0xd0, 0x0f, 0]);
        named.extend(vec![0; 1000]);
        named.push(0);
        let Err(QuarantineReason::TooLarge { what, value, .. }) = check_shape(&named) else {
            panic!("{:?}", check_shape(&named));
        };
        assert!(
            what == "bytes of a parsed footer" && value > 1000 << 16,
            "{what} {value}"
        );
        // Key-value pairs that are none, each a byte here and 48 in memory.
        let mut pairs = vec![0x59, 0xfc, 0x80, 0x80, 0x80, 0x01];
        pairs.extend(vec![0; 2 << 20]);
        pairs.push(0);
        let refused_pairs = check_shape(&pairs);
        assert!(
            matches!(refused_pairs, Err(QuarantineReason::TooLarge { .. })),
            "{refused_pairs:?}"
        );
        assert_eq!(
            check_shape(&thrift(&vec![0; 20_001], 0)),
            refused("schema nodes", 20_001, 20_000)
        );
        assert_eq!(check_shape(&thrift(&[1, 0], 32_767)), Ok(()));
        assert_eq!(
            check_shape(&thrift(&[1, 0], 32_768)),
            refused("row groups", 32_768, 32_767)
        );
    }

    #[test]
    fn an_encryption_algorithm_in_the_footer_means_encrypted() {
        // 2: schema of one, 8: a struct.
        let bytes = [0x29, 0x1c, 0x00, 0x6c, 0x00, 0x00];
        assert_eq!(check_shape(&bytes), Err(QuarantineReason::Encrypted));
    }

    #[test]
    fn a_row_group_without_rows_needs_no_data_pages() {
        // As pyarrow writes an empty table: dictionary pages, and 0 for the offset of the data.
        let claims = |rows: i64| {
            let leaf = Type::primitive_type_builder("id", PhysicalType::INT64).build().unwrap();
            let root = Type::group_type_builder("schema")
                .with_fields(vec![Arc::new(leaf)])
                .build();
            let schema = Arc::new(SchemaDescriptor::new(Arc::new(root.unwrap())));
            let chunk = ColumnChunkMetaData::builder(schema.column(0))
                .set_dictionary_page_offset(Some(4))
                .set_data_page_offset(0)
                .set_total_compressed_size(15);
            let group = RowGroupMetaData::builder(Arc::clone(&schema))
                .set_num_rows(rows)
                .set_column_metadata(vec![chunk.build().unwrap()]);
            let file = FileMetaData::new(2, rows, None, None, schema, None);
            check_claims(&ParquetMetaData::new(file, vec![group.build().unwrap()]), 100)
        };
        assert_eq!(claims(0), Ok(()));
        let outside = QuarantineReason::corrupt("a column chunk lies outside the file");
        assert_eq!(claims(1), Err(outside));
    }
}
