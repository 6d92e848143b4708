//! Which columns of a table have statistics, as its properties say. Pure.

use super::snapshot::Snapshot;

/// Leaf columns that have statistics where no property says otherwise.
const DEFAULT_INDEXED_COLUMNS: i64 = 32;

/// Which columns of a table have statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatsColumns {
    rule: Rule,
    /// Paths in files that have them in any case.
    always: Vec<Vec<String>>,
    /// Whether readers have to be told that bounds are values of rows.
    pub(super) tight_bounds: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// The first leaf columns; negative for all.
    First(i64),
    /// The columns with these paths, and all below them.
    Named(Vec<Vec<String>>),
}

impl Default for StatsColumns {
    fn default() -> Self {
        Self {
            rule: Rule::First(DEFAULT_INDEXED_COLUMNS),
            always: Vec::new(),
            tight_bounds: false,
        }
    }
}

impl StatsColumns {
    /// The columns that `table` wants statistics of.
    pub(super) fn of(table: &Snapshot) -> Self {
        let property = |key| table.metadata().configuration.get(key);
        let rule = match (
            property("delta.dataSkippingStatsColumns"),
            property("delta.dataSkippingNumIndexedCols"),
        ) {
            (Some(names), _) => Rule::Named(split_columns(names)),
            (None, Some(count)) => Rule::First(count.trim().parse().unwrap_or(DEFAULT_INDEXED_COLUMNS)),
            (None, None) => Rule::First(DEFAULT_INDEXED_COLUMNS),
        };
        Self {
            rule,
            always: table
                .domain("delta.clustering")
                .map_or_else(Vec::new, clustering_columns),
            tight_bounds: table.protocol().lists_writer_feature("deletionVectors"),
        }
    }

    /// Whether the leaf column at `path`, which is `stored` at that path of files and the `leaf`-th of the table, has
    /// statistics.
    pub(super) fn covers(&self, path: &[String], stored: &[String], leaf: i64) -> bool {
        let by_rule = match &self.rule {
            Rule::First(count) => *count < 0 || leaf < *count,
            Rule::Named(names) => names.iter().any(|prefix| path.starts_with(prefix)),
        };
        by_rule || self.always.iter().any(|prefix| stored.starts_with(prefix))
    }
}

/// Columns of the domain `delta.clustering` (Delta protocol, "Clustered Table").
fn clustering_columns(configuration: &str) -> Vec<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Clustering {
        clustering_columns: Vec<Vec<String>>,
    }
    serde_json::from_str::<Clustering>(configuration).map_or_else(|_| Vec::new(), |c| c.clustering_columns)
}

/// Splits `a, b.c, ``d.e`` ` into paths: a name in backticks is taken as it is, a doubled one is one.
fn split_columns(text: &str) -> Vec<Vec<String>> {
    let mut columns = Vec::new();
    let (mut path, mut name) = (Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '`' if quoted && chars.next_if_eq(&'`').is_some() => name.push('`'),
            '`' => quoted = !quoted,
            '.' if !quoted => path.push(std::mem::take(&mut name)),
            ',' if !quoted => {
                path.push(std::mem::take(&mut name));
                columns.push(std::mem::take(&mut path));
            }
            c if !quoted && c.is_whitespace() => {}
            c => name.push(c),
        }
    }
    path.push(name);
    columns.push(path);
    columns.retain(|path| path.iter().all(|name| !name.is_empty()));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_columns_that_the_table_names_have_statistics() {
        let first = |count| StatsColumns {
            rule: Rule::First(count),
            ..StatsColumns::default()
        };
        let path = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(first(2).covers(&path(&["x"]), &path(&["x"]), 1));
        assert!(!first(2).covers(&path(&["x"]), &path(&["x"]), 2));
        assert!(first(-1).covers(&path(&["x"]), &path(&["x"]), 1_000));
        let named = StatsColumns {
            rule: Rule::Named(split_columns("a, b.c ,`d.e`,`x``y`")),
            always: clustering_columns(r#"{"clusteringColumns":[["k"]],"domainName":"delta.clustering"}"#),
            tight_bounds: false,
        };
        for (names, covered) in [
            (&["a"][..], true),
            (&["a", "inner"], true),
            (&["b"], false),
            (&["b", "c"], true),
            (&["d.e"], true),
            (&["x`y"], true),
            (&["k"], true),
            (&["z"], false),
        ] {
            assert_eq!(named.covers(&path(names), &path(names), 0), covered, "{names:?}");
        }
    }
}
