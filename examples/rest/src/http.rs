//! HTTP by `ureq`, which knows nothing of the library, nor the library of it.

use std::time::Duration;

use async_trait::async_trait;
use firnline::iceberg::{HttpRequest, HttpResponse, HttpTransport};
use firnline::{Error, ErrorKind, Result};
use ureq::http::Request;

/// Nobody waits longer for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A client that blocks its thread, as befits a host that does one thing at a time.
#[derive(Debug)]
pub(crate) struct Ureq {
    agent: ureq::Agent,
    token: Option<String>,
}

impl Ureq {
    /// A client that proves who it is with a bearer token.
    pub(crate) fn new(token: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT));
        Self {
            agent: config.build().into(),
            token,
        }
    }

    fn exchange(
        &self,
        request: HttpRequest,
    ) -> std::result::Result<HttpResponse, Box<dyn std::error::Error + Send + Sync>> {
        let mut builder = Request::builder().method(request.method).uri(&request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(token) = &self.token {
            builder = builder.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = match request.body {
            Some(body) => self.agent.run(builder.body(body.to_vec())?)?,
            None => self.agent.run(builder.body(())?)?,
        };
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(HttpResponse {
            status: response.status().as_u16(),
            headers: response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: response.body_mut().with_config().limit(1 << 30).read_to_vec()?.into(),
        })
    }
}

#[async_trait]
impl HttpTransport for Ureq {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse> {
        self.exchange(request)
            .map_err(|e| Error::new(ErrorKind::Unavailable, "no answer").with_source(e))
    }
}
