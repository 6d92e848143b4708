//! The partitions of merged rows by a table's default spec: whole columns at a time. Pure.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch,
    StringArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field as ArrowField, Fields, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};

use super::arrow_schema::arrow_primitive;
use super::metadata::TableMetadata;
use super::murmur3::murmur3_x86_32;
use super::partition::{PartitionField, PartitionSpec};
use super::schema::Schema;
use super::transform::{
    Transform, bucket, day_of_micros, hash_decimal, hash_long, hour_of_micros, micros_of_nanos, month, truncate_bytes,
    truncate_decimal, truncate_int, truncate_long, truncate_text, year,
};
use super::types::{PrimitiveType, Type};
use crate::error::{Error, ErrorKind, Result};
use crate::partitioning::Partitioner;

/// A partition spec, bound to the columns of a schema.
#[derive(Debug)]
pub(super) struct SpecPartitioner {
    id: String,
    types: Fields,
    fields: Vec<BoundField>,
}

/// A field of a spec.
#[derive(Debug)]
struct BoundField {
    transform: Transform,
    /// The column it is made of; a void field may outlive its column.
    source: Option<Source>,
    result: PrimitiveType,
}

/// A column, at any depth of structs.
#[derive(Debug)]
struct Source {
    path: Vec<String>,
    primitive: PrimitiveType,
}

impl SpecPartitioner {
    /// The partitions of files that are added to `table`; `None` if it is not partitioned.
    ///
    /// # Errors
    ///
    /// As [`PartitionSpec::partition_type`].
    pub(super) fn of(table: &TableMetadata) -> Result<Option<Self>> {
        Self::new(table.default_spec(), table.schema())
    }

    fn new(spec: &PartitionSpec, schema: &Schema) -> Result<Option<Self>> {
        if spec.is_unpartitioned() {
            return Ok(None);
        }
        let (mut fields, mut types) = (Vec::new(), Vec::new());
        let mut id = spec.spec_id.to_string();
        for (field, typed) in spec.fields.iter().zip(spec.partition_type(schema)?.fields) {
            let Type::Primitive(result) = typed.field_type else {
                return Err(internal("a partition is of no primitive type"));
            };
            let source = source(field, schema);
            let (field_id, transform, source_ids) = (field.field_id, &field.transform, &field.source_ids);
            let primitive = source
                .as_ref()
                .map_or_else(|| "gone".to_owned(), |s| s.primitive.to_string());
            let _ = write!(id, " {field_id}={transform}({source_ids:?}:{primitive})");
            types.push(ArrowField::new(&field.name, arrow_primitive(result), true));
            fields.push(BoundField {
                transform: field.transform.clone(),
                source,
                result,
            });
        }
        Ok(Some(Self {
            id,
            types: types.into(),
            fields,
        }))
    }
}

impl Partitioner for SpecPartitioner {
    fn id(&self) -> &str {
        &self.id
    }

    fn fields(&self) -> &Fields {
        &self.types
    }

    fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = self.fields.iter().map(|field| match &field.source {
            Some(source) if field.transform != Transform::Void => field.apply(&source.column(rows)?, source.primitive),
            _ => Ok(new_null_array(&arrow_primitive(field.result), rows.num_rows())),
        });
        columns.collect()
    }

    /// All but hashes keep the order of their columns; of floats the two zeros are apart here, and one in the order.
    fn follows(&self, field: usize, column: &str) -> bool {
        let Some(field) = self.fields.get(field) else {
            return false;
        };
        let keeps_order = match (&field.transform, &field.source) {
            (Transform::Void, _) => return true,
            (Transform::Bucket(_) | Transform::Unknown(_), _) | (_, None) => false,
            (_, Some(source)) => !matches!(source.primitive, PrimitiveType::Float | PrimitiveType::Double),
        };
        keeps_order && field.source.as_ref().is_some_and(|source| source.path == [column])
    }
}

