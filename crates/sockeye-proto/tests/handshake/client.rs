//! What does a client ask for, and which answers does it take (RFC 6455 section 4.1)?

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};
use sockeye_proto::{
    deflate::{self, AnswerError, ParameterError},
    handshake::client::{
        Accepted, HandshakeError, HandshakeFault, MAX_REFUSAL_BODY, Offer, OfferError,
    },
};

/// The nonce of the example in section 1.3, and the answer to it.
const NONCE: &[u8; 16] = b"the sample nonce";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn offer(protocols: &[&str]) -> Offer {
    Offer::new(*NONCE, protocols.iter().copied()).expect("tokens, each once")
}

/// The server's yes with these headers on top; one that it has anyway is replaced.
fn answer(headers: &[(&'static str, &str)]) -> Response<Bytes> {
    let yes =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT)];
    let replaced = |name: &str| headers.iter().any(|(n, _)| *n == name);
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in yes.iter().filter(|(name, _)| !replaced(name)).chain(headers) {
        response.headers_mut().append(*name, value.parse().expect("a header value"));
    }
    response
}

fn fault(result: Result<Accepted, HandshakeError>) -> HandshakeFault {
    result.expect_err("not a yes").reason
}

#[test]
fn a_request_goes_to_the_server_itself_with_path_query_and_host() {
    for (uri, target, host) in [
        ("ws://example.com", "/", "example.com"),
        ("ws://example.com/", "/", "example.com"),
        ("ws://example.com/chat?room=7&x=%20", "/chat?room=7&x=%20", "example.com"),
        ("ws://example.com?room=7", "/?room=7", "example.com"),
        ("ws://example.com/chat#part", "/chat", "example.com"),
        ("ws://example.com:80/", "/", "example.com"),
        ("ws://example.com:443/", "/", "example.com:443"),
        ("ws://example.com:9000/", "/", "example.com:9000"),
        ("wss://example.com:443/", "/", "example.com"),
        ("wss://example.com:80/", "/", "example.com:80"),
        ("http://example.com:80/", "/", "example.com"),
        ("https://example.com:443/", "/", "example.com"),
        ("ws://user:secret@example.com/", "/", "example.com"),
        ("ws://127.0.0.1:8080/", "/", "127.0.0.1:8080"),
        ("ws://[::1]/", "/", "[::1]"),
        ("ws://[::1]:80/", "/", "[::1]"),
        ("wss://[2001:db8::7]:8443/chat", "/chat", "[2001:db8::7]:8443"),
    ] {
        let uri: Uri = uri.parse().expect("a URI");
        let request = offer(&[]).request(&uri).expect("a request");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.uri().to_string(), target, "{uri}");
        let expected: HeaderMap = [
            ("host", host),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ]
        .into_iter()
        .map(|(name, value)| {
            (http::HeaderName::from_static(name), value.parse().expect("a header value"))
        })
        .collect();
        assert_eq!(*request.headers(), expected, "{uri}");
    }
}

/// "Schemes are case-insensitive" (RFC 3986 section 3.1), so 80 is no default of this one.
#[test]
fn the_default_port_is_that_of_the_scheme_in_capitals_too() {
    let uri: Uri = "WSS://example.com:80/".parse().expect("a URI");
    let request = offer(&[]).request(&uri).expect("a request");
    assert_eq!(request.headers()["host"], "example.com:80");
}

#[test]
fn a_uri_without_a_host_makes_no_request() {
    let uri: Uri = "/chat".parse().expect("a URI");
    assert_eq!(offer(&[]).request(&uri).map(drop), Err(OfferError::NoHost(uri)));
}

#[test]
fn subprotocols_are_offered_in_order_and_have_to_be_tokens_each_once() {
    let uri: Uri = "ws://example.com/".parse().expect("a URI");
    let request = offer(&["v2.chat", "chat"]).request(&uri).expect("a request");
    assert_eq!(request.headers()["sec-websocket-protocol"], "v2.chat, chat");

    for bad in ["", "a b", "a,b", "a\r\nhost: evil", "caf\u{e9}", "a/b", "\"a\""] {
        let refused = Offer::new(*NONCE, ["chat", bad]).map(drop);
        assert_eq!(refused, Err(OfferError::Protocol(bad.to_owned())));
    }
    let twice = Offer::new(*NONCE, ["chat", "soap", "chat"]).map(drop);
    assert_eq!(twice, Err(OfferError::DuplicateProtocol("chat".into())));
    assert!(Offer::new(*NONCE, ["chat", "Chat"]).is_ok(), "another one: case counts");
}

