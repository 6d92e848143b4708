//! The partitions of a Delta table: rows with the same values in its partition columns (Delta protocol, "Partition Value
//! Serialization"). Pure.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, new_null_array};
use arrow::compute::{cast, unary};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Fields, Float32Type, Float64Type, Schema, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::DateTime;

use super::action::Metadata;
use super::error::unsupported;
use super::schema::encode_type;
use super::stats::{common_year, date_text, decimal_text, unscaled};
use crate::data_file::{Datum, FilePartition};
use crate::error::{Error, ErrorKind, Result};
use crate::partitioning::Partitioner;
use crate::schema::stored_name;

/// The text that directories have for null, which some readers and writers take for it everywhere.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns of a table.
#[derive(Clone, Debug)]
pub(super) struct ColumnPartitioner {
    id: String,
    /// As the table has them.
    columns: Vec<Field>,
    /// As [`partition_value`](crate::partition_value) takes them.
    fields: Fields,
}

impl ColumnPartitioner {
    /// The partitions of files that are added to a table with the columns `schema`; `None` if it is not partitioned.
    ///
    /// # Errors
    ///
    /// `Unsupported` naming the column by which no table can be partitioned.
    pub(super) fn of(metadata: &Metadata, schema: &Schema) -> Result<Option<Self>> {
        if metadata.partition_columns.is_empty() {
            return Ok(None);
        }
        let (mut id, mut columns, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        for name in &metadata.partition_columns {
            let unknown = || unsupported(format!("partition column that the table has not. column=`{name}`"));
            let field = schema.field_with_name(name).map_err(|_| unknown())?;
            let held = held_type(field.data_type()).ok_or_else(|| {
                let data_type = field.data_type();
                unsupported(format!("partition column of type {data_type}. column=`{name}`"))
            })?;
            id.push(format!("{name}:{}", encode_type(field.data_type(), name)?));
            fields.push(Field::new(name, held, true));
            columns.push(field.clone());
        }
        Ok(Some(Self {
            id: id.join(","),
            columns,
            fields: fields.into(),
        }))
    }

    /// The value of each partition column of a file, by the name that it has in files, where it had any.
    pub(super) fn texts(&self, partition: &FilePartition) -> Result<Vec<(String, Option<String>)>> {
        let columns = self.columns.iter().zip(&partition.values);
        let texts = columns.map(|(column, value)| {
            let text = value.as_ref().map(|value| {
                text(value, column.data_type()).ok_or_else(|| {
                    let name = column.name();
                    Error::new(
                        ErrorKind::Internal,
                        format!("not a value of the partition column. column=`{name}`"),
                    )
                })
            });
            Ok((stored_name(column).to_owned(), text.transpose()?))
        });
        texts.collect()
    }
}

/// The type as which values are held, of a column by which a table can be partitioned. Bytes have no text that all
/// readers understand.
fn held_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Int8 | DataType::Int16 => Some(DataType::Int32),
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _)
        | DataType::Utf8 => Some(data_type.clone()),
        _ => None,
    }
}

impl Partitioner for ColumnPartitioner {
    fn id(&self) -> &str {
        &self.id
    }

    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = self.fields.iter().map(|field| {
            let Some(column) = rows.column_by_name(field.name()) else {
                return Ok(new_null_array(field.data_type(), rows.num_rows()));
            };
            let column = cast(column, field.data_type()).map_err(internal)?;
            check(field.name(), &column)?;
            Ok(match field.data_type() {
                DataType::Float32 => {
                    one_nan::<Float32Type>(&column, |value| if value.is_nan() { f32::NAN } else { value })
                }
                DataType::Float64 => {
                    one_nan::<Float64Type>(&column, |value| if value.is_nan() { f64::NAN } else { value })
                }
                _ => column,
            })
        });
        columns.collect()
    }

    /// Values have the order of their column; of floats the two zeros are apart here, and one in the order.
    fn follows(&self, field: usize, column: &str) -> bool {
        let is_float = |field: &Field| matches!(field.data_type(), DataType::Float32 | DataType::Float64);
        let field = self.fields.get(field);
        field.is_some_and(|field| field.name() == column && !is_float(field))
    }

    /// What the table says of a file is not in the file.
    fn keeps(&self, column: &str) -> bool {
        self.columns.iter().all(|field| field.name() != column)
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "partition values cannot be converted").with_source(error)
}

