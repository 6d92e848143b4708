//! The type as which a Delta table stores an Arrow type. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::schema::{ELEMENT, KEY, UTC, VALUE, map_of};
use crate::quarantine::QuarantineReason;

/// What a column name must not contain where columns are not mapped (Delta protocol, "Column Mapping").
const FORBIDDEN: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t'];
/// Readers recurse; deeper nesting than this is nobody's data.
const MAX_DEPTH: usize = 64;

/// The columns of `source` in a Delta table.
///
/// Wider types stand in for those that Delta lacks: no value of the source's type is lost, but for times
/// finer than microseconds, where the values decide.
pub(super) fn canonical_schema(source: &Schema) -> Result<SchemaRef, QuarantineReason> {
    let fields = canonical_fields(source.fields(), "", 0)?;
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

fn canonical_fields(fields: &Fields, path: &str, depth: usize) -> Result<Fields, QuarantineReason> {
    let mut names = BTreeSet::new();
    fields
        .iter()
        .map(|field| {
            let name = field.name();
            let column = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            if name.is_empty() || name.contains(FORBIDDEN) || name.contains('=') {
                return Err(drift(
                    &column,
                    name,
                    "none of ` ,;{}()\\n\\t=`",
                    "column name not allowed in Delta tables",
                ));
            }
            if !names.insert(name.to_lowercase()) {
                return Err(drift(
                    &column,
                    name,
                    "names that differ without regard to case",
                    "column name not unique",
                ));
            }
            canonical_field(field, name, &column, depth)
        })
        .collect()
}

fn canonical_field(field: &Field, name: &str, path: &str, depth: usize) -> Result<FieldRef, QuarantineReason> {
    let data_type = canonical_type(field.data_type(), path, depth)?;
    Ok(Arc::new(Field::new(name, data_type, field.is_nullable())))
}

fn canonical_type(data_type: &DataType, path: &str, depth: usize) -> Result<DataType, QuarantineReason> {
    let refused = || QuarantineReason::UnsupportedType {
        column: path.to_owned(),
        data_type: data_type.to_string(),
    };
    if depth > MAX_DEPTH {
        return Err(QuarantineReason::TooLarge {
            what: format!("nesting of column {path}"),
            value: u64::try_from(depth).unwrap_or(u64::MAX),
            limit: u64::try_from(MAX_DEPTH).unwrap_or(u64::MAX),
        });
    }
    Ok(match data_type {
        DataType::Null if depth == 0 => DataType::Null,
        DataType::Boolean
        | DataType::Date32
        | DataType::Float32
        | DataType::Float64
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            let fits = (1..=38).contains(precision) && u8::try_from(*scale).is_ok_and(|scale| scale <= *precision);
            if !fits {
                return Err(refused());
            }
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => canonical_type(value, path, depth)?,
        DataType::RunEndEncoded(_, value) => canonical_type(value.data_type(), path, depth)?,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(canonical_field(
            element,
            ELEMENT,
            &format!("{path}.{ELEMENT}"),
            depth + 1,
        )?),
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(refused());
            };
            let [key, value] = fields.as_ref() else {
                return Err(refused());
            };
            let key = canonical_type(key.data_type(), &format!("{path}.{KEY}"), depth + 1)?;
            map_of(
                Arc::new(Field::new(KEY, key, false)),
                canonical_field(value, VALUE, &format!("{path}.{VALUE}"), depth + 1)?,
            )
        }
        DataType::Struct(fields) if !fields.is_empty() => DataType::Struct(canonical_fields(fields, path, depth + 1)?),
        DataType::Null
        | DataType::Struct(_)
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::Union(..) => return Err(refused()),
    })
}

fn drift(column: &str, found: &str, expected: &str, rule: &str) -> QuarantineReason {
    QuarantineReason::SchemaDrift {
        column: column.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        rule: rule.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn canonical(data_type: DataType) -> Result<DataType, QuarantineReason> {
        canonical_schema(&Schema::new(vec![Field::new("c", data_type, true)])).map(|s| s.field(0).data_type().clone())
    }

    #[test]
    fn types_that_delta_lacks_become_wider_ones() {
        for (source, target) in [
            (DataType::UInt8, DataType::Int16),
            (DataType::UInt16, DataType::Int32),
            (DataType::UInt32, DataType::Int64),
            (DataType::UInt64, DataType::Decimal128(20, 0)),
            (DataType::Float16, DataType::Float32),
            (DataType::Date64, DataType::Date32),
            (DataType::LargeUtf8, DataType::Utf8),
            (DataType::FixedSizeBinary(16), DataType::Binary),
            (DataType::Decimal256(38, 4), DataType::Decimal128(38, 4)),
            (DataType::Decimal32(9, 9), DataType::Decimal128(9, 9)),
            (
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View)),
                DataType::Utf8,
            ),
            (
                DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
                DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            ),
            (
                DataType::Timestamp(TimeUnit::Second, None),
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ),
        ] {
            assert_eq!(canonical(source.clone()), Ok(target), "{source}");
        }
    }

    #[test]
    fn types_without_a_counterpart_are_refused_by_name() {
        for refused in [
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(39, 0),
            DataType::Decimal128(5, -1),
            DataType::Decimal128(2, 3),
            DataType::Struct(Fields::empty()),
        ] {
            let expected = QuarantineReason::UnsupportedType {
                column: "c".to_owned(),
                data_type: refused.to_string(),
            };
            assert_eq!(canonical(refused), Err(expected));
        }
        let nulls = DataType::List(Arc::new(Field::new("item", DataType::Null, true)));
        assert_eq!(
            canonical(nulls),
            Err(QuarantineReason::UnsupportedType {
                column: "c.element".to_owned(),
                data_type: "Null".to_owned()
            })
        );
    }

    #[test]
    fn nested_names_are_normalised_and_metadata_dropped() {
        let metadata = HashMap::from([("PARQUET:field_id".to_owned(), "7".to_owned())]);
        let item = Field::new("item", DataType::LargeUtf8, false).with_metadata(metadata);
        let source = DataType::FixedSizeList(Arc::new(item), 3);
        let target = DataType::List(Arc::new(Field::new("element", DataType::Utf8, false)));
        assert_eq!(canonical(source), Ok(target));
    }

    #[test]
    fn names_are_unique_without_regard_to_case_and_free_of_special_characters() {
        let field = |name: &str| Field::new(name, DataType::Int32, true);
        for (names, rule) in [
            (["a", "A"], "column name not unique"),
            (["a", "b c"], "column name not allowed in Delta tables"),
            (["a", "b=c"], "column name not allowed in Delta tables"),
        ] {
            let Err(QuarantineReason::SchemaDrift { rule: found, .. }) =
                canonical_schema(&Schema::new(names.map(field).to_vec()))
            else {
                panic!("{names:?} were taken")
            };
            assert_eq!(found, rule);
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_anything_overflows() {
        let mut data_type = DataType::Int8;
        for _ in 0..200 {
            data_type = DataType::Struct(Fields::from(vec![Field::new("x", data_type, true)]));
        }
        assert!(matches!(
            canonical(data_type),
            Err(QuarantineReason::TooLarge { limit: 64, .. })
        ));
    }
}
