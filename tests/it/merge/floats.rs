//! Readers order NaN and zeros in different ways; no bounds that we write let any of them skip a row it must see.

use std::sync::Arc;

use firnline::arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StructArray};
use firnline::arrow::buffer::OffsetBuffer;
use firnline::arrow::datatypes::{DataType, Field};
use firnline::object_store::ObjectStoreExt;
use firnline::object_store::path::Path;
use firnline::parquet::file::metadata::PageIndexPolicy;
use firnline::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use firnline::parquet::file::page_index::column_index::ColumnIndexMetaData;
use firnline::parquet::file::properties::WriterProperties;
use firnline::parquet::file::statistics::Statistics;
use firnline::{ColumnMetrics, SortField};
use futures::executor::block_on;

use super::support::{encode, input, memory, merge, options, put};

const NAN: f64 = f64::NAN;

/// What is known of a leaf column of a row group: bounds, nulls and NaNs by the footer, bounds by page.
#[derive(Debug, PartialEq)]
struct Known {
    bounds: Option<(f64, f64)>,
    nulls: Option<u64>,
    nans: Option<u64>,
    pages: Option<Vec<(f64, f64)>>,
}

fn known(bounds: Option<(f64, f64)>, nulls: u64, nans: u64) -> Known {
    Known {
        bounds,
        nulls: Some(nulls),
        nans: Some(nans),
        pages: bounds.map(|bounds| vec![bounds]),
    }
}

/// Merges one file of the columns, sorted by `k`, into row groups of `rows`.
fn merged(columns: Vec<(&str, ArrayRef)>, rows: usize) -> (ParquetMetaData, Vec<ColumnMetrics>) {
    let count = i64::try_from(columns[0].1.len()).unwrap();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let columns = std::iter::once(("k", keys)).chain(columns);
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, name != "k"))).unwrap();
    block_on(async {
        let store = memory();
        let path = put(&store, "in/a", encode(&batch, WriterProperties::default())).await;
        let inputs = vec![input(&store, &path, "w", 1).await];
        let options = options(&[SortField::ascending("k")]).with_max_row_group_rows(rows);
        let mut output = merge(&store, inputs, options, batch.schema()).await.unwrap();
        let file = output.files.remove(0);
        let bytes = store
            .get(&Path::parse(&file.path).unwrap())
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        (reader.parse_and_finish(&bytes).unwrap(), file.columns)
    })
}

fn known_of(metadata: &ParquetMetaData, group: usize, leaf: usize) -> Known {
    let index = metadata.page_index_for_row_group(group);
    assert!(index.offset_index(leaf).is_some(), "pages can always be found");
    let statistics = metadata.row_group(group).column(leaf).statistics().unwrap();
    let bounds = match statistics {
        Statistics::Double(s) => s.min_opt().copied().zip(s.max_opt().copied()),
        Statistics::Float(s) => s
            .min_opt()
            .map(|v| f64::from(*v))
            .zip(s.max_opt().map(|v| f64::from(*v))),
        other => panic!("{other:?}"),
    };
    let pages = index.column_index(leaf).map(|index| match index {
        ColumnIndexMetaData::DOUBLE(pages) => (pages.min_values().iter().copied())
            .zip(pages.max_values().iter().copied())
            .collect(),
        ColumnIndexMetaData::FLOAT(pages) => (pages.min_values().iter().map(|v| f64::from(*v)))
            .zip(pages.max_values().iter().map(|v| f64::from(*v)))
            .collect(),
        other => panic!("{other:?}"),
    });
    Known {
        bounds,
        nulls: statistics.null_count_opt(),
        nans: statistics.nan_count_opt(),
        pages,
    }
}

