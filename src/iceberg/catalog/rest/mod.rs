//! Tables of a catalog server (Iceberg REST catalog specification): requests and answers, over the host's HTTP.

mod config;
mod credentials;
mod request;
mod response;
mod transport;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

pub use config::RestOptions;
pub use credentials::{StorageCredential, VendedCredentials};
pub use transport::{HttpRequest, HttpResponse, HttpTransport};

use self::config::Session;
use self::request::TableName;
use self::response::{Call, Committed, Loaded};
use super::{Catalog, CatalogChange, CatalogOutcome, CatalogTable};
use crate::error::Result;
use crate::iceberg::error::invalid;
use crate::iceberg::metadata::NewTable;
use crate::ids::{Randomness, SystemRandomness};
use crate::time::Timestamp;

/// A table of a catalog server (Iceberg REST catalog specification).
///
/// The server makes the metadata: it checks what a change requires and applies its updates, and it may give a table
/// that is created other column ids, another location and an id of its own. So
/// [`prepare`](crate::TableSink::prepare) of an [`IcebergSink`](crate::IcebergSink) creates the table before its
/// first files are written, in the order given to
/// [`with_sort_order`](crate::IcebergSink::with_sort_order). The namespace must be there.
///
/// Nothing is tried again here, and nothing waited for: each call sends one request, the first one also that for the
/// server's configuration, which is kept. What was not answered, or with status 500, 502 or 504, ends as
/// `Unavailable`; [`load`](Catalog::load) tells what has become of it.
///
/// ```
/// # use std::sync::Arc;
/// use firnline::iceberg::{HttpRequest, HttpResponse, HttpTransport, RestCatalog, RestOptions};
///
/// #[derive(Debug)]
/// struct MyClient { token: String }
///
/// #[async_trait::async_trait]
/// impl HttpTransport for MyClient {
///     async fn send(&self, mut request: HttpRequest) -> firnline::Result<HttpResponse> {
///         request.headers.push(("Authorization".to_owned(), format!("Bearer {}", self.token)));
///         // ... your HTTP client
/// #       unimplemented!()
///     }
/// }
///
/// let options = RestOptions::new("https://catalog.example/api")
///     .with_warehouse(Some("main".to_owned()))
///     .with_access_delegation(Some("vended-credentials".to_owned()));
/// let client = Arc::new(MyClient { token: "secret".to_owned() });
/// let users = RestCatalog::new(client, options, vec!["app".to_owned()], "users")?;
/// # Ok::<(), firnline::Error>(())
/// ```
///
/// # What the host must know of its catalog
///
/// | catalog | credentials | peculiarities |
/// |---|---|---|
/// | AWS Glue | `SigV4`, service `glue` | no staged creation (none is asked for); metadata above 20 MB are refused, so expire snapshots |
/// | AWS S3 Tables | `SigV4`, service `s3tables`; the warehouse is the bucket's ARN | chooses locations; compacts by itself, so that conflicts are to be expected; leaves alone what is compressed with brotli or lz4 |
/// | `BigLake` | Google's default credentials | wants `access_delegation`, on commits too |
/// | Cloudflare R2 | bearer token with rights for catalog *and* storage | hands out credentials per table, to be fetched before the first access to files; compacts by itself |
/// | Databricks Unity | bearer token, right `EXTERNAL USE SCHEMA` | only managed Iceberg tables can be written; no identifier fields (none are set) |
/// | Polaris, Snowflake Open Catalog | `OAuth2` client credentials, at `oauth2-server-uri` where that is set: the endpoint below the catalog is deprecated | hands out credentials per table |
///
/// Where the catalog chooses locations ([`RestOptions::sends_location`] is off then), the host
/// [creates](Catalog::create) and [loads](Catalog::load) the table itself, and opens store and
/// the [sink](crate::IcebergSink) where the [metadata](crate::iceberg::TableMetadata::location) say.
#[derive(Debug)]
pub struct RestCatalog {
    server: Arc<Server>,
    table: TableName,
    credentials: Mutex<Option<VendedCredentials>>,
}

/// What the tables of a server have in common.
#[derive(Debug)]
struct Server {
    transport: Arc<dyn HttpTransport>,
    options: RestOptions,
    randomness: Arc<dyn Randomness>,
    session: Mutex<Option<Arc<Session>>>,
}

