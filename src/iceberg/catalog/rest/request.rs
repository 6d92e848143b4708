//! Requests of the REST catalog specification. Pure.

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::config::{RestOptions, Session};
use super::transport::HttpRequest;
use crate::error::{Error, ErrorKind, Result};
use crate::iceberg::catalog::CatalogChange;
use crate::iceberg::error::invalid;
use crate::iceberg::metadata::NewTable;

/// What stands in a segment of a path for itself (RFC 3986, "unreserved").
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What can stand in no URL. A prefix is escaped already, and may have several segments.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The name of a table in a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName {
    namespace: Vec<String>,
    name: String,
}

impl TableName {
    /// Refuses what cannot be said in a URL.
    pub(super) fn new(namespace: Vec<String>, name: String) -> Result<Self> {
        let is_sayable = |part: &String| !matches!(part.as_str(), "" | "." | "..") && !part.contains('\u{1f}');
        if namespace.is_empty() || !namespace.iter().chain([&name]).all(is_sayable) {
            return Err(invalid(format!(
                "not the name of a table in a catalog. namespace=`{namespace:?}` table=`{name}`"
            )));
        }
        Ok(Self { namespace, name })
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.namespace.join("."), self.name)
    }
}

/// `GET /v1/config`.
pub(super) fn config(options: &RestOptions) -> HttpRequest {
    let session = Session::new(options, super::config::ServerConfig::default());
    let warehouse = options.warehouse.as_deref();
    let query = warehouse.map(|name| format!("?warehouse={}", utf8_percent_encode(name, SEGMENT)));
    let url = format!("{}/v1/config{}", session.uri, query.unwrap_or_default());
    request(&session, "GET", url, None)
}

