//! The type as which an Iceberg table stores an Arrow type. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::arrow_schema::{EXTENSION_TYPE_NAME_KEY, UUID_EXTENSION, is_uuid};
use super::version::FormatVersion;
use crate::quarantine::QuarantineReason;
use crate::schema::canonical::{
    ELEMENT, KEY, UTC, VALUE, check_depth, join, map_of, map_parts, table_decimal, without_case,
};
use crate::schema::drift;

/// Names that readers have for what is no column (Iceberg specification, "Reserved Field IDs").
const RESERVED: [&str; 10] = [
    "_change_ordinal",
    "_change_type",
    "_commit_snapshot_id",
    "_deleted",
    "_file",
    "_last_updated_sequence_number",
    "_partition",
    "_pos",
    "_row_id",
    "_spec_id",
];

/// The columns of `source` in an Iceberg table of `version`.
///
/// Wider types stand in for those that Iceberg lacks: no value of the source's type is lost, but for times finer
/// than microseconds, where the values decide. Timestamps in nanoseconds are of the unit that their column has in
/// `table`, the schema of one that is there; where it has none they keep their nanoseconds from `version` 3 on. Columns
/// and parts of them without a type (`Null`) stay as they are, since others may know it: they are never stored.
///
/// # Errors
///
/// The reason for which the file is set aside, naming column and type.
pub fn canonical_schema(
    source: &Schema,
    version: FormatVersion,
    table: Option<&Schema>,
) -> Result<SchemaRef, QuarantineReason> {
    let mut canonical = Canonical {
        version,
        paths: BTreeSet::new(),
    };
    let fields = canonical.fields(source.fields(), table.map(Schema::fields), "", 0)?;
    if fields.iter().all(|field| field.data_type() == &DataType::Null) {
        return Err(drift(
            "",
            "",
            "at least one column with a type",
            "a file without columns",
        ));
    }
    Ok(Arc::new(Schema::new(fields)))
}

struct Canonical {
    version: FormatVersion,
    /// In lower case. Readers look columns up by their whole path, so that `a.b` must not be both a column and a
    /// part of one.
    paths: BTreeSet<String>,
}

impl Canonical {
    fn fields(
        &mut self,
        fields: &Fields,
        table: Option<&Fields>,
        path: &str,
        depth: usize,
    ) -> Result<Fields, QuarantineReason> {
        let fields = fields.iter().map(|field| {
            let name = field.name();
            let column = join(path, name);
            if name.is_empty() || (depth == 0 && RESERVED.contains(&name.as_str())) {
                let expected = "a name that is not reserved";
                return Err(drift(
                    &column,
                    name,
                    expected,
                    "column name not allowed in Iceberg tables",
                ));
            }
            let stored = table.and_then(|table| table.find(name)).map(|(_, stored)| stored);
            self.field(field, stored, name, &column, depth)
        });
        fields.collect()
    }

    fn field(
        &mut self,
        field: &Field,
        stored: Option<&FieldRef>,
        name: &str,
        path: &str,
        depth: usize,
    ) -> Result<FieldRef, QuarantineReason> {
        if !self.paths.insert(without_case(path)) {
            return Err(drift(
                path,
                name,
                "names that differ without regard to case",
                "column name not unique",
            ));
        }
        let data_type = self.data_type(field.data_type(), stored.map(|stored| stored.data_type()), path, depth)?;
        let nullable = field.is_nullable() || data_type == DataType::Null;
        let canonical = Field::new(name, data_type, nullable);
        Ok(Arc::new(if is_uuid(field) {
            let uuid = (EXTENSION_TYPE_NAME_KEY.to_owned(), UUID_EXTENSION.to_owned());
            canonical.with_metadata(HashMap::from([uuid]))
        } else {
            canonical
        }))
    }