fn one_nan<T: ArrowPrimitiveType>(column: &ArrayRef, of: fn(T::Native) -> T::Native) -> ArrayRef {
    Arc::new(unary::<T, _, T>(column.as_primitive::<T>(), of))
}

/// That every value has a text from which it can be told.
fn check(name: &str, column: &ArrayRef) -> Result<()> {
    let outcast = |value: String, rule: &str| {
        let message = format!("{rule}. column=`{name}` value=`{value}`");
        Err(Error::new(ErrorKind::Data, message))
    };
    match column.data_type() {
        DataType::Utf8 => {
            let mut texts = column.as_string::<i32>().iter().flatten();
            if let Some(text) = texts.find(|text| text.is_empty() || *text == HIVE_NULL) {
                return outcast(text.to_owned(), "a text that cannot be told from null in a partition");
            }
        }
        DataType::Date32 => {
            let days: &Int32Array = &column.as_primitive::<Date32Type>().reinterpret_cast();
            if let Some(days) = days.iter().flatten().find(|days| date_text(*days).is_none()) {
                return outcast(days.to_string(), "only the years 1 to 9999 have text in a partition");
            }
        }
        DataType::Timestamp(..) => {
            let mut micros = column.as_primitive::<TimestampMicrosecondType>().iter().flatten();
            if let Some(micros) = micros.find(|micros| timestamp_text(*micros, true).is_none()) {
                return outcast(micros.to_string(), "only the years 1 to 9999 have text in a partition");
            }
        }
        _ => {}
    }
    Ok(())
}

fn text(value: &Datum, data_type: &DataType) -> Option<String> {
    Some(match (data_type, value) {
        (DataType::Boolean, Datum::Boolean(value)) => value.to_string(),
        (DataType::Int8 | DataType::Int16 | DataType::Int32, Datum::Int32(value)) => value.to_string(),
        (DataType::Int64, Datum::Int64(value)) => value.to_string(),
        (DataType::Float32, Datum::Float(value)) => java_text(&format!("{value:?}"), &format!("{value:E}")),
        (DataType::Float64, Datum::Double(value)) => java_text(&format!("{value:?}"), &format!("{value:E}")),
        (DataType::Date32, Datum::Int32(days)) => date_text(*days)?,
        (DataType::Timestamp(_, zone), Datum::Int64(micros)) => timestamp_text(*micros, zone.is_some())?,
        (DataType::Decimal128(_, scale), value) => decimal_text(unscaled(value)?, *scale)?,
        (DataType::Utf8, Datum::Bytes(bytes)) => String::from_utf8(bytes.clone()).ok()?,
        _ => return None,
    })
}

/// A float as Java prints it, from its plain and its scientific form in Rust.
fn java_text(plain: &str, scientific: &str) -> String {
    match plain {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        "NaN" => "NaN".to_owned(),
        _ => {
            let (mantissa, exponent) = scientific.split_once('E').unwrap_or((scientific, "0"));
            if (-3..7).contains(&exponent.parse::<i32>().unwrap_or(0)) || matches!(plain, "0.0" | "-0.0") {
                return plain.to_owned();
            }
            let point = if mantissa.contains('.') { "" } else { ".0" };
            format!("{mantissa}{point}E{exponent}")
        }
    }
}

