//! The server's half: a request in, an answer out (RFC 6455 section 4.2).

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request,
};

use super::{accept_key, has_token, list, single};
use crate::deflate::{self, ParameterError};

/// A request that may become a WebSocket connection.
///
/// ```
/// use sockeye_proto::handshake::server::Upgrade;
///
/// let request = http::Request::get("/chat")
///     .header("host", "example.com")
///     .header("connection", "keep-alive, Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .header("sec-websocket-protocol", "chat, superchat")
///     .body(())?;
/// let (parts, ()) = request.into_parts();
/// let upgrade = Upgrade::check(&parts)?;
/// let response = upgrade.response(Some("superchat"))?;
/// assert_eq!(response.status(), 101);
/// assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    protocols: Vec<String>,
    deflate_offers: Vec<deflate::Offer>,
    deflate: Option<deflate::Parameters>,
}

/// Why a request does not become a WebSocket connection; [`response`](Self::response) says it to
/// the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The method is not GET.
    #[error("a WebSocket handshake is a GET request (RFC 6455 section 4.1)")]
    Method,
    /// The request is of HTTP/1.0 or older.
    #[error("a WebSocket handshake needs HTTP/1.1 (RFC 6455 section 4.1)")]
    HttpVersion,
    /// The request does not say once which host it is for.
    #[error("a request names its host in one `Host` header (RFC 6455 section 4.2.1)")]
    Host,
    /// The request has a body, which no handshake has: what follows it would be read as frames by
    /// one, and as the body by another.
    #[error(
        "a WebSocket handshake has no body: send no `Content-Length` and no `Transfer-Encoding`"
    )]
    Body,
    /// The request does not ask for an upgrade to WebSocket.
    #[error(
        "this address speaks WebSocket: send `Connection: Upgrade` and `Upgrade: websocket` \
         (RFC 6455 section 4.1)"
    )]
    NotAnUpgrade,
    /// The version is missing, or another than 13.
    #[error("`Sec-WebSocket-Version` must be 13 (RFC 6455 section 4.4)")]
    WebSocketVersion,
    /// The key is missing, given twice, or not 16 bytes in base64.
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64 (RFC 6455 section 4.1)")]
    Key,
    /// What stands in `Sec-WebSocket-Extensions` is not written as extensions are. One that is unknown
    /// or has the wrong parameters is no reason to refuse: it is declined.
    #[error("`Sec-WebSocket-Extensions` must be a list of extensions (RFC 6455 section 9.1)")]
    Extensions,
}

/// The handler wants something in the answer that the RFC forbids there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subprotocol `{0}` was not offered by the client (RFC 6455 section 4.2.2)")]
pub struct NotOffered(pub String);

impl Upgrade {
    /// Checks a request, all but its origin, which is the server's policy.
    ///
    /// # Errors
    ///
    /// The first rule of RFC 6455 section 4.2.1 that the request breaks.
    pub fn check(request: &request::Parts) -> Result<Self, Refusal> {
        let headers = &request.headers;
        if request.method != Method::GET {
            return Err(Refusal::Method);
        }
        if request.version < Version::HTTP_11 {
            return Err(Refusal::HttpVersion);
        }
        if single(headers, &header::HOST).is_none() {
            return Err(Refusal::Host);
        }
        if !has_token(headers, &header::CONNECTION, "upgrade")
            || !has_token(headers, &header::UPGRADE, "websocket")
        {
            return Err(Refusal::NotAnUpgrade);
        }
        let lengths = headers.get_all(header::CONTENT_LENGTH);
        if headers.contains_key(header::TRANSFER_ENCODING)
            || lengths.into_iter().any(|length| length != "0")
        {
            return Err(Refusal::Body);
        }
        if single(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::WebSocketVersion);
        }
        let mut deflate_offers = Vec::new();
        for offer in deflate::offers(headers) {
            match offer {
                Ok(offer) => deflate_offers.push(offer),
                // A value "that does not conform to the ABNF" fails the connection (section 9.1).
                Err(ParameterError::Malformed(_)) => return Err(Refusal::Extensions),
                Err(_) => {}
            }
        }
        let accept = checked_key(headers).map(accept_key).ok_or(Refusal::Key)?;
        Ok(Self {
            accept: HeaderValue::try_from(accept).map_err(|_| Refusal::Key)?,
            protocols: list(headers, &header::SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect(),
            deflate_offers,
            deflate: None,
        })
    }

