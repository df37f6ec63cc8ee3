//! A server that does to each connection what its address says, and tells afterwards what it saw.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use form_urlencoded::Serializer;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sockeye::{Client, CloseCode, Result, WebSocket};

use crate::checks::ensure;

/// A server that others wrote; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Stranger {
    address: Arc<str>,
    no_compression: bool,
    last_id: Arc<AtomicU32>,
}

/// A connection to a stranger, with what that is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    stranger: Stranger,
    authority: String,
    query: Vec<(&'static str, String)>,
}

impl Stranger {
    /// The one that listens at this address, such as `127.0.0.1:9000`, and whether its clients keep from
    /// offering compression.
    pub(crate) fn at(address: String, no_compression: bool) -> Self {
        Self { address: address.into(), no_compression, last_id: Arc::default() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn no_compression(&self) -> bool {
        self.no_compression
    }

    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// A connection for which the server takes these steps, a list; `conformance/README.md` has them.
    pub(crate) fn plan(&self, steps: Value) -> Plan {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        Plan {
            stranger: self.clone(),
            authority: self.address.as_ref().to_owned(),
            query: vec![("id", id.to_string()), ("do", steps.to_string())],
        }
    }
}

impl Plan {
    /// Tells the server something that is no step.
    pub(crate) fn told(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Goes to the server with this between `ws://` and the path.
    pub(crate) fn at(mut self, authority: String) -> Self {
        self.authority = authority;
        self
    }

    /// What the request should ask for.
    pub(crate) fn target(&self) -> String {
        format!("/?{}", Serializer::new(String::new()).extend_pairs(&self.query).finish())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}{}", self.authority, self.target())
    }

    pub(crate) fn client(&self) -> Client {
        let client = Client::connect(self.url());
        if self.stranger.no_compression { client.no_compression() } else { client }
    }

    pub(crate) async fn connect(&self) -> Result<WebSocket> {
        Ok(self.client().await?)
    }

    /// Ends the server's step `hold`.
    pub(crate) async fn release(&self) -> Result {
        let mut ws = self.ask("release").await?;
        while ws.recv().await?.is_some() {}
        Ok(())
    }

    /// What the server has seen of the connection, which has to end soon.
    pub(crate) async fn seen<T: DeserializeOwned>(&self) -> Result<T> {
        /// What every server tells.
        #[derive(Deserialize)]
        struct Told<T> {
            ended: bool,
            #[serde(flatten)]
            seen: T,
        }
        let mut ws = self.ask("seen").await?;
        let answer = ws.recv().await?.ok_or("the server did not tell what it saw")?;
        ws.close(CloseCode::NORMAL, "").await;
        let answer = answer.as_text().ok_or("what the server saw is not a text")?;
        let told: Told<T> = serde_json::from_str(answer)?;
        ensure(told.ended, || "the server did not see the connection end".to_owned())?;
        Ok(told.seen)
    }

    async fn ask(&self, path: &str) -> Result<WebSocket> {
        let (_, id) = &self.query[0];
        Ok(Client::connect(format!("ws://{}/{path}?id={id}", self.stranger.address)).await?)
    }
}
