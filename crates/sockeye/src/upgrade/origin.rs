//! Which web pages may connect. A browser sends its visitor's cookies along with a handshake from
//! any page, so a server that does not look at `Origin` serves every page on the web.

use http::{HeaderMap, Uri, header, uri::Authority};

/// From which web pages browsers may connect to a route. Programs other than browsers send no
/// `Origin` and are not concerned.
///
/// ```
/// use sockeye::{Config, Origins};
///
/// let config = Config::default()
///     .origins(Origins::list(["https://example.com", "https://app.example.com:8443"]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages from the host and port that the request goes to. The default.
    ///
    /// The page's host and port are compared with the request's `Host`, where a missing port is the
    /// default port of the page's scheme. `Origin: null` is foreign. Behind a proxy, the proxy has
    /// to pass `Host` on as it came.
    #[default]
    Same,
    /// Pages from these origins, written as browsers do: `https://example.com`,
    /// `http://localhost:3000`.
    List(Vec<String>),
    /// Pages from anywhere.
    /// WARNING: each of them can then act with its visitor's cookies.
    Any,
}

impl Origins {
    /// [`Origins::List`] of these.
    ///
    /// # Panics
    ///
    /// One of them is not an origin: it would silently refuse everybody.
    pub fn list<O: Into<String>>(origins: impl IntoIterator<Item = O>) -> Self {
        let origins: Vec<String> = origins.into_iter().map(Into::into).collect();
        for origin in &origins {
            let is_origin = parse_origin(origin).is_some();
            assert!(is_origin, "`{origin}` is not an origin: write it like https://example.com");
        }
        Self::List(origins)
    }

    /// Whether a request with this URI and these headers comes from such a page, or from no page at all.
    /// WebSocket routes ask this by themselves; ask it in other routes that change something, as a page
    /// of any origin can make its visitor's browser send them a POST.
    ///
    /// ```
    /// use axum::http::{HeaderMap, StatusCode, Uri};
    /// use sockeye::{Hub, Origins};
    ///
    /// async fn say(hub: Hub, uri: Uri, headers: HeaderMap, text: String) -> StatusCode {
    ///     if !Origins::Same.allow(&uri, &headers) {
    ///         return StatusCode::FORBIDDEN;
    ///     }
    ///     hub.publish("news", text);
    ///     StatusCode::NO_CONTENT
    /// }
    /// ```
    pub fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).into_iter();
        let Some(origin) = origins.next() else { return true };
        if *self == Self::Any {
            return true;
        }
        let Ok(origin) = origin.to_str() else { return false };
        if origins.next().is_some() {
            return false;
        }
        match self {
            Self::Any => true,
            Self::List(list) => list.iter().any(|known| is_same_origin(known, origin)),
            Self::Same => is_same_host(origin, uri, headers),
        }
    }
}

/// Scheme, host and port of an origin as RFC 6454 section 6.2 writes it; none for `null`.
fn parse_origin(origin: &str) -> Option<(String, String, u16)> {
    let uri: Uri = origin.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or_else(|| default_port(&scheme))?;
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

fn is_same_origin(known: &str, origin: &str) -> bool {
    let origin = parse_origin(origin);
    origin.is_some() && origin == parse_origin(known)
}

fn is_same_host(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let Some((scheme, host, port)) = parse_origin(origin) else { return false };
    let Some(target) = target(uri, headers) else { return false };
    // Whether the request came as http or https is known only in front of a proxy, so a missing
    // port is taken for the default one of the page's own scheme.
    let target_port = target.port_u16().or_else(|| default_port(&scheme));
    target.host().eq_ignore_ascii_case(&host) && target_port == Some(port)
}

/// Where the request goes: its URI if that is absolute, else its `Host` (RFC 9112 section 3.2).
fn target(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| {
        let mut hosts = headers.get_all(header::HOST).into_iter();
        let host = hosts.next()?.to_str().ok()?.parse().ok()?;
        hosts.next().is_none().then_some(host)
    })
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, host: &str, origin: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        for origin in origin {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        origins.allow(&Uri::from_static("/ws"), &headers)
    }

    #[test]
    fn same_means_host_and_port_with_default_ports_equal() {
        for (host, origin, expected) in [
            ("example.com", "https://example.com", true),
            ("example.com", "http://example.com", true),
            ("example.com:443", "https://example.com", true),
            ("example.com", "https://example.com:443", true),
            ("EXAMPLE.com", "https://example.COM", true),
            ("localhost:8080", "http://localhost:8080", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("example.com:80", "https://example.com", false),
            ("example.com", "https://example.com:8443", false),
            ("example.com:8443", "https://example.com", false),
            ("example.com", "https://evil.com", false),
            ("example.com", "https://example.com.evil.com", false),
            ("example.com", "https://sub.example.com", false),
            ("example.com", "https://example.com@evil.com", false),
            ("localhost:8080", "http://127.0.0.1:8080", false),
            ("localhost:8080", "http://localhost:8081", false),
            ("example.com", "null", false),
            ("example.com", "", false),
            ("example.com", "example.com", false),
            ("example.com", "file://", false),
            ("example.com", "chrome-extension://example.com", false),
        ] {
            assert_eq!(allows(&Origins::Same, host, &[origin]), expected, "{host} from {origin}");
        }
    }

    #[test]
    fn a_request_without_origin_is_no_browser_and_one_with_two_is_no_request() {
        assert!(allows(&Origins::Same, "example.com", &[]));
        let twice = ["https://example.com", "https://example.com"];
        assert!(!allows(&Origins::Same, "example.com", &twice));
    }

    #[test]
    fn a_list_compares_scheme_host_and_port() {
        let origins = Origins::list(["https://example.com", "http://localhost:3000"]);
        for (origin, expected) in [
            ("https://example.com", true),
            ("https://example.com:443", true),
            ("http://localhost:3000", true),
            ("http://example.com", false),
            ("https://example.com:444", false),
            ("http://localhost", false),
            ("null", false),
        ] {
            assert_eq!(allows(&origins, "api.example.com", &[origin]), expected, "{origin}");
        }
        assert!(!allows(&Origins::List(vec!["null".to_owned()]), "example.com", &["null"]));
        assert!(allows(&Origins::Any, "example.com", &["null"]));
    }

    #[test]
    #[should_panic = "`example.com` is not an origin: write it like https://example.com"]
    fn a_list_with_something_else_in_it_is_refused_at_once() {
        let _ = Origins::list(["https://example.com", "example.com"]);
    }
}
