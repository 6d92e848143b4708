//! Times of 96 bits: a day, and nanoseconds within it (parquet-format, `INT96`, deprecated). Pure.
//!
//! 64 bits of nanoseconds hold the years 1677 to 2262, and decoders wrap around beyond them, where writers of such files do
//! have times. So they are read as microseconds, and it is checked that no digit is lost by that.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use parquet::basic::Type as PhysicalType;
use parquet::schema::types::SchemaDescriptor;

use super::names::{ELEMENT, join};
use crate::quarantine::QuarantineReason;

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const NANOS_OF_MICROS: i64 = 1_000;

/// The leaf columns of this type.
pub(crate) fn int96_leaves(parquet: &SchemaDescriptor) -> impl Iterator<Item = usize> {
    let columns = parquet.columns().iter().enumerate();
    columns.filter_map(|(leaf, column)| (column.physical_type() == PhysicalType::INT96).then_some(leaf))
}

/// The columns of `parquet`, which are `schema` in Arrow, with microseconds for times of 96 bits.
pub(crate) fn with_micros(schema: Schema, parquet: &SchemaDescriptor) -> Schema {
    if int96_leaves(parquet).next().is_none() {
        return schema;
    }
    let mut leaves = parquet.columns().iter().map(|column| column.physical_type());
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| of_field(field, &mut leaves))
        .collect();
    Schema::new_with_metadata(fields, schema.metadata)
}

/// Takes as many of the `leaves` as the field has.
fn of_field(field: &FieldRef, leaves: &mut impl Iterator<Item = PhysicalType>) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| of_field(field, leaves)).collect()),
        DataType::List(item) => DataType::List(of_field(item, leaves)),
        DataType::LargeList(item) => DataType::LargeList(of_field(item, leaves)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(of_field(item, leaves), *size),
        DataType::Map(entries, is_sorted) => DataType::Map(of_field(entries, leaves), *is_sorted),
        other if leaves.next() == Some(PhysicalType::INT96) => match other {
            DataType::Timestamp(..) => MICROS,
            other => other.clone(),
        },
        other => other.clone(),
    };
    FieldRef::from(Field::clone(field).with_data_type(data_type))
}

/// That `micros` are what `nanos`, the same times that may have wrapped around, say.
///
/// # Errors
///
/// [`QuarantineReason::LossyValue`] for a time that is finer.
pub(crate) fn check_exact(path: &str, micros: &ArrayRef, nanos: &ArrayRef) -> Result<(), QuarantineReason> {
    match (micros.data_type(), nanos.data_type()) {
        (DataType::Struct(fields), DataType::Struct(_)) => {
            // Parts without such times are not decoded again.
            let nanos = nanos.as_struct();
            fields
                .iter()
                .zip(micros.as_struct().columns())
                .try_for_each(|(field, part)| match nanos.column_by_name(field.name()) {
                    Some(nanos) => check_exact(&join(path, field.name()), part, nanos),
                    None => Ok(()),
                })
        }
        (DataType::List(_), DataType::List(_)) => {
            let (micros, nanos) = (micros.as_list::<i32>().values(), nanos.as_list::<i32>().values());
            check_exact(&join(path, ELEMENT), micros, nanos)
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let parts = micros.as_map().entries().columns().iter();
            let parts = parts.zip(nanos.as_map().entries().columns());
            parts
                .into_iter()
                .try_for_each(|(micros, nanos)| check_exact(path, micros, nanos))
        }
        (DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            let nanos = nanos.as_primitive::<TimestampNanosecondType>();
            let finer = micros.iter().zip(nanos).find_map(|pair| match pair {
                (Some(micros), Some(nanos)) => (micros.wrapping_mul(NANOS_OF_MICROS) != nanos).then_some(nanos),
                _ => None,
            });
            match finer {
                Some(nanos) => Err(QuarantineReason::LossyValue {
                    column: path.to_owned(),
                    value: format!("{nanos} ns"),
                    data_type: MICROS.to_string(),
                }),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ListArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray};
    use arrow::buffer::OffsetBuffer;
    use parquet::arrow::parquet_to_arrow_schema;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn only_times_of_96_bits_become_microseconds_at_any_depth() {
        let message = "message m {
            optional int64 a (TIMESTAMP(NANOS,false));
            optional int96 b;
            optional group l (LIST) { repeated group list { optional group element {
                optional int64 c; optional int96 d; } } }
        }";
        let parquet = SchemaDescriptor::new(Arc::new(parse_message_type(message).unwrap()));
        assert_eq!(int96_leaves(&parquet).collect::<Vec<_>>(), [1, 3]);
        let schema = with_micros(parquet_to_arrow_schema(&parquet, None).unwrap(), &parquet);
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(schema.field(0).data_type(), &nanos);
        assert_eq!(schema.field(1).data_type(), &MICROS);
        let DataType::List(item) = schema.field(2).data_type() else {
            panic!("no list")
        };
        let DataType::Struct(parts) = item.data_type() else {
            panic!("no struct")
        };
        assert_eq!(
            (parts[0].data_type(), parts[1].data_type()),
            (&DataType::Int64, &MICROS)
        );
    }

    #[test]
    fn times_beyond_nanoseconds_are_exact_and_finer_ones_are_told() {
        let list = |times: ArrayRef| -> ArrayRef {
            let time = Arc::new(Field::new("time", times.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths([times.len()]);
            let parts = StructArray::from(vec![(time, times)]);
            let item = Arc::new(Field::new("element", parts.data_type().clone(), true));
            Arc::new(ListArray::new(item, offsets, Arc::new(parts), None))
        };
        // The first of year 1, and the last second of 9999.
        let times = [
            Some(-62_135_596_800_000_000_i64),
            None,
            Some(253_402_300_799_000_000),
            Some(-1),
        ];
        let wrapped = |more: i64| {
            let nanos = times.map(|time| time.map(|time| time.wrapping_mul(1_000).wrapping_add(more)));
            list(Arc::new(TimestampNanosecondArray::from(nanos.to_vec())))
        };
        let micros = list(Arc::new(TimestampMicrosecondArray::from(times.to_vec())));
        assert_eq!(check_exact("c", &micros, &wrapped(0)), Ok(()));
        let finer = check_exact("c", &micros, &wrapped(1));
        assert!(
            matches!(&finer, Err(QuarantineReason::LossyValue { column, .. }) if column == "c.element.time"),
            "{finer:?}"
        );
    }
}