    /// The same for a whole request.
    ///
    /// # Errors
    ///
    /// See [`check`](Self::check).
    pub fn check_request<B>(request: Request<B>) -> Result<Self, Refusal> {
        Self::check(&request.into_parts().0)
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(String::as_str)
    }

    /// The offers of permessage-deflate, in the client's order of preference, without those that
    /// are wrong (RFC 7692 section 7).
    pub fn deflate_offers(&self) -> &[deflate::Offer] {
        &self.deflate_offers
    }

    /// Agrees to compression if the client offers it, by its first good offer, and says what is
    /// agreed; [`response`](Self::response) says it to the client. Without this call no extension is
    /// agreed to.
    ///
    /// ```
    /// # use sockeye_proto::handshake::server::Upgrade;
    /// use sockeye_proto::{Role, deflate::Policy};
    ///
    /// # let request = http::Request::get("/chat")
    /// #     .header("host", "example.com")
    /// #     .header("connection", "keep-alive, Upgrade")
    /// #     .header("upgrade", "websocket")
    /// #     .header("sec-websocket-version", "13")
    /// #     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    /// #     .header("sec-websocket-extensions", "permessage-deflate")
    /// #     .body(())?;
    /// let mut upgrade = Upgrade::check_request(request)?;
    /// if let Some(parameters) = upgrade.agree_to_deflate(Policy::Shared) {
    ///     // From here on `Inbound` takes `Extension::Rsv1`.
    ///     let sending = parameters.sending(&Role::Server);
    ///     assert!(!sending.takes_over());
    /// }
    /// let response = upgrade.response(None)?;
    /// assert!(response.headers().contains_key("sec-websocket-extensions"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn agree_to_deflate(&mut self, policy: deflate::Policy) -> Option<deflate::Parameters> {
        self.deflate = self.deflate_offers.first().map(|offer| policy.answer(offer));
        self.deflate
    }

    /// The answer that opens the connection.
    ///
    /// # Errors
    ///
    /// A subprotocol that the client did not offer: the client would have to fail the connection.
    pub fn response(self, protocol: Option<&str>) -> Result<Response<()>, NotOffered> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = protocol {
            let not_offered = || NotOffered(protocol.to_owned());
            if !self.protocols.iter().any(|offered| offered == protocol) {
                return Err(not_offered());
            }
            let value = HeaderValue::from_str(protocol).map_err(|_| not_offered())?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        if let Some(deflate) = self.deflate {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate.header_value());
        }
        Ok(response)
    }
}

impl Refusal {
    /// The answer that refuses, with the reason as its body.
    pub fn response(&self) -> Response<String> {
        let mut response = Response::new(format!("{self}\n"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let status = match self {
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
                StatusCode::METHOD_NOT_ALLOWED
            }
            // "The server MUST send an Upgrade header field in a 426 response" (RFC 9110 section
            // 15.5.22), and the version it understands (RFC 6455 section 4.4).
            Self::NotAnUpgrade | Self::WebSocketVersion => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                StatusCode::UPGRADE_REQUIRED
            }
            Self::HttpVersion | Self::Host | Self::Body | Self::Key | Self::Extensions => {
                StatusCode::BAD_REQUEST
            }
        };
        *response.status_mut() = status;
        response
    }
}

/// A "value that, when decoded, is 16 bytes in length", in base64 (RFC 6455 section 4.2.1).
fn checked_key(headers: &HeaderMap) -> Option<&[u8]> {
    let key = single(headers, &header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let nonce = BASE64.decode(key).ok()?;
    (nonce.len() == 16).then_some(key)
}
