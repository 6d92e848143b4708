//! Which metrics a table wants of which columns (Iceberg, "Configuration", `write.metadata.metrics.*`).

use std::collections::BTreeMap;

use crate::iceberg::schema::{NestedField, Schema};
use crate::iceberg::types::Type;

/// Characters of a text, or bytes, that bounds have where a table says nothing.
pub const DEFAULT_TRUNCATE_LENGTH: usize = 16;

/// Columns that have metrics where a table says nothing.
pub const DEFAULT_MAX_INFERRED_COLUMNS: usize = 100;

const DEFAULT_KEY: &str = "write.metadata.metrics.default";
const COLUMN_KEY: &str = "write.metadata.metrics.column.";
const MAX_INFERRED_KEY: &str = "write.metadata.metrics.max-inferred-column-defaults";

/// Which metrics a column has in manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricsMode {
    /// None at all.
    None,
    /// Sizes and counts.
    Counts,
    /// Bounds too, texts and bytes of at most this length, which is not 0.
    Truncate(usize),
    /// Bounds as they are.
    Full,
}

impl MetricsMode {
    const DEFAULT: Self = Self::Truncate(DEFAULT_TRUNCATE_LENGTH);

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "none" => Some(Self::None),
            "counts" => Some(Self::Counts),
            "full" => Some(Self::Full),
            _ => {
                let length = text.strip_prefix("truncate(")?.strip_suffix(')')?;
                length.parse().ok().filter(|length| *length > 0).map(Self::Truncate)
            }
        }
    }
}

/// Which metrics the columns of a table have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    default: MetricsMode,
    columns: BTreeMap<i32, MetricsMode>,
}

impl MetricsConfig {
    /// What the table's properties ask for. As in Java, a mode that cannot be understood is that of all columns,
    /// and where no mode of all columns is given, the first 100 have one: those of a level before those within.
    pub fn from_properties(properties: &BTreeMap<String, String>, schema: &Schema) -> Self {
        let mut leaves = Vec::new();
        collect_leaves(&schema.fields, "", &mut leaves);
        let limit = properties
            .get(MAX_INFERRED_KEY)
            .and_then(|limit| limit.trim().parse().ok());
        let limit = limit.unwrap_or(DEFAULT_MAX_INFERRED_COLUMNS);
        let given = properties.get(DEFAULT_KEY);
        let default = match given.map(|text| MetricsMode::parse(text).unwrap_or(MetricsMode::DEFAULT)) {
            Some(mode) => mode,
            None if leaves.len() <= limit => MetricsMode::DEFAULT,
            None => MetricsMode::None,
        };
        let mut columns = BTreeMap::new();
        if given.is_none() && default == MetricsMode::None {
            let first = leaves.iter().take(limit);
            columns.extend(first.map(|(field_id, _)| (*field_id, MetricsMode::DEFAULT)));
        }
        for (field_id, name) in leaves {
            if let Some(text) = properties.get(&format!("{COLUMN_KEY}{name}")) {
                columns.insert(field_id, MetricsMode::parse(text).unwrap_or(default));
            }
        }
        Self { default, columns }
    }

    /// The mode of a column.
    pub fn mode(&self, field_id: i32) -> MetricsMode {
        self.columns.get(&field_id).copied().unwrap_or(self.default)
    }
}

/// Ids and full names of the columns that have values, those of a level before those within its groups.
fn collect_leaves(fields: &[NestedField], prefix: &str, leaves: &mut Vec<(i32, String)>) {
    let named = |field: &NestedField| (field.id, format!("{prefix}{}", field.name));
    let is_leaf = |field: &&NestedField| matches!(field.field_type, Type::Primitive(_));
    leaves.extend(fields.iter().filter(is_leaf).map(named));
    for field in fields {
        let prefix = format!("{prefix}{}.", field.name);
        match &field.field_type {
            Type::Primitive(_) => {}
            Type::Struct(group) => collect_leaves(&group.fields, &prefix, leaves),
            Type::List(list) => collect_leaves(std::slice::from_ref(&list.element), &prefix, leaves),
            Type::Map(map) => collect_leaves(&[map.key.clone(), map.value.clone()], &prefix, leaves),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iceberg::types::{PrimitiveType, StructType};

    fn config(properties: &[(&str, &str)], columns: i32) -> MetricsConfig {
        let long = || Type::Primitive(PrimitiveType::Long);
        let mut fields = vec![NestedField::optional(
            1000,
            "s",
            Type::Struct(StructType {
                fields: vec![NestedField::optional(1001, "x", long())],
            }),
        )];
        fields.extend((1..=columns).map(|id| NestedField::optional(id, format!("c{id}"), long())));
        let schema = Schema {
            fields,
            ..Schema::default()
        };
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        MetricsConfig::from_properties(&properties.collect(), &schema)
    }

    #[test]
    fn modes_are_parsed_as_java_does() {
        for (text, mode) in [
            ("none", Some(MetricsMode::None)),
            ("Counts", Some(MetricsMode::Counts)),
            ("FULL", Some(MetricsMode::Full)),
            ("truncate(32)", Some(MetricsMode::Truncate(32))),
            ("truncate(0)", None),
            ("truncate(-1)", None),
            ("truncate", None),
            ("", None),
        ] {
            assert_eq!(MetricsMode::parse(text), mode, "{text}");
        }
    }

    #[test]
    fn only_the_first_columns_of_a_wide_table_have_metrics() {
        let wide = config(&[], 100);
        assert_eq!(wide.mode(100), MetricsMode::Truncate(16));
        assert_eq!(wide.mode(1001), MetricsMode::None);
        assert_eq!(config(&[], 99).mode(1001), MetricsMode::Truncate(16));
        let narrow = config(&[(MAX_INFERRED_KEY, "1")], 2);
        assert_eq!(
            (narrow.mode(1), narrow.mode(2)),
            (MetricsMode::Truncate(16), MetricsMode::None)
        );
        assert_eq!(config(&[(DEFAULT_KEY, "full")], 200).mode(200), MetricsMode::Full);
    }

    #[test]
    fn what_cannot_be_understood_falls_back() {
        let odd = config(
            &[
                (DEFAULT_KEY, "counts"),
                ("write.metadata.metrics.column.c1", "nonsense"),
                ("write.metadata.metrics.column.s.x", "truncate(4)"),
            ],
            2,
        );
        assert_eq!(odd.mode(1), MetricsMode::Counts);
        assert_eq!(odd.mode(1001), MetricsMode::Truncate(4));
        assert_eq!(
            config(&[(DEFAULT_KEY, "nonsense")], 2).mode(1),
            MetricsMode::Truncate(16)
        );
    }
}
