//! What does `recv` give at the end of a connection, whatever way it comes?

use std::{sync::mpsc, thread, time::Duration};

use futures_util::StreamExt;
use sockeye::{
    Close, CloseCode, ClosedBy, Config, Disconnected, DropReason, Limits, Message, OpCode,
    SendStatus, State, WebSocket, testing::Faults,
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    assert_close,
    peer::{Peer, SIDES, Setup, Side, frame},
    secs, settle, soon, text, within,
};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    PeerCloses,
    PeerClosesWithoutCode,
    OwnCloseAnswered,
    OwnCloseUnanswered,
    OwnCloseAndEnd,
    BothClose,
    PeerLeaves,
    PeerLeavesWithinMessage,
    Reset,
    ReservedBit,
    BadText,
    TooBig,
    TooSlowMessage,
    NoPong,
    Terminated,
    OverflowAnswered,
    OverflowUnanswered,
    IdleAnswered,
    IdleUnanswered,
    LifetimeAnswered,
    NothingTaken,
}

const WAYS: [Way; 21] = [
    Way::PeerCloses,
    Way::PeerClosesWithoutCode,
    Way::OwnCloseAnswered,
    Way::OwnCloseUnanswered,
    Way::OwnCloseAndEnd,
    Way::BothClose,
    Way::PeerLeaves,
    Way::PeerLeavesWithinMessage,
    Way::Reset,
    Way::ReservedBit,
    Way::BadText,
    Way::TooBig,
    Way::TooSlowMessage,
    Way::NoPong,
    Way::Terminated,
    Way::OverflowAnswered,
    Way::OverflowUnanswered,
    Way::IdleAnswered,
    Way::IdleUnanswered,
    Way::LifetimeAnswered,
    Way::NothingTaken,
];

/// Where the handle is when the end comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Handle {
    InRecv,
    InStream,
    Elsewhere,
    /// And a message was not taken.
    Behind,
}

const HANDLES: [Handle; 4] = [Handle::InRecv, Handle::InStream, Handle::Elsewhere, Handle::Behind];

impl Handle {
    fn waits(self) -> bool {
        matches!(self, Self::InRecv | Self::InStream)
    }
}

const UNTAKEN: &str = "untaken";

impl Way {
    fn config(self) -> Config {
        let limits = Limits::default().message_size(1000);
        let config = Config::default().limits(limits).outbox_limit(10_000);
        match self {
            Self::IdleAnswered | Self::IdleUnanswered => config.idle_timeout(secs(20)),
            Self::LifetimeAnswered => config.max_lifetime(secs(20)),
            Self::NothingTaken => config.no_keep_alive(),
            _ => config,
        }
    }

    /// Whether it is not seen before the message in front of it is taken, as it comes with data or is
    /// a close frame.
    fn waits_its_turn(self) -> bool {
        matches!(
            self,
            Self::PeerCloses
                | Self::PeerClosesWithoutCode
                | Self::PeerLeavesWithinMessage
                | Self::ReservedBit
                | Self::BadText
                | Self::TooBig
                | Self::TooSlowMessage
        )
    }

    /// What goes wrong behind so many bytes.
    fn faults(self, position: usize) -> Faults {
        match self {
            // Not at once, or the handshake would not be answered.
            Self::Reset => Faults::new().reset_at(position as u64 + 1),
            _ => Faults::new(),
        }
    }

