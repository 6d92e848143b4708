//! How the row groups of the outputs are encoded.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::ArrowColumnChunk;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use super::OutputOptions;
use crate::merge::budget::to_usize;
use crate::merge::error::MergeError;
use crate::merge::row_group::{ColumnRows, encode_column, encoding, one_encoder_bytes};
use crate::merge::spawner::{Spawner, start_or_keep};
use crate::options::{Codec, SortField};
use crate::schema::with_stored_names;

/// What encoders that are at work at the same time may take of a row group's memory; how many there are at most.
const CONCURRENT_SHARE: u64 = 16;
const MAX_CONCURRENCY: usize = 16;

/// How row groups are encoded.
#[derive(Debug)]
pub(super) struct Format {
    /// The columns as the merge knows them.
    pub(super) schema: SchemaRef,
    /// The columns of the files, which may have other names.
    pub(super) parquet: Arc<SchemaDescriptor>,
    pub(super) properties: WriterPropertiesPtr,
    pub(super) spawner: Option<Spawner>,
    /// Columns that are ended at the same time.
    pub(super) concurrency: usize,
    /// Most bytes of a column that is decoded to count its NaNs while its row group is copied.
    pub(super) float_bytes: u64,
}

impl Format {
    pub(super) fn new(options: &OutputOptions) -> Result<Self, MergeError> {
        let parquet = parquet_schema(&with_stored_names(&options.schema))?;
        let encoders = options.row_group_bytes / CONCURRENT_SHARE / one_encoder_bytes(options.codec);
        Ok(Self {
            schema: Arc::clone(&options.schema),
            properties: properties(options, &parquet)?,
            parquet: Arc::new(parquet),
            spawner: options.spawner.clone(),
            float_bytes: options.row_group_bytes / 2,
            concurrency: match options.spawner {
                Some(_) => to_usize(encoders).clamp(1, MAX_CONCURRENCY),
                None => 1,
            },
        })
    }

    /// Encodes a column of a row group to its end, by the spawner if there is one.
    pub(super) fn end(
        &self,
        column: ColumnRows,
        (group, index): (usize, usize),
    ) -> Result<BoxFuture<'static, Result<Vec<ArrowColumnChunk>, MergeError>>, MergeError> {
        let ended = match column {
            ColumnRows::Ending(task, _) => return Ok(async { task.outcome().await? }.boxed()),
            ColumnRows::Encoded(column) => async { Ok(vec![column.close().map_err(encoding)?]) }.boxed(),
            ColumnRows::Raw(pieces) => {
                let field = self.schema.fields().get(index);
                let field = field.ok_or_else(|| MergeError::internal("more columns than fields"))?;
                let (parquet, properties) = (Arc::clone(&self.parquet), Arc::clone(&self.properties));
                encode_column(Arc::clone(field), parquet, properties, (group, index), pieces).boxed()
            }
        };
        start_or_keep(self.spawner.as_ref(), ended)
    }
}

/// The Parquet columns of these Arrow columns.
pub(super) fn parquet_schema(schema: &Schema) -> Result<SchemaDescriptor, MergeError> {
    let converted = ArrowSchemaConverter::new().convert(schema);
    converted.map_err(|e| MergeError::Invalid {
        detail: format!("schema cannot be written as Parquet: {e}"),
    })
}

fn properties(options: &OutputOptions, parquet: &SchemaDescriptor) -> Result<WriterPropertiesPtr, MergeError> {
    let metadata = options
        .key_value_metadata
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let metadata: Vec<_> = metadata.collect();
    let sorting = sorting_columns(options, parquet);
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("firnline {}", env!("CARGO_PKG_VERSION")))
        .set_compression(compression(options.codec)?)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata((!metadata.is_empty()).then_some(metadata))
        .set_sorting_columns((!sorting.is_empty()).then_some(sorting))
        .set_max_row_group_row_count(None);
    builder = options.encodings.apply(&options.schema, parquet, builder);
    if let Some(column) = delta_column(options, parquet) {
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(Arc::new(builder.build()))
}

/// The first key column, if it is a time or an integer: in order, its differences are small.
fn delta_column(options: &OutputOptions, parquet: &SchemaDescriptor) -> Option<ColumnPath> {
    let first = options.sort_order.first()?;
    let field = options.schema.field_with_name(&first.column).ok()?;
    matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..))
        .then(|| leaf_of(&options.schema, parquet, first))?
        .map(|leaf| parquet.column(leaf).path().clone())
}

/// The only leaf of a column of the sort order.
fn leaf_of(schema: &Schema, parquet: &SchemaDescriptor, field: &SortField) -> Option<usize> {
    let column = schema.index_of(&field.column).ok()?;
    let is_flat = parquet.root_schema().get_fields().get(column)?.is_primitive();
    let mut leaves = 0..parquet.num_columns();
    leaves.find(|leaf| is_flat && parquet.get_column_root_idx(*leaf) == column)
}

fn sorting_columns(options: &OutputOptions, parquet: &SchemaDescriptor) -> Vec<SortingColumn> {
    let columns = options.sort_order.iter().map_while(|field| {
        let leaf = leaf_of(&options.schema, parquet, field)?;
        Some(SortingColumn {
            column_idx: i32::try_from(leaf).ok()?,
            descending: field.descending,
            nulls_first: field.nulls_first,
        })
    });
    columns.collect()
}

pub(super) fn compression(codec: Codec) -> Result<Compression, MergeError> {
    let (compression, available) = match codec {
        Codec::None => (Compression::UNCOMPRESSED, true),
        Codec::Snappy => (Compression::SNAPPY, cfg!(feature = "snap")),
        Codec::Lz4 => (Compression::LZ4_RAW, cfg!(feature = "lz4")),
        Codec::Zstd(level) => {
            let level = ZstdLevel::try_new(level).map_err(|e| MergeError::Invalid { detail: e.to_string() })?;
            (Compression::ZSTD(level), cfg!(feature = "zstd"))
        }
    };
    if available {
        return Ok(compression);
    }
    Err(MergeError::Invalid {
        detail: format!("the codec of the outputs is not compiled in. codec=`{codec:?}`"),
    })
}
