//! Which requests does a server upgrade, and with what answer (RFC 6455 section 4.2)?

use http::{Method, Request, StatusCode, Version, request::Builder};
use sockeye_proto::{
    deflate::Policy,
    handshake::{
        accept_key,
        server::{NotOffered, Refusal, Upgrade},
    },
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A request with these headers, in this order; the rest of a valid handshake is filled in, but not
/// for the names in `headers` nor in `without`.
fn request(headers: &[(&str, &str)], without: &[&str]) -> Builder {
    let valid = [
        ("host", "server.example.com"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];
    let given = |name: &str| without.contains(&name) || headers.iter().any(|(n, _)| *n == name);
    let filled_in = valid.iter().filter(|(name, _)| !given(name));
    filled_in
        .chain(headers)
        .fold(Request::get("/chat"), |request, (name, value)| request.header(*name, *value))
}

fn check(request: Builder) -> Result<Upgrade, Refusal> {
    Upgrade::check_request(request.body(()).expect("a request"))
}

#[test]
fn the_example_of_section_1_3_is_answered_as_written_there() {
    let example = request(&[("sec-websocket-protocol", "chat, superchat")], &[]);
    let response = check(example).expect("accepted").response(Some("chat")).expect("offered");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.version(), Version::HTTP_11);
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("visible characters")))
        .collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "chat"),
            ("upgrade", "websocket"),
        ]
    );
}

