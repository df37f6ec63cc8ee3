//! What do the two ends agree on, and what do they say about it?

use sockeye::{
    Client, Compress, Compression, Config, SendStatus, accept_with,
    testing::{self, Connect},
};

use crate::{
    bits, settle,
    side::{OFFER, Side, Tell},
    soon,
    wire::Wire,
};

fn route(compression: Compression) -> Connect {
    let config = Config::default().compression(compression);
    testing::connect_with(
        sockeye::on()
            .on_open(|session| {
                let agreed = session.compression();
                let agreed = agreed.map_or_else(|| "nothing".into(), |agreed| agreed.to_string());
                session.send(agreed)
            })
            .on_text(|session, text| session.send(text)),
        config,
    )
}

const SHARED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const DEDICATED: &str = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";

#[tokio::test(start_paused = true)]
async fn a_client_offers_what_browsers_do_and_takes_what_the_server_makes_of_it() {
    let largest = Compression::Dedicated { window_bits: bits(15) };
    for (compression, expected) in [
        (Compression::default(), None),
        (Compression::Off, None),
        (Compression::Shared, Some(SHARED)),
        (Compression::dedicated(), Some(DEDICATED)),
        (largest, Some("permessage-deflate")),
    ] {
        for without in [false, true] {
            let mut client =
                Client::connect("ws://localhost/").transport(route(compression).stream());
            if without {
                client = client.no_compression();
            }
            let mut ws = soon(client).await.expect("it connects");
            let expected = expected.filter(|_| !without);
            let agreed = ws.socket().compression().map(|agreed| agreed.to_string());
            assert_eq!(agreed.as_deref(), expected, "{compression:?}");
            let header = ws.response().and_then(|r| r.headers().get("sec-websocket-extensions"));
            assert_eq!(header.map(|value| value.to_str().unwrap()), expected);
            let greeting = soon(ws.recv()).await.unwrap().unwrap();
            assert_eq!(greeting.as_text(), Some(expected.unwrap_or("nothing")));
            for text in ["", "short", &"long ".repeat(10_000)] {
                for compress in [Compress::Auto, Compress::Always, Compress::Never] {
                    ws.send_with(text, compress).await.unwrap();
                    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some(text));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_answers_the_first_valid_offer_or_none() {
    for (compression, offer, expected) in [
        (Compression::Off, Some(OFFER), None),
        (Compression::Shared, None, None),
        (Compression::Shared, Some("x-webkit-deflate-frame"), None),
        (Compression::Shared, Some("permessage-deflate; unknown"), None),
        (Compression::Shared, Some("permessage-deflate; server_max_window_bits=16"), None),
        (Compression::Shared, Some(OFFER), Some(SHARED)),
        (Compression::Shared, Some("permessage-deflate; a, x, permessage-deflate"), Some(SHARED)),
        (Compression::dedicated(), Some(OFFER), Some(DEDICATED)),
        (
            Compression::dedicated(),
            Some("permessage-deflate; server_max_window_bits=9"),
            Some("permessage-deflate; client_no_context_takeover; server_max_window_bits=9"),
        ),
    ] {
        let (mut wire, answer) = Wire::connect(route(compression), offer).await;
        assert_eq!(answer.as_deref(), expected, "{offer:?}");
        let greeting = soon(wire.recv()).await.expect("a greeting");
        assert_eq!(str::from_utf8(&greeting.payload), Ok(expected.unwrap_or("nothing")));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_offers_stands_in_its_request() {
    for (without, offered) in [(false, Some(OFFER)), (true, None)] {
        let (near, far) = tokio::io::duplex(1000);
        let mut client = Client::connect("ws://localhost/").transport(near);
        if without {
            client = client.no_compression();
        }
        let client = tokio::spawn(client.into_future());
        let (_wire, offer) = Wire::accept(far, None).await;
        assert_eq!(offer.as_deref(), offered);
        let ws = soon(client).await.expect("no panic").expect("an answer may leave it out");
        assert_eq!(ws.socket().compression(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_takes_no_answer_that_it_did_not_offer() {
    for (without, answer) in [
        (true, "permessage-deflate"),
        (false, "permessage-deflate; unknown"),
        (false, "permessage-deflate; client_max_window_bits"),
        (false, "permessage-deflate; server_max_window_bits=7"),
        (false, "permessage-deflate, permessage-deflate"),
        (false, "x-other"),
    ] {
        let (near, far) = tokio::io::duplex(1000);
        let mut client = Client::connect("ws://localhost/").transport(near);
        if without {
            client = client.no_compression();
        }
        let client = tokio::spawn(client.into_future());
        let response = tokio::spawn(async move { Wire::accept(far, Some(answer)).await });
        assert!(soon(client).await.expect("no panic").is_err(), "{answer}");
        drop(response);
    }
}

/// What the settings of a route say is not for a client; its level and threshold are.
#[tokio::test(start_paused = true)]
async fn a_client_compresses_from_its_threshold_on() {
    let config = Config::default().compression(Compression::Off).compression_threshold(1000);
    let (socket, _calls, mut wire) = Side::client().connect(config, 100_000, None).await;
    for (length, compress, expected) in [
        (999, Compress::Auto, false),
        (1000, Compress::Auto, true),
        (999, Compress::Always, true),
        (1000, Compress::Never, false),
    ] {
        assert_eq!(socket.send_with("a".repeat(length), compress), SendStatus::Queued);
        let taken = soon(wire.recv()).await.expect("a message");
        assert_eq!(taken.was_compressed, expected, "{length}, {compress:?}");
    }
}

/// A client refers back over 4 KiB at most, however much the server would allow.
#[tokio::test(start_paused = true)]
async fn a_client_uses_a_small_window_and_takes_what_comes_in_a_large_one() {
    let (socket, mut calls, mut wire) =
        Side::client().connect(Config::default(), 1 << 20, None).await;
    let noise = crate::content::noise(20_000);
    for _ in 0..2 {
        let frames = wire.message(2, &noise, Some(crate::content::PLAIN_STYLE), &[]);
        wire.write(&frames).await;
        assert!(crate::side::message(&mut calls).await.as_bytes() == noise);
    }
    for length in [2500, 20_000] {
        // Shorter by its end alone, or it would not get into the window.
        let message = [&noise[..length], &[b'a'; 1000]].concat();
        for n in 0..2 {
            socket.send(&message[..]);
            let taken = soon(wire.recv()).await.expect("a message");
            assert!(taken.payload == message && taken.farthest <= 4096);
            let is_found_again = taken.length < 100;
            assert_eq!(is_found_again, n == 1 && length == 2500, "{}", taken.length);
        }
    }
}

/// `accept` and a `Handler` are served alike.
#[tokio::test(start_paused = true)]
async fn a_route_of_a_function_compresses_too() {
    let config = Config::default().compression(Compression::Shared);
    let echo = |mut ws: sockeye::WebSocket, _| async move {
        while let Some(message) = ws.recv().await? {
            ws.send_with(message, Compress::Always).await?;
        }
        Ok(())
    };
    let router = axum::Router::new().route("/", accept_with(echo, config));
    let (mut wire, answer) = Wire::connect(testing::connect_to(router, "/"), Some(OFFER)).await;
    assert_eq!(answer.as_deref(), Some(SHARED));
    let text = "to and fro, ".repeat(20);
    let frames = wire.message(1, text.as_bytes(), Some(crate::content::PLAIN_STYLE), &[]);
    wire.write(&frames).await;
    let taken = soon(wire.recv()).await.expect("an echo");
    assert!(taken.was_compressed && taken.payload == text.as_bytes());
    settle().await;
    let (sender, _calls) = tokio::sync::mpsc::unbounded_channel();
    let plain = testing::connect(Tell(sender));
    assert_eq!(Wire::connect(plain, Some(OFFER)).await.1, None, "off is the default");
}
