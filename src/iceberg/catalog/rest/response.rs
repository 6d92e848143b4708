//! Answers of the REST catalog specification. Pure.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::config::ServerConfig;
use super::credentials::VendedCredentials;
use super::request::TableName;
use super::transport::HttpResponse;
use crate::encoding::deep_json;
use crate::error::{Error, ErrorKind, Result};
use crate::iceberg::catalog::CatalogTable;
use crate::iceberg::metadata::TableMetadata;

/// So much of what a server says is repeated.
const MAX_MESSAGE_CHARS: usize = 400;

/// Answer to a table that is there (REST catalog specification, `LoadTableResult`, `CommitTableResponse`).
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) table: CatalogTable,
    pub(super) credentials: VendedCredentials,
}

/// How a commit was answered.
#[derive(Debug)]
pub(super) enum Committed {
    Landed(Loaded),
    Conflict,
}

/// What is asked of a server, for its errors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call<'a> {
    Config,
    Load(&'a TableName),
    Create(&'a TableName),
    Commit(&'a TableName),
}

impl Call<'_> {
    /// Nobody knows how it ended.
    pub(super) fn unknown(self, detail: impl fmt::Display) -> Error {
        let message = match self {
            Self::Config => format!("catalog does not answer. {detail}"),
            Self::Load(table) => format!("catalog does not answer. table=`{table}` {detail}"),
            Self::Create(table) => format!("table may have been created or not, read it. table=`{table}` {detail}"),
            Self::Commit(table) => format!("commit may have landed or not, read the table. table=`{table}` {detail}"),
        };
        Error::new(ErrorKind::Unavailable, message.trim_end())
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("call=`config`"),
            Self::Load(table) => write!(f, "call=`load` table=`{table}`"),
            Self::Create(table) => write!(f, "call=`create` table=`{table}`"),
            Self::Commit(table) => write!(f, "call=`commit` table=`{table}`"),
        }
    }
}

pub(super) fn config(response: &HttpResponse) -> Result<ServerConfig> {
    if response.status != 200 {
        return Err(failure(Call::Config, response));
    }
    serde_json::from_slice(&response.body).map_err(|e| {
        Call::Config
            .unknown("its configuration cannot be read, is it a catalog?")
            .with_source(e)
    })
}

/// `None` only if the catalog itself says that there is no such table.
pub(super) fn load(name: &TableName, response: &HttpResponse) -> Result<Option<Loaded>> {
    match response.status {
        200 => loaded(Call::Load(name), response).map(Some),
        404 if ServerError::of(response).is_some_and(|error| error.says_no_table()) => Ok(None),
        _ => Err(failure(Call::Load(name), response)),
    }
}

/// What the catalog hands out with the new table; `None` if there is one already.
pub(super) fn create(name: &TableName, response: &HttpResponse) -> Result<Option<VendedCredentials>> {
    match response.status {
        // Whoever loads the table next sees what has become of it.
        200 => Ok(Some(deep_json(&response.body).unwrap_or_default())),
        409 => Ok(None),
        _ => Err(failure(Call::Create(name), response)),
    }
}

pub(super) fn commit(name: &TableName, response: &HttpResponse) -> Result<Committed> {
    let call = Call::Commit(name);
    match response.status {
        200 => loaded(call, response)
            .map(Committed::Landed)
            .map_err(|e| call.unknown("the answer cannot be read").with_source(e)),
        409 => Ok(Committed::Conflict),
        // Dropped: the table as it is now decides.
        404 if ServerError::of(response).is_some_and(|error| error.says_no_table()) => Ok(Committed::Conflict),
        _ => Err(failure(call, response)),
    }
}

fn loaded(call: Call<'_>, response: &HttpResponse) -> Result<Loaded> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct LoadTableResult {
        metadata: Value,
        #[serde(default)]
        metadata_location: Option<String>,
        #[serde(flatten)]
        credentials: VendedCredentials,
    }
    let result: LoadTableResult = deep_json(&response.body)
        .map_err(|e| call.unknown("the answer is no table, is it a catalog?").with_source(e))?;
    Ok(Loaded {
        table: CatalogTable {
            metadata: Arc::new(TableMetadata::from_json(result.metadata)?),
            metadata_location: result.metadata_location.unwrap_or_default(),
        },
        credentials: result.credentials,
    })
}

