//! Summaries of the partitions in a manifest.

use std::cmp::Ordering;

use super::model::FieldSummary;
use crate::iceberg::datum::Datum;
use crate::iceberg::partition_column::PartitionColumn;

/// Sums up the values of one partition field.
#[derive(Debug, Default)]
pub(in crate::iceberg) struct SummaryBuilder {
    contains_null: bool,
    contains_nan: bool,
    bounds: Option<(Datum, Datum)>,
}

impl SummaryBuilder {
    /// Adds the value of a file. All values of a field are of its type.
    pub(in crate::iceberg) fn add(&mut self, value: Option<&Datum>) {
        let value = match value {
            None => return self.contains_null = true,
            Some(Datum::Float(value)) if value.is_nan() => return self.contains_nan = true,
            Some(Datum::Double(value)) if value.is_nan() => return self.contains_nan = true,
            Some(value) => value,
        };
        match &mut self.bounds {
            None => self.bounds = Some((value.clone(), value.clone())),
            Some((lower, upper)) => {
                if is_less(value, lower) {
                    *lower = value.clone();
                }
                if is_less(upper, value) {
                    *upper = value.clone();
                }
            }
        }
    }

    /// The summary of what has been added.
    pub(in crate::iceberg) fn build(self, column: &PartitionColumn) -> FieldSummary {
        let bytes = |value: Datum| value.bytes_as(column.primitive);
        let (lower_bound, upper_bound) = match self.bounds {
            Some((lower, upper)) => (bytes(with_zero(lower, -0.0)), bytes(with_zero(upper, 0.0))),
            None => (None, None),
        };
        FieldSummary {
            contains_null: self.contains_null,
            contains_nan: Some(self.contains_nan),
            lower_bound,
            upper_bound,
        }
    }
}

fn is_less(a: &Datum, b: &Datum) -> bool {
    a.compare(b) == Some(Ordering::Less)
}

/// Readers do not agree whether the zeros are one, so that a bound takes the sign that includes both.
fn with_zero(value: Datum, zero: f32) -> Datum {
    match value {
        Datum::Float(0.0) => Datum::Float(zero),
        Datum::Double(0.0) => Datum::Double(zero.into()),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iceberg::types::PrimitiveType;

    fn summary(primitive: PrimitiveType, values: &[Option<Datum>]) -> FieldSummary {
        let mut builder = SummaryBuilder::default();
        for value in values {
            builder.add(value.as_ref());
        }
        builder.build(&PartitionColumn {
            field_id: 1000,
            name: "p".to_owned(),
            primitive,
        })
    }

    #[test]
    fn bounds_hold_all_values_and_nulls_are_told() {
        let text = |text: &str| Some(Datum::String(text.to_owned()));
        assert_eq!(
            summary(PrimitiveType::String, &[text("b"), None, text("ä"), text("a")]),
            FieldSummary {
                contains_null: true,
                contains_nan: Some(false),
                lower_bound: Some(b"a".to_vec()),
                upper_bound: Some("ä".as_bytes().to_vec()),
            }
        );
        assert_eq!(
            summary(PrimitiveType::Int, &[Some(Datum::Int(-1)), Some(Datum::Int(3))]),
            FieldSummary {
                contains_null: false,
                contains_nan: Some(false),
                lower_bound: Some((-1_i32).to_le_bytes().to_vec()),
                upper_bound: Some(3_i32.to_le_bytes().to_vec()),
            }
        );
    }

    #[test]
    fn nan_is_told_and_no_bound_and_zeros_are_both_included() {
        let nan = Some(Datum::Double(f64::NAN));
        let only_nan = summary(PrimitiveType::Double, std::slice::from_ref(&nan));
        assert_eq!((only_nan.contains_nan, only_nan.lower_bound), (Some(true), None));
        let zero = summary(PrimitiveType::Double, &[nan, Some(Datum::Double(0.0))]);
        assert_eq!(zero.lower_bound, Some((-0.0_f64).to_le_bytes().to_vec()));
        assert_eq!(zero.upper_bound, Some(0.0_f64.to_le_bytes().to_vec()));
    }
}
