//! HTTP as the host does it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// Sends requests to a catalog's server: the host's HTTP client, with its TLS, proxies, timeouts and credentials.
///
/// The host adds what proves who it is, a header `Authorization` or a signature of the final request (AWS: `SigV4`
/// over method, URL, headers and body, of the service `glue` or `s3tables`). It follows no redirect of a `POST`, and sets a
/// timeout: the library has no clock. A request that carries `Idempotency-Key` may be sent again with the same
/// headers and body when it was not answered; no other `POST` may.
#[async_trait]
pub trait HttpTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request and gives the answer, whatever its status.
    ///
    /// # Errors
    ///
    /// When there is no answer. Nobody knows then whether the request was carried out, whatever the kind of the
    /// error: it becomes the cause of one of kind `Unavailable`.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse>;
}

#[async_trait]
impl<T: HttpTransport + ?Sized> HttpTransport for Arc<T> {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse> {
        (**self).send(request).await
    }
}

/// A request, without what proves who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The whole URL, escaped: it is sent as it is.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body; always there, and JSON, with `POST`.
    pub body: Option<Bytes>,
}

impl HttpRequest {
    /// The value of a header, however its name is spelt.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// An answer. Its body may hold credentials, so that none is shown in its `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Bytes,
}

impl HttpResponse {
    /// The value of a header, however its name is spelt.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut named = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.as_str())
}