/// What a status that is no answer to a call means.
fn failure(call: Call<'_>, response: &HttpResponse) -> Error {
    let error = ServerError::of(response);
    let detail = match &error {
        Some(error) => format!("status=`{}` {error}", response.status),
        None => format!("status=`{}`", response.status),
    };
    let new = |kind, what: &str| Error::new(kind, format!("{what}. {call} {detail}"));
    let is_busy = error.as_ref().is_some_and(ServerError::says_busy);
    let is_expired = error.as_ref().is_some_and(ServerError::says_expired);
    match response.status {
        429 | 503 => busy(response, &new),
        400..=499 if is_busy => busy(response, &new),
        400..=499 if is_expired => new(
            ErrorKind::Unavailable,
            "credentials for the catalog have expired, renew them",
        ),
        401 | 419 => new(
            ErrorKind::Unavailable,
            "catalog does not accept the credentials, renew them",
        ),
        403 => new(
            ErrorKind::Unavailable,
            "catalog denies access, are rights missing or have credentials expired?",
        ),
        404 => match &error {
            Some(error) if error.says_no_namespace() => {
                new(ErrorKind::Invalid, "namespace is not in the catalog, create it")
            }
            Some(_) => new(ErrorKind::Unavailable, "catalog does not know what is asked for"),
            None => new(
                ErrorKind::Unavailable,
                "not found, and not by a catalog: is the URI right?",
            ),
        },
        405 | 406 | 501 => new(ErrorKind::Unsupported, "catalog cannot do what is needed"),
        408 => call.unknown(detail),
        409 => new(ErrorKind::Conflict, "catalog sees a conflict"),
        400..=499 => new(ErrorKind::Invalid, "catalog refuses the request"),
        // Also a success that is none of the specification's, and redirects.
        _ => call.unknown(detail),
    }
}

fn busy(response: &HttpResponse, new: &dyn Fn(ErrorKind, &str) -> Error) -> Error {
    let what = match response.header("retry-after") {
        Some(after) => format!("catalog is busy, retry after {after}"),
        None => "catalog is busy".to_owned(),
    };
    new(ErrorKind::Unavailable, &what)
}

/// What a server says about an error (REST catalog specification, `ErrorModel`, `OAuthError`).
#[derive(Debug, PartialEq, Eq)]
struct ServerError {
    kind: String,
    message: String,
}

impl ServerError {
    /// `None` for what no catalog says: the page of a proxy, another server's JSON.
    fn of(response: &HttpResponse) -> Option<Self> {
        let body: Value = serde_json::from_slice(&response.body).ok()?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(short);
        match body.get("error")? {
            Value::String(kind) => Some(Self {
                kind: short(kind),
                message: text(body.get("error_description")).unwrap_or_default(),
            }),
            error => Some(Self {
                kind: text(error.get("type"))?,
                message: text(error.get("message")).unwrap_or_default(),
            }),
        }
    }

    /// Java's names with or without `Exception`, and those of other servers.
    fn says(&self, kinds: &[&str]) -> bool {
        let plain: String = self.kind.chars().filter(char::is_ascii_alphanumeric).collect();
        let plain = plain.to_ascii_lowercase();
        let plain = plain
            .strip_suffix("exception")
            .or_else(|| plain.strip_suffix("error"))
            .unwrap_or(&plain);
        kinds.contains(&plain)
    }

    /// A namespace that is not there has no tables. `NotFound` alone may as well be said of a path or a warehouse.
    fn says_no_table(&self) -> bool {
        let kinds = [
            "nosuchtable",
            "nosuchtabular",
            "tablenotfound",
            "tabledoesnotexist",
            "tableorviewnotfound",
        ];
        let is_plain = self.says(&["notfound", "entitynotfound"]);
        let message = self.message.to_lowercase();
        let is_of_table = message.contains("table") && message.contains("not exist");
        self.says(&kinds) || self.says_no_namespace() || (is_plain && is_of_table)
    }

    fn says_no_namespace(&self) -> bool {
        self.says(&["nosuchnamespace", "namespacenotfound"])
    }

    fn says_busy(&self) -> bool {
        self.says(&["throttling", "toomanyrequests", "slowdown", "serviceunavailable"])
    }

    fn says_expired(&self) -> bool {
        self.says(&["expiredtoken", "requestexpired", "invalidtoken"])
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type=`{}` message=`{}`", self.kind, self.message)
    }
}

