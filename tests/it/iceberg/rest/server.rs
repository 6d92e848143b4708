//! A REST catalog in memory, of one table, that checks what is required and applies updates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use firnline::arrow::datatypes::SchemaRef;
use firnline::iceberg::{
    FormatVersion, HttpRequest, HttpResponse, HttpTransport, NewTable, PartitionSpec, Schema, SortOrder, TableMetadata,
    TableRequirement, TableUpdate, canonical_schema, check_requirements, read_manifest, read_manifest_list,
};
use firnline::object_store::path::Path;
use firnline::object_store::{ObjectStore, ObjectStoreExt};
use firnline::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use firnline::{Error, ErrorKind, Result, Timestamp};
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::world::{HOUR, Row, rows_of};

type Store = Arc<dyn ObjectStore>;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is carried out, and not answered.
    Lost,
    /// It is neither carried out nor answered.
    Dropped,
    /// It is not answered, and carried out only after the next call.
    Late,
    /// It is carried out, and answered with nonsense.
    Garbled,
    /// It is carried out, and answered with this status.
    Applied(u16),
    /// It is answered with this status.
    Refused(u16),
    /// It goes astray to a server that is no catalog.
    Astray,
}

impl Fault {
    pub(super) const ALL: [Self; 17] = [
        Self::Lost,
        Self::Dropped,
        Self::Late,
        Self::Garbled,
        Self::Applied(409),
        Self::Applied(500),
        Self::Applied(502),
        Self::Applied(503),
        Self::Applied(504),
        Self::Refused(401),
        Self::Refused(403),
        Self::Refused(409),
        Self::Refused(419),
        Self::Refused(429),
        Self::Refused(500),
        Self::Refused(503),
        Self::Astray,
    ];
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    reassigns: bool,
    refuses: Option<String>,
    strikes: Option<(usize, Fault)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    table: Option<TableMetadata>,
    version: usize,
    log: Vec<HttpRequest>,
    late: VecDeque<HttpRequest>,
    has_struck: bool,
}

#[async_trait]
impl HttpTransport for Server {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse> {
        let mut state = self.state.lock().unwrap();
        let nth = state.log.len();
        state.log.push(request.clone());
        let fault = self.strikes.filter(|(at, _)| *at == nth).map(|(_, fault)| fault);
        state.has_struck |= fault.is_some();
        let no_answer = || Err(Error::new(ErrorKind::Internal, "the connection is gone"));
        let late = state.late.pop_front();
        let answered = match fault {
            None => Ok(self.carry_out(&mut state, &request)),
            Some(Fault::Lost) => {
                self.carry_out(&mut state, &request);
                no_answer()
            }
            Some(Fault::Dropped) => no_answer(),
            Some(Fault::Late) => {
                state.late.push_back(request);
                no_answer()
            }
            Some(Fault::Garbled) => {
                self.carry_out(&mut state, &request);
                Ok(answer(200, &json!(["what?"])))
            }
            Some(Fault::Applied(status)) => {
                self.carry_out(&mut state, &request);
                Ok(error(status, "InjectedException", "applied"))
            }
            Some(Fault::Refused(status)) => Ok(error(status, "InjectedException", "not applied")),
            Some(Fault::Astray) => Ok(answer(404, &json!({"message": "no such table in this web shop"}))),
        };
        if let Some(late) = late {
            self.carry_out(&mut state, &late);
        }
        answered
    }
}

impl Server {
    /// Fails once, at the `nth` call.
    pub(super) fn striking(nth: usize, fault: Fault) -> Self {
        Self {
            strikes: Some((nth, fault)),
            ..Self::default()
        }
    }

    /// Gives columns ids that are 1000 higher than asked for.
    pub(super) fn reassigning(mut self) -> Self {
        self.reassigns = true;
        self
    }

    /// Answers 400 to commits.
    pub(super) fn refusing(mut self, message: &str) -> Self {
        self.refuses = Some(message.to_owned());
        self
    }

    fn carry_out(&self, state: &mut State, request: &HttpRequest) -> HttpResponse {
        let body = request.body.as_ref().map(|body| serde_json::from_slice(body).unwrap());
        let body: Value = body.unwrap_or_default();
        match (kind_of(request), state.table.clone()) {
            ("config", _) => answer(
                200,
                &json!({"overrides": {"prefix": "p"}, "defaults": {}, "idempotency-key-lifetime": "PT30M"}),
            ),
            ("create", None) => {
                state.table = Some(self.created(&body));
                loaded(state)
            }
            ("create", Some(_)) => error(409, "AlreadyExistsException", "there is one"),
            (_, None) => error(404, "NoSuchTableException", "there is none"),
            ("load", Some(_)) => loaded(state),
            (_, Some(table)) => {
                if let Some(message) = &self.refuses {
                    return error(400, "BadRequestException", message);
                }
                let requirements: Vec<TableRequirement> = serde_json::from_value(body["requirements"].clone()).unwrap();
                let updates: Vec<TableUpdate> = serde_json::from_value(body["updates"].clone()).unwrap();
                if let Err(e) = check_requirements(&requirements, Some(&table)) {
                    return error(409, "CommitFailedException", &e.to_string());
                }
                let now = Timestamp::from_millis(HOUR);
                state.version += 1;
                state.table = Some(table.apply(&updates, now, Some("before.metadata.json")).unwrap());
                loaded(state)
            }
        }
    }

