//! What goes on while nobody is in `recv`? All that needs no message to be read.

use std::time::Duration;

use sockeye::{CloseCode, ClosedBy, Config, Limits, OpCode, State};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    assert_close,
    peer::{Frame, Peer, SIDES, Setup, frame},
    secs, settle, soon, text, within,
};

/// Sends a ping, whose pong has to come at once.
async fn assert_pong(peer: &mut Peer, payload: &str) {
    peer.send(OpCode::Ping, payload.as_bytes()).await;
    let pong = Frame { opcode: OpCode::Pong, payload: payload.into() };
    assert_eq!(soon(peer.recv()).await, Some(pong));
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_whether_or_not_a_message_waits_to_be_taken() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        assert_pong(&mut peer, "nothing waits").await;
        peer.send_text("waits").await;
        for n in 0..10 {
            sleep(secs(20)).await;
            assert_pong(&mut peer, &n.to_string()).await;
        }
        assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), "waits");
        assert_pong(&mut peer, "nothing waits any more").await;
    }
}

/// It has one message in hand, and one more waits to be taken.
#[tokio::test(start_paused = true)]
async fn a_loop_that_takes_a_minute_for_a_message_keeps_its_peer_waiting_for_nothing_else() {
    for side in SIDES {
        let config = Config::default().no_keep_alive();
        let (mut ws, mut peer) = Setup::new(side).config(config).connect().await;
        tokio::spawn(async move {
            while let Ok(Some(message)) = ws.recv().await {
                sleep(secs(60)).await;
                ws.send(message).await.expect("the connection lives");
            }
        });
        peer.send_text("first").await;
        peer.send_text("second").await;
        let start = Instant::now();
        for n in 0..11 {
            sleep(secs(5)).await;
            assert_pong(&mut peer, &n.to_string()).await;
        }
        assert_eq!(peer.recv_text().await, "first");
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_pong(&mut peer, "one more").await;
        assert_eq!(within(61, peer.recv_text()).await, "second");
        peer.send_close(1000, "").await;
        assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_socket_sends_leaves_at_once() {
    for side in SIDES {
        let (ws, mut peer) = Setup::new(side).connect().await;
        let socket = ws.socket();
        for untaken in [false, true] {
            if untaken {
                peer.send_text("waits").await;
                settle().await;
            }
            socket.send("hello");
            assert_eq!(soon(peer.recv_text()).await, "hello");
            assert_eq!(soon(socket.flushed()).await, Ok(()));
            assert!(socket.ping("p"));
            let ping = Frame { opcode: OpCode::Ping, payload: b"p".into() };
            assert_eq!(soon(peer.recv()).await, Some(ping));
        }
        drop(ws);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_of_the_peer_is_answered_and_the_end_is_told() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        peer.send_close(4000, "bye").await;
        assert_eq!(soon(peer.recv_close()).await, CloseCode(4000));
        let socket = ws.socket();
        assert_close(&soon(socket.closed()).await, ClosedBy::Peer, 4000, "bye", true);
        assert_eq!(socket.state(), State::Closed);
        soon(peer.recv_end()).await;
        sleep(secs(1000)).await;
        assert_eq!(soon(ws.recv()).await, Ok(None));
    }
}

/// Or their answers could not be sent any more.
#[tokio::test(start_paused = true)]
async fn a_close_frame_waits_a_moment_for_the_messages_before_it_to_be_answered() {
    for side in SIDES {
        for count in [1, 3, 100] {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            let texts: Vec<_> = (0..count).map(|n: i32| n.to_string()).collect();
            for text in &texts {
                peer.send_text(text).await;
            }
            settle().await;
            peer.send_close(1000, "").await;
            let answer = timeout(Duration::from_millis(240), peer.recv()).await;
            assert!(answer.is_err(), "{answer:?}");
            assert_eq!(ws.socket().state(), State::Open);
            tokio::spawn(async move {
                while let Some(message) = ws.recv().await.expect("an orderly connection") {
                    ws.send(message).await.expect("the close frame waits");
                }
            });
            for text in texts {
                assert_eq!(soon(peer.recv_text()).await, text);
            }
            assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
            soon(peer.recv_end()).await;
        }
    }
}

/// As a handler can, at once or after a while. More than 128 are more than a turn handles.
#[tokio::test(start_paused = true)]
async fn messages_in_one_segment_with_a_close_frame_can_be_answered() {
    for side in SIDES {
        for (count, pause) in [1, 3, 128, 129, 300].into_iter().flat_map(|n| [(n, 0), (n, 200)]) {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            tokio::spawn(async move {
                let mut taken = 0;
                while let Some(message) = ws.recv().await.expect("an orderly connection") {
                    taken += 1;
                    if taken == count {
                        sleep(Duration::from_millis(pause)).await;
                    }
                    ws.send(message).await.expect("the close frame waits");
                }
            });
            let texts: Vec<_> = (0..count).map(|n: i32| n.to_string()).collect();
            let frame = |text: &String| peer.frame(OpCode::Text, true, text.as_bytes());
            let mut wire: Vec<_> = texts.iter().flat_map(frame).collect();
            wire.extend(peer.frame(OpCode::Close, true, &1000u16.to_be_bytes()));
            peer.send_raw(&wire).await;
            for text in texts {
                assert_eq!(soon(peer.recv_text()).await, text, "of {count}");
            }
            // At once, as the loop has come back for more.
            let close = timeout(Duration::from_millis(20), peer.recv_close()).await;
            assert_eq!(close, Ok(CloseCode::NORMAL));
            soon(peer.recv_end()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_does_not_wait_longer_and_the_messages_before_it_are_still_given() {
    for side in SIDES {
        for taken in 0..3 {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            for n in 0..2 {
                peer.send_text(&n.to_string()).await;
            }
            settle().await;
            for n in 0..taken.min(2) {
                assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), n.to_string());
            }
            peer.send_close(1000, "").await;
            assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
            let socket = ws.socket();
            assert_close(&soon(socket.closed()).await, ClosedBy::Peer, 1000, "", true);
            soon(peer.recv_end()).await;
            for n in taken.min(2)..2 {
                assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), n.to_string());
            }
            assert_eq!(soon(ws.recv()).await, Ok(None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_after_30_s_and_gone_10_s_later() {
    for side in SIDES {
        for untaken in [false, true] {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            let socket = ws.socket();
            if untaken {
                peer.send_text("waits").await;
            }
            let start = Instant::now();
            // With an answer it goes on for hours.
            for n in 1..=300 {
                let ping = peer.recv().await.expect("the connection lives");
                assert_eq!(ping.opcode, OpCode::Ping);
                let seconds = start.elapsed().as_secs();
                assert!((30 * n..31 * n + 1).contains(&seconds), "ping {n} after {seconds} s");
                peer.send(OpCode::Pong, &ping.payload).await;
            }
            let last = Instant::now();
            let close = within(60, socket.closed()).await;
            assert_close(&close, ClosedBy::Network, 1006, "no answer to a ping", false);
            let seconds = last.elapsed().as_secs();
            assert!((40..=41).contains(&seconds), "cut after {seconds} s");
            assert_eq!(soon(peer.recv()).await.map(|frame| frame.opcode), Some(OpCode::Ping));
            soon(peer.recv_cut()).await;
            if untaken {
                assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), "waits");
            }
            assert_eq!(soon(ws.recv()).await.unwrap_err().close, close);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_missed_at_once() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        peer.send_text("waits").await;
        settle().await;
        drop(peer);
        let close = soon(ws.socket().closed()).await;
        assert_eq!(close.code, CloseCode::ABNORMAL);
        assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), "waits");
        assert_eq!(soon(ws.recv()).await.unwrap_err().close, close);
    }
}

/// While it read nothing, the peer's silence said nothing; now it does.
#[tokio::test(start_paused = true)]
async fn a_peer_that_dies_is_missed_although_there_was_backpressure_before() {
    for side in SIDES {
        let (ws, mut peer) = Setup::new(side).connect().await;
        peer.send_text("waits").await;
        settle().await;
        let socket = ws.socket();
        socket.send(vec![0; 200_000]);
        assert_eq!(soon(peer.recv()).await.unwrap().payload.len(), 200_000);
        let close = within(42, socket.closed()).await;
        assert_close(&close, ClosedBy::Network, 1006, "no answer to a ping", false);
    }
}

/// How much of these bytes the peer can send until it has to wait.
async fn sent_until_stalled(peer: &mut Peer, wire: &[u8]) -> usize {
    let mut sent = 0;
    for piece in wire.chunks(100) {
        if timeout(secs(1), peer.send_raw(piece)).await.is_err() {
            return sent;
        }
        sent += piece.len();
    }
    panic!("{sent} bytes were taken, and more would be");
}

/// The pipe, what is read ahead, and a piece of what the test sends.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_taken_makes_its_peer_wait_after_16_kib() {
    for side in SIDES {
        for size in [0, 10, 1000, 30_000, 1_000_000] {
            let (_ws, mut peer) = Setup::new(side).pipe(4096).connect().await;
            peer.send_text("waits").await;
            settle().await;
            let message = peer.frame(OpCode::Binary, true, &vec![7; size]);
            let wire = message.repeat(1 + 100_000 / message.len());
            let sent = sent_until_stalled(&mut peer, &wire).await;
            assert!(sent <= 4096 + 16 * 1024 + 100, "{sent} bytes of messages of {size} bytes");
            assert!(sent >= 4096, "{sent} bytes");
        }
    }
}

/// What one read brought is handed over, and as much is read ahead.
#[tokio::test(start_paused = true)]
async fn messages_that_are_not_taken_make_their_peer_wait_after_32_kib() {
    for side in SIDES {
        for (pipe, size) in [(4096, 0), (4096, 10), (4096, 1000), (100_000, 10), (100_000, 1000)] {
            let (mut ws, mut peer) = Setup::new(side).pipe(pipe).connect().await;
            let message = peer.frame(OpCode::Binary, true, &vec![7; size]);
            let wire = message.repeat(400_000 / message.len());
            let sent = sent_until_stalled(&mut peer, &wire).await;
            let most = pipe + 32 * 1024 + 100;
            assert!(sent <= most, "{sent} bytes of messages of {size} bytes");
            // Each message that was sent whole is given.
            for _ in 0..sent / message.len() {
                assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_bytes(), vec![7; size]);
            }
        }
    }
}

/// A long message may have been read with a large buffer: that, too, is bounded.
#[tokio::test(start_paused = true)]
async fn a_long_message_that_is_not_taken_makes_its_peer_wait_after_128_kib() {
    for side in SIDES {
        let config = Config::default().limits(Limits::default().message_size(usize::MAX));
        let (mut ws, mut peer) = Setup::new(side).config(config).pipe(200_000).connect().await;
        let (long, short) = (vec![7; 2_000_000], [8; 1000]);
        let mut wire = peer.frame(OpCode::Binary, true, &long);
        let begin = wire.len();
        wire.extend(peer.frame(OpCode::Binary, true, &short).repeat(1000));
        let sent = sent_until_stalled(&mut peer, &wire).await;
        let most = 200_000 + 128 * 1024 + 16 * 1024 + 100;
        assert!(sent <= begin + most, "{} bytes behind the long message", sent - begin);
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_bytes(), long);
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_bytes(), short);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_waited_goes_on_once_messages_are_taken_and_nothing_was_lost() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).pipe(100).connect().await;
        let sending = tokio::spawn(async move {
            for n in 0..3000 {
                let payload = format!("{n} and so on, and so forth");
                peer.send_raw(&frame(side, OpCode::Text, true, payload.as_bytes())).await;
            }
            peer
        });
        sleep(secs(60)).await;
        assert!(!sending.is_finished());
        for n in 0..3000 {
            let message = soon(ws.recv()).await.unwrap().expect("it is open");
            assert_eq!(text(&message), format!("{n} and so on, and so forth"));
        }
        soon(sending).await.unwrap();
    }
}