#[test]
fn only_chunks_without_nan_have_bounds() {
    let doubles = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let list = |offsets: Vec<i32>, values: ArrayRef| {
        let offsets = OffsetBuffer::new(offsets.into());
        Arc::new(ListArray::new(Arc::clone(&item), offsets, values, None)) as ArrayRef
    };
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    // A NaN in each place of the first row group, none in the second.
    let inner = list(vec![0, 2, 2, 3, 4], doubles(vec![6.0, NAN, 7.0, 8.0]));
    let number = doubles(vec![NAN, 1.0, 2.0, 3.0]);
    let nested = StructArray::from(vec![
        (field("x", &number), Arc::clone(&number)),
        (field("l", &inner), inner),
    ]);
    let (metadata, columns) = merged(
        vec![
            (
                "f",
                Arc::new(Float64Array::from(vec![Some(NAN), Some(5.0), None, Some(9.0)])),
            ),
            ("only", doubles(vec![NAN, NAN, NAN, NAN])),
            ("g", Arc::new(Float32Array::from(vec![1.0, f32::NAN, -2.5, 2.5]))),
            ("nested", Arc::new(nested)),
            ("none", Arc::new(Float64Array::from(vec![None, None, Some(1.0), None]))),
        ],
        2,
    );
    assert_eq!(metadata.num_row_groups(), 2);
    let all: Vec<(Known, Known)> = (1..=6)
        .map(|leaf| (known_of(&metadata, 0, leaf), known_of(&metadata, 1, leaf)))
        .collect();
    let nothing_at_all = Known {
        bounds: None,
        nulls: Some(2),
        nans: None,
        // The bounds of a page of nulls are there, and mean nothing.
        pages: Some(vec![(0.0, 0.0)]),
    };
    let expected = vec![
        (known(None, 0, 1), known(Some((9.0, 9.0)), 1, 0)),
        (known(None, 0, 2), known(None, 0, 2)),
        (known(None, 0, 1), known(Some((-2.5, 2.5)), 0, 0)),
        (known(None, 0, 1), known(Some((2.0, 3.0)), 0, 0)),
        (known(None, 1, 1), known(Some((7.0, 8.0)), 0, 0)),
        (nothing_at_all, known(Some((1.0, 1.0)), 1, 0)),
    ];
    assert_eq!(all, expected);
    // What tables are told counts NaN apart.
    let nans: Vec<Option<u64>> = columns.iter().map(|column| column.nan_count).collect();
    assert_eq!(nans, [None, Some(1), Some(4), Some(1), Some(1), Some(1), Some(0)]);
    assert!(columns[2].lower.is_none() && columns[2].upper.is_none());
    assert!(columns[1].lower.is_some() && columns[4].upper.is_some());
}

#[test]
fn bounds_that_are_zero_hold_both_zeros() {
    // More rows than a page takes.
    let rows = 30_000;
    let doubles = |zero: f64, sign: f64| {
        let values = (0..rows).map(|row| if row % 100 == 0 { zero } else { sign * f64::from(row) });
        Arc::new(Float64Array::from_iter_values(values)) as ArrayRef
    };
    let singles = Arc::new(Float32Array::from(vec![0.0; usize::try_from(rows).unwrap()]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("least", doubles(0.0, 1.0)),
        ("greatest", doubles(-0.0, -1.0)),
        ("all", singles),
    ];
    let (metadata, _) = merged(columns, 1 << 20);
    // Compared as text, since -0.0 equals 0.0.
    let bounds = |leaf| format!("{:?}", known_of(&metadata, 0, leaf).bounds.unwrap());
    assert_eq!(bounds(1), "(-0.0, 29999.0)");
    assert_eq!(bounds(2), "(-29999.0, 0.0)");
    assert_eq!(bounds(3), "(-0.0, 0.0)");
    let pages = |leaf| format!("{:?}", known_of(&metadata, 0, leaf).pages.unwrap());
    assert_eq!(pages(1), "[(-0.0, 24575.0), (-0.0, 29999.0)]");
    assert_eq!(pages(2), "[(-24575.0, 0.0), (-29999.0, 0.0)]");
    assert_eq!(pages(3), "[(-0.0, 0.0), (-0.0, 0.0)]");
}