impl RestCatalog {
    /// The table `name` of `namespace`, outermost level first. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// `Invalid` without a URI, or with a name that no URL can hold: an empty one, `.` or `..`.
    pub fn new(
        transport: Arc<dyn HttpTransport>,
        options: RestOptions,
        namespace: Vec<String>,
        name: impl Into<String>,
    ) -> Result<Self> {
        Self::with_randomness(transport, options, namespace, name, Arc::new(SystemRandomness))
    }

    /// As [`new`](Self::new), with another source of randomness for idempotency keys.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_randomness(
        transport: Arc<dyn HttpTransport>,
        options: RestOptions,
        namespace: Vec<String>,
        name: impl Into<String>,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self> {
        if options.uri.is_empty() {
            return Err(invalid("the catalog has no URI"));
        }
        Ok(Self {
            server: Arc::new(Server {
                transport,
                options,
                randomness,
                session: Mutex::default(),
            }),
            table: TableName::new(namespace, name.into())?,
            credentials: Mutex::default(),
        })
    }

    /// Another table of the same server, which is not asked for its configuration again.
    ///
    /// # Errors
    ///
    /// `Invalid` for a name that no URL can hold.
    pub fn table(&self, namespace: Vec<String>, name: impl Into<String>) -> Result<Self> {
        Ok(Self {
            server: Arc::clone(&self.server),
            table: TableName::new(namespace, name.into())?,
            credentials: Mutex::default(),
        })
    }

    /// What the catalog has handed out last for the table's files: with the answer to [`create`](Catalog::create),
    /// [`load`](Catalog::load) or [`commit`](Catalog::commit). `None` before the first one that had any.
    pub fn credentials(&self) -> Option<VendedCredentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An answer without credentials takes none back: many servers give them only when a table is loaded.
    fn keep(&self, credentials: VendedCredentials) {
        if !credentials.is_empty() {
            *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
        }
    }

    fn take(&self, loaded: Loaded) -> CatalogTable {
        self.keep(loaded.credentials);
        loaded.table
    }
}

impl Server {
    async fn send(&self, call: Call<'_>, request: HttpRequest) -> Result<HttpResponse> {
        let sent = self.transport.send(request).await;
        sent.map_err(|e| call.unknown("").with_source(e))
    }

    async fn session(&self) -> Result<Arc<Session>> {
        let known = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = known {
            return Ok(session);
        }
        let answer = self.send(Call::Config, request::config(&self.options)).await?;
        let session = Arc::new(Session::new(&self.options, response::config(&answer)?));
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// A UUID of version 7, as the specification wants it: none where the time is not known.
    fn key(&self, now: Timestamp) -> Option<Uuid> {
        let millis = u64::try_from(now.as_millis()).ok().filter(|millis| *millis > 0)?;
        let [_, _, _, _, _, _, random @ ..] = self.randomness.random_u128().to_be_bytes();
        Some(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

#[async_trait]
impl Catalog for RestCatalog {
    async fn load(&self) -> Result<Option<CatalogTable>> {
        let session = self.server.session().await?;
        let request = request::load(&session, &self.table);
        let answer = self.server.send(Call::Load(&self.table), request).await?;
        Ok(response::load(&self.table, &answer)?.map(|loaded| self.take(loaded)))
    }

    async fn create(&self, table: NewTable) -> Result<()> {
        let session = self.server.session().await?;
        let key = self.server.key(table.now);
        let sends_location = self.server.options.sends_location;
        let request = request::create(&session, &self.table, &table, sends_location, key)?;
        let answer = self.server.send(Call::Create(&self.table), request).await?;
        if let Some(credentials) = response::create(&self.table, &answer)? {
            self.keep(credentials);
        }
        Ok(())
    }

    async fn commit(&self, change: &CatalogChange) -> Result<CatalogOutcome> {
        let session = self.server.session().await?;
        let key = self.server.key(change.now);
        let request = request::commit(&session, &self.table, change, key)?;
        let answer = self.server.send(Call::Commit(&self.table), request).await?;
        Ok(match response::commit(&self.table, &answer)? {
            Committed::Landed(loaded) => CatalogOutcome::Committed(self.take(loaded)),
            Committed::Conflict => CatalogOutcome::Conflict,
        })
    }

    fn assigns_ids(&self) -> bool {
        true
    }
}