fn source(field: &PartitionField, schema: &Schema) -> Option<Source> {
    let [id] = field.source_ids.as_slice() else { return None };
    let leaves = schema.leaves();
    let leaf = leaves.iter().find(|leaf| leaf.field.id == *id && !leaf.repeated)?;
    Some(Source {
        path: leaf.path.iter().map(|name| (*name).to_owned()).collect(),
        primitive: leaf.primitive,
    })
}

impl Source {
    /// The column's values; null where a struct around them is.
    fn column(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        let missing = || internal(format!("no such column. column=`{}`", self.path.join(".")));
        let mut names = self.path.iter();
        let mut column = names
            .next()
            .and_then(|name| rows.column_by_name(name))
            .ok_or_else(missing)?;
        let mut nulls: Option<NullBuffer> = None;
        for name in names {
            let parts = column.as_struct_opt().ok_or_else(missing)?;
            nulls = NullBuffer::union(nulls.as_ref(), parts.nulls());
            column = parts.column_by_name(name).ok_or_else(missing)?;
        }
        match nulls {
            None => Ok(Arc::clone(column)),
            Some(nulls) => nullif(column, &BooleanArray::new(!nulls.inner(), None)).map_err(internal),
        }
    }
}

impl BoundField {
    fn apply(&self, column: &ArrayRef, primitive: PrimitiveType) -> Result<ArrayRef> {
        let applied = match &self.transform {
            Transform::Identity => Some(identity(column)),
            Transform::Bucket(buckets) => buckets_of(column, *buckets),
            Transform::Truncate(width) => truncated(column, *width, self.result)?,
            Transform::Year => days(column).map(|days| int(&days, year)).transpose()?,
            Transform::Month => days(column).map(|days| int(&days, month)).transpose()?,
            Transform::Day => days(column)
                .map(|days| int32(&days, |day| day).map(|days| dates(&days)))
                .transpose()?,
            Transform::Hour => micros(column).map(|us| int(&us, hour_of_micros)).transpose()?,
            Transform::Unknown(_) | Transform::Void => None,
        };
        applied.ok_or_else(|| {
            let (transform, found) = (&self.transform, column.data_type());
            internal(format!(
                "transform cannot be applied. transform=`{transform}` type=`{primitive}` column=`{found}`"
            ))
        })
    }
}

/// The values themselves, with one NaN only.
fn identity(column: &ArrayRef) -> ArrayRef {
    if let Some(floats) = column.as_primitive_opt::<Float32Type>() {
        return Arc::new(floats.unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v }));
    }
    if let Some(doubles) = column.as_primitive_opt::<Float64Type>() {
        return Arc::new(doubles.unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v }));
    }
    Arc::clone(column)
}

fn buckets_of(column: &ArrayRef, buckets: i32) -> Option<ArrayRef> {
    let found: Int32Array = if let Some(ints) = ints(column) {
        ints.unary(|value| bucket(hash_long(value.into()), buckets))
    } else if let Some(longs) = micros(column).or_else(|| longs(column)) {
        longs.unary(|value| bucket(hash_long(value), buckets))
    } else if let Some(decimals) = column.as_primitive_opt::<Decimal128Type>() {
        decimals.unary(|unscaled| bucket(hash_decimal(unscaled), buckets))
    } else {
        let of = |bytes: &[u8]| bucket(murmur3_x86_32(bytes), buckets);
        match column.data_type() {
            DataType::Utf8 => {
                let texts = column.as_string::<i32>().iter();
                texts.map(|text| text.map(|text| of(text.as_bytes()))).collect()
            }
            DataType::Binary => column.as_binary::<i32>().iter().map(|bytes| bytes.map(of)).collect(),
            DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().iter().map(|b| b.map(of)).collect(),
            _ => return None,
        }
    };
    Some(Arc::new(found))
}