/// Its pong would be behind what nobody reads.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_messages_wait_is_not_cut_for_being_silent() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        peer.send_text("1").await;
        settle().await;
        peer.send_text("2").await;
        sleep(secs(3600)).await;
        assert_eq!(ws.socket().state(), State::Open);
        for n in ["1", "2"] {
            assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), n);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_in_a_control_frame_is_told_at_once_and_one_in_data_after_the_message() {
    for side in SIDES {
        for (opcode, at_once) in [(OpCode::Ping, true), (OpCode::Text, false)] {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            peer.send_text("waits").await;
            settle().await;
            let mut wire = peer.frame(opcode, true, b"");
            wire[0] |= 0x70;
            peer.send_raw(&wire).await;
            if at_once {
                assert_eq!(soon(peer.recv_close()).await, CloseCode::PROTOCOL);
            } else {
                let told = timeout(secs(10), peer.recv()).await;
                assert!(told.is_err(), "{told:?}");
            }
            assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), "waits");
            let close = async {
                if !at_once {
                    assert_eq!(soon(peer.recv_close()).await, CloseCode::PROTOCOL);
                }
            };
            let (ended, ()) = tokio::join!(soon(ws.recv()), close);
            let close = ended.unwrap_err().close;
            assert_eq!((close.by, close.code), (ClosedBy::Local, CloseCode::PROTOCOL));
        }
    }
}