    async fn come(self, socket: sockeye::Socket, mut peer: Peer) {
        match self {
            Self::PeerCloses => {
                peer.send_close(4000, "bye").await;
                assert_eq!(peer.recv_close().await, CloseCode(4000));
            }
            Self::PeerClosesWithoutCode => {
                peer.send(OpCode::Close, b"").await;
                assert_eq!(peer.recv_close().await, CloseCode::NO_STATUS);
            }
            Self::OwnCloseAnswered => {
                socket.close(CloseCode(4001), "enough");
                peer.answer_close(4001).await;
            }
            Self::OwnCloseUnanswered => {
                socket.close(CloseCode(4001), "enough");
                assert_eq!(peer.recv_close().await, CloseCode(4001));
                peer.recv_cut().await;
            }
            Self::OwnCloseAndEnd => {
                socket.close(CloseCode(4001), "enough");
                assert_eq!(peer.recv_close().await, CloseCode(4001));
            }
            Self::BothClose => {
                socket.close(CloseCode(4001), "enough");
                peer.send_close(4000, "bye").await;
                assert_eq!(peer.recv_close().await, CloseCode(4001));
            }
            Self::PeerLeaves => {}
            Self::PeerLeavesWithinMessage => {
                peer.send_raw(&peer.frame(OpCode::Text, false, b"a begin")).await;
            }
            Self::Reset => {
                // Of which one byte arrives.
                peer.send(OpCode::Ping, b"").await;
                peer.recv_cut().await;
            }
            Self::ReservedBit => {
                let mut wire = peer.frame(OpCode::Text, true, b"x");
                wire[0] |= 0x40;
                peer.send_raw(&wire).await;
                assert_eq!(peer.recv_close().await, CloseCode::PROTOCOL);
            }
            Self::BadText => {
                peer.send(OpCode::Text, b"\xff").await;
                assert_eq!(peer.recv_close().await, CloseCode::INVALID_DATA);
            }
            Self::TooBig => {
                peer.send(OpCode::Binary, &[0; 1001]).await;
                assert_eq!(peer.recv_close().await, CloseCode::TOO_BIG);
            }
            Self::TooSlowMessage => {
                peer.send_raw(&peer.frame(OpCode::Text, false, b"a begin")).await;
                // Pongs, so that it is not the silence that ends it.
                for _ in 0..3 {
                    tokio::time::sleep(secs(18)).await;
                    peer.send(OpCode::Pong, b"").await;
                }
                assert_eq!(peer.recv_close().await, CloseCode::POLICY);
            }
            Self::NoPong => {
                assert_eq!(peer.recv().await.map(|frame| frame.opcode), Some(OpCode::Ping));
                peer.recv_cut().await;
            }
            Self::Terminated => {
                socket.terminate();
                peer.recv_cut().await;
            }
            Self::OverflowAnswered | Self::OverflowUnanswered => {
                let refused = SendStatus::Dropped(DropReason::Overflow);
                while socket.send(&[0; 5000]) != refused {}
                assert_eq!(socket.state(), State::Closing);
                if self == Self::OverflowAnswered {
                    assert_eq!(peer.recv_until_close().await.1, CloseCode::TRY_AGAIN);
                    peer.send_close(1013, "").await;
                    return peer.recv_end().await;
                }
                socket.closed().await;
            }
            Self::IdleAnswered | Self::LifetimeAnswered => peer.answer_close(1001).await,
            Self::IdleUnanswered => {
                assert_eq!(peer.recv_close().await, CloseCode::AWAY);
                peer.recv_cut().await;
            }
            Self::NothingTaken => {
                socket.send(&[0; 100_000]);
                socket.closed().await;
            }
        }
    }