#[test]
fn a_yes_opens_the_connection() {
    for headers in [
        &[][..],
        &[("connection", "upgrade")],
        &[("connection", "keep-alive, UPGRADE")],
        &[("connection", "keep-alive"), ("connection", "Upgrade")],
        &[("upgrade", "WebSocket")],
    ] {
        let accepted = offer(&["chat"]).check(answer(headers)).expect("a yes");
        assert_eq!(accepted.protocol, None, "{headers:?}");
    }
}

#[test]
fn an_answer_that_is_no_upgrade_or_proves_nothing_is_refused() {
    let wrong_case = ACCEPT.to_lowercase();
    for (headers, expected) in [
        (&[("connection", "close")][..], HandshakeFault::NotAnUpgrade),
        (&[("connection", "")], HandshakeFault::NotAnUpgrade),
        (&[("upgrade", "h2c")], HandshakeFault::NotAnUpgrade),
        (&[("upgrade", "")], HandshakeFault::NotAnUpgrade),
        (&[("sec-websocket-accept", "")], HandshakeFault::WrongAccept),
        (&[("sec-websocket-accept", KEY)], HandshakeFault::WrongAccept),
        (&[("sec-websocket-accept", &wrong_case)], HandshakeFault::WrongAccept),
        (
            &[("sec-websocket-accept", ACCEPT), ("sec-websocket-accept", ACCEPT)],
            HandshakeFault::WrongAccept,
        ),
    ] {
        assert_eq!(fault(offer(&[]).check(answer(headers))), expected, "{headers:?}");
    }
    for (missing, expected) in [
        ("connection", HandshakeFault::NotAnUpgrade),
        ("upgrade", HandshakeFault::NotAnUpgrade),
        ("sec-websocket-accept", HandshakeFault::WrongAccept),
    ] {
        let mut response = answer(&[]);
        response.headers_mut().remove(missing);
        assert_eq!(fault(offer(&[]).check(response)), expected, "without {missing}");
    }
}

#[test]
fn an_extension_that_was_not_offered_is_refused() {
    for (value, name) in
        [("permessage-deflate", "permessage-deflate"), ("x-first; a=1, x-second", "x-first; a=1")]
    {
        let response = answer(&[("sec-websocket-extensions", value)]);
        assert_eq!(fault(offer(&[]).check(response)), HandshakeFault::Extension(name.into()));
    }
}

#[test]
fn compression_is_offered_in_one_header_or_not_at_all() {
    let uri: Uri = "ws://example.com/".parse().expect("a URI");
    let request = |offers: &[deflate::Offer]| {
        let offer = offer(&[]).deflate(offers.iter().copied());
        offer.request(&uri).expect("a request")
    };
    assert!(!request(&[]).headers().contains_key("sec-websocket-extensions"));
    let (browser, plain) = (deflate::Offer::browser(), deflate::Offer::default());
    for (offers, value) in [
        (&[browser][..], "permessage-deflate; client_max_window_bits"),
        (&[browser, plain], "permessage-deflate; client_max_window_bits, permessage-deflate"),
    ] {
        assert_eq!(request(offers).headers()["sec-websocket-extensions"], value);
    }
}