/// To the microsecond, since all rows of the file have just this value.
fn timestamp_text(micros: i64, utc: bool) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros)?;
    common_year(time.date_naive())?;
    let format = if utc {
        "%Y-%m-%dT%H:%M:%S%.6fZ"
    } else {
        "%Y-%m-%d %H:%M:%S%.6f"
    };
    Some(time.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int16Array, StringArray};

    use super::*;
    use crate::partitioning::partition_value;

    fn partitioner(columns: Vec<Field>) -> Result<Option<ColumnPartitioner>> {
        let metadata = Metadata {
            partition_columns: columns.iter().map(|field| field.name().clone()).collect(),
            ..Metadata::default()
        };
        ColumnPartitioner::of(&metadata, &Schema::new(columns))
    }

    #[test]
    fn values_have_the_text_of_the_protocol() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (data_type, value, expected) in [
            (DataType::Boolean, Datum::Boolean(true), "true"),
            (DataType::Int8, Datum::Int32(-7), "-7"),
            (DataType::Int64, Datum::Int64(i64::MIN), "-9223372036854775808"),
            (DataType::Float64, Datum::Double(1.0), "1.0"),
            (DataType::Float64, Datum::Double(-0.0), "-0.0"),
            (DataType::Float64, Datum::Double(0.001), "0.001"),
            (DataType::Float64, Datum::Double(0.000_12), "1.2E-4"),
            (DataType::Float64, Datum::Double(9_999_999.0), "9999999.0"),
            (DataType::Float64, Datum::Double(1e7), "1.0E7"),
            (DataType::Float64, Datum::Double(f64::INFINITY), "Infinity"),
            (DataType::Float64, Datum::Double(f64::NAN), "NaN"),
            (DataType::Float32, Datum::Float(1.1), "1.1"),
            (DataType::Date32, Datum::Int32(-1), "1969-12-31"),
            (micros(Some("UTC")), Datum::Int64(-1), "1969-12-31T23:59:59.999999Z"),
            (micros(None), Datum::Int64(1), "1970-01-01 00:00:00.000001"),
            (
                DataType::Decimal128(9, 2),
                Datum::Bytes((-105_i128).to_be_bytes().to_vec()),
                "-1.05",
            ),
            (DataType::Utf8, Datum::Bytes("a=b/%\u{e9}".into()), "a=b/%\u{e9}"),
        ] {
            assert_eq!(text(&value, &data_type).as_deref(), Some(expected), "{data_type}");
        }
    }

    #[test]
    fn a_partition_is_told_by_its_texts_and_its_columns_are_not_in_files() {
        let columns = vec![
            Field::new("n", DataType::Int16, true),
            Field::new("region", DataType::Utf8, true),
        ];
        let partitioner = partitioner(columns).unwrap().unwrap();
        assert_eq!(partitioner.id(), "n:\"short\",region:\"string\"");
        assert!(!partitioner.keeps("n") && partitioner.keeps("id"));
        assert!(partitioner.follows(0, "n") && !partitioner.follows(1, "n"));
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int16Array::from(vec![Some(3), None])) as ArrayRef)]);
        let values = partitioner.columns(&rows.unwrap()).unwrap();
        let texts = |row| {
            let values = values.iter().map(|column| partition_value(column, row).unwrap());
            let partition = FilePartition {
                spec: String::new(),
                values: values.collect(),
            };
            partitioner.texts(&partition).unwrap()
        };
        let named = |n: Option<&str>| vec![("n".to_owned(), n.map(Into::into)), ("region".to_owned(), None)];
        assert_eq!((texts(0), texts(1)), (named(Some("3")), named(None)));
    }

    #[test]
    fn a_row_whose_value_has_no_text_is_in_no_partition() {
        let region = partitioner(vec![Field::new("region", DataType::Utf8, true)])
            .unwrap()
            .unwrap();
        let rows = RecordBatch::try_from_iter([("region", Arc::new(StringArray::from(vec!["a", ""])) as ArrayRef)]);
        let error = region.columns(&rows.unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("column=`region`"), "{error}");
        let score = partitioner(vec![Field::new("score", DataType::Float64, true)])
            .unwrap()
            .unwrap();
        let nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let rows = RecordBatch::try_from_iter([("score", Arc::new(Float64Array::from(vec![nan])) as ArrayRef)]);
        let values = score.columns(&rows.unwrap()).unwrap();
        let value = values[0].as_primitive::<Float64Type>().value(0);
        assert_eq!(value.to_bits(), f64::NAN.to_bits());
    }

    #[test]
    fn columns_that_cannot_partition_are_refused_by_name() {
        let error = partitioner(vec![Field::new("raw", DataType::Binary, true)]).unwrap_err();
        assert_eq!(error.to_string(), "partition column of type Binary. column=`raw`");
    }
}