fn short(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn name() -> TableName {
        TableName::new(vec!["n".to_owned()], "t".to_owned()).unwrap()
    }

    fn answer(status: u16, body: &dyn fmt::Display) -> HttpResponse {
        HttpResponse {
            status,
            headers: vec![("Retry-After".to_owned(), "30".to_owned())],
            body: Bytes::from(body.to_string()),
        }
    }

    fn said(status: u16, kind: &str) -> HttpResponse {
        answer(
            status,
            &json!({"error": {"message": "m", "type": kind, "code": status}}),
        )
    }

    fn table() -> Value {
        json!({"metadata-location": "s3://b/t/metadata/1.json", "config": {"a": "b"},
            "storage-credentials": [{"prefix": "s3://b", "config": {"c": "d"}}],
            "metadata": {"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "s3://b/t", "last-sequence-number": 0, "last-updated-ms": 1, "last-column-id": 1,
            "current-schema-id": 0, "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}]}})
    }

    #[test]
    fn a_table_comes_with_its_place_and_credentials() {
        let loaded = load(&name(), &answer(200, &table())).unwrap().unwrap();
        assert_eq!(loaded.table.metadata.location(), "s3://b/t");
        assert_eq!(loaded.table.metadata_location, "s3://b/t/metadata/1.json");
        assert_eq!(loaded.credentials.setting("s3://b/t/x", "c"), Some("d"));
        let mut bare = table();
        for key in ["metadata-location", "config", "storage-credentials"] {
            bare.as_object_mut().unwrap().remove(key);
        }
        let loaded = load(&name(), &answer(200, &bare)).unwrap().unwrap();
        assert!(loaded.credentials.is_empty());
        let created = create(&name(), &answer(200, &table())).unwrap().unwrap();
        assert_eq!(created.setting("", "a"), Some("b"));
    }

    #[test]
    fn there_is_no_table_only_if_the_catalog_says_so() {
        for kind in [
            "NoSuchTableException",
            "NoSuchTableError",
            "NoSuchNamespaceException",
            "TABLE_DOES_NOT_EXIST",
        ] {
            assert!(load(&name(), &said(404, kind)).unwrap().is_none(), "{kind}");
        }
        let body = json!({"error": {"message": "The specified table does not exist", "type": "NotFoundException"}});
        assert!(load(&name(), &answer(404, &body)).unwrap().is_none());
        let page = "<html>no such table</html>".to_owned();
        for other in [
            answer(404, &page),
            answer(404, &json!({"message": "no Route"})),
            said(404, "NotFoundException"),
        ] {
            let error = load(&name(), &other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        let error = load(&name(), &answer(404, &"")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not found, and not by a catalog: is the URI right?. call=`load` table=`n.t` status=`404`"
        );
    }

    #[test]
    fn a_table_that_is_there_already_is_as_good_as_created() {
        assert_eq!(create(&name(), &said(409, "AlreadyExistsException")).unwrap(), None);
        let error = create(&name(), &said(404, "NoSuchNamespaceException")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(
            error.to_string(),
            "namespace is not in the catalog, create it. call=`create` table=`n.t` status=`404` \
             type=`NoSuchNamespaceException` message=`m`"
        );
    }

    #[test]
    fn a_conflict_is_an_outcome_and_so_is_a_table_that_was_dropped() {
        for answer in [
            said(409, "CommitFailedException"),
            answer(409, &""),
            said(404, "NoSuchTableException"),
        ] {
            assert!(matches!(commit(&name(), &answer).unwrap(), Committed::Conflict));
        }
        assert!(matches!(
            commit(&name(), &answer(200, &table())).unwrap(),
            Committed::Landed(_)
        ));
    }

    #[test]
    fn every_status_has_its_kind() {
        use ErrorKind::{Conflict, Invalid, Unavailable, Unsupported};
        for (status, kind) in [
            (204, Unavailable),
            (301, Unavailable),
            (400, Invalid),
            (401, Unavailable),
            (403, Unavailable),
            (405, Unsupported),
            (406, Unsupported),
            (408, Unavailable),
            (413, Invalid),
            (419, Unavailable),
            (422, Invalid),
            (429, Unavailable),
            (500, Unavailable),
            (501, Unsupported),
            (502, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
        ] {
            let response = said(status, "SomeException");
            for error in [
                load(&name(), &response).map(|_| ()).unwrap_err(),
                create(&name(), &response).map(|_| ()).unwrap_err(),
                commit(&name(), &response).map(|_| ()).unwrap_err(),
                config(&response).map(|_| ()).unwrap_err(),
            ] {
                assert_eq!(error.kind(), kind, "{status}: {error}");
                assert!(error.to_string().contains(&format!("status=`{status}`")), "{error}");
            }
        }
        assert_eq!(load(&name(), &said(409, "X")).unwrap_err().kind(), Conflict);
        for kind in ["ThrottlingException", "ExpiredTokenException"] {
            assert_eq!(commit(&name(), &said(400, kind)).unwrap_err().kind(), Unavailable);
        }
    }

    #[test]
    fn what_nobody_knows_and_when_to_come_back_is_said() {
        let error = commit(&name(), &said(504, "X")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "commit may have landed or not, read the table. table=`n.t` status=`504` type=`X` message=`m`"
        );
        // The change is in, and the answer broken.
        let error = commit(&name(), &answer(200, &"{")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            error.to_string().starts_with("commit may have landed or not"),
            "{error}"
        );
        let error = commit(&name(), &said(503, "X")).unwrap_err();
        assert!(
            error.to_string().starts_with("catalog is busy, retry after 30. "),
            "{error}"
        );
        let body = json!({"error": "invalid_token", "error_description": "expired"});
        let error = load(&name(), &answer(401, &body)).unwrap_err();
        assert!(
            error.to_string().ends_with("type=`invalid_token` message=`expired`"),
            "{error}"
        );
    }

    #[test]
    fn a_configuration_is_read_as_far_as_it_goes() {
        let json = json!({"defaults": {}, "overrides": {"prefix": "p"}, "endpoints": ["GET /v1/x"]});
        assert_eq!(config(&answer(200, &json)).unwrap().overrides["prefix"], "p");
        assert_eq!(
            config(&answer(200, &"<html>")).unwrap_err().kind(),
            ErrorKind::Unavailable
        );
    }
}