#[test]
fn compression_is_taken_on_the_terms_that_were_offered_and_once() {
    let name = "sec-websocket-extensions";
    let offer = offer(&[]).deflate([deflate::Offer::browser()]);
    for headers in [&[][..], &[(name, "")], &[(name, " , ")]] {
        assert_eq!(offer.check(answer(headers)).expect("a yes").deflate, None, "{headers:?}");
    }
    let value = "permessage-deflate; client_max_window_bits=\"10\"";
    let accepted = offer.check(answer(&[(name, value)])).expect("a yes").deflate;
    assert_eq!(accepted.map(|p| p.to_string()), Some(value.replace('"', "")));

    let wrong = |value: &str| ParameterError::Value {
        name: "server_max_window_bits",
        value: value.to_owned(),
    };
    for (headers, expected) in [
        (&[(name, "x-other")][..], HandshakeFault::Extension("x-other".into())),
        (&[(name, "permessage-deflate, x-other")], HandshakeFault::Extension("x-other".into())),
        (&[(name, "Permessage-Deflate")], HandshakeFault::Extension("Permessage-Deflate".into())),
        (&[(name, "permessage-deflate, permessage-deflate")], AnswerError::Twice.into()),
        (&[(name, "permessage-deflate"), (name, "permessage-deflate")], AnswerError::Twice.into()),
        (
            &[(name, "permessage-deflate; server_max_window_bits=16")],
            AnswerError::Parameter(wrong("16")).into(),
        ),
        (
            &[(name, "permessage-deflate; server_max_window_bits=\"1,0\"")],
            AnswerError::Parameter(ParameterError::Malformed(
                "permessage-deflate; server_max_window_bits=\"1,0\"".into(),
            ))
            .into(),
        ),
    ] {
        assert_eq!(fault(offer.check(answer(headers))), expected, "{headers:?}");
    }
    let error = fault(offer.check(answer(&[(name, "permessage-deflate; x=1")])));
    assert!(error.to_string().contains("`x`"), "{error}");
    let mut response = answer(&[]);
    let value = HeaderValue::from_bytes(b"permessage-deflate\xe4").expect("obs-text");
    response.headers_mut().insert(name, value);
    assert!(matches!(fault(offer.check(response)), HandshakeFault::Extension(_)));
}

#[test]
fn a_subprotocol_is_taken_from_the_offer_and_only_one() {
    let offer = offer(&["chat", "soap"]);
    let protocol = "sec-websocket-protocol";
    let accepted = offer.check(answer(&[(protocol, "soap")])).expect("an offered one");
    assert_eq!(accepted.protocol.as_deref(), Some("soap"));
    for (headers, named) in [
        (&[(protocol, "wamp")][..], "wamp"),
        (&[(protocol, "Chat")], "Chat"),
        (&[(protocol, "chat, soap")], "chat, soap"),
        (&[(protocol, "chat"), (protocol, "chat")], "chat, chat"),
    ] {
        let expected = HandshakeFault::Protocol(named.into());
        assert_eq!(fault(offer.check(answer(headers))), expected, "{headers:?}");
    }
    let uninvited = fault(self::offer(&[]).check(answer(&[(protocol, "chat")])));
    assert_eq!(uninvited, HandshakeFault::Protocol("chat".into()));
}

/// A value that cannot be read is a value all the same, and certainly none that was offered.
#[test]
fn a_subprotocol_or_an_extension_that_is_not_ascii_was_not_offered_either() {
    let mut overlooked = Vec::new();
    for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        let mut response = answer(&[]);
        let value = HeaderValue::from_bytes(b"ch\xe4t").expect("obs-text is allowed in a value");
        response.headers_mut().insert(name, value);
        if offer(&["chat"]).check(response).is_ok() {
            overlooked.push(name);
        }
    }
    assert_eq!(overlooked, Vec::<&str>::new());
}

#[test]
fn a_status_other_than_101_comes_with_its_headers_and_8_kib_of_its_body() {
    for status in [200, 301, 401, 403, 426, 503] {
        for (length, kept) in [(0, 0), (8192, 8192), (8193, 8192), (100_000, 8192)] {
            // All else is in order, so it is the status that decides.
            let mut response = answer(&[("www-authenticate", "Basic"), ("retry-after", "120")]);
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            let body: Vec<u8> = (0..=255).cycle().take(length).collect();
            *response.body_mut() = Bytes::from(body.clone());
            let headers = response.headers().clone();

            let error = offer(&[]).check(response).expect_err("not 101");
            assert_eq!(error.reason, HandshakeFault::Status(error.response.status()));
            assert_eq!(error.response.status(), status);
            assert_eq!(*error.response.headers(), headers);
            assert_eq!(error.response.body()[..], body[..kept]);
            assert!(kept <= MAX_REFUSAL_BODY);
            assert_eq!(error.to_string(), error.reason.to_string());
        }
    }
}
