//! What may become of the columns of a table that is there.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, SchemaRef};

use crate::options::Evolve;

/// What the format and the settings of a table let become of its columns, without its files being written anew.
#[derive(Clone, Debug)]
pub struct Evolution {
    /// Whether a new column may have this type, or have it at any depth.
    pub adds: fn(&DataType) -> bool,
    /// Whether a column of the first type may become one of the second, which holds all its values.
    pub widens: fn(&DataType, &DataType) -> bool,
    /// Columns, by path (`id`, `address.zip`, `tags.element`), that keep type and nullability.
    pub fixed: BTreeSet<String>,
    /// Names, at the top, that no new column may have, since the format has a meaning for them.
    pub reserved: BTreeSet<String>,
}

impl Default for Evolution {
    /// Columns of any type are added, none is widened.
    fn default() -> Self {
        Self {
            adds: |_| true,
            widens: |_, _| false,
            fixed: BTreeSet::new(),
            reserved: BTreeSet::new(),
        }
    }
}

impl Evolution {
    /// Whether a new column may have this path.
    pub(crate) fn lets_name(&self, path: &str) -> bool {
        !self.reserved.contains(path)
    }

    /// Whether a new column may have this type, with all that is in it.
    pub(crate) fn lets_add(&self, data_type: &DataType) -> bool {
        (self.adds)(data_type)
            && match data_type {
                DataType::List(item) | DataType::Map(item, _) => self.lets_add(item.data_type()),
                DataType::Struct(fields) => fields.iter().all(|field| self.lets_add(field.data_type())),
                _ => true,
            }
    }
}

/// The columns of a table, and how they may follow those of files.
#[derive(Clone, Debug)]
pub struct TableColumns {
    /// Its columns.
    pub schema: SchemaRef,
    /// What its owner allows.
    pub evolve: Evolve,
    /// What the table allows.
    pub evolution: Evolution,
}
