//! What a URL says.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::ConnectError;

/// Where to connect to, and what to ask for there.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) host: String,
    pub(super) port: u16,
    /// What a user name and a password in the URL become (RFC 7617).
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, ConnectError> {
        let error = |hint| ConnectError::Url { url: without_password(url), hint };
        if url.contains('#') {
            return Err(error("a WebSocket URL has no fragment, `#...` (RFC 6455 section 3)"));
        }
        let uri: Uri = url
            .parse()
            .map_err(|_| error("not a URL; write it like ws://example.com:8080/chat"))?;
        match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            Some("ws" | "http") => {}
            Some("wss" | "https") => return Err(error("there is no TLS yet; use ws://")),
            _ => return Err(error("the scheme has to be ws or http, as in ws://example.com")),
        }
        // An IPv6 address stands in brackets.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(error("it names no host"));
        }
        let port = port(&uri).ok_or_else(|| error("the port has to be a number up to 65535"))?;
        let authorization = user(&uri).and_then(authorization);
        Ok(Self { uri, host, port, authorization })
    }
}

/// What stands before the host, such as `name:password`.
fn user(uri: &Uri) -> Option<&str> {
    let (user, _) = uri.authority()?.as_str().rsplit_once('@')?;
    (!user.is_empty()).then_some(user)
}

/// The port; 80 where none is given, and none where what is given is no number.
fn port(uri: &Uri) -> Option<u16> {
    let authority = uri.authority()?;
    let address = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, at)| at);
    match address.strip_prefix(authority.host())?.strip_prefix(':').unwrap_or_default() {
        "" => Some(80),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

fn authorization(user: &str) -> Option<HeaderValue> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain: Vec<u8> = percent_decode_str(name).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A URL as it may be shown.
pub(super) fn without_password(url: &str) -> String {
    let authority = url.find("://").map_or(0, |position| position + 3);
    let end = url[authority..].find('/').map_or(url.len(), |position| authority + position);
    let is_clear = url.parse::<Uri>().is_ok_and(|uri| port(&uri).is_some());
    let place = if is_clear { &url[authority..end] } else { &url[authority..] };
    match place.rfind('@') {
        Some(at) => format!("{}…{}", &url[..authority], &url[authority + at..]),
        // What stands before the begin of the authority may be a password as well.
        None if !is_clear && url.contains('@') => "…".to_owned(),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(url: &str) -> String {
        Target::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn a_url_says_where_to_connect_to() {
        let target = Target::parse("ws://example.com/chat?room=1").unwrap();
        assert_eq!((&*target.host, target.port), ("example.com", 80));
        assert!(target.authorization.is_none());
        assert_eq!(Target::parse("WS://example.com:").unwrap().port, 80);
        assert!(Target::parse("ws://@example.com/").unwrap().authorization.is_none());
        let target = Target::parse("HTTP://[::1]:8080").unwrap();
        assert_eq!((&*target.host, target.port), ("::1", 8080));
    }

    #[test]
    fn a_user_and_a_password_become_a_header() {
        let target = Target::parse("ws://Aladdin:open%20sesame@example.com/").unwrap();
        // The example of RFC 7617 section 2.
        assert_eq!(target.authorization.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(target.host, "example.com");
    }

    #[test]
    fn what_cannot_be_connected_to_is_told_why() {
        for (url, why) in [
            ("wss://example.com", "there is no TLS yet"),
            ("https://example.com", "there is no TLS yet"),
            ("ftp://example.com", "the scheme has to be"),
            ("example.com", "the scheme has to be"),
            ("/chat", "the scheme has to be"),
            ("", "not a URL"),
            ("localhost:8080/chat", "not a URL"),
            ("ws://", "not a URL"),
            ("ws://example.com/a b", "not a URL"),
            ("ws://example.com/#top", "no fragment"),
            ("ws://example.com:99999/", "the port has to be"),
            ("ws://example.com:+80/", "the port has to be"),
            ("ws://ana:se/cret@example.com/", "the port has to be"),
        ] {
            let hint = hint(url);
            assert!(hint.contains(why), "{url}: {hint}");
        }
    }

    #[test]
    fn an_error_does_not_show_a_password() {
        let hint = hint("wss://ana:secret@example.com/p@th");
        assert!(hint.contains("`wss://…@example.com/p@th`"), "{hint}");
        for url in ["ws:/ana:secret@h/", "ws://ana:sec/secret@h", "ana:secret@h/?u=http://x/"] {
            assert!(!without_password(url).contains("secret"), "{url}");
        }
    }
}
