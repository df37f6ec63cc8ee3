//! Do both halves of the opening handshake keep to RFC 6455 section 4, and to one another?

mod client;
mod server;

use sockeye_proto::{
    deflate::{self, Policy, WindowBits},
    handshake::{client::Offer, server::Upgrade},
};

#[test]
fn server_and_client_open_a_connection_with_one_another() {
    for nonce in [[0; 16], [0xff; 16], *b"the sample nonce"] {
        for (offered, chosen) in [
            (vec![], None),
            (vec!["chat"], None),
            (vec!["chat"], Some("chat")),
            (vec!["chat", "v2.chat"], Some("v2.chat")),
        ] {
            let offer = Offer::new(nonce, offered.iter().copied()).expect("tokens");
            let uri = "wss://example.com/chat?room=7".parse().expect("a URI");
            let request = offer.request(&uri).expect("a request");
            let upgrade = Upgrade::check_request(request).expect("a valid handshake");
            assert_eq!(upgrade.protocols().collect::<Vec<_>>(), offered);
            let response = upgrade.response(chosen).expect("an offered subprotocol");
            let accepted = offer.check(response.map(|()| bytes::Bytes::new())).expect("a yes");
            assert_eq!(accepted.protocol.as_deref(), chosen);
        }
    }
}

#[test]
fn server_and_client_agree_on_compression_or_do_without() {
    let policies = [
        None,
        Some(Policy::Shared),
        Some(Policy::Dedicated { window_bits: WindowBits::new(11).expect("8 to 15") }),
        Some(Policy::Dedicated { window_bits: WindowBits::MAX }),
    ];
    let offers: [&[deflate::Offer]; 3] =
        [&[], &[deflate::Offer::browser()], &[deflate::Offer::default()]];
    for (policy, offered) in policies.iter().flat_map(|p| offers.map(|offered| (p, offered))) {
        let offer = Offer::new([7; 16], None::<String>).expect("nothing to refuse");
        let offer = offer.deflate(offered.iter().copied());
        let uri = "ws://example.com/".parse().expect("a URI");
        let request = offer.request(&uri).expect("a request");
        let mut upgrade = Upgrade::check_request(request).expect("a valid handshake");
        assert_eq!(upgrade.deflate_offers(), offered);
        let agreed = policy.and_then(|policy| upgrade.agree_to_deflate(policy));
        assert_eq!(agreed.is_some(), policy.is_some() && !offered.is_empty());
        let response = upgrade.response(None).expect("nothing chosen");
        let accepted = offer.check(response.map(|()| bytes::Bytes::new())).expect("a yes");
        assert_eq!(accepted.deflate, agreed);
    }
}

#[test]
fn the_answer_to_one_client_is_not_taken_by_another() {
    let [mine, other] =
        [[1; 16], [2; 16]].map(|nonce| Offer::new(nonce, ["chat"]).expect("a token"));
    let uri = "ws://example.com/".parse().expect("a URI");
    let request = other.request(&uri).expect("a request");
    let upgrade = Upgrade::check_request(request).expect("a valid handshake");
    let response = upgrade.response(None).expect("nothing chosen");
    assert!(mine.check(response.map(|()| bytes::Bytes::new())).is_err());
}

#[test]
fn every_refusal_reaches_the_client_with_its_reason() {
    use http::{Method, Version};
    use sockeye_proto::handshake::client::HandshakeFault;

    let offer = Offer::new([7; 16], None::<String>).expect("nothing to refuse");
    let uri = "ws://example.com/".parse().expect("a URI");
    let valid = || offer.request(&uri).expect("a request");
    let spoil: [fn(&mut http::Request<()>); 5] = [
        |request| *request.method_mut() = Method::POST,
        |request| *request.version_mut() = Version::HTTP_10,
        |request| drop(request.headers_mut().remove("upgrade")),
        |request| drop(request.headers_mut().remove("sec-websocket-version")),
        |request| drop(request.headers_mut().remove("sec-websocket-key")),
    ];
    for spoil in spoil {
        let mut request = valid();
        spoil(&mut request);
        let refusal = Upgrade::check_request(request).expect_err("a spoilt handshake");
        let response = refusal.response();
        let status = response.status();
        let error = offer.check(response.map(bytes::Bytes::from)).expect_err("a refusal");
        assert_eq!(error.reason, HandshakeFault::Status(status));
        assert_eq!(error.response.body(), format!("{refusal}\n").as_bytes());
    }
}
