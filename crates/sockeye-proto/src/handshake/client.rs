//! The client's half: a request out, an answer in (RFC 6455 section 4.1).

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};

use super::{accept_key, has_token, is_token, list, single};
use crate::deflate;

/// What is kept of the body of an answer that refuses, in bytes.
pub const MAX_REFUSAL_BODY: usize = 8 * 1024;

/// What a client asks for, and what it needs to check the answer.
///
/// ```
/// use sockeye_proto::handshake::client::Offer;
///
/// let offer = Offer::new([7; 16], ["chat"])?;
/// let request = offer.request(&"ws://example.com:9000/chat".parse()?)?;
/// assert_eq!(request.headers()["host"], "example.com:9000");
/// assert_eq!(request.uri(), "/chat");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Offer {
    key: String,
    protocols: Vec<String>,
    deflate: Vec<deflate::Offer>,
}

/// What the server has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The subprotocol it chose from the offer, if any.
    pub protocol: Option<String>,
    /// The compression it agreed to, if any.
    pub deflate: Option<deflate::Parameters>,
}

/// A request that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// A subprotocol that is no token of HTTP.
    #[error(
        "subprotocol `{0}` is not a token: use letters, digits and `-._~` (RFC 6455 section 4.1)"
    )]
    Protocol(String),
    /// A subprotocol offered twice.
    #[error("subprotocol `{0}` is offered twice (RFC 6455 section 4.1)")]
    DuplicateProtocol(String),
    /// A URI without a host.
    #[error("`{0}` names no host")]
    NoHost(Uri),
}

/// An answer that does not open a connection.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct HandshakeError {
    /// What is wrong about it.
    pub reason: HandshakeFault,
    /// The answer: status, headers, and up to [`MAX_REFUSAL_BODY`] bytes of its body.
    pub response: Box<Response<Bytes>>,
}

/// What is wrong about an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// The server refused, redirected or failed.
    #[error("the server answered {0} instead of 101")]
    Status(StatusCode),
    /// `Upgrade: websocket` or `Connection: Upgrade` is missing.
    #[error("the answer is no upgrade to WebSocket (RFC 6455 section 4.1)")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Accept` does not belong to the key that was sent.
    #[error("`Sec-WebSocket-Accept` does not match the key (RFC 6455 section 4.1)")]
    WrongAccept,
    /// An extension that was not offered.
    #[error("the server uses extension `{0}`, which was not offered (RFC 6455 section 4.1)")]
    Extension(String),
    /// Compression on terms that were not offered.
    #[error(transparent)]
    Deflate(#[from] deflate::AnswerError),
    /// A subprotocol that was not offered, or more than one.
    #[error("the server chose subprotocol `{0}`, which was not offered (RFC 6455 section 4.1)")]
    Protocol(String),
}

impl Offer {
    /// An offer with this nonce, "selected randomly for each connection", and these subprotocols in
    /// order of preference.
    ///
    /// # Errors
    ///
    /// A subprotocol that is no token, or is given twice.
    pub fn new<P: Into<String>>(
        nonce: [u8; 16],
        protocols: impl IntoIterator<Item = P>,
    ) -> Result<Self, OfferError> {
        let mut offered = Vec::<String>::new();
        for protocol in protocols.into_iter().map(P::into) {
            if !is_token(&protocol) {
                return Err(OfferError::Protocol(protocol));
            }
            if offered.contains(&protocol) {
                return Err(OfferError::DuplicateProtocol(protocol));
            }
            offered.push(protocol);
        }
        Ok(Self { key: BASE64.encode(nonce), protocols: offered, deflate: Vec::new() })
    }