/// `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}`.
pub(super) fn load(session: &Session, table: &TableName) -> HttpRequest {
    request(session, "GET", table_url(session, table), None)
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables`. Never stages: some catalogs cannot.
pub(super) fn create(
    session: &Session,
    table: &TableName,
    new: &NewTable,
    sends_location: bool,
    key: Option<Uuid>,
) -> Result<HttpRequest> {
    let mut properties = new.properties.clone();
    properties.insert("format-version".to_owned(), new.format_version.number().to_string());
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(table.name));
    if sends_location {
        body.insert("location".to_owned(), json!(new.location));
    }
    body.insert("schema".to_owned(), new.schema.to_json());
    if !new.partition_spec.is_unpartitioned() {
        body.insert("partition-spec".to_owned(), encoded(&new.partition_spec)?);
    }
    if !new.sort_order.is_unsorted() {
        let mut order = new.sort_order.clone();
        order.order_id = 1;
        body.insert("write-order".to_owned(), encoded(&order)?);
    }
    body.insert("stage-create".to_owned(), json!(false));
    body.insert("properties".to_owned(), json!(properties));
    let request = request(session, "POST", tables_url(session, table), Some(&Value::Object(body)));
    Ok(with_key(session, request, key))
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}`.
pub(super) fn commit(
    session: &Session,
    table: &TableName,
    change: &CatalogChange,
    key: Option<Uuid>,
) -> Result<HttpRequest> {
    let body = json!({
        "identifier": {"namespace": table.namespace, "name": table.name},
        "requirements": encoded(&change.requirements)?,
        "updates": encoded(&change.updates)?,
    });
    let request = request(session, "POST", table_url(session, table), Some(&body));
    Ok(with_key(session, request, key))
}

fn request(session: &Session, method: &'static str, url: String, body: Option<&Value>) -> HttpRequest {
    let mut headers = vec![("Accept".to_owned(), "application/json".to_owned())];
    if body.is_some() {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    headers.extend(
        session
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    HttpRequest {
        method,
        url,
        headers,
        body: body.map(|body| Bytes::from(body.to_string())),
    }
}

fn with_key(session: &Session, mut request: HttpRequest, key: Option<Uuid>) -> HttpRequest {
    if let Some(key) = key.filter(|_| session.is_idempotent) {
        request.headers.push(("Idempotency-Key".to_owned(), key.to_string()));
    }
    request
}

fn tables_url(session: &Session, table: &TableName) -> String {
    let prefix = session.prefix.as_deref().unwrap_or_default().trim_matches('/');
    let prefix = utf8_percent_encode(prefix, PATH);
    let slash = if session.prefix.is_some() { "/" } else { "" };
    let levels: Vec<_> = table.namespace.iter().map(|level| segment(level)).collect();
    let namespace = levels.join(&session.namespace_separator);
    format!("{}/v1/{prefix}{slash}namespaces/{namespace}/tables", session.uri)
}

fn table_url(session: &Session, table: &TableName) -> String {
    format!("{}/{}", tables_url(session, table), segment(&table.name))
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn encoded(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(ErrorKind::Internal, "request to the catalog cannot be written").with_source(e))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::iceberg::catalog::CatalogTable;
    use crate::iceberg::metadata::TableMetadata;
    use crate::iceberg::partition::PartitionSpec;
    use crate::iceberg::schema::{NestedField, Schema};
    use crate::iceberg::sort_order::{NullOrder, SortDirection, SortField, SortOrder};
    use crate::iceberg::transform::Transform;
    use crate::iceberg::types::{PrimitiveType, Type};
    use crate::iceberg::update::{TableRequirement, TableUpdate};
    use crate::iceberg::version::FormatVersion;
    use crate::time::Timestamp;

    fn name(namespace: &[&str], name: &str) -> TableName {
        TableName::new(
            namespace.iter().map(|&level| level.to_owned()).collect(),
            name.to_owned(),
        )
        .unwrap()
    }

    fn session(json: &str) -> Session {
        Session::new(&RestOptions::new("https://c/api"), serde_json::from_str(json).unwrap())
    }

    fn new_table() -> NewTable {
        NewTable {
            uuid: Uuid::from_u128(1),
            location: "s3://b/t".to_owned(),
            format_version: FormatVersion::V2,
            schema: Schema::new(vec![NestedField::optional(
                1,
                "id",
                Type::Primitive(PrimitiveType::Long),
            )]),
            partition_spec: PartitionSpec::unpartitioned(),
            sort_order: SortOrder::unsorted(),
            properties: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            now: Timestamp::from_millis(1),
        }
    }

    fn body(request: &HttpRequest) -> Value {
        serde_json::from_slice(request.body.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn the_warehouse_is_a_query_of_the_configuration() {
        let options = RestOptions::new("https://c/api/");
        assert_eq!(config(&options).url, "https://c/api/v1/config");
        let arn = "arn:aws:s3tables:eu-central-1:1:bucket/b&c";
        let asked = config(&options.with_warehouse(Some(arn.to_owned())));
        assert_eq!(
            asked.url,
            "https://c/api/v1/config?warehouse=arn%3Aaws%3As3tables%3Aeu-central-1%3A1%3Abucket%2Fb%26c"
        );
        assert_eq!((asked.method, asked.body), ("GET", None));
    }

    #[test]
    fn names_are_escaped_and_levels_joined() {
        let url = |json, table: &TableName| load(&session(json), table).url;
        assert_eq!(url("{}", &name(&["n"], "t")), "https://c/api/v1/namespaces/n/tables/t");
        let odd = name(&["a b", "c/d", "\u{e4}"], "x%y?z.1-_~");
        assert_eq!(
            url("{}", &odd),
            "https://c/api/v1/namespaces/a%20b%1Fc%2Fd%1F%C3%A4/tables/x%25y%3Fz.1-_~"
        );
        // Several segments, and escaped already, as far as it has to be.
        let prefix = r#"{"overrides": {"prefix": "catalogs/arn%3Aaws x", "namespace-separator": "%2E"}}"#;
        assert_eq!(
            url(prefix, &name(&["a", "b"], "t")),
            "https://c/api/v1/catalogs/arn%3Aaws%20x/namespaces/a%2Eb/tables/t"
        );
    }

    #[test]
    fn what_cannot_be_said_in_a_url_is_no_name() {
        for (namespace, table) in [
            (vec![], "t"),
            (vec!["n"], ""),
            (vec!["n", ""], "t"),
            (vec!["n"], ".."),
            (vec!["a\u{1f}b"], "t"),
        ] {
            let namespace = namespace.into_iter().map(str::to_owned).collect();
            let error = TableName::new(namespace, table.to_owned()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_table_is_created_without_staging_and_with_its_version() {
        let plain = create(
            &session("{}"),
            &name(&["n"], "t"),
            &new_table(),
            true,
            Some(Uuid::nil()),
        )
        .unwrap();
        assert_eq!(
            (plain.method, plain.url.as_str()),
            ("POST", "https://c/api/v1/namespaces/n/tables")
        );
        assert_eq!(plain.header("content-type"), Some("application/json"));
        assert_eq!(plain.header("idempotency-key"), None);
        assert_eq!(
            body(&plain),
            json!({"name": "t", "location": "s3://b/t", "stage-create": false,
                "schema": {"type": "struct", "schema-id": 0, "fields":
                    [{"id": 1, "name": "id", "required": false, "type": "long"}]},
                "properties": {"a": "b", "format-version": "2"}})
        );
        let ordered = NewTable {
            sort_order: SortOrder {
                fields: vec![SortField {
                    source_ids: vec![1],
                    transform: Transform::Identity,
                    direction: SortDirection::Ascending,
                    null_order: NullOrder::Last,
                    extra: Map::new(),
                }],
                ..SortOrder::default()
            },
            ..new_table()
        };
        let session = session(r#"{"idempotency-key-lifetime": "PT30M"}"#);
        let sorted = create(&session, &name(&["n"], "t"), &ordered, false, Some(Uuid::nil())).unwrap();
        assert_eq!(
            sorted.header("idempotency-key"),
            Some("00000000-0000-0000-0000-000000000000")
        );
        assert_eq!(body(&sorted).get("location"), None);
        assert_eq!(
            body(&sorted)["write-order"],
            json!({"order-id": 1, "fields":
                [{"source-id": 1, "transform": "identity", "direction": "asc", "null-order": "nulls-last"}]})
        );
    }

    #[test]
    fn a_commit_says_what_must_hold_and_what_is_done() {
        let change = CatalogChange {
            base: CatalogTable {
                metadata: Arc::new(TableMetadata::create(new_table()).unwrap()),
                metadata_location: "s3://b/t/metadata/0.json".to_owned(),
            },
            requirements: vec![TableRequirement::AssertRefSnapshotId {
                reference: "main".to_owned(),
                snapshot_id: None,
            }],
            updates: vec![TableUpdate::RemoveProperties {
                removals: vec!["a".to_owned()],
            }],
            now: Timestamp::from_millis(1),
        };
        let sent = commit(&session("{}"), &name(&["a", "b"], "t"), &change, None).unwrap();
        assert_eq!(
            (sent.method, sent.url.as_str()),
            ("POST", "https://c/api/v1/namespaces/a%1Fb/tables/t")
        );
        assert_eq!(
            body(&sent),
            json!({"identifier": {"namespace": ["a", "b"], "name": "t"},
                "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}],
                "updates": [{"action": "remove-properties", "removals": ["a"]}]})
        );
    }
}
