//! The opening handshake as pure functions on `http` types (RFC 6455 section 4).
//!
//! [`server`] checks a request and writes the answer; [`client`] writes a request and checks the
//! answer. Neither reads nor writes a byte of HTTP: that is the HTTP library's part.

pub mod client;
pub mod server;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha1::{Digest, Sha1};

/// The value that proves an answer to be from a WebSocket server: base64 of the SHA-1 of the key and
/// a fixed GUID (RFC 6455 section 4.2.2).
///
/// ```
/// // The example of RFC 6455 section 1.3.
/// let accept = sockeye_proto::handshake::accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    BASE64.encode(hash.finalize())
}

/// The elements of all headers of this name, each a comma-separated list.
///
/// ```
/// use sockeye_proto::handshake::list;
///
/// let mut headers = http::HeaderMap::new();
/// headers.append("sec-websocket-protocol", "chat, superchat".parse()?);
/// headers.append("sec-websocket-protocol", "v2.chat".parse()?);
/// let offered: Vec<_> = list(&headers, &http::header::SEC_WEBSOCKET_PROTOCOL).collect();
/// assert_eq!(offered, ["chat", "superchat", "v2.chat"]);
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// "Connection" and "Upgrade" are lists of case-insensitive tokens: `keep-alive, Upgrade` will do.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

/// The one header of this name; none if there are several.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Whether the text is a token (RFC 9110 section 5.6.2), as the names of subprotocols and
/// extensions have to be.
pub(crate) fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}
