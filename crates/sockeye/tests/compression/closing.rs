//! Does the end of a connection come behind all messages that were queued, compressed ones too?

use futures_util::FutureExt;
use sockeye::{CloseCode, ClosedBy, Compress, Config};

use crate::{
    content::{json, noise},
    settle,
    side::{self, Side},
    soon,
    wire::{CLOSE, Wire},
};

/// How the closing begins, in the midst of messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    Ours,
    Theirs,
    /// The peer breaks a rule: what is queued leaves before the close frame that says so.
    Broken,
}

#[tokio::test(start_paused = true)]
async fn the_close_frame_comes_behind_all_that_was_queued() {
    for side in [Side::dedicated(), Side::client(), Side::shared()] {
        for way in [Way::Ours, Way::Theirs, Way::Broken] {
            for (pipe, split, first) in [(50, None, 0), (50, Some(3), 10), (5000, None, 30)] {
                let config = Config::default().water_marks(1 << 30, 1 << 30);
                let (socket, mut calls, mut wire) = side.connect(config, pipe, split).await;
                let message = |n: usize| match n % 3 {
                    0 => noise(30 + n),
                    1 => json(n, 500).into_bytes(),
                    _ => json(n, 17_000).into_bytes(),
                };
                for n in 0..40 {
                    socket.send_with(message(n), Compress::Always);
                    if n == first {
                        settle().await;
                    }
                }
                let code = begin(way, &socket, &mut wire).await;
                for n in 0..40 {
                    let taken = soon(wire.recv()).await.expect("the connection lives");
                    assert!(taken.payload == message(n), "{side:?}, {way:?}: message {n}");
                }
                assert_eq!(soon(wire.recv_close()).await, code, "{side:?}, {way:?}");
                if matches!(way, Way::Ours) {
                    wire.send_control(CLOSE, &code.to_be_bytes()).await;
                }
                let close = side::close(&mut calls).await;
                assert_eq!(close.clean, !matches!(way, Way::Broken), "{side:?}, {way:?}");
                assert_eq!(socket.buffered(), 0);
                assert!(socket.compression().is_some(), "what was agreed can still be asked for");
            }
        }
    }
}

async fn begin(way: Way, socket: &sockeye::Socket, wire: &mut Wire) -> u16 {
    match way {
        Way::Ours => {
            socket.close(CloseCode::NORMAL, "");
            1000
        }
        Way::Theirs => {
            wire.send_control(CLOSE, &1001_u16.to_be_bytes()).await;
            1001
        }
        Way::Broken => {
            // A block of a kind that DEFLATE does not have.
            let frame = wire.compressed(2, &[0x07]);
            wire.write(&frame).await;
            1007
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_while_compressed_messages_wait_lets_nobody_wait() {
    for side in [Side::dedicated(), Side::client()] {
        for terminated in [true, false] {
            let (socket, mut calls, wire) = side.connect(Config::default(), 100, None).await;
            for n in 0..50 {
                socket.send_with(json(n, 900), Compress::Always);
            }
            settle().await;
            let waiting = socket.clone();
            let waiting = tokio::spawn(async move { waiting.flushed().await });
            settle().await;
            assert!((&mut Box::pin(socket.closed())).now_or_never().is_none());
            if terminated {
                socket.terminate();
                settle().await;
                drop(wire);
            } else {
                drop(wire);
            }
            assert!(soon(waiting).await.expect("no panic").is_err());
            let close = soon(side::close(&mut calls)).await;
            assert_eq!((close.by, close.clean), (ClosedBy::Network, false));
            assert_eq!(socket.buffered(), 0);
        }
    }
}