    fn data_type(
        &mut self,
        data_type: &DataType,
        stored: Option<&DataType>,
        path: &str,
        depth: usize,
    ) -> Result<DataType, QuarantineReason> {
        let refused = || QuarantineReason::UnsupportedType {
            column: path.to_owned(),
            data_type: data_type.to_string(),
        };
        check_depth(path, depth)?;
        Ok(match data_type {
            DataType::Null
            | DataType::Boolean
            | DataType::Date32
            | DataType::Float32
            | DataType::Float64
            | DataType::Int32
            | DataType::Int64 => data_type.clone(),
            DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
            DataType::UInt32 => DataType::Int64,
            DataType::UInt64 => DataType::Decimal128(20, 0),
            DataType::Float16 => DataType::Float32,
            DataType::Date64 => DataType::Date32,
            DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(unit, zone) => {
                let keeps_nanos = match stored {
                    Some(DataType::Timestamp(stored, _)) => *stored == TimeUnit::Nanosecond,
                    _ => self.version >= FormatVersion::V3,
                };
                let unit = match unit {
                    TimeUnit::Nanosecond if keeps_nanos => TimeUnit::Nanosecond,
                    _ => TimeUnit::Microsecond,
                };
                DataType::Timestamp(unit, zone.as_ref().map(|_| UTC.into()))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
            DataType::FixedSizeBinary(length) if *length > 0 => data_type.clone(),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => table_decimal(*precision, *scale).ok_or_else(refused)?,
            // Deeper for each wrapper: these nest without end too.
            DataType::Dictionary(_, value) => self.data_type(value, stored, path, depth + 1)?,
            DataType::RunEndEncoded(_, value) => self.data_type(value.data_type(), stored, path, depth + 1)?,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => {
                let stored = match stored {
                    Some(DataType::List(element)) => Some(element),
                    _ => None,
                };
                DataType::List(self.field(element, stored, ELEMENT, &join(path, ELEMENT), depth + 1)?)
            }
            DataType::Map(entries, _) => {
                let (key, value) = map_parts(entries).ok_or_else(refused)?;
                let stored = match stored {
                    Some(DataType::Map(entries, _)) => map_parts(entries),
                    _ => None,
                };
                let (stored_key, stored_value) = stored.unzip();
                let key = self.field(key, stored_key, KEY, &join(path, KEY), depth + 1)?;
                if key.data_type() == &DataType::Null {
                    return Err(refused());
                }
                let key = Arc::new(key.as_ref().clone().with_nullable(false));
                map_of(
                    key,
                    self.field(value, stored_value, VALUE, &join(path, VALUE), depth + 1)?,
                )
            }
            DataType::Struct(fields) if !fields.is_empty() => {
                let stored = match stored {
                    Some(DataType::Struct(fields)) => Some(fields),
                    _ => None,
                };
                DataType::Struct(self.fields(fields, stored, path, depth + 1)?)
            }
            DataType::FixedSizeBinary(_)
            | DataType::Struct(_)
            | DataType::Duration(_)
            | DataType::Interval(_)
            | DataType::Union(..) => return Err(refused()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(data_type: DataType, version: FormatVersion) -> Result<DataType, QuarantineReason> {
        let source = Schema::new(vec![Field::new("c", data_type, true)]);
        canonical_schema(&source, version, None).map(|s| s.field(0).data_type().clone())
    }

    #[test]
    fn types_that_iceberg_lacks_become_wider_ones() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (source, target) in [
            (DataType::Int8, DataType::Int32),
            (DataType::UInt16, DataType::Int32),
            (DataType::UInt32, DataType::Int64),
            (DataType::UInt64, DataType::Decimal128(20, 0)),
            (DataType::Float16, DataType::Float32),
            (DataType::Date64, DataType::Date32),
            (
                DataType::Time32(TimeUnit::Millisecond),
                DataType::Time64(TimeUnit::Microsecond),
            ),
            (DataType::LargeUtf8, DataType::Utf8),
            (DataType::BinaryView, DataType::Binary),
            (DataType::FixedSizeBinary(16), DataType::FixedSizeBinary(16)),
            (DataType::Decimal256(38, 4), DataType::Decimal128(38, 4)),
            (
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View)),
                DataType::Utf8,
            ),
            (
                DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
                micros(Some(UTC)),
            ),
            (DataType::Timestamp(TimeUnit::Second, None), micros(None)),
        ] {
            assert_eq!(canonical(source.clone(), FormatVersion::V2), Ok(target), "{source}");
        }
    }

    #[test]
    fn version_3_keeps_nanoseconds_of_timestamps() {
        let nanos = |zone: &str| DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.into()));
        assert_eq!(canonical(nanos("+02:00"), FormatVersion::V3), Ok(nanos(UTC)));
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert_eq!(
            canonical(DataType::Timestamp(TimeUnit::Millisecond, None), FormatVersion::V3),
            Ok(micros)
        );
    }