    /// The same with these offers of compression, in order of preference; without any, which is
    /// where an offer begins, no extension is offered and none is taken.
    ///
    /// ```
    /// use sockeye_proto::{deflate, handshake::client::Offer};
    ///
    /// let offer = Offer::new([7; 16], ["chat"])?.deflate([deflate::Offer::browser()]);
    /// let request = offer.request(&"ws://example.com".parse()?)?;
    /// let value = "permessage-deflate; client_max_window_bits";
    /// assert_eq!(request.headers()["sec-websocket-extensions"], value);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn deflate(mut self, offers: impl IntoIterator<Item = deflate::Offer>) -> Self {
        self.deflate = offers.into_iter().collect();
        self
    }

    /// The request for `uri`, in the form that goes to the server itself: path and query, and the
    /// host as a header, with its port unless that is the scheme's own.
    ///
    /// # Errors
    ///
    /// A URI without a host.
    pub fn request(&self, uri: &Uri) -> Result<Request<()>, OfferError> {
        let no_host = || OfferError::NoHost(uri.clone());
        let host = uri.host().ok_or_else(no_host)?;
        let is = |name: &str| uri.scheme_str().is_some_and(|s| s.eq_ignore_ascii_case(name));
        let default_port = if is("wss") || is("https") { 443 } else { 80 };
        let host = match uri.port_u16() {
            Some(port) if port != default_port => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri
            .path_and_query()
            .map_or_else(|| Uri::from_static("/"), |target| Uri::from(target.clone()));
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| no_host())?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        // Base64 and tokens are header values always.
        if let Ok(key) = HeaderValue::from_str(&self.key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
        if let Ok(protocols) = HeaderValue::try_from(self.protocols.join(", "))
            && !self.protocols.is_empty()
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        }
        if let Some(extensions) = deflate::offered(&self.deflate) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
        }
        Ok(request)
    }

    /// Checks the answer.
    ///
    /// # Errors
    ///
    /// The first thing about the answer for which the RFC tells a client to fail the connection,
    /// with the answer itself.
    pub fn check(&self, mut response: Response<Bytes>) -> Result<Accepted, HandshakeError> {
        self.accepted(&response).map_err(|reason| {
            // A copy, as a slice would keep all of a large body in memory.
            let kept = response.body().len().min(MAX_REFUSAL_BODY);
            *response.body_mut() = Bytes::copy_from_slice(&response.body()[..kept]);
            HandshakeError { reason, response: Box::new(response) }
        })
    }

    fn accepted(&self, response: &Response<Bytes>) -> Result<Accepted, HandshakeFault> {
        let headers = response.headers();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(HandshakeFault::Status(response.status()));
        }
        if !has_token(headers, &header::CONNECTION, "upgrade")
            || !has_token(headers, &header::UPGRADE, "websocket")
        {
            return Err(HandshakeFault::NotAnUpgrade);
        }
        let accept = single(headers, &header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept != &accept_key(self.key.as_bytes())) {
            return Err(HandshakeFault::WrongAccept);
        }
        let deflate = self.agreed_deflate(headers)?;
        Ok(Accepted { protocol: self.chosen_protocol(headers)?, deflate })
    }

    /// Use of "an extension that was not present in the client's handshake" fails the connection
    /// (RFC 6455 section 4.1), and so does that of one that was, on other terms (RFC 7692 section
    /// 7).
    fn agreed_deflate(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<deflate::Parameters>, HandshakeFault> {
        let mut agreed = None;
        for element in deflate::elements(headers) {
            if self.deflate.is_empty() || deflate::name(&element) != deflate::NAME {
                return Err(HandshakeFault::Extension(element.into_owned()));
            }
            if agreed.is_some() {
                return Err(deflate::AnswerError::Twice.into());
            }
            agreed = Some(deflate::check(&element, &self.deflate)?);
        }
        Ok(agreed)
    }

    fn chosen_protocol(&self, headers: &HeaderMap) -> Result<Option<String>, HandshakeFault> {
        let mut chosen = elements(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        match chosen.len() {
            0 => Ok(None),
            1 if self.protocols.contains(&chosen[0]) => Ok(chosen.pop()),
            _ => Err(HandshakeFault::Protocol(chosen.join(", "))),
        }
    }
}

/// The elements of a list in an answer; what is not even text is an element too, as it was not
/// offered either.
fn elements(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter();
    let not_text = values.filter(|value| value.to_str().is_err());
    let not_text = not_text.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    list(headers, name).map(str::to_owned).chain(not_text).collect()
}
