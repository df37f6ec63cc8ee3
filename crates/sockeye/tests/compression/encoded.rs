//! Does one message for many reach each of them in the form that it has agreed to?

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use sockeye::{Compress, Compression, Config, Encoded, Hub, SendStatus, Socket};

use crate::{
    bits,
    content::{json, noise},
    side::{Calls, OFFER, Side},
    soon,
    wire::{BINARY, TEXT, Wire},
};

/// Connections of all kinds, and whether each takes messages over; all of one hub, and subscribed to `news`.
async fn everyone(hub: &Hub) -> Vec<(Socket, Calls, Wire, &'static str)> {
    let dedicated = |window| Compression::Dedicated { window_bits: bits(window) };
    let small = "permessage-deflate; server_max_window_bits=8";
    let alone = "permessage-deflate; server_no_context_takeover; server_max_window_bits=10";
    let sides = [
        (Side::Server(Compression::Off, OFFER.into()), "plain"),
        (Side::Server(Compression::Shared, "x-other".into()), "plain"),
        (Side::Server(Compression::Shared, OFFER.into()), "shared"),
        (Side::Server(Compression::Shared, small.into()), "shared"),
        (Side::Server(Compression::Shared, alone.into()), "shared"),
        (Side::Server(dedicated(12), alone.into()), "shared"),
        (Side::Server(dedicated(12), OFFER.into()), "window"),
        (Side::Server(dedicated(15), small.into()), "window"),
        (Side::client(), "client"),
        (Side::Client("permessage-deflate; client_no_context_takeover".into()), "client"),
    ];
    let mut everyone = Vec::new();
    for (side, kind) in sides {
        let (socket, calls, wire) =
            side.connect(Config::default().hub(hub.clone()), 1 << 20, None).await;
        assert!(socket.subscribe("news"));
        assert_eq!(socket.compression().is_none(), kind == "plain", "{side:?}");
        everyone.push((socket, calls, wire, kind));
    }
    everyone
}

#[tokio::test(start_paused = true)]
async fn each_receiver_gets_it_in_its_own_form() {
    let hub = Hub::new();
    let mut everyone = everyone(&hub).await;
    for round in 0..3 {
        for length in [0, 10, 255, 256, 3000, 16_384, 50_000] {
            for compress in [Compress::Auto, Compress::Always, Compress::Never] {
                let text = json(round, length);
                let news = Encoded::with(&*text, compress);
                let random = Encoded::with(noise(length), compress);
                for (socket, ..) in &everyone {
                    assert_ne!(
                        socket.send_encoded(&news),
                        SendStatus::Dropped(sockeye::DropReason::Overflow)
                    );
                    socket.send_encoded(&random.clone());
                }
                let report = hub.publish_with("news", &*text, compress);
                assert_eq!((report.sent(), report.dropped), (everyone.len(), 0));
                for (.., wire, kind) in &mut everyone {
                    let is_wanted = match compress {
                        Compress::Auto => length >= 256 && *kind != "window",
                        Compress::Always => length >= 255,
                        Compress::Never => false,
                    };
                    let is_compressed = is_wanted && *kind != "plain";
                    for way in ["sent", "noise", "published"] {
                        let taken = soon(wire.recv()).await.expect("the connection lives");
                        if way == "noise" {
                            assert!((taken.opcode, taken.payload) == (BINARY, noise(length)));
                            continue;
                        }
                        assert!((taken.opcode, taken.payload) == (TEXT, text.clone().into_bytes()));
                        // Some ten bytes are shorter in some windows, and not in others.
                        if length != 10 || !is_wanted && compress != Compress::Always {
                            let what = format!("{way}, {length} bytes, {compress:?}, {kind}");
                            assert_eq!(taken.was_compressed, is_compressed, "{what}");
                        }
                    }
                }
            }
        }
    }
}

/// Counts, and knows one name.
struct Counted(Arc<AtomicU64>);

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        assert_eq!(key.name(), "sockeye_plain_for_window_total");
        Counter::from_arc(self.0.clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_plain_because_of_a_window_is_counted() {
    for (socket, _calls, _wire, kind) in everyone(&Hub::new()).await {
        for (length, compress, expected) in [
            (300, Compress::Auto, u64::from(kind == "window")),
            (255, Compress::Auto, 0),
            (300, Compress::Always, 0),
            (300, Compress::Never, 0),
        ] {
            let counted = Counted(Arc::default());
            let news = Encoded::with(json(1, length), compress);
            with_local_recorder(&counted, || socket.send_encoded(&news));
            assert_eq!(counted.0.load(Relaxed), expected, "{kind}, {length}, {compress:?}");
        }
    }
}

/// A window is taken over from message to message, whoever sends them, and in the order of the wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_tasks_send_at_once_inflates_in_the_order_of_the_wire() {
    const TASKS: usize = 4;
    const EACH: usize = 150;
    let config = Config::default().outbox_limit(1 << 30).water_marks(1 << 30, 1 << 30);
    let alone = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9";
    for side in [
        Side::dedicated(),
        Side::Server(Compression::Dedicated { window_bits: bits(15) }, OFFER.into()),
        Side::Server(Compression::Shared, alone.into()),
        Side::client(),
    ] {
        let (socket, _calls, mut wire) = side.connect(config.clone(), 3000, Some(1111)).await;
        let payload = |task: usize, n: usize| {
            let length = [40, 300, 2000, 17_000][(task + n) % 4];
            match n % 5 {
                0 => [&[task as u8, n as u8], &noise(length)[..]].concat(),
                _ => [&[task as u8, n as u8], json(n, length).as_bytes()].concat(),
            }
        };
        let shared: Vec<_> =
            (0..EACH).map(|n| Encoded::with(payload(0, n), Compress::Always)).collect();
        let mut tasks = Vec::new();
        for task in 0..TASKS {
            let (socket, shared) = (socket.clone(), shared.clone());
            tasks.push(tokio::spawn(async move {
                for (n, encoded) in shared.iter().enumerate() {
                    let compress =
                        [Compress::Auto, Compress::Always, Compress::Never][(task + n) % 3];
                    match task {
                        0 => socket.send_encoded(encoded),
                        1 => socket.send_encoded(&Encoded::with(payload(1, n), compress)),
                        2 => socket.send_with(payload(2, n), compress),
                        _ => socket.send_with(&payload(task, n)[..], compress),
                    };
                    if n % 7 == task {
                        tokio::task::yield_now().await;
                    }
                }
            }));
        }
        let mut next = [0; TASKS];
        for _ in 0..TASKS * EACH {
            let recv = tokio::time::timeout(std::time::Duration::from_secs(60), wire.recv());
            let taken = recv.await.expect("messages come").expect("the connection lives");
            let task = usize::from(taken.payload[0]);
            assert!(taken.payload == payload(task, next[task]), "{side:?}: of task {task}");
            next[task] += 1;
        }
        assert_eq!(next, [EACH; TASKS]);
    }
}
