//! Which changes of a column's type a reader can follow (Delta protocol, "Type Widening"). Pure.

use arrow::datatypes::DataType;
use serde_json::Value;

use super::schema::parse_primitive;

/// What of the changes that a column's metadata list cannot be followed.
pub(super) fn unknown_changes(changes: &Value) -> Vec<String> {
    let Value::Array(changes) = changes else {
        return vec![changes.to_string()];
    };
    let unknown = changes.iter().filter(|change| !is_known(change));
    unknown.map(Value::to_string).collect()
}

fn is_known(change: &Value) -> bool {
    let primitive = |name: &str| parse_primitive(change.get(name)?.as_str()?);
    let (Some(from), Some(to)) = (primitive("fromType"), primitive("toType")) else {
        return false;
    };
    match (integer_digits(&from), &from, &to) {
        // To a wider integer, to a double that holds it, to a decimal with at least as many digits before the point.
        (Some(digits), _, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            integer_digits(&to).is_some_and(|wider| wider > digits)
        }
        (Some(_), from, DataType::Float64) => *from != DataType::Int64,
        (Some(digits), _, DataType::Decimal128(precision, scale)) => {
            i16::from(*precision) - i16::from(*scale) >= digits.max(10)
        }
        (_, DataType::Decimal128(p, s), DataType::Decimal128(precision, scale)) => {
            scale >= s && i16::from(*precision) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
        }
        (_, DataType::Float32, DataType::Float64) | (_, DataType::Date32, DataType::Timestamp(_, None)) => true,
        _ => false,
    }
}

/// Decimal digits that an integer may have.
fn integer_digits(data_type: &DataType) -> Option<i16> {
    match data_type {
        DataType::Int8 => Some(3),
        DataType::Int16 => Some(5),
        DataType::Int32 => Some(10),
        DataType::Int64 => Some(20),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_of_the_protocol_are_known_and_no_others() {
        let known = |from: &str, to: &str| {
            let change = json!({"fromType": from, "toType": to, "tableVersion": 1});
            unknown_changes(&json!([change])).is_empty()
        };
        for (from, to) in [
            ("byte", "short"),
            ("byte", "long"),
            ("integer", "long"),
            ("integer", "double"),
            ("short", "decimal(10,0)"),
            ("integer", "decimal(12,2)"),
            ("long", "decimal(20,0)"),
            ("decimal(5,2)", "decimal(7,4)"),
            ("float", "double"),
            ("date", "timestamp_ntz"),
        ] {
            assert!(known(from, to), "{from} to {to}");
        }
        for (from, to) in [
            ("long", "integer"),
            ("long", "double"),
            ("long", "decimal(19,0)"),
            ("byte", "decimal(9,0)"),
            ("decimal(5,2)", "decimal(6,4)"),
            ("decimal(5,2)", "decimal(9,1)"),
            ("double", "float"),
            ("date", "timestamp"),
            ("timestamp", "long"),
            ("string", "integer"),
            ("integer", "integer"),
            ("else", "long"),
        ] {
            assert!(!known(from, to), "{from} to {to}");
        }
        assert_eq!(unknown_changes(&json!("x")), ["\"x\""]);
        assert_eq!(unknown_changes(&json!([{}])), ["{}"]);
    }
}
