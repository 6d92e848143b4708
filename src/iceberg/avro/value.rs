//! Values between the file and the structs.

use std::mem;

use super::error::AvroError;

/// A value of a file, without what only its schema knows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::iceberg) enum Value {
    Array(Vec<Self>),
    Boolean(bool),
    /// `bytes` and `fixed`.
    Bytes(Vec<u8>),
    Double(f64),
    Float(f32),
    /// `int`, `long` and an enum's index: writers differ in which of the first two they take.
    Long(i64),
    Null,
    Record(Record),
    String(String),
}

/// A record by field ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::iceberg) struct Record(Vec<(i32, Value)>);

impl Record {
    /// A record with room for `fields` fields.
    pub(in crate::iceberg) fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// Adds a field that is not yet there.
    pub(in crate::iceberg) fn push(&mut self, field_id: i32, value: impl Into<Value>) {
        self.0.push((field_id, value.into()));
    }

    /// The field, `None` if it is not there or null.
    pub(in crate::iceberg) fn get(&self, field_id: i32) -> Option<&Value> {
        let (_, value) = self.0.iter().find(|(id, _)| *id == field_id)?;
        (*value != Value::Null).then_some(value)
    }

    /// Takes the field out, `None` if it is not there or null.
    pub(in crate::iceberg) fn take(&mut self, field_id: i32) -> Option<Value> {
        let (_, value) = self.0.iter_mut().find(|(id, _)| *id == field_id)?;
        match mem::replace(value, Value::Null) {
            Value::Null => None,
            value => Some(value),
        }
    }

    /// Takes a field of type `T` out, `None` if it is not there or null.
    pub(in crate::iceberg) fn optional<T: FromValue>(&mut self, field_id: i32) -> Result<Option<T>, AvroError> {
        match self.take(field_id) {
            None => Ok(None),
            Some(value) => T::from_value(value).map(Some).ok_or(AvroError::Type { field_id }),
        }
    }

    /// Takes a field of type `T` out.
    pub(in crate::iceberg) fn required<T: FromValue>(&mut self, field_id: i32) -> Result<T, AvroError> {
        self.optional(field_id)?.ok_or(AvroError::Missing { field_id })
    }
}

/// What a value can be taken as.
pub(in crate::iceberg) trait FromValue: Sized {
    /// `None` if the value is something else, or out of range.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl FromValue for $integer {
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Long(value) => Self::try_from(value).ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integers!(i32, i64, u32, u64);

macro_rules! values {
    ($($variant:ident($inner:ty)),*) => {$(
        impl FromValue for $inner {
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }

        impl From<$inner> for Value {
            fn from(value: $inner) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

values!(Boolean(bool), Bytes(Vec<u8>), Record(Record), String(String));

impl<T: FromValue> FromValue for Vec<T>
where
    T: ListItem,
{
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Array(items) => items.into_iter().map(T::from_value).collect(),
            _ => None,
        }
    }
}

impl<T: ListItem + Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// What stands in lists: all but bytes, whose `Vec` is a value of its own.
pub(in crate::iceberg) trait ListItem {}

impl ListItem for i32 {}
impl ListItem for i64 {}
impl ListItem for Record {}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Long(value.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
