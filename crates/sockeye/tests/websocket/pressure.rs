//! How does a loop get along with a peer that takes less than it is sent?

use std::pin::pin;

use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use sockeye::{CloseCode, ClosedBy, Config, Message, OpCode};

use crate::{
    assert_close,
    peer::{SIDES, Setup, Side},
    secs, settle, soon, within,
};

/// Marks that are easily reached, and a pipe that takes next to nothing.
fn marks() -> Config {
    Config::default().water_marks(1000, 4000).no_keep_alive()
}

#[tokio::test(start_paused = true)]
async fn a_send_waits_above_the_high_water_mark_until_the_low_one_is_reached() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
        let socket = ws.socket();
        while socket.buffered() + 110 <= 4000 {
            assert_eq!(ws.send(&[0; 100]).now_or_never(), Some(Ok(())), "{}", socket.buffered());
        }
        let mut sending = pin!(ws.send(&[1; 200]));
        let mut waited = 0;
        while (&mut sending).now_or_never().is_none() {
            assert!(socket.buffered() > 1000, "{} bytes wait", socket.buffered());
            settle().await;
            waited += soon(peer.take(10)).await;
            settle().await;
        }
        let buffered = socket.buffered();
        assert!((900..=1000).contains(&buffered), "{buffered} bytes wait");
        assert!(waited >= 3000, "{waited} bytes were taken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_not_ready_above_the_high_water_mark_until_the_low_one_is_reached() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
        let socket = ws.socket();
        while socket.buffered() <= 4000 {
            assert_eq!(ws.feed(Message::from(vec![0; 100])).now_or_never(), Some(Ok(())));
        }
        let full = socket.buffered();
        let mut feeding = pin!(ws.feed(Message::from("once there is room")));
        while (&mut feeding).now_or_never().is_none() {
            assert!(socket.buffered() > 1000 && socket.buffered() <= full);
            settle().await;
            soon(peer.take(10)).await;
            settle().await;
        }
        let buffered = socket.buffered();
        assert!((900..=1030).contains(&buffered), "{buffered} bytes wait");
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_learns_of_the_end() {
    for side in SIDES {
        for end in 0..4 {
            let (mut ws, peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
            let socket = ws.socket();
            let mut sending = pin!(ws.send(&[0; 10_000]));
            assert_eq!((&mut sending).now_or_never(), None);
            settle().await;
            match end {
                0 => socket.close(CloseCode::NORMAL, ""),
                1 => socket.terminate(),
                2 => {
                    // More than the limit: the message before it is given up, too.
                    socket.send(vec![0; 2_000_000]);
                }
                _ => drop(peer),
            }
            assert!(soon(sending).await.is_err(), "{end}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_for_a_peer_that_takes_nothing_ends_with_the_connection() {
    for side in SIDES {
        let config = marks().write_timeout(secs(7));
        let (mut ws, peer) = Setup::new(side).config(config).pipe(10).connect().await;
        assert!(within(9, ws.send(&[0; 10_000])).await.is_err());
        let reason = "the peer took nothing of what waits for it";
        let close = soon(ws.recv()).await.unwrap_err().close;
        assert_close(&close, ClosedBy::Network, 1006, reason, false);
        drop(peer);
    }
}

/// Ten times what may wait, in both directions at once, to and from a peer that is slow to read.
#[tokio::test(start_paused = true)]
async fn an_echo_loop_of_more_than_fits_is_slow_and_not_fatal() {
    const COUNT: usize = 100;
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).pipe(5000).connect().await;
        let socket = ws.socket();
        tokio::spawn(async move {
            while let Ok(Some(message)) = ws.recv().await {
                if ws.send(message).await.is_err() {
                    break;
                }
            }
        });
        let (reader, writer) = peer.split();
        let send = async {
            for n in 0..COUNT {
                writer.send(OpCode::Binary, &vec![n as u8; 20_000 + n]).await;
            }
        };
        let receive = async {
            let mut most = 0;
            for n in 0..COUNT {
                settle().await;
                most = most.max(socket.buffered());
                let frame = reader.recv().await.expect("the connection lives");
                assert_eq!(frame.payload, vec![n as u8; 20_000 + n], "message {n}");
            }
            most
        };
        let ((), most) = within(60, async { tokio::join!(send, receive) }).await;
        // The high-water mark and one message.
        assert!((64 * 1024 - 20_000..64 * 1024 + 21_000).contains(&most), "{most} bytes waited");
    }
}

/// A server reads nothing while much waits; a client reads on, and has to wait by itself.
#[tokio::test(start_paused = true)]
async fn a_servers_loop_that_does_not_wait_for_room_is_slow_and_not_fatal() {
    let (mut ws, mut peer) = Setup::new(Side::Server).pipe(5000).connect().await;
    tokio::spawn(async move {
        while let Ok(Some(message)) = ws.recv().await {
            ws.socket().send(message);
        }
    });
    let (reader, writer) = peer.split();
    let send = async {
        for n in 0..200 {
            writer.send(OpCode::Binary, &vec![n as u8; 20_000]).await;
        }
    };
    let receive = async {
        for n in 0..200 {
            settle().await;
            let frame = reader.recv().await.expect("the connection lives");
            assert_eq!((frame.opcode, frame.payload[0]), (OpCode::Binary, n as u8));
        }
    };
    within(60, async { tokio::join!(send, receive) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_never_has_more_waiting_than_the_high_water_mark_and_one_message() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(100).connect().await;
        let socket = ws.socket();
        let mut messages = stream::iter((0..1000).map(|n| Ok(Message::from(vec![n as u8; 500]))));
        let receive = async {
            let mut most = 0;
            for n in 0..1000 {
                settle().await;
                most = most.max(socket.buffered());
                let frame = peer.recv().await.expect("the connection lives");
                assert_eq!(frame.payload, [n as u8; 500]);
            }
            most
        };
        let (sent, most) =
            within(60, async { tokio::join!(ws.send_all(&mut messages), receive) }).await;
        assert_eq!(sent, Ok(()));
        assert!((2000..=4000 + 510).contains(&most), "{most} bytes waited");
        assert_eq!(messages.next().await, None);
    }
}

/// Its `close` is what `forward` ends with.
#[tokio::test(start_paused = true)]
async fn a_forward_of_which_nothing_arrives_is_no_success() {
    for side in SIDES {
        let (ws, mut peer) = Setup::new(side).pipe(10).connect().await;
        let messages = stream::iter((0..10).map(|n| Ok(Message::from(vec![n; 1000]))));
        let leave = async {
            settle().await;
            assert_eq!(peer.take(5).await, 5);
            drop(peer);
        };
        let (sent, ()) = soon(async { tokio::join!(messages.forward(ws), leave) }).await;
        assert!(sent.is_err(), "10 KB were to be sent, and a few bytes have arrived");
    }
}