#[test]
fn the_guid_is_the_one_of_the_rfc() {
    // Computed with another implementation of SHA-1, from another key than that of the example.
    assert_eq!(accept_key(b"x3JJHMbDL1EzLkh9GBhXDw=="), "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
}

#[test]
fn connection_and_upgrade_are_lists_of_tokens_in_any_case_on_any_number_of_lines() {
    let accepted: &[&[(&str, &str)]] = &[
        &[("connection", "upgrade")],
        &[("connection", "UPGRADE")],
        &[("connection", "keep-alive, Upgrade")],
        &[("connection", "keep-alive,Upgrade ,x")],
        &[("connection", "\tUpgrade\t")],
        &[("connection", "keep-alive"), ("connection", "Upgrade")],
        &[("upgrade", "WebSocket")],
        &[("upgrade", "h2c, websocket")],
        &[("upgrade", "h2c"), ("upgrade", "websocket")],
    ];
    for headers in accepted {
        assert!(check(request(headers, &[])).is_ok(), "{headers:?}");
    }
    let refused: &[&[(&str, &str)]] = &[
        &[("connection", "keep-alive")],
        &[("connection", "")],
        &[("connection", "no-upgrade")],
        &[("connection", "Upgrade-Insecure-Requests")],
        &[("connection", "keep-alive Upgrade")],
        &[("connection", "\"Upgrade\"")],
        &[("upgrade", "h2c")],
        &[("upgrade", "websockets")],
        &[("upgrade", "web socket")],
    ];
    for headers in refused {
        let result = check(request(headers, &[])).map(drop);
        assert_eq!(result, Err(Refusal::NotAnUpgrade), "{headers:?}");
    }
    for missing in ["connection", "upgrade"] {
        let result = check(request(&[], &[missing])).map(drop);
        assert_eq!(result, Err(Refusal::NotAnUpgrade), "without {missing}");
    }
}

#[test]
fn a_key_is_16_bytes_in_base64_and_there_is_one() {
    let refused: &[&[(&str, &str)]] = &[
        &[("sec-websocket-key", "")],
        &[("sec-websocket-key", "not base64 at all!!!====")],
        &[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAA")],
        &[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAAA=")],
        &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")],
        &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==")],
        &[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)],
        &[("sec-websocket-key", KEY), ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")],
    ];
    for headers in refused {
        assert_eq!(check(request(headers, &[])).map(drop), Err(Refusal::Key), "{headers:?}");
    }
    assert_eq!(check(request(&[], &["sec-websocket-key"])).map(drop), Err(Refusal::Key));
    let zeros = request(&[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")], &[]);
    assert!(check(zeros).is_ok(), "any 16 bytes will do");
}

#[test]
fn the_version_is_13_and_nothing_else() {
    let refused: &[&[(&str, &str)]] = &[
        &[("sec-websocket-version", "")],
        &[("sec-websocket-version", "8")],
        &[("sec-websocket-version", "14")],
        &[("sec-websocket-version", "013")],
        &[("sec-websocket-version", "13, 8")],
        &[("sec-websocket-version", "13"), ("sec-websocket-version", "8")],
        &[("sec-websocket-version", "13"), ("sec-websocket-version", "13")],
    ];
    for headers in refused {
        let result = check(request(headers, &[])).map(drop);
        assert_eq!(result, Err(Refusal::WebSocketVersion), "{headers:?}");
    }
    let missing = check(request(&[], &["sec-websocket-version"])).map(drop);
    assert_eq!(missing, Err(Refusal::WebSocketVersion));
}

#[test]
fn a_handshake_is_a_get_request_of_http_1_1() {
    for method in [Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS, Method::CONNECT] {
        let result = check(request(&[], &[]).method(method)).map(drop);
        assert_eq!(result, Err(Refusal::Method));
    }
    for version in [Version::HTTP_09, Version::HTTP_10] {
        let result = check(request(&[], &[]).version(version)).map(drop);
        assert_eq!(result, Err(Refusal::HttpVersion));
    }
}

#[test]
fn a_refusal_says_how_to_do_it_right() {
    let plain_get = request(&[], &["connection", "upgrade", "sec-websocket-version"]);
    assert_eq!(check(plain_get).map(drop), Err(Refusal::NotAnUpgrade));
    for (refusal, status, names_version, allow) in [
        (Refusal::Method, 405, false, Some("GET")),
        (Refusal::HttpVersion, 400, false, None),
        (Refusal::NotAnUpgrade, 426, true, None),
        (Refusal::WebSocketVersion, 426, true, None),
        (Refusal::Key, 400, false, None),
    ] {
        let response = refusal.response();
        let header = |name| response.headers().get(name).map(http::HeaderValue::as_bytes);
        assert_eq!(response.status(), status, "{refusal}");
        assert_eq!(header("allow"), allow.map(str::as_bytes), "{refusal}");
        let only_with_426 = |value: &'static [u8]| names_version.then_some(value);
        assert_eq!(header("sec-websocket-version"), only_with_426(b"13"), "{refusal}");
        assert_eq!(header("upgrade"), only_with_426(b"websocket"), "{refusal}");
        assert_eq!(header("connection"), only_with_426(b"Upgrade"), "{refusal}");
        assert_eq!(header("content-type"), Some(&b"text/plain; charset=utf-8"[..]));
        assert_eq!(*response.body(), format!("{refusal}\n"));
        assert_eq!(header("sec-websocket-accept"), None, "a refusal proves nothing");
    }
}

#[test]
fn a_subprotocol_comes_from_the_offer_or_not_at_all() {
    let offer = [("sec-websocket-protocol", "chat,\tv2.chat"), ("sec-websocket-protocol", "soap")];
    let upgrade = check(request(&offer, &[])).expect("accepted");
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "v2.chat", "soap"]);
    for protocol in ["v2.chat", "soap"] {
        let response = upgrade.clone().response(Some(protocol)).expect("offered");
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    }
    for protocol in ["Chat", "wamp", "", "chat, v2.chat", "chat\r\nset-cookie: a=b"] {
        let refused = upgrade.clone().response(Some(protocol)).map(drop);
        assert_eq!(refused, Err(NotOffered(protocol.to_owned())));
    }
    let response = upgrade.response(None).expect("nothing chosen");
    assert!(!response.headers().contains_key("sec-websocket-protocol"), "the first is not echoed");

    let upgrade = check(request(&[], &[])).expect("accepted");
    assert_eq!(upgrade.protocols().count(), 0);
    assert!(upgrade.response(Some("chat")).is_err(), "nothing was offered");
}

#[test]
fn no_extension_is_agreed_to_by_itself() {
    let offer = request(&[("sec-websocket-extensions", "permessage-deflate")], &[]);
    let response = check(offer).expect("accepted").response(None).expect("nothing chosen");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
}

#[test]
fn compression_is_agreed_to_by_the_first_good_offer_and_where_it_is_asked_for_alone() {
    let name = "sec-websocket-extensions";
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (headers, offers, expected) in [
        (&[][..], 0, None),
        (&[(name, "")], 0, None),
        (&[(name, "x-other; a=1")], 0, None),
        (&[(name, "permessage-deflate; server_max_window_bits=7")], 0, None),
        (&[(name, "permessage-deflate; client_max_window_bits")], 1, Some(agreed.to_owned())),
        (
            &[(name, "x-other, permessage-deflate; x=1"), (name, "permessage-deflate")],
            1,
            Some(agreed.to_owned()),
        ),
        (
            &[(name, "permessage-deflate; server_max_window_bits=9, permessage-deflate")],
            2,
            Some(format!("{agreed}; server_max_window_bits=9")),
        ),
    ] {
        let mut upgrade = check(request(headers, &[])).expect("accepted");
        assert_eq!(upgrade.deflate_offers().len(), offers, "{headers:?}");
        let unasked = upgrade.clone().response(None).expect("nothing chosen");
        assert!(!unasked.headers().contains_key(name), "{headers:?}");

        let agreed = upgrade.agree_to_deflate(Policy::Shared);
        assert_eq!(agreed.map(|parameters| parameters.to_string()), expected, "{headers:?}");
        let response = upgrade.response(None).expect("nothing chosen");
        let answered: Vec<_> = response.headers().get_all(name).into_iter().collect();
        assert_eq!(answered, expected.iter().collect::<Vec<_>>(), "{headers:?}");
    }
}

/// One would read what follows as frames, and a proxy in between as a body.
#[test]
fn a_handshake_with_a_body_is_refused_with_400() {
    for header in [("content-length", "5"), ("transfer-encoding", "chunked")] {
        let refusal = check(request(&[header], &[])).expect_err("a body");
        assert_eq!(refusal, Refusal::Body, "{header:?}");
        assert_eq!(refusal.response().status(), StatusCode::BAD_REQUEST);
    }
    assert!(check(request(&[("content-length", "0")], &[])).is_ok());
}

#[test]
fn a_handshake_names_its_host_once() {
    for headers in [&[][..], &[("host", "a.example"), ("host", "b.example")]] {
        let refusal = check(request(headers, &["host"])).expect_err("not one host");
        assert_eq!(refusal, Refusal::Host, "{headers:?}");
        assert_eq!(refusal.response().status(), StatusCode::BAD_REQUEST);
    }
}

/// RFC 6455 section 9.1: of a value "that does not conform to the ABNF" the recipient "MUST
/// immediately _Fail the WebSocket Connection_", which for a server is an error (section 4.2.1).
#[test]
fn a_header_of_extensions_that_is_against_the_grammar_is_refused() {
    for value in [
        "permessage-deflate;",
        "permessage deflate",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=10=10",
        "x-other; =1",
        "x-other; \"open, permessage-deflate",
    ] {
        let refusal = check(request(&[("sec-websocket-extensions", value)], &[]));
        let status = refusal.expect_err(value).response().status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{value}");
    }
}