    #[track_caller]
    fn assert_told(self, close: &Close) {
        use ClosedBy::{Local, Network, Peer};
        let reason = &*close.reason;
        let (by, code, reason, clean) = match self {
            Self::PeerCloses => (Peer, 4000, "bye", true),
            Self::PeerClosesWithoutCode => (Peer, 1005, "", true),
            Self::OwnCloseAnswered | Self::BothClose => (Local, 4001, "enough", true),
            Self::OwnCloseUnanswered | Self::OwnCloseAndEnd => (Local, 4001, "enough", false),
            Self::PeerLeaves | Self::PeerLeavesWithinMessage => {
                (Network, 1006, "the peer ended the connection without a close frame", false)
            }
            Self::Reset => (Network, 1006, "the connection was reset", false),
            Self::ReservedBit => (Local, 1002, reason, false),
            Self::BadText => (Local, 1007, reason, false),
            Self::TooBig => (Local, 1009, reason, false),
            Self::TooSlowMessage => (Local, 1008, reason, false),
            Self::NoPong => (Network, 1006, "no answer to a ping", false),
            Self::Terminated => (Network, 1006, "the connection was terminated", false),
            Self::OverflowAnswered => (Local, 1013, "too slow to receive what was sent", true),
            Self::OverflowUnanswered => (Local, 1013, "too slow to receive what was sent", false),
            Self::IdleAnswered => (Local, 1001, "idle for too long", true),
            Self::IdleUnanswered => (Local, 1001, "idle for too long", false),
            Self::LifetimeAnswered => (Local, 1001, "connected for too long", true),
            Self::NothingTaken => {
                (Network, 1006, "the peer took nothing of what waits for it", false)
            }
        };
        assert_close(close, by, code, reason, clean);
        assert!(clean || code == 4001 || !close.reason.is_empty(), "an error says why");
    }
}

type Got = Result<Option<Message<'static>>, Disconnected>;

/// What is got once everything that came before is taken.
async fn last(ws: &mut WebSocket, handle: Handle) -> Got {
    if handle == Handle::InStream { ws.next().await.transpose() } else { ws.recv().await }
}

