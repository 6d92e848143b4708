//! Statistics of a data file as Delta wants them (Delta protocol, "Per-file Statistics"): never wrong, at
//! most absent. Pure.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields, Schema};
use chrono::{DateTime, Datelike, Days, NaiveDate};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::stats_columns::StatsColumns;
use crate::data_file::{Bound, ColumnMetrics, DataFile, Datum};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::stored_name;

/// Characters that are kept of a string, as Spark does.
const STRING_PREFIX: usize = 32;

/// The `stats` of a file.
///
/// `table` is the table's schema, which says what the metrics' physical values mean.
pub(super) fn file_stats(file: &DataFile, table: &Schema, columns: &StatsColumns) -> Result<String> {
    let metrics = file.columns.iter().map(|c| (c.path.as_slice(), c)).collect();
    let mut collector = Collector {
        metrics,
        columns,
        next_leaf: 0,
        path: Vec::new(),
        stored: Vec::new(),
    };
    let stats = collector.fields(table.fields());
    let stats = FileStats {
        num_records: file.rows,
        min_values: stats.min,
        max_values: stats.max,
        null_count: stats.null_count,
        tight_bounds: columns.tight_bounds.then_some(true),
    };
    serde_json::to_string(&stats)
        .map_err(|e| Error::new(ErrorKind::Internal, "statistics cannot be encoded").with_source(e))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileStats {
    num_records: u64,
    min_values: Group,
    max_values: Group,
    null_count: Group,
    #[serde(skip_serializing_if = "Option::is_none")]
    tight_bounds: Option<bool>,
}

/// Values nested like the schema, in its order.
#[derive(Default)]
struct Group(Vec<(String, Node)>);

enum Node {
    Leaf(Box<RawValue>),
    Group(Group),
}

impl Group {
    fn push(&mut self, name: &str, value: Option<Box<RawValue>>) {
        self.0.extend(value.map(|value| (name.to_owned(), Node::Leaf(value))));
    }

    fn push_group(&mut self, name: &str, group: Self) {
        if !group.0.is_empty() {
            self.0.push((name.to_owned(), Node::Group(group)));
        }
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, node) in &self.0 {
            match node {
                Node::Leaf(value) => map.serialize_entry(name, value)?,
                Node::Group(group) => map.serialize_entry(name, group)?,
            }
        }
        map.end()
    }
}

#[derive(Default)]
struct Groups {
    min: Group,
    max: Group,
    null_count: Group,
}

struct Collector<'a> {
    metrics: HashMap<&'a [String], &'a ColumnMetrics>,
    columns: &'a StatsColumns,
    next_leaf: i64,
    /// Where it is in the table, and in files.
    path: Vec<String>,
    stored: Vec<String>,
}

impl Collector<'_> {
    fn fields(&mut self, fields: &Fields) -> Groups {
        let mut groups = Groups::default();
        for field in fields {
            let name = stored_name(field);
            self.path.push(field.name().clone());
            self.stored.push(name.to_owned());
            if let DataType::Struct(inner) = field.data_type() {
                let inner = self.fields(inner);
                groups.min.push_group(name, inner.min);
                groups.max.push_group(name, inner.max);
                groups.null_count.push_group(name, inner.null_count);
            } else {
                // A list or a map is one leaf, as in Spark; its own nulls cannot be told from its items'.
                let leaf = self.next_leaf;
                self.next_leaf += 1;
                if let Some(metrics) = self.metrics.get(self.stored.as_slice())
                    && self.columns.covers(&self.path, &self.stored, leaf)
                {
                    let (min, max) = bounds(metrics, field.data_type());
                    groups.min.push(name, min);
                    groups.max.push(name, max);
                    groups
                        .null_count
                        .push(name, metrics.null_count.and_then(|n| raw(n.to_string())));
                }
            }
            self.path.pop();
            self.stored.pop();
        }
        groups
    }
}

type Bounds = (Option<Box<RawValue>>, Option<Box<RawValue>>);

fn bounds(metrics: &ColumnMetrics, data_type: &DataType) -> Bounds {
    let (lower, upper) = (metrics.lower.as_ref(), metrics.upper.as_ref());
    match data_type {
        // NaN is greater than anything to Delta, and JSON has neither it nor infinity.
        DataType::Float32 | DataType::Float64 => {
            match (metrics.nan_count, lower.and_then(float), upper.and_then(float)) {
                (Some(0), Some(min), Some(max)) => (float_text(min, -0.0), float_text(max, 0.0)),
                _ => (None, None),
            }
        }
        DataType::Utf8 => (lower.and_then(string_min), upper.and_then(string_max)),
        _ => (
            lower.and_then(|bound| exact(bound, data_type)),
            upper.and_then(|bound| exact(bound, data_type)),
        ),
    }
}

fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

fn quoted(text: &str) -> Option<Box<RawValue>> {
    raw(serde_json::to_string(text).ok()?)
}

/// A finite bound that is a value of a row. `f32` is widened, so that a reader that parses it as `f64` gets
/// no smaller value than one that does not.
fn float(bound: &Bound) -> Option<f64> {
    let value = match bound.value {
        Datum::Float(value) => f64::from(value),
        Datum::Double(value) => value,
        _ => return None,
    };
    (bound.exact && value.is_finite()).then_some(value)
}

/// Zero takes the sign that includes both zeros.
fn float_text(value: f64, zero: f64) -> Option<Box<RawValue>> {
    let value = if value == 0.0 { zero } else { value };
    raw(serde_json::to_string(&value).ok()?)
}

fn exact(bound: &Bound, data_type: &DataType) -> Option<Box<RawValue>> {
    if !bound.exact {
        return None;
    }
    match (data_type, &bound.value) {
        (DataType::Int8 | DataType::Int16 | DataType::Int32, Datum::Int32(value)) => raw(value.to_string()),
        (DataType::Int64, Datum::Int64(value)) => raw(value.to_string()),
        (DataType::Date32, Datum::Int32(days)) => quoted(&date_text(*days)?),
        (DataType::Timestamp(_, zone), Datum::Int64(micros)) => quoted(&timestamp_text(*micros, zone.is_some())?),
        (DataType::Decimal128(_, scale), value) => raw(decimal_text(unscaled(value)?, *scale)?),
        _ => None,
    }
}

/// Readers parse four digits of a year, and all since year 1.
pub(super) fn common_year(date: NaiveDate) -> Option<NaiveDate> {
    (1..=9999).contains(&date.year()).then_some(date)
}

pub(super) fn date_text(days: i32) -> Option<String> {
    let distance = Days::new(days.unsigned_abs().into());
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let date = if days < 0 {
        epoch.checked_sub_days(distance)
    } else {
        epoch.checked_add_days(distance)
    };
    Some(common_year(date?)?.format("%Y-%m-%d").to_string())
}

/// Truncated down to milliseconds for both bounds, as the protocol says: readers widen by one millisecond.
fn timestamp_text(micros: i64, utc: bool) -> Option<String> {
    let time = DateTime::from_timestamp_millis(micros.div_euclid(1_000))?;
    common_year(time.date_naive())?;
    let format = if utc {
        "%Y-%m-%dT%H:%M:%S%.3fZ"
    } else {
        "%Y-%m-%dT%H:%M:%S%.3f"
    };
    Some(time.format(format).to_string())
}

pub(super) fn unscaled(value: &Datum) -> Option<i128> {
    match value {
        Datum::Int32(value) => Some((*value).into()),
        Datum::Int64(value) => Some((*value).into()),
        Datum::Bytes(bytes) => {
            let first = *bytes.first()?;
            let sign = if first & 0x80 == 0 { 0 } else { 0xFF };
            let (extra, digits) = bytes.split_at(bytes.len().saturating_sub(16));
            if extra.iter().any(|byte| *byte != sign) {
                return None;
            }
            // Extra sign bytes are only extra where the rest has the same sign.
            let rest_sign = if digits.first()? & 0x80 == 0 { 0 } else { 0xFF };
            let fill = if sign == 0 { 0 } else { -1 };
            let value = digits
                .iter()
                .fold(fill, |value: i128, byte| value << 8 | i128::from(*byte));
            (rest_sign == sign).then_some(value)
        }
        Datum::Boolean(_) | Datum::Float(_) | Datum::Double(_) => None,
    }
}

