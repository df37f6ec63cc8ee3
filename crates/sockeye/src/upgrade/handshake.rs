//! What a handler sees of a request, and what it can answer.

use std::{fmt, mem, net::SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts, OriginalUri, RawPathParams},
    response::{IntoResponse, Response},
};
use cookie::Cookie;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts,
};
use sockeye_proto::handshake::list;

/// The request that wants to become a connection, in [`attach`](crate::Handler::attach).
///
/// ```
/// use axum::http::StatusCode;
/// use sockeye::{Accept, Handler, Handshake, Rejection, Result};
///
/// struct Room;
///
/// impl Handler for Room {
///     type Data = (String, String);
///
///     async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Self::Data>, Rejection> {
///         let Some(user) = handshake.cookie("user") else {
///             return Err((StatusCode::UNAUTHORIZED, "log in first").into());
///         };
///         let room = handshake.param("room").unwrap_or("lobby").to_owned();
///         Ok(Accept::new((user, room)).header("x-served-by", "sockeye"))
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Handshake {
    parts: Parts,
    params: Vec<(String, String)>,
}

impl Handshake {
    pub(crate) async fn new(mut parts: Parts) -> Self {
        // A route without parameters is a refusal of this extractor, and means none.
        let params = RawPathParams::from_request_parts(&mut parts, &()).await;
        let params = params.map_or_else(
            |_| Vec::new(),
            |params| params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        );
        Self { parts, params }
    }

    /// All of it, to be kept, leaving an empty one behind.
    pub(crate) fn take(&mut self) -> Self {
        let (empty, ()) = Request::new(()).into_parts();
        let mut parts = mem::replace(&mut self.parts, empty);
        parts.headers = detached(&parts.headers);
        parts.uri = detached_uri(&parts.uri);
        if let Some(OriginalUri(uri)) = parts.extensions.get_mut() {
            *uri = detached_uri(uri);
        }
        Self { parts, params: mem::take(&mut self.params) }
    }

    /// The part of the path that the route calls `name`, as `room` in `/room/{room}`, decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name` in the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The value of the cookie of this name, decoded.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let headers = self.parts.headers.get_all(header::COOKIE);
        headers
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(Cookie::split_parse_encoded)
            .flatten()
            .find(|cookie| cookie.name() == name)
            .map(|cookie| cookie.value().to_owned())
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The method; GET.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The URI as it was requested, also where the route is nested.
    pub fn uri(&self) -> &Uri {
        self.parts.extensions.get::<OriginalUri>().map_or(&self.parts.uri, |original| original)
    }

    /// The peer's address, where it is known; see [`Socket::peer_addr`](crate::Socket::peer_addr).
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
    }

    /// The subprotocols that the client offers, in its order of preference; choose one with
    /// [`Accept::protocol`].
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        list(&self.parts.headers, &header::SEC_WEBSOCKET_PROTOCOL)
    }

    /// Runs any axum extractor that needs no body and no state, such as `Path`, `Query` or
    /// `Extension`.
    ///
    /// # Errors
    ///
    /// The extractor's own rejection; `?` turns it into the answer.
    ///
    /// ```
    /// use axum::extract::{Path, Query};
    /// # use std::collections::HashMap;
    /// # use sockeye::{Handshake, Rejection};
    /// # async fn example(handshake: &mut Handshake) -> Result<(), Rejection> {
    /// let Path(room) = handshake.extract::<Path<u32>>().await?;
    /// let Query(query) = handshake.extract::<Query<HashMap<String, String>>>().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn extract<E: FromRequestParts<()>>(&mut self) -> Result<E, E::Rejection> {
        E::from_request_parts(&mut self.parts, &()).await
    }

    /// The same for an extractor that needs the state of a router.
    ///
    /// # Errors
    ///
    /// The extractor's own rejection.
    pub async fn extract_with_state<E, S>(&mut self, state: &S) -> Result<E, E::Rejection>
    where
        E: FromRequestParts<S>,
        S: Send + Sync,
    {
        E::from_request_parts(&mut self.parts, state).await
    }
}

/// The same headers in memory of their own. As hyper gives them, they share the buffer that they were
/// read into, of 8 KiB and more, and whoever keeps one keeps that.
pub(crate) fn detached(headers: &HeaderMap) -> HeaderMap {
    let detached = headers.iter().filter_map(|(name, value)| {
        let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        copy.set_sensitive(value.is_sensitive());
        Some((HeaderName::from_bytes(name.as_str().as_bytes()).ok()?, copy))
    });
    detached.collect()
}

fn detached_uri(uri: &Uri) -> Uri {
    uri.to_string().parse().unwrap_or_default()
}

/// The answer that opens a connection.
#[derive(Debug)]
pub struct Accept<D> {
    pub(crate) data: D,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: HeaderMap,
    /// The first header that could not be set.
    pub(crate) bad_header: Option<String>,
}

impl<D> Accept<D> {
    /// Opens the connection with this data.
    pub fn new(data: D) -> Self {
        Self { data, protocol: None, headers: HeaderMap::new(), bad_header: None }
    }

    /// Chooses a subprotocol, one of [`Handshake::protocols`]. Any other is a fault of this side:
    /// the request is refused with 500, and the log says why.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// Adds a header to the answer. One that is not a valid header, or belongs to the handshake
    /// itself (`Connection`, `Upgrade`, `Sec-WebSocket-*`), is a fault of this side: the request is
    /// refused with 500, and the log says why.
    #[must_use]
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName> + fmt::Display,
        V: TryInto<HeaderValue>,
    {
        let shown = name.to_string();
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) if !belongs_to_handshake(&name) => {
                self.headers.append(name, value);
            }
            _ => self.bad_header = self.bad_header.or(Some(shown)),
        }
        self
    }
}

/// Whether a header is for this library to set.
pub(crate) fn belongs_to_handshake(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::UPGRADE
        || *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || name.as_str().starts_with("sec-websocket-")
}

/// The answer that refuses a request, before there is a connection.
///
/// Anything that is an axum response converts into one: a status, a status with a text, a
/// `Redirect`, `Json`, or the rejection of an extractor.
///
/// ```
/// use axum::http::StatusCode;
/// use sockeye::Rejection;
///
/// let rejection = Rejection::from((StatusCode::FORBIDDEN, "members only"));
/// ```
pub struct Rejection(Box<Response>);

impl Rejection {
    pub(crate) fn internal(problem: &str) -> Self {
        tracing::error!("refusing with 500: {problem}");
        Self::from(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn into_response(self) -> Response {
        *self.0
    }
}

impl<R: IntoResponse> From<R> for Rejection {
    fn from(response: R) -> Self {
        Self(Box::new(response.into_response()))
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rejection").field(&self.0.status()).finish()
    }
}
