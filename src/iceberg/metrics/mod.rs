//! Metrics of a data file by field id (Iceberg specification, "Data File Fields"): never wrong, at most absent. Pure.

mod bounds;
mod config;

pub use config::{DEFAULT_MAX_INFERRED_COLUMNS, DEFAULT_TRUNCATE_LENGTH, MetricsConfig, MetricsMode};

use super::manifest::ManifestDataFile;
use super::schema::{NestedField, Schema};
use super::types::{PrimitiveType, Type};
use crate::data_file::{ColumnMetrics, DataFile};

impl ManifestDataFile {
    /// The description of a Parquet file that has been written for a table with `schema` and lies at `uri`.
    ///
    /// Its columns are found by their names. Partition, sort order and key metadata are left to the caller.
    pub fn from_parquet(file: &DataFile, uri: String, schema: &Schema, config: &MetricsConfig) -> Self {
        let mut described = Self {
            file_path: uri,
            file_format: "PARQUET".to_owned(),
            record_count: file.rows,
            file_size: file.size,
            split_offsets: split_offsets(&file.split_offsets),
            ..Self::default()
        };
        for metrics in &file.columns {
            if let Some(leaf) = find(&schema.fields, &metrics.path) {
                described.add_column(metrics, leaf, config.mode(leaf.field_id));
            }
        }
        described
    }

    fn add_column(&mut self, metrics: &ColumnMetrics, leaf: Leaf, mode: MetricsMode) {
        if mode == MetricsMode::None {
            return;
        }
        let id = leaf.field_id;
        let count = |count: u64| i64::try_from(count).ok().map(|count| (id, count));
        self.column_sizes.extend(count(metrics.compressed_size));
        self.value_counts.extend(count(metrics.value_count));
        self.null_value_counts.extend(metrics.null_count.and_then(count));
        let is_float = matches!(leaf.primitive, PrimitiveType::Float | PrimitiveType::Double);
        if is_float {
            self.nan_value_counts.extend(metrics.nan_count.and_then(count));
        }
        let length = match mode {
            MetricsMode::None | MetricsMode::Counts => return,
            MetricsMode::Truncate(length) => Some(length),
            MetricsMode::Full => None,
        };
        // The specification leaves NaN out of bounds, but there are readers that look at nothing else, and to which NaN is
        // the greatest value.
        let may_hide = is_float && metrics.nan_count != Some(0);
        if !leaf.is_repeated && !may_hide {
            let lower = metrics.lower.as_ref();
            let lower = lower.and_then(|bound| bounds::lower(&bound.value, leaf.primitive, length));
            self.lower_bounds.extend(lower.map(|bytes| (id, bytes)));
            let upper = metrics.upper.as_ref();
            let upper = upper.and_then(|bound| bounds::upper(&bound.value, leaf.primitive, length));
            self.upper_bounds.extend(upper.map(|bytes| (id, bytes)));
        }
    }
}

/// Offsets that are not ascending are of no use to readers.
fn split_offsets(offsets: &[u64]) -> Vec<i64> {
    let signed: Option<Vec<i64>> = offsets.iter().map(|offset| i64::try_from(*offset).ok()).collect();
    signed
        .filter(|offsets| offsets.is_sorted_by(|a, b| a < b))
        .unwrap_or_default()
}

/// A column that has values of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    field_id: i32,
    primitive: PrimitiveType,
    /// Whether it lies in a list or a map, so that a row may have many of its values, or none.
    is_repeated: bool,
}

/// The leaf at a path of Parquet's schema, in which lists and maps have a group between themselves and their parts
/// (parquet-format, "Nested Types").
fn find(fields: &[NestedField], path: &[String]) -> Option<Leaf> {
    let (name, rest) = path.split_first()?;
    find_in(fields.iter().find(|field| field.name == *name)?, rest)
}