/// The digits of a decimal as a JSON number, never by way of a float.
pub(super) fn decimal_text(unscaled: i128, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len().checked_sub(scale)?)?;
    let sign = if unscaled < 0 { "-" } else { "" };
    Some(if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

fn text(bound: &Bound) -> Option<&str> {
    match &bound.value {
        Datum::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn string_min(bound: &Bound) -> Option<Box<RawValue>> {
    let text = text(bound)?;
    let prefix = text
        .char_indices()
        .nth(STRING_PREFIX)
        .map_or(text, |(end, _)| text.get(..end).unwrap_or(text));
    quoted(prefix)
}

/// The prefix, and a character that is greater than the one that was cut off. That it is the smallest of
/// two such characters is Spark's, for readers that cannot deal with the greatest of all.
fn string_max(bound: &Bound) -> Option<Box<RawValue>> {
    let text = text(bound)?;
    for (count, (end, c)) in text.char_indices().enumerate().skip(STRING_PREFIX) {
        if count >= 2 * STRING_PREFIX {
            return None;
        }
        if c == char::MAX {
            continue;
        }
        let tie_breaker = if c < '\u{7f}' { '\u{7f}' } else { char::MAX };
        return quoted(&format!("{}{tie_breaker}", text.get(..end)?));
    }
    // Up to 32 characters, or nothing but the greatest of all after them.
    (text.chars().count() <= 2 * STRING_PREFIX).then(|| quoted(text))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, TimeUnit};
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a metric's bound is optional")]
    fn bound(value: Datum, exact: bool) -> Option<Bound> {
        Some(Bound { value, exact })
    }

    fn column(path: &[&str], lower: Option<Bound>, upper: Option<Bound>) -> ColumnMetrics {
        ColumnMetrics {
            field_id: None,
            path: path.iter().map(|p| (*p).to_owned()).collect(),
            compressed_size: 1,
            value_count: 3,
            null_count: Some(1),
            nan_count: Some(0),
            lower,
            upper,
        }
    }

    fn stats(data_type: DataType, metrics: ColumnMetrics) -> Value {
        let schema = Schema::new(vec![Field::new("c", data_type, true)]);
        let file = DataFile {
            path: String::new(),
            size: 1,
            rows: 3,
            columns: vec![metrics],
            split_offsets: Vec::new(),
            sorted: true,
            partition: None,
        };
        serde_json::from_str(&file_stats(&file, &schema, &StatsColumns::default()).unwrap()).unwrap()
    }

    fn min_max(data_type: DataType, lower: Datum, upper: Datum) -> (Value, Value) {
        let stats = stats(data_type, column(&["c"], bound(lower, true), bound(upper, true)));
        (stats["minValues"]["c"].clone(), stats["maxValues"]["c"].clone())
    }

    #[test]
    fn bounds_are_written_as_spark_writes_them() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(
            min_max(utc.clone(), Datum::Int64(-1), Datum::Int64(1_704_070_923_456_789)),
            (json!("1969-12-31T23:59:59.999Z"), json!("2024-01-01T01:02:03.456Z"))
        );
        assert_eq!(
            min_max(
                DataType::Timestamp(TimeUnit::Microsecond, None),
                Datum::Int64(0),
                Datum::Int64(i64::MAX)
            ),
            (json!("1970-01-01T00:00:00.000"), Value::Null)
        );
        assert_eq!(
            min_max(DataType::Date32, Datum::Int32(-719_162), Datum::Int32(2_932_896)),
            (json!("0001-01-01"), json!("9999-12-31"))
        );
        assert_eq!(
            min_max(DataType::Date32, Datum::Int32(-719_163), Datum::Int32(i32::MAX)),
            (Value::Null, Value::Null)
        );
        assert_eq!(
            min_max(DataType::Int8, Datum::Int32(-128), Datum::Int32(127)),
            (json!(-128), json!(127))
        );
        assert_eq!(
            min_max(DataType::Boolean, Datum::Boolean(false), Datum::Boolean(true)),
            (Value::Null, Value::Null)
        );
        assert_eq!(
            min_max(DataType::Binary, Datum::Bytes(vec![1]), Datum::Bytes(vec![2])),
            (Value::Null, Value::Null)
        );
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal_text(-1, 3).unwrap(), "-0.001");
        assert_eq!(decimal_text(150, 2).unwrap(), "1.50");
        assert_eq!(decimal_text(0, 0).unwrap(), "0");
        assert_eq!(
            decimal_text(-99_999_999_999_999_999_999_999_999_999_999_999_999, 10).unwrap(),
            "-9999999999999999999999999999.9999999999"
        );
        assert_eq!(unscaled(&Datum::Bytes(vec![0xFF, 0x80])), Some(-128));
        assert_eq!(unscaled(&Datum::Bytes(vec![0x00, 0xFF])), Some(255));
        let mut wide = vec![0xFF; 17];
        assert_eq!(unscaled(&Datum::Bytes(wide.clone())), Some(-1));
        wide[1] = 0x7F;
        assert_eq!(unscaled(&Datum::Bytes(wide)), None);
        assert_eq!(unscaled(&Datum::Bytes(Vec::new())), None);
        let file = stats(
            DataType::Decimal128(38, 10),
            column(&["c"], bound(Datum::Bytes(vec![1]), true), None),
        );
        assert_eq!(file["minValues"]["c"].to_string(), "1e-10");
    }

    #[test]
    fn floats_have_bounds_only_when_all_are_finite() {
        let metrics = |nan_count, lower, upper| ColumnMetrics {
            nan_count,
            ..column(
                &["c"],
                bound(Datum::Double(lower), true),
                bound(Datum::Double(upper), true),
            )
        };
        let of = |metrics| {
            let stats = stats(DataType::Float64, metrics);
            (stats["minValues"]["c"].to_string(), stats["maxValues"]["c"].to_string())
        };
        let none = ("null".to_owned(), "null".to_owned());
        assert_eq!(of(metrics(Some(0), 1.5, 2.5)), ("1.5".to_owned(), "2.5".to_owned()));
        assert_eq!(of(metrics(Some(0), 0.0, -0.0)), ("-0.0".to_owned(), "0.0".to_owned()));
        assert_eq!(of(metrics(Some(1), 1.5, 2.5)), none);
        assert_eq!(of(metrics(None, 1.5, 2.5)), none);
        assert_eq!(of(metrics(Some(0), f64::NEG_INFINITY, 2.5)), none);
        assert_eq!(of(metrics(Some(0), 1.5, f64::INFINITY)), none);
        let (min, max) = min_max(DataType::Float32, Datum::Float(0.1), Datum::Float(0.1));
        assert_eq!((min, max), (json!(f64::from(0.1_f32)), json!(f64::from(0.1_f32))));
    }

    #[test]
    fn long_strings_are_cut_so_that_the_bounds_hold() {
        let of = |text: &str| {
            let bytes = || Datum::Bytes(text.as_bytes().to_vec());
            let (min, max) = min_max(DataType::Utf8, bytes(), bytes());
            if let (Some(min), Some(max)) = (min.as_str(), max.as_str()) {
                assert!(min <= text && max >= text, "{text}");
            }
            (min.as_str().map(str::to_owned), max.as_str().map(str::to_owned))
        };
        let a32 = "a".repeat(32);
        assert_eq!(of(&a32), (Some(a32.clone()), Some(a32.clone())));
        assert_eq!(
            of(&format!("{a32}b")),
            (Some(a32.clone()), Some(format!("{a32}\u{7f}")))
        );
        assert_eq!(of(&format!("{a32}\u{7f}")).1, Some(format!("{a32}\u{10ffff}")));
        assert_eq!(of(&format!("{a32}é")).1, Some(format!("{a32}\u{10ffff}")));
        let top = char::MAX.to_string();
        assert_eq!(of(&format!("{a32}{top}b")).1, Some(format!("{a32}{top}\u{7f}")));
        assert_eq!(of(&format!("{a32}{top}")).1, Some(format!("{a32}{top}")));
        assert_eq!(of(&format!("{a32}{}", top.repeat(40))), (Some(a32), None));
        assert_eq!(of(&"é".repeat(33)).0, Some("é".repeat(32)));
    }

    #[test]
    fn bounds_that_no_row_has_are_left_out_except_of_strings() {
        let long = "x".repeat(64);
        let text = stats(
            DataType::Utf8,
            column(&["c"], bound(Datum::Bytes(long.into_bytes()), false), None),
        );
        assert_eq!(text["minValues"]["c"], json!("x".repeat(32)));
        let number = stats(DataType::Int64, column(&["c"], bound(Datum::Int64(1), false), None));
        assert_eq!(number["minValues"], json!({}));
        let cut = stats(
            DataType::Utf8,
            column(&["c"], bound(Datum::Bytes(vec![b'a', 0xC3]), false), None),
        );
        assert_eq!(cut["minValues"], json!({}));
    }

    #[test]
    fn nested_columns_are_nested_and_lists_have_no_statistics() {
        let int = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = Schema::new(vec![
            Field::new("s", DataType::Struct(Fields::from(vec![int("a"), int("b")])), true),
            Field::new("l", DataType::List(Arc::new(int("element"))), true),
        ]);
        let of = |path: &[&str]| column(path, bound(Datum::Int64(1), true), bound(Datum::Int64(2), true));
        let file = DataFile {
            path: String::new(),
            size: 1,
            rows: 3,
            columns: vec![of(&["s", "a"]), of(&["l", "list", "element"])],
            split_offsets: Vec::new(),
            sorted: true,
            partition: None,
        };
        let text = file_stats(&file, &schema, &StatsColumns::default()).unwrap();
        assert_eq!(
            text,
            r#"{"numRecords":3,"minValues":{"s":{"a":1}},"maxValues":{"s":{"a":2}},"nullCount":{"s":{"a":1}}}"#
        );
    }
}