fn truncated(column: &ArrayRef, width: i32, result: PrimitiveType) -> Result<Option<ArrayRef>> {
    let length = usize::try_from(width).unwrap_or(0);
    Ok(Some(match column.data_type() {
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>();
            let cut = |value| truncate_int(value, width).ok_or_else(|| out_of_range(value, result));
            Arc::new(values.try_unary::<_, Int32Type, _>(cut)?)
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>();
            let cut = |value| truncate_long(value, width).ok_or_else(|| out_of_range(value, result));
            Arc::new(values.try_unary::<_, Int64Type, _>(cut)?)
        }
        DataType::Decimal128(precision, scale) => {
            // What is cut off below zero makes the number greater.
            let limit = 10_u128.saturating_pow((*precision).into());
            let cut = |unscaled| {
                let cut = truncate_decimal(unscaled, width);
                (cut.unsigned_abs() < limit)
                    .then_some(cut)
                    .ok_or_else(|| out_of_range(unscaled, result))
            };
            let values = column.as_primitive::<Decimal128Type>();
            let cut: Decimal128Array = values.try_unary::<_, Decimal128Type, _>(cut)?;
            Arc::new(cut.with_precision_and_scale(*precision, *scale).map_err(internal)?)
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>().iter();
            Arc::new(
                texts
                    .map(|text| text.map(|text| truncate_text(text, length)))
                    .collect::<StringArray>(),
            )
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>().iter();
            let cut = values.map(|bytes| bytes.map(|bytes| truncate_bytes(bytes, length)));
            Arc::new(cut.collect::<BinaryArray>())
        }
        _ => return Ok(None),
    }))
}

/// `int` and `date`.
fn ints(column: &ArrayRef) -> Option<Int32Array> {
    Some(match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().clone(),
        DataType::Date32 => column.as_primitive::<Date32Type>().reinterpret_cast(),
        _ => return None,
    })
}

/// `long` and `time`.
fn longs(column: &ArrayRef) -> Option<Int64Array> {
    Some(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().clone(),
        DataType::Time64(TimeUnit::Microsecond) => column.as_primitive::<Time64MicrosecondType>().reinterpret_cast(),
        _ => return None,
    })
}

/// Timestamps in microseconds.
fn micros(column: &ArrayRef) -> Option<Int64Array> {
    Some(match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().unary(micros_of_nanos)
        }
        _ => return None,
    })
}

/// The days of dates and timestamps.
fn days(column: &ArrayRef) -> Option<Int64Array> {
    match column.data_type() {
        DataType::Date32 => Some(column.as_primitive::<Date32Type>().unary(i64::from)),
        _ => Some(micros(column)?.unary(day_of_micros)),
    }
}

fn dates(days: &Int32Array) -> ArrayRef {
    Arc::new(days.reinterpret_cast::<Date32Type>())
}

fn int(values: &Int64Array, of: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    Ok(Arc::new(int32(values, of)?))
}

fn int32(values: &Int64Array, of: impl Fn(i64) -> i64) -> Result<Int32Array> {
    values.try_unary::<_, Int32Type, _>(|value| {
        i32::try_from(of(value)).map_err(|_| out_of_range(value, PrimitiveType::Int))
    })
}

fn out_of_range(value: impl std::fmt::Display, result: PrimitiveType) -> Error {
    let message = format!("value out of range of its partition. value=`{value}` type=`{result}`");
    Error::new(ErrorKind::Data, message)
}

