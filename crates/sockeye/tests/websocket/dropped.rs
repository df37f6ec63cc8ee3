//! What does a peer see, and what remains, when a handle is dropped?

use std::thread;

use sockeye::{CloseCode, ClosedBy, Config, OpCode, State, WebSocket};
use tokio::time::{Instant, sleep};

use crate::{
    assert_close,
    peer::{SIDES, Setup},
    secs, settle, soon, tasks, tasks_end, text, within,
};

#[tokio::test(start_paused = true)]
async fn what_was_queued_is_sent_and_then_1001() {
    for side in SIDES {
        for untaken in [0, 1, 3] {
            let before = tasks();
            let (mut ws, mut peer) = Setup::new(side).pipe(1000).connect().await;
            let socket = ws.socket();
            for n in 0..untaken {
                peer.send_text(&n.to_string()).await;
            }
            settle().await;
            ws.send("one").await.unwrap();
            socket.send(&[7; 10_000]);
            socket.send("three");
            drop(ws);
            assert_eq!(socket.state(), State::Closing);
            let (frames, code) = soon(peer.recv_until_close()).await;
            assert_eq!(code, CloseCode::AWAY);
            let payloads: Vec<_> = frames.into_iter().map(|frame| frame.payload).collect();
            assert_eq!(payloads, [b"one".to_vec(), vec![7; 10_000], b"three".to_vec()]);
            peer.send_close(1001, "").await;
            soon(peer.recv_end()).await;
            assert_close(&soon(socket.closed()).await, ClosedBy::Local, 1001, "", true);
            tasks_end(before).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_on_still_sees_the_closing_handshake() {
    for side in SIDES {
        let (ws, mut peer) = Setup::new(side).pipe(100).connect().await;
        let socket = ws.socket();
        peer.send_text("not taken").await;
        drop(ws);
        for n in 0..1000 {
            soon(peer.send_text(&n.to_string())).await;
        }
        soon(peer.answer_close(1001)).await;
        assert_close(&soon(socket.closed()).await, ClosedBy::Local, 1001, "", true);
    }
}

/// Whether it takes what is queued, or not even that.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_cut_after_the_close_timeout_and_nothing_is_left() {
    for side in SIDES {
        for (timeout, untaken, queued) in [(5, 0, 0), (5, 1, 0), (5, 3, 100_000), (60, 1, 10)] {
            let before = tasks();
            let config = Config::default().close_timeout(secs(timeout));
            let (ws, mut peer) = Setup::new(side).config(config).connect().await;
            let socket = ws.socket();
            for n in 0..untaken {
                peer.send_text(&n.to_string()).await;
            }
            settle().await;
            socket.send(vec![0; queued]);
            let start = Instant::now();
            drop(ws);
            within(100, socket.closed()).await;
            let took = start.elapsed();
            assert!(took >= secs(timeout) && took <= secs(timeout + 1), "{took:?}");
            assert_close(&socket.closed().await, ClosedBy::Local, 1001, "", false);
            tasks_end(before).await;
            assert!(start.elapsed() <= secs(timeout + 1), "{:?}", start.elapsed());
            while soon(peer.recv()).await.is_some() {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_drops_it_is_1011() {
    for side in SIDES {
        let (ws, peer) = Setup::new(side).connect().await;
        let panicking = tokio::spawn(async move {
            let _ws = ws;
            settle().await;
            panic!("on purpose");
        });
        assert!(soon(panicking).await.is_err());
        soon(peer.answer_close(1011)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_has_begun_keeps_its_code() {
    for side in SIDES {
        let (ws, peer) = Setup::new(side).connect().await;
        ws.socket().close(CloseCode(4000), "enough");
        drop(ws);
        soon(peer.answer_close(4000)).await;

        let (ws, mut peer) = Setup::new(side).connect().await;
        let socket = ws.socket();
        peer.send_close(4001, "bye").await;
        soon(socket.closed()).await;
        drop(ws);
        assert_eq!(soon(peer.recv_close()).await, CloseCode(4001));
        soon(peer.recv_end()).await;
        assert_close(&socket.closed().await, ClosedBy::Peer, 4001, "bye", true);
    }
}

#[tokio::test(start_paused = true)]
async fn it_may_be_dropped_on_a_thread_without_a_runtime() {
    for side in SIDES {
        let (ws, peer) = Setup::new(side).connect().await;
        thread::spawn(move || drop(ws)).join().unwrap();
        soon(peer.answer_close(1001)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_aborted_within_recv_drops_it() {
    for side in SIDES {
        let before = tasks();
        let (mut ws, peer) = Setup::new(side).connect().await;
        let waiting = tokio::spawn(async move { ws.recv().await });
        settle().await;
        waiting.abort();
        assert!(soon(waiting).await.unwrap_err().is_cancelled());
        soon(peer.answer_close(1001)).await;
        tasks_end(before).await;
    }
}

/// A handle and its sockets, whatever becomes of the connection, keep no task and no stream.
#[tokio::test(start_paused = true)]
async fn an_ended_connection_leaves_no_task_behind_while_its_handle_is_kept() {
    for side in SIDES {
        for end in 0..4 {
            let before = tasks();
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            let socket = ws.socket();
            assert!(tasks() > before);
            peer.send_text("hello").await;
            soon(ws.recv()).await.unwrap().unwrap();
            match end {
                0 => {
                    peer.send_close(1000, "").await;
                    assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
                    soon(peer.recv_end()).await;
                }
                1 => drop(peer),
                2 => {
                    socket.terminate();
                    soon(peer.recv_cut()).await;
                }
                _ => {
                    // It stays connected, and says nothing any more.
                    socket.close(CloseCode::NORMAL, "");
                    within(60, socket.closed()).await;
                    assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
                    soon(peer.recv_cut()).await;
                }
            }
            soon(socket.closed()).await;
            tasks_end(before).await;
            assert_eq!(ws.socket(), socket);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_taken_keeps_no_task_of_an_ended_connection() {
    for side in SIDES {
        let before = tasks();
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        peer.send_text("hello").await;
        settle().await;
        drop(peer);
        soon(ws.socket().closed()).await;
        tasks_end(before).await;
        sleep(secs(1000)).await;
        assert_eq!(text(&soon(ws.recv()).await.unwrap().unwrap()), "hello");
    }
}

/// What is dropped may be an unfinished future that borrows the handle, and then the handle.
#[tokio::test(start_paused = true)]
async fn a_handle_that_was_dropped_in_the_middle_of_a_send_has_sent_it() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).pipe(100).connect().await;
        assert_eq!(crate::polled(3, ws.send(vec![1; 100_000])).await, None);
        drop(ws);
        let (frames, code) = soon(peer.recv_until_close()).await;
        assert_eq!((frames.len(), code), (1, CloseCode::AWAY));
        assert_eq!(frames[0].opcode, OpCode::Binary);
        assert_eq!(frames[0].payload, [1; 100_000]);
    }
}

fn assert_send<T: Send>(_: &T) {}

#[tokio::test(start_paused = true)]
async fn a_handle_may_be_handed_to_a_task_in_the_middle_of_a_conversation() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        for n in 0..10 {
            let send = async {
                peer.send_text(&n.to_string()).await;
                assert_eq!(peer.recv_text().await, format!("{n}!"));
            };
            let echo = async move {
                let message = ws.recv().await.unwrap().expect("it is open");
                ws.send(format!("{}!", text(&message))).await.unwrap();
                ws
            };
            assert_send(&echo);
            let echo: tokio::task::JoinHandle<WebSocket> = tokio::spawn(echo);
            let (back, ()) = soon(async { tokio::join!(echo, send) }).await;
            ws = back.unwrap();
        }
    }
}