    fn created(&self, body: &Value) -> TableMetadata {
        assert_eq!(body["stage-create"], false);
        let (mut schema, mut order) = (body["schema"].clone(), body["write-order"].clone());
        if self.reassigns {
            for field in schema["fields"].as_array_mut().unwrap() {
                field["id"] = json!(field["id"].as_i64().unwrap() + 1000);
            }
            for field in order["fields"].as_array_mut().into_iter().flatten() {
                field["source-id"] = json!(field["source-id"].as_i64().unwrap() + 1000);
            }
        }
        let properties: BTreeMap<String, String> = serde_json::from_value(body["properties"].clone()).unwrap();
        let version: i64 = properties["format-version"].parse().unwrap();
        TableMetadata::create(NewTable {
            uuid: uuid::Uuid::from_u128(77),
            location: body["location"].as_str().unwrap().to_owned(),
            format_version: FormatVersion::try_from(version).unwrap(),
            schema: Schema::from_json(&schema).unwrap(),
            partition_spec: PartitionSpec::unpartitioned(),
            sort_order: if order.is_null() {
                SortOrder::unsorted()
            } else {
                serde_json::from_value(order).unwrap()
            },
            properties: BTreeMap::new(),
            now: Timestamp::from_millis(HOUR),
        })
        .unwrap()
    }

    pub(super) fn log(&self) -> Vec<HttpRequest> {
        self.state.lock().unwrap().log.clone()
    }

    /// The kinds of all calls.
    pub(super) fn calls(&self) -> Vec<String> {
        self.log().iter().map(|request| kind_of(request).to_owned()).collect()
    }

    pub(super) fn has_struck(&self) -> bool {
        self.state.lock().unwrap().has_struck
    }

    fn table(&self) -> TableMetadata {
        self.state.lock().unwrap().table.clone().unwrap()
    }

    pub(super) fn is_unsorted(&self) -> bool {
        self.table().default_sort_order().is_unsorted()
    }

    pub(super) fn column_ids(&self) -> Vec<i32> {
        self.table().schema().fields.iter().map(|field| field.id).collect()
    }

    /// The live files, with the order that they are said to be in.
    pub(super) fn files(&self, store: &Store) -> Vec<(Path, Option<i32>)> {
        let table = self.table();
        let list = table.current_snapshot().unwrap().manifest_list.clone().unwrap();
        let mut files = Vec::new();
        for manifest in read_manifest_list(&read(store, &path_of(&list)), &list).unwrap() {
            let bytes = read(store, &path_of(&manifest.path));
            let entries = read_manifest(&bytes, &manifest, &[]).unwrap();
            files.extend(entries.into_iter().map(|entry| {
                let file = entry.data_file;
                (path_of(&file.file_path), file.sort_order_id)
            }));
        }
        files
    }

    pub(super) fn rows(&self, store: &Store) -> Vec<Row> {
        let files = self.files(store).into_iter();
        files.flat_map(|(path, _)| rows_of(read(store, &path))).collect()
    }
}

/// The ids of a file's columns.
pub(super) fn ids_of(store: &Store, path: &Path) -> Vec<i32> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(read(store, path)).unwrap();
    let fields = reader.parquet_schema().root_schema().get_fields();
    fields.iter().map(|field| field.get_basic_info().id()).collect()
}

/// The columns of a source as a table has them.
pub(super) fn schema_of(source: &[u8]) -> SchemaRef {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(source)).unwrap();
    canonical_schema(reader.schema(), FormatVersion::V2, None).unwrap()
}

fn kind_of(request: &HttpRequest) -> &'static str {
    match (request.method, request.url.as_str()) {
        (_, url) if url.contains("/v1/config") => "config",
        ("GET", _) => "load",
        (_, url) if url.ends_with("/tables") => "create",
        _ => "commit",
    }
}

fn loaded(state: &State) -> HttpResponse {
    let table = state.table.as_ref().unwrap();
    answer(
        200,
        &json!({"metadata-location": format!("{}/metadata/{}.metadata.json", table.location(), state.version),
            "metadata": table.to_json().unwrap(), "config": {"s3.session-token": "secret"}}),
    )
}

fn error(status: u16, kind: &str, message: &str) -> HttpResponse {
    answer(
        status,
        &json!({"error": {"message": message, "type": kind, "code": status}}),
    )
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    HttpResponse {
        status,
        headers: Vec::new(),
        body: Bytes::from(body.to_string()),
    }
}

fn path_of(uri: &str) -> Path {
    Path::from(uri.strip_prefix("mem://tables/").unwrap())
}

fn read(store: &Store, path: &Path) -> Bytes {
    block_on(async { store.get(path).await.unwrap().bytes().await.unwrap() })
}