fn find_in(field: &NestedField, rest: &[String]) -> Option<Leaf> {
    let (part, rest) = match &field.field_type {
        Type::Primitive(primitive) => {
            return rest.is_empty().then_some(Leaf {
                field_id: field.id,
                primitive: *primitive,
                is_repeated: false,
            });
        }
        Type::Struct(group) => return find(&group.fields, rest),
        Type::List(list) => match rest {
            [_, _, rest @ ..] => (&list.element, rest),
            _ => return None,
        },
        Type::Map(map) => match rest {
            [_, name, rest @ ..] if matches!(name.as_str(), "key" | "keys") => (&map.key, rest),
            [_, name, rest @ ..] if matches!(name.as_str(), "value" | "values") => (&map.value, rest),
            _ => return None,
        },
    };
    find_in(part, rest).map(|leaf| Leaf {
        is_repeated: true,
        ..leaf
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data_file::{Bound, Datum};
    use crate::iceberg::types::{ListType, MapType, StructType};

    fn schema() -> Schema {
        let primitive = Type::Primitive;
        let list = ListType {
            element: NestedField::optional(7, "element", primitive(PrimitiveType::Long)),
        };
        let map = MapType {
            key: NestedField::optional(9, "key", primitive(PrimitiveType::String)),
            value: NestedField::optional(10, "value", primitive(PrimitiveType::Double)),
        };
        Schema {
            fields: vec![
                NestedField::optional(1, "id", primitive(PrimitiveType::Long)),
                NestedField::optional(2, "name", primitive(PrimitiveType::String)),
                NestedField::optional(
                    3,
                    "s",
                    Type::Struct(StructType {
                        fields: vec![NestedField::optional(5, "x", primitive(PrimitiveType::Double))],
                    }),
                ),
                NestedField::optional(4, "l", Type::List(Box::new(list))),
                NestedField::optional(8, "m", Type::Map(Box::new(map))),
            ],
            ..Schema::default()
        }
    }

    fn column(path: &[&str], lower: Datum, upper: Datum) -> ColumnMetrics {
        let bound = |value| Some(Bound { value, exact: true });
        ColumnMetrics {
            field_id: None,
            path: path.iter().map(|name| (*name).to_owned()).collect(),
            compressed_size: 100,
            value_count: 10,
            null_count: Some(2),
            nan_count: Some(1),
            lower: bound(lower),
            upper: bound(upper),
        }
    }

    fn data_file() -> DataFile {
        let long = |path: &[&str]| column(path, Datum::Int64(-1), Datum::Int64(1));
        let double = |path: &[&str]| column(path, Datum::Double(0.0), Datum::Double(-0.0));
        let text = |path: &[&str]| {
            column(
                path,
                Datum::Bytes(b"an apple and a pear".to_vec()),
                Datum::Bytes(b"z".to_vec()),
            )
        };
        DataFile {
            path: "p".to_owned(),
            size: 1234,
            rows: 10,
            columns: vec![
                long(&["id"]),
                text(&["name"]),
                double(&["s", "x"]),
                long(&["l", "list", "element"]),
                text(&["m", "key_value", "key"]),
                double(&["m", "key_value", "value"]),
                long(&["gone"]),
            ],
            split_offsets: vec![4, 600],
            sorted: true,
            partition: None,
        }
    }

    fn described(properties: &[(&str, &str)]) -> ManifestDataFile {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let schema = schema();
        let config = MetricsConfig::from_properties(&properties.collect(), &schema);
        ManifestDataFile::from_parquet(&data_file(), "s3://b/p".to_owned(), &schema, &config)
    }

    #[test]
    fn metrics_are_by_field_id_and_repeated_columns_have_no_bounds() {
        let long = |value: i64| value.to_le_bytes().to_vec();
        let all = |value| BTreeMap::from([1, 2, 5, 7, 9, 10].map(|id| (id, value)));
        assert_eq!(
            described(&[]),
            ManifestDataFile {
                file_path: "s3://b/p".to_owned(),
                file_format: "PARQUET".to_owned(),
                record_count: 10,
                file_size: 1234,
                column_sizes: all(100),
                value_counts: all(10),
                null_value_counts: all(2),
                nan_value_counts: BTreeMap::from([(5, 1), (10, 1)]),
                lower_bounds: BTreeMap::from([(1, long(-1)), (2, b"an apple and a p".to_vec())]),
                upper_bounds: BTreeMap::from([(1, long(1)), (2, b"z".to_vec())]),
                split_offsets: vec![4, 600],
                ..ManifestDataFile::default()
            }
        );
    }

    #[test]
    fn floats_have_bounds_where_none_is_nan() {
        let double = |value: f64| value.to_le_bytes().to_vec();
        let bounds = |nan_count: Option<u64>| {
            let mut file = data_file();
            file.columns.iter_mut().for_each(|column| column.nan_count = nan_count);
            let schema = schema();
            let config = MetricsConfig::from_properties(&BTreeMap::new(), &schema);
            let described = ManifestDataFile::from_parquet(&file, "s3://b/p".to_owned(), &schema, &config);
            (
                described.lower_bounds.get(&5).cloned(),
                described.upper_bounds.get(&5).cloned(),
            )
        };
        assert_eq!(bounds(Some(0)), (Some(double(-0.0)), Some(double(0.0))));
        assert_eq!(bounds(Some(1)), (None, None));
        assert_eq!(bounds(None), (None, None));
    }

    #[test]
    fn modes_of_columns_are_followed() {
        let file = described(&[
            ("write.metadata.metrics.default", "counts"),
            ("write.metadata.metrics.column.name", "full"),
            ("write.metadata.metrics.column.s.x", "none"),
        ]);
        assert_eq!(file.value_counts.keys().copied().collect::<Vec<_>>(), [1, 2, 7, 9, 10]);
        assert_eq!(
            file.lower_bounds,
            BTreeMap::from([(2, b"an apple and a pear".to_vec())])
        );
    }

    #[test]
    fn offsets_that_are_not_ascending_are_left_out() {
        assert_eq!(split_offsets(&[4, 4]), Vec::<i64>::new());
        assert_eq!(split_offsets(&[4, u64::MAX]), Vec::<i64>::new());
        assert_eq!(split_offsets(&[4, 5]), [4, 5]);
    }
}