async fn assert_end(side: Side, way: Way, handle: Handle) {
    let untaken = frame(side, OpCode::Text, true, UNTAKEN.as_bytes());
    let position = if handle == Handle::Behind { untaken.len() } else { 0 };
    let setup = Setup::new(side).config(way.config()).reads(way.faults(position)).pipe(4096);
    let (mut ws, mut peer) = setup.connect().await;
    let socket = ws.socket();
    if handle == Handle::Behind {
        peer.send_raw(&untaken).await;
        settle().await;
    }
    let come = way.come(socket.clone(), peer);
    let got = if handle.waits() || handle == Handle::Behind && way.waits_its_turn() {
        let waiting = async {
            if handle == Handle::Behind {
                assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), UNTAKEN);
            }
            last(&mut ws, handle).await
        };
        within(100, async { tokio::join!(waiting, come) }).await.0
    } else {
        within(100, come).await;
        within(10, socket.closed()).await;
        if handle == Handle::Behind {
            assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), UNTAKEN);
        }
        soon(last(&mut ws, handle)).await
    };
    let close = soon(socket.closed()).await;
    way.assert_told(&close);
    let expected = if close.clean { Ok(None) } else { Err(close) };
    assert_eq!(got.map_err(|error| error.close), expected);
    let again = soon(ws.recv()).await;
    assert_eq!(again.map_err(|error| error.close), expected, "asked again");
    assert!(soon(ws.send("too late")).await.is_err());
    assert_eq!(socket.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_none_after_two_close_frames_and_else_an_error_and_tells_how_it_came() {
    for side in SIDES {
        for way in WAYS {
            for handle in HANDLES {
                println!("{side:?} {way:?} {handle:?}");
                assert_end(side, way, handle).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_peers_answer_and_drops_what_comes_meanwhile() {
    for side in SIDES {
        for untaken in [false, true] {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            if untaken {
                peer.send_text("not taken before").await;
                settle().await;
            }
            ws.send("last words").await.unwrap();
            let close = ws.close(CloseCode(4000), "enough");
            let answer = async {
                assert_eq!(peer.recv_text().await, "last words");
                assert_eq!(peer.recv_close().await, CloseCode(4000));
                for n in 0..100 {
                    peer.send_text(&n.to_string()).await;
                    settle().await;
                }
                peer.send_close(4000, "").await;
                peer.recv_end().await;
            };
            let (close, ()) = within(2, async { tokio::join!(close, answer) }).await;
            assert_close(&close, ClosedBy::Local, 4000, "enough", true);
            assert_eq!(soon(ws.recv()).await, Ok(None));
            assert_eq!(soon(ws.close(CloseCode(4001), "again")).await, close);
        }
    }
}

/// By one who has only the socket.
#[tokio::test(start_paused = true)]
async fn a_close_that_is_answered_ends_at_once_though_messages_are_not_taken() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).pipe(100).connect().await;
        for n in 0..3 {
            peer.send_text(&n.to_string()).await;
        }
        settle().await;
        let socket = ws.socket();
        socket.close(CloseCode(4000), "enough");
        assert_eq!(soon(peer.recv_close()).await, CloseCode(4000));
        for n in 3..100 {
            soon(peer.send_text(&n.to_string())).await;
        }
        peer.send_close(4000, "").await;
        soon(peer.recv_end()).await;
        assert_close(&soon(socket.closed()).await, ClosedBy::Local, 4000, "enough", true);
        // They were handed over before.
        for n in 0..3 {
            assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), n.to_string());
        }
        assert_eq!(soon(ws.recv()).await, Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_a_peer_that_does_not_answer_ends_after_the_close_timeout() {
    for side in SIDES {
        for timeout in [1, 5, 20] {
            let config = Config::default().close_timeout(secs(timeout));
            let (mut ws, mut peer) = Setup::new(side).config(config).connect().await;
            let start = tokio::time::Instant::now();
            let close = within(60, ws.close(CloseCode::NORMAL, "")).await;
            let took = start.elapsed();
            assert!(took >= secs(timeout) && took <= secs(timeout + 1), "{took:?}");
            assert_close(&close, ClosedBy::Local, 1000, "", false);
            assert_eq!(soon(ws.recv()).await.unwrap_err().close, close);
            assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
            soon(peer.recv_cut()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_says_code_and_reason() {
    for side in SIDES {
        let (mut ws, peer) = Setup::new(side).connect().await;
        drop(peer);
        assert_eq!(
            soon(ws.recv()).await.unwrap_err().to_string(),
            "the connection ended with 1006: the peer ended the connection without a close frame"
        );
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_handle_outlives_its_runtime_and_learns_that_the_connection_was_dropped() {
    for side in SIDES {
        for untaken in [false, true] {
            let gone = runtime();
            let (mut ws, peer) = gone.block_on(async {
                let (ws, mut peer) = Setup::new(side).connect().await;
                if untaken {
                    peer.send_text(UNTAKEN).await;
                    // The message is there when this is answered.
                    peer.send(OpCode::Ping, b"").await;
                    assert_eq!(peer.recv().await.map(|frame| frame.opcode), Some(OpCode::Pong));
                }
                (ws, peer)
            });
            drop(gone);
            runtime().block_on(async {
                let socket = ws.socket();
                assert_eq!(soon(socket.closed()).await.reason, "the connection was dropped");
                if untaken {
                    assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), UNTAKEN);
                }
                let close = soon(ws.recv()).await.unwrap_err().close;
                assert_close(&close, ClosedBy::Network, 1006, "the connection was dropped", false);
                assert_eq!(ws.socket().closed().await, close);
                assert!(ws.send("x").await.is_err());
                assert_eq!(ws.close(CloseCode::NORMAL, "").await, close);
            });
            drop((ws, peer));
        }
    }
}

#[test]
fn who_waits_in_another_runtime_is_woken_when_that_of_the_connection_is_dropped() {
    for side in SIDES {
        let gone = runtime();
        let (mut ws, peer) = gone.block_on(Setup::new(side).connect());
        let (sender, receiver) = mpsc::channel();
        let waiting = thread::spawn(move || {
            runtime().block_on(async {
                let received = crate::polled(1, ws.recv()).await;
                assert_eq!(received, None);
                sender.send(()).expect("the test waits");
                within(30, ws.recv()).await
            })
        });
        receiver.recv_timeout(Duration::from_secs(30)).expect("it waits");
        drop(gone);
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.close.reason, "the connection was dropped");
        drop(peer);
    }
}
