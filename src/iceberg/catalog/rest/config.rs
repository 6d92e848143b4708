//! Where a catalog is, and what its server has to say about that. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::credentials::texts;
use crate::options::with_methods;

/// Settings of [`RestCatalog`](super::RestCatalog).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RestOptions {
    /// URI of the catalog, before `/v1`.
    pub uri: String,
    /// The warehouse, where a server has several: a name, an ARN or a location, as the server calls it.
    pub warehouse: Option<String>,
    /// What is asked for in `X-Iceberg-Access-Delegation`: `vended-credentials`, `remote-signing`. Sent with all calls,
    /// those that commit too, as some servers want it.
    pub access_delegation: Option<String>,
    /// Whether the URI of a table's root is sent when it is created. Managed catalogs choose it themselves, and some
    /// refuse to be told.
    pub sends_location: bool,
    /// The client's own properties, between the server's defaults and its overrides. Known are `prefix`,
    /// `namespace-separator` and `header.NAME`, which is sent with all calls.
    pub properties: BTreeMap<String, String>,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self {
            uri: String::new(),
            warehouse: None,
            access_delegation: None,
            sends_location: true,
            properties: BTreeMap::new(),
        }
    }
}

impl RestOptions {
    /// The catalog at `uri`; everything else is the default.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            ..Self::default()
        }
    }
}

with_methods! { RestOptions {
    with_warehouse: warehouse, Option<String>;
    with_access_delegation: access_delegation, Option<String>;
    with_sends_location: sends_location, bool;
    with_properties: properties, BTreeMap<String, String>;
}}

/// Answer to `GET /v1/config` (REST catalog specification, `CatalogConfig`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct ServerConfig {
    #[serde(deserialize_with = "texts")]
    pub(super) defaults: BTreeMap<String, String>,
    #[serde(deserialize_with = "texts")]
    pub(super) overrides: BTreeMap<String, String>,
    pub(super) idempotency_key_lifetime: Option<String>,
}

/// How requests are made, once the server has been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// Without trailing slash.
    pub(super) uri: String,
    pub(super) prefix: Option<String>,
    /// Escaped.
    pub(super) namespace_separator: String,
    pub(super) headers: BTreeMap<String, String>,
    /// Whether the server knows `Idempotency-Key`.
    pub(super) is_idempotent: bool,
}

impl Session {
    /// Defaults of the server, then the client's own properties, then overrides of the server.
    pub(super) fn new(options: &RestOptions, server: ServerConfig) -> Self {
        let mut properties = server.defaults;
        properties.insert("uri".to_owned(), options.uri.clone());
        properties.extend(options.properties.clone());
        properties.extend(server.overrides);
        let text = |key: &str| properties.get(key).filter(|value| !value.is_empty()).cloned();
        let named = |(key, value): (&String, &String)| Some((key.strip_prefix("header.")?.to_owned(), value.clone()));
        let mut headers: BTreeMap<String, String> = properties.iter().filter_map(named).collect();
        if let Some(delegation) = &options.access_delegation {
            headers.retain(|name, _| !name.eq_ignore_ascii_case(ACCESS_DELEGATION));
            headers.insert(ACCESS_DELEGATION.to_owned(), delegation.clone());
        }
        Self {
            uri: text("uri").unwrap_or_default().trim_end_matches('/').to_owned(),
            prefix: text("prefix"),
            namespace_separator: text("namespace-separator").unwrap_or_else(|| "%1F".to_owned()),
            headers,
            is_idempotent: server.idempotency_key_lifetime.is_some(),
        }
    }
}

/// The header that asks for credentials.
const ACCESS_DELEGATION: &str = "X-Iceberg-Access-Delegation";

#[cfg(test)]
mod tests {
    use super::*;

    fn server(json: &str) -> ServerConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn overrides_go_before_the_clients_own_and_these_before_defaults() {
        let own = BTreeMap::from([("prefix".to_owned(), "own".to_owned())]);
        let options = RestOptions::new("https://c/api/");
        let of = |options: &RestOptions, json| Session::new(options, server(json)).prefix;
        assert_eq!(of(&options, "{}"), None);
        assert_eq!(of(&options, r#"{"defaults": {"prefix": "d"}}"#).unwrap(), "d");
        let options = options.with_properties(own);
        assert_eq!(of(&options, r#"{"defaults": {"prefix": "d"}}"#).unwrap(), "own");
        let both = r#"{"defaults": {"prefix": "d"}, "overrides": {"prefix": "o", "x": null}}"#;
        assert_eq!(of(&options, both).unwrap(), "o");
    }

    #[test]
    fn the_server_may_be_elsewhere_and_say_what_is_sent() {
        let options = RestOptions::new("https://c/api/").with_access_delegation(Some("vended-credentials".to_owned()));
        let plain = Session::new(&options, server(r#"{"overrides": null}"#));
        assert_eq!(plain.uri, "https://c/api");
        assert_eq!(plain.namespace_separator, "%1F");
        assert!(!plain.is_idempotent);
        let json = r#"{"defaults": {"uri": "https://d", "header.X-A": "1", "header.x-iceberg-access-delegation": "no"},
            "overrides": {"uri": "https://e/", "namespace-separator": "%2E"}, "idempotency-key-lifetime": "PT30M"}"#;
        let session = Session::new(&options, server(json));
        assert_eq!(session.uri, "https://e");
        assert_eq!(session.namespace_separator, "%2E");
        assert!(session.is_idempotent);
        let headers: Vec<_> = session.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(headers, [("X-A", "1"), (ACCESS_DELEGATION, "vended-credentials")]);
    }
}