fn internal(message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, message.to_string())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, FixedSizeBinaryArray, Float64Array, StructArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use serde_json::json;

    use super::*;
    use crate::data_file;
    use crate::iceberg::arrow_schema::arrow_schema;
    use crate::iceberg::datum::Datum;
    use crate::iceberg::partition_column::PartitionColumn;
    use crate::iceberg::schema::NestedField;
    use crate::partitioning::partition_value;

    use PrimitiveType as T;

    fn spec(fields: &[(i32, &str)]) -> PartitionSpec {
        let fields = fields.iter().zip(1000..).map(|((source, transform), id)| {
            json!({"source-id": source, "field-id": id, "name": format!("p{id}"), "transform": transform})
        });
        serde_json::from_value(json!({"spec-id": 3, "fields": fields.collect::<Vec<_>>()})).unwrap()
    }

    fn column(primitive: T, column: ArrayRef) -> (Schema, RecordBatch) {
        let schema = Schema::new(vec![NestedField::optional(1, "c", primitive.into())]);
        let rows = RecordBatch::try_new(arrow_schema(&schema), vec![column]).unwrap();
        (schema, rows)
    }

    /// What the partitioner makes of a column, read back as the values of a manifest.
    fn values(transform: &str, (schema, rows): &(Schema, RecordBatch)) -> Result<Vec<Option<Datum>>> {
        let spec = spec(&[(1, transform)]);
        let partitioner = SpecPartitioner::new(&spec, schema)?.unwrap();
        let columns = partitioner.columns(rows)?;
        assert_eq!(
            columns[0].data_type(),
            partitioner.fields()[0].data_type(),
            "{transform}"
        );
        let Type::Primitive(primitive) = spec.partition_type(schema)?.fields[0].field_type else {
            panic!("{transform}")
        };
        let column = PartitionColumn {
            field_id: 1000,
            name: "p".to_owned(),
            primitive,
        };
        let values = (0..rows.num_rows()).map(|row| {
            let value = partition_value(&columns[0], row)?;
            Ok(value.map(|value| column.of_file(&value).unwrap()))
        });
        values.collect()
    }

    /// The same by the transform of single values.
    fn one_by_one(transform: &str, source: T, values: &[Option<Datum>]) -> Vec<Option<Datum>> {
        let transform = Transform::parse(transform);
        let apply = |value: &Option<Datum>| transform.apply(source, value.as_ref()).unwrap();
        values.iter().map(apply).collect()
    }

    /// The transforms of a column, whose last value is null, are those of its values one by one.
    fn check(primitive: T, array: ArrayRef, datums: Vec<Datum>, transforms: &[&str]) {
        let expected: Vec<_> = datums.into_iter().map(Some).chain([None]).collect();
        let rows = column(primitive, array);
        for transform in transforms {
            let (found, one_by_one) = (
                values(transform, &rows).unwrap(),
                one_by_one(transform, primitive, &expected),
            );
            assert_eq!(found, one_by_one, "{transform} of {primitive}");
        }
    }

    fn nullable<V, A: FromIterator<Option<V>>>(values: impl IntoIterator<Item = V>) -> A {
        values.into_iter().map(Some).chain([None]).collect()
    }

    #[test]
    fn columns_of_numbers_are_transformed_as_single_values_are() {
        let ints = [i32::MIN, -100, -1, 0, 1, 7, 19_000, i32::MAX];
        let datums = || ints.map(Datum::Int).to_vec();
        let array: Int32Array = nullable(ints);
        check(T::Int, Arc::new(array), datums(), &["identity", "bucket[16]"]);
        let cut = [i32::MIN + 8, -100, -1, 0, 1, 7, i32::MAX];
        let array: Int32Array = nullable(cut);
        check(T::Int, Arc::new(array), cut.map(Datum::Int).to_vec(), &["truncate[10]"]);
        let array: Date32Array = nullable(ints);
        check(
            T::Date,
            Arc::new(array),
            datums(),
            &["identity", "bucket[3]", "year", "month", "day"],
        );
        let longs = [i64::MIN, -86_400_000_001, -1, 0, 1, 1_510_871_468_000_001, i64::MAX];
        let datums = || longs.map(Datum::Long).to_vec();
        let array: Int64Array = nullable(longs);
        check(T::Long, Arc::new(array), datums(), &["identity", "bucket[16]"]);
        let cut = [i64::MIN + 808, -86_400_000_001, -1, 0, 1, i64::MAX];
        let array: Int64Array = nullable(cut);
        check(
            T::Long,
            Arc::new(array),
            cut.map(Datum::Long).to_vec(),
            &["truncate[1000]"],
        );
        let array: Time64MicrosecondArray = nullable(longs);
        check(T::Time, Arc::new(array), datums(), &["identity", "bucket[16]"]);
        let array: TimestampMicrosecondArray = nullable(longs);
        let transforms = ["identity", "bucket[16]", "year", "month", "day"];
        check(T::Timestamp, Arc::new(array), datums(), &transforms);
        let array: TimestampNanosecondArray = nullable(longs);
        let transforms = ["identity", "bucket[16]", "year", "month", "day", "hour"];
        check(
            T::TimestamptzNs,
            Arc::new(array.with_timezone("UTC")),
            datums(),
            &transforms,
        );
        let decimals = [-99_999, -1, 0, 1, 127, 128, 99_999];
        let array: Decimal128Array = nullable(decimals);
        check(
            T::Decimal { precision: 9, scale: 2 },
            Arc::new(array.with_precision_and_scale(9, 2).unwrap()),
            decimals.map(Datum::Decimal).to_vec(),
            &["identity", "bucket[16]", "truncate[50]"],
        );
    }

    #[test]
    fn columns_of_text_and_bytes_are_transformed_as_single_values_are() {
        let texts = ["", "a", "\u{e9}\u{1f600}x", "iceberg"];
        let transforms = ["identity", "bucket[16]", "truncate[2]"];
        let array: StringArray = nullable(texts);
        check(
            T::String,
            Arc::new(array),
            texts.map(|text| Datum::String(text.to_owned())).to_vec(),
            &transforms,
        );
        let array: BinaryArray = nullable(texts.map(str::as_bytes));
        let bytes = || texts.map(|text| Datum::Bytes(text.into())).to_vec();
        check(T::Binary, Arc::new(array), bytes(), &transforms);
        let uuids = [[0_u8; 16], [0x80; 16]];
        let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids.map(Some).into_iter().chain([None]), 16);
        let datums = uuids.map(|uuid| Datum::Bytes(uuid.to_vec())).to_vec();
        check(T::Uuid, Arc::new(array.unwrap()), datums, &["identity", "bucket[16]"]);
    }

    #[test]
    fn zeros_are_apart_and_nan_is_one() {
        let negative_nan = f64::from_bits(0xfff8_0000_0000_0001);
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, negative_nan, f64::NAN]));
        let found = values("identity", &column(T::Double, doubles)).unwrap();
        let bits: Vec<u64> = found
            .into_iter()
            .map(|value| match value {
                Some(Datum::Double(value)) => value.to_bits(),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [-0.0, 0.0, f64::NAN, f64::NAN].map(f64::to_bits);
        assert_eq!(bits, expected);
    }

    #[test]
    fn what_is_beyond_the_type_of_the_partition_is_data_at_fault() {
        let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]));
        let error = values("hour", &column(T::Timestamp, far)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let small = Decimal128Array::from(vec![-99]).with_precision_and_scale(2, 0).unwrap();
        let decimal = T::Decimal { precision: 2, scale: 0 };
        let error = values("truncate[100]", &column(decimal, Arc::new(small))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        // The least multiples of the widths are 8 and 808 above.
        for near in [0, 7] {
            let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, i32::MIN + near]));
            let error = values("truncate[10]", &column(T::Int, ints)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains(&(i32::MIN + near).to_string()), "{error}");
        }
        for near in [0, 807] {
            let longs: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MIN + near), None]));
            let error = values("truncate[1000]", &column(T::Long, longs)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
        }
    }

    #[test]
    fn what_hides_behind_a_null_is_cut_by_nobody() {
        let ints = Int32Array::new(vec![i32::MIN, 11].into(), Some(NullBuffer::from(vec![false, true])));
        let found = values("truncate[10]", &column(T::Int, Arc::new(ints))).unwrap();
        assert_eq!(found, [None, Some(Datum::Int(10))]);
    }

    #[test]
    fn a_column_in_a_struct_is_null_where_the_struct_is() {
        let schema = Schema::from_json(&json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                {"id": 5, "name": "a", "required": false, "type": "int"}]}}]}))
        .unwrap();
        let arrow = arrow_schema(&schema);
        let DataType::Struct(parts) = arrow.field(0).data_type() else {
            panic!("{arrow}")
        };
        let values = Int32Array::from(vec![Some(1), None, Some(3)]);
        let nulls = NullBuffer::from(vec![true, true, false]);
        let column = StructArray::new(parts.clone(), vec![Arc::new(values)], Some(nulls));
        let rows = RecordBatch::try_new(arrow, vec![Arc::new(column)]).unwrap();
        let partitioner = SpecPartitioner::new(&spec(&[(5, "identity")]), &schema)
            .unwrap()
            .unwrap();
        let values = |rows: &RecordBatch| {
            partitioner.columns(rows).unwrap()[0]
                .as_primitive::<Int32Type>()
                .clone()
        };
        assert_eq!(values(&rows), Int32Array::from(vec![Some(1), None, None]));
        assert_eq!(values(&rows.slice(1, 2)), Int32Array::from(vec![None, None]));
        assert!(!partitioner.follows(0, "s") && !partitioner.follows(0, "a"));
    }

    #[test]
    fn what_keeps_the_order_of_its_column_follows_it() {
        let field = |id: i32, name: &str, primitive: T| NestedField::optional(id, name, primitive.into());
        let schema = Schema::new(vec![
            field(1, "ts", T::Timestamp),
            field(2, "f", T::Double),
            field(3, "s", T::String),
        ]);
        let spec = spec(&[
            (1, "hour"),
            (1, "bucket[2]"),
            (2, "identity"),
            (3, "truncate[1]"),
            (9, "void"),
        ]);
        let partitioner = SpecPartitioner::new(&spec, &schema).unwrap().unwrap();
        let following = |column: &str| -> Vec<usize> { (0..6).filter(|i| partitioner.follows(*i, column)).collect() };
        assert_eq!(following("ts"), [0, 4]);
        assert_eq!(following("f"), [4]);
        assert_eq!(following("s"), [3, 4]);
        assert_eq!(
            partitioner.id(),
            "3 1000=hour([1]:timestamp) 1001=bucket[2]([1]:timestamp) 1002=identity([2]:double) \
             1003=truncate[1]([3]:string) 1004=void([9]:gone)"
        );
    }

    #[test]
    fn a_table_without_partitions_has_no_partitioner_and_unknown_ones_are_refused() {
        let schema = Schema::new(vec![NestedField::optional(1, "c", T::Int.into())]);
        for fields in [&[][..], &[(1, "void")]] {
            assert!(SpecPartitioner::new(&spec(fields), &schema).unwrap().is_none());
        }
        let error = SpecPartitioner::new(&spec(&[(1, "zorder")]), &schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("zorder"), "{error}");
    }

    #[test]
    fn values_of_files_are_of_their_columns_only() {
        let column = |primitive| PartitionColumn {
            field_id: 1000,
            name: "p".to_owned(),
            primitive,
        };
        let bytes = |bytes: &[u8]| data_file::Datum::Bytes(bytes.to_vec());
        let decimal = T::Decimal { precision: 9, scale: 2 };
        assert_eq!(column(decimal).of_file(&bytes(&[0xff; 16])), Some(Datum::Decimal(-1)));
        assert_eq!(column(T::String).of_file(&bytes(&[0xff])), None);
        assert_eq!(column(T::Uuid).of_file(&bytes(&[1])), None);
        assert_eq!(column(T::Long).of_file(&data_file::Datum::Int32(1)), None);
    }
}
