//! What a catalog gives its clients to reach a table's files with.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Credentials and settings for a table's files, as its catalog has handed them out last (REST catalog specification,
/// `LoadTableResult`).
///
/// They are the host's to use, since it owns the object store: keys are those of Iceberg's file systems
/// (`s3.access-key-id`, `s3.session-token`, `gcs.oauth2.token`, `adls.sas-token.*`, `client.region`). They expire, and
/// [`Catalog::load`](super::super::Catalog::load) fetches new ones. No value is shown in their `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct VendedCredentials {
    /// What holds for the whole table.
    #[serde(deserialize_with = "texts")]
    pub config: BTreeMap<String, String>,
    /// What holds for files below a prefix, and goes before `config`: the longest prefix that fits.
    #[serde(deserialize_with = "or_none")]
    pub storage_credentials: Vec<StorageCredential>,
}

/// Credentials for files below a prefix. No value is shown in their `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct StorageCredential {
    /// The beginning of the files' URIs.
    pub prefix: String,
    /// The settings.
    #[serde(deserialize_with = "texts")]
    pub config: BTreeMap<String, String>,
}

impl VendedCredentials {
    /// The setting of this name for a file, by its URI.
    pub fn setting(&self, uri: &str, key: &str) -> Option<&str> {
        let below = self.storage_credentials.iter().filter(|c| uri.starts_with(&c.prefix));
        let longest = below.max_by_key(|credential| credential.prefix.len());
        let specific = longest.and_then(|credential| credential.config.get(key));
        specific.or_else(|| self.config.get(key)).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.config.is_empty() && self.storage_credentials.is_empty()
    }
}

impl fmt::Debug for VendedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendedCredentials")
            .field("config", &self.config.keys())
            .field("storage_credentials", &self.storage_credentials)
            .finish()
    }
}

impl fmt::Debug for StorageCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageCredential")
            .field("prefix", &self.prefix)
            .field("config", &self.config.keys())
            .finish()
    }
}

/// `null` stands for none, and a number for its text: not all servers are strict.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let found: Option<BTreeMap<String, Value>> = Option::deserialize(deserializer)?;
    let text = |value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let found = found.unwrap_or_default().into_iter();
    Ok(found.filter_map(|(key, value)| Some((key, text(value)?))).collect())
}

fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<StorageCredential>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_and_nothing_is_shown() {
        let json = r#"{"config": {"s3.region": "r", "token": null}, "storage-credentials": [
            {"prefix": "s3://b", "config": {"s3.access-key-id": "wide"}},
            {"prefix": "s3://b/t", "config": {"s3.access-key-id": "narrow"}}]}"#;
        let credentials: VendedCredentials = serde_json::from_str(json).unwrap();
        assert_eq!(credentials.setting("s3://b/t/x", "s3.access-key-id"), Some("narrow"));
        assert_eq!(credentials.setting("s3://b/u/x", "s3.access-key-id"), Some("wide"));
        assert_eq!(credentials.setting("s3://b/t/x", "s3.region"), Some("r"));
        assert_eq!(credentials.setting("s3://b/t/x", "token"), None);
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("s3.access-key-id") && !shown.contains("narrow"),
            "{shown}"
        );
        let none = r#"{"config": null, "storage-credentials": null}"#;
        assert!(serde_json::from_str::<VendedCredentials>(none).unwrap().is_empty());
        let number = r#"{"config": {"n": 1}}"#;
        let credentials: VendedCredentials = serde_json::from_str(number).unwrap();
        assert_eq!(credentials.setting("", "n"), Some("1"));
    }
}