    #[test]
    fn nanoseconds_are_kept_where_the_column_of_the_table_has_them() {
        let of = |unit| DataType::Timestamp(unit, None);
        let nested = |unit| {
            let time = |name: &str| Field::new(name, of(unit), true);
            let list = DataType::List(Arc::new(time(ELEMENT)));
            let map = map_of(Arc::new(time(KEY).with_nullable(false)), Arc::new(time(VALUE)));
            let parts = DataType::Struct(vec![time("a"), Field::new("l", list, true)].into());
            Schema::new(vec![
                time("t"),
                Field::new("s", parts, true),
                Field::new("m", map, true),
            ])
        };
        let nanos = nested(TimeUnit::Nanosecond);
        for stored in [TimeUnit::Nanosecond, TimeUnit::Microsecond] {
            let table = nested(stored);
            for version in [FormatVersion::V2, FormatVersion::V3] {
                assert_eq!(*canonical_schema(&nanos, version, Some(&table)).unwrap(), table);
            }
        }
        // Other units are as ever, and so are columns that the table does not have.
        let (millis, table) = (nested(TimeUnit::Millisecond), nested(TimeUnit::Nanosecond));
        let micros = nested(TimeUnit::Microsecond);
        assert_eq!(
            *canonical_schema(&millis, FormatVersion::V2, Some(&table)).unwrap(),
            micros
        );
        let other = Schema::new(vec![Field::new("t", DataType::Utf8, true)]);
        assert_eq!(
            *canonical_schema(&nanos, FormatVersion::V2, Some(&other)).unwrap(),
            micros
        );
    }

    #[test]
    fn types_without_a_counterpart_are_refused_by_name() {
        for refused in [
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(39, 0),
            DataType::Decimal128(5, -1),
            DataType::FixedSizeBinary(0),
            DataType::Struct(Fields::empty()),
        ] {
            let expected = QuarantineReason::UnsupportedType {
                column: "c".to_owned(),
                data_type: refused.to_string(),
            };
            assert_eq!(canonical(refused, FormatVersion::V3), Err(expected));
        }
        let nulls = DataType::List(Arc::new(Field::new("item", DataType::Null, true)));
        let kept = DataType::List(Arc::new(Field::new(ELEMENT, DataType::Null, true)));
        assert_eq!(canonical(nulls, FormatVersion::V2), Ok(kept));
        assert!(matches!(
            canonical(DataType::Null, FormatVersion::V2),
            Err(QuarantineReason::SchemaDrift { .. })
        ));
    }

    #[test]
    fn nested_names_are_normalised_and_metadata_dropped_but_for_uuids() {
        let field_id = ("PARQUET:field_id".to_owned(), "7".to_owned());
        let uuid = (EXTENSION_TYPE_NAME_KEY.to_owned(), UUID_EXTENSION.to_owned());
        let item = Field::new("item", DataType::FixedSizeBinary(16), false)
            .with_metadata(HashMap::from([field_id, uuid.clone()]));
        let element = Field::new("element", DataType::FixedSizeBinary(16), false).with_metadata(HashMap::from([uuid]));
        assert_eq!(
            canonical(DataType::FixedSizeList(Arc::new(item), 3), FormatVersion::V2),
            Ok(DataType::List(Arc::new(element)))
        );
    }

    #[test]
    fn paths_are_unique_without_regard_to_case_and_not_reserved() {
        let int = |name: &str| Field::new(name, DataType::Int32, true);
        let a = || Field::new("a", DataType::Struct(vec![int("b")].into()), true);
        for (fields, column, rule) in [
            (vec![int("a"), int("A")], "A", "column name not unique"),
            (vec![a(), int("A.b")], "A.b", "column name not unique"),
            (vec![int("")], "", "column name not allowed in Iceberg tables"),
            (
                vec![int("_row_id")],
                "_row_id",
                "column name not allowed in Iceberg tables",
            ),
        ] {
            let Err(QuarantineReason::SchemaDrift {
                rule: found_rule,
                column: found,
                ..
            }) = canonical_schema(&Schema::new(fields), FormatVersion::V2, None)
            else {
                panic!("{column} was taken")
            };
            assert_eq!((found.as_str(), found_rule.as_str()), (column, rule));
        }
        let fine = Schema::new(vec![int("x y,{}=ö"), int("b"), a()]);
        canonical_schema(&fine, FormatVersion::V2, None).unwrap();
    }

    #[test]
    fn deep_nesting_is_refused_before_anything_overflows() {
        let structs = |inner| DataType::Struct(Fields::from(vec![Field::new("x", inner, true)]));
        let dictionary = |inner| DataType::Dictionary(Box::new(DataType::Int8), Box::new(inner));
        for wrap in [&structs as &dyn Fn(DataType) -> DataType, &dictionary] {
            let deep = (0..200).fold(DataType::Int8, |inner, _| wrap(inner));
            assert!(matches!(
                canonical(deep, FormatVersion::V2),
                Err(QuarantineReason::TooLarge { limit: 64, .. })
            ));
        }
    }
}
