//! What becomes of a connection that is given to a function?

use std::{
    future::{Future, pending},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use axum::{Router, routing::MethodRouter};
use sockeye::{
    CloseCode, ClosedBy, Result, Socket, State, WebSocket, accept,
    testing::{self, Connect, Peer},
};
use tokio::{
    sync::mpsc::unbounded_channel,
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tracing::subscriber::{DefaultGuard, set_default};

use crate::{assert_close, secs, settle, soon, tasks, tasks_end, text, within};

pub(crate) fn connect(route: MethodRouter) -> Connect {
    testing::connect_to(Router::new().route("/", route), "/")
}

/// The closing handshake, begun by the server.
async fn answer_close(mut peer: Peer, code: u16) {
    assert_eq!(soon(peer.recv_close()).await.0, CloseCode(code));
    peer.send_close(CloseCode(code), "").await;
    soon(peer.recv_end()).await;
}

pub(crate) async fn echo(ws: &mut WebSocket) -> Result {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

pub(crate) async fn assert_echo(peer: &mut Peer) {
    peer.send("echo?").await;
    assert_eq!(soon(peer.recv_text()).await, "echo?");
}

// ---- how it ends

/// How a function ends, with or without having waited.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Ok,
    Error,
    Panic,
    PanicWithoutFuture,
}

const WAYS: [(Way, u16); 4] =
    [(Way::Ok, 1001), (Way::Error, 1011), (Way::Panic, 1011), (Way::PanicWithoutFuture, 1011)];

/// Takes the messages up to `end`, sends a last one, and ends.
fn ending(way: Way, waits: bool) -> MethodRouter {
    accept(move |mut ws, _| {
        ws.socket().send("first words");
        assert_ne!(way, Way::PanicWithoutFuture, "on purpose");
        async move {
            while waits && text(&ws.recv().await?.ok_or("it is open")?) != "end" {}
            ws.send("last words").await?;
            match way {
                Way::Error => Err("on purpose".into()),
                Way::Panic => panic!("on purpose"),
                Way::Ok | Way::PanicWithoutFuture => Ok(()),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_function_that_returns_closes_with_1001_and_one_that_fails_or_panics_with_1011() {
    for (way, code) in WAYS {
        for waits in [false, true] {
            let before = tasks();
            let mut peer = connect(ending(way, waits)).await;
            assert_eq!(soon(peer.recv_text()).await, "first words");
            if way != Way::PanicWithoutFuture {
                if waits {
                    let silence = timeout(secs(1), peer.recv()).await;
                    assert!(silence.is_err(), "{silence:?}");
                    peer.send("not the").await;
                    peer.send("end").await;
                    peer.send("never taken").await;
                }
                assert_eq!(soon(peer.recv_text()).await, "last words");
            }
            answer_close(peer, code).await;
            tasks_end(before).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_drops_the_handle_and_goes_on_closes_with_1001_at_once() {
    for fails in [false, true] {
        let before = tasks();
        let route = accept(move |ws, _| async move {
            let socket = ws.socket();
            drop(ws);
            sleep(secs(60)).await;
            assert_close(&socket.closed().await, ClosedBy::Local, 1001, "", true);
            if fails { Err("too late to matter".into()) } else { Ok(()) }
        });
        let peer = connect(route).await;
        let start = Instant::now();
        answer_close(peer, 1001).await;
        assert!(start.elapsed() < secs(1));
        tasks_end(before).await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_closes_chooses_the_code() {
    for fails in [false, true] {
        let route = accept(move |mut ws, _| async move {
            let close = ws.close(CloseCode(4000), "enough").await;
            assert_close(&close, ClosedBy::Local, 4000, "enough", true);
            if fails { Err("too late to matter".into()) } else { Ok(()) }
        });
        answer_close(connect(route).await, 4000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_moved_out_of_the_function_outlives_it_unless_that_fails() {
    for way in [Way::Ok, Way::Error, Way::Panic] {
        let before = tasks();
        let route = accept(move |mut ws, _| async move {
            tokio::spawn(async move { echo(&mut ws).await });
            // The other task has it, and begins to wait.
            yield_now().await;
            match way {
                Way::Error => Err("on purpose".into()),
                Way::Panic => panic!("on purpose"),
                Way::Ok | Way::PanicWithoutFuture => Ok(()),
            }
        });
        let mut peer = connect(route).await;
        if way != Way::Ok {
            answer_close(peer, 1011).await;
            tasks_end(before).await;
            continue;
        }
        sleep(secs(10)).await;
        for _ in 0..10 {
            assert_echo(&mut peer).await;
        }
        peer.send_close(CloseCode::NORMAL, "").await;
        assert_eq!(soon(peer.recv_close()).await.0, CloseCode::NORMAL);
        soon(peer.recv_end()).await;
        tasks_end(before).await;
    }
}

/// A future that is written by hand, or made of others, may hold the handle beyond its end.
struct Holding(#[expect(dead_code, reason = "to hold it is what it is for")] WebSocket, Way);

impl Future for Holding {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result> {
        assert_ne!(self.1, Way::Panic, "on purpose");
        Poll::Ready(if self.1 == Way::Error { Err("on purpose".into()) } else { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_ends_with_the_handle_in_hand_is_no_exception() {
    for (way, code) in &WAYS[..3] {
        let route = accept(|ws, _| Holding(ws, *way));
        answer_close(connect(route).await, *code).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_another_task_drops_closes_with_1001_or_if_it_panics_with_1011() {
    for (panics, code) in [(false, 1001), (true, 1011)] {
        let route = accept(move |mut ws, _| async move {
            let other = tokio::spawn(async move {
                let _ = ws.recv().await;
                assert!(!panics, "on purpose");
            });
            let _ = other.await;
            pending().await
        });
        let mut peer = connect(route).await;
        peer.send("drop it").await;
        answer_close(peer, code).await;
    }
}

/// A reason that takes its time, so that the function is polled meanwhile.
struct Slow;

impl From<Slow> for String {
    fn from(_: Slow) -> Self {
        thread::sleep(Duration::from_millis(50));
        Self::from("enough")
    }
}

/// A function that is being polled all the time.
async fn be_busy(socket: Socket) -> Result {
    while socket.state() != State::Closed {
        thread::sleep(Duration::from_millis(10));
        yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_in_another_task_keeps_its_code_while_the_function_is_at_work() {
    let route = accept(|mut ws, _| {
        let socket = ws.socket();
        tokio::spawn(async move { ws.close(CloseCode(4000), Slow).await });
        be_busy(socket)
    });
    let mut peer = connect(route).await;
    let (code, reason) = within(30, peer.recv_close()).await;
    assert_eq!((code, &*reason), (CloseCode(4000), "enough"));
    peer.send_close(code, "").await;
    within(30, peer.recv_end()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_another_task_is_1011_while_the_function_is_at_work() {
    let route = accept(|ws, _| {
        let socket = ws.socket();
        tokio::spawn(async move {
            let _ws = ws;
            panic!("on purpose");
        });
        be_busy(socket)
    });
    let mut peer = connect(route).await;
    let (code, _) = within(30, peer.recv_close()).await;
    assert_eq!(code, CloseCode(1011));
    peer.send_close(code, "").await;
    within(30, peer.recv_end()).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_may_run_on_after_the_end_of_its_connection() {
    let before = tasks();
    let (sender, mut notes) = unbounded_channel();
    let route = accept(move |mut ws, _| {
        let sender = sender.clone();
        async move {
            while ws.recv().await?.is_some() {}
            sleep(secs(1000)).await;
            assert_eq!(ws.recv().await?, None);
            Ok(sender.send(ws.socket().closed().await.code)?)
        }
    });
    let mut peer = connect(route).await;
    let start = Instant::now();
    peer.send_close(CloseCode(4000), "").await;
    assert_eq!(soon(peer.recv_close()).await.0, CloseCode(4000));
    // The peer does not wait for it.
    soon(peer.recv_end()).await;
    assert_eq!(notes.recv().await, Some(CloseCode(4000)));
    assert_eq!(start.elapsed().as_secs(), 1000);
    tasks_end(before).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_fails_ends_its_own_connection_alone() {
    let route = accept(|mut ws, _| async move {
        while let Some(message) = ws.recv().await? {
            match message.as_text() {
                Some("fail") => return Err("on purpose".into()),
                Some("panic") => panic!("on purpose"),
                _ => ws.send(message).await?,
            }
        }
        Ok(())
    });
    let mut other = connect(route.clone()).await;
    for text in ["fail", "panic"] {
        let mut peer = connect(route.clone()).await;
        assert_echo(&mut peer).await;
        peer.send(text).await;
        answer_close(peer, 1011).await;
        assert_echo(&mut other).await;
    }
    assert_echo(&mut connect(route).await).await;
}

// ---- what is said about it

/// What is logged, by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .with_ansi(false);
        (log, set_default(subscriber.finish()))
    }

    fn lines(&self, level: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = log.lines().filter(|line| line.contains(&format!(" {level} sockeye")));
        lines.map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_and_a_panic_are_logged_with_the_connections_name() {
    for (way, _) in WAYS {
        let (log, _guard) = Log::begin();
        let (sender, mut sockets) = unbounded_channel();
        let route = accept(move |ws, _| {
            let _ = sender.send(ws.socket());
            assert_ne!(way, Way::PanicWithoutFuture, "on purpose");
            async move {
                let _ws = ws;
                match way {
                    Way::Error => Err("on purpose".into()),
                    Way::Panic => panic!("on purpose"),
                    Way::Ok | Way::PanicWithoutFuture => Ok(()),
                }
            }
        });
        let mut peer = connect(route).await;
        soon(peer.recv_close()).await;
        let errors = log.lines("ERROR");
        if way == Way::Ok {
            assert!(errors.is_empty(), "{errors:?}");
            continue;
        }
        let [error] = &*errors else { panic!("one line: {errors:?}") };
        let id = sockets.recv().await.unwrap().id().to_string();
        for part in ["on purpose", "closing with 1011", &id] {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
    }
}

/// What `?` does to a loop whose peer leaves.
#[tokio::test(start_paused = true)]
async fn a_function_that_ends_with_its_connection_is_no_error_to_be_logged() {
    for waits_for_room in [false, true] {
        let (log, _guard) = Log::begin();
        let route = accept(move |mut ws, _| async move {
            if waits_for_room {
                ws.send(vec![0; 200_000]).await?;
            }
            echo(&mut ws).await
        });
        let peer = connect(route).await;
        settle().await;
        drop(peer);
        settle().await;
        assert_eq!(log.lines("ERROR"), [""; 0]);
        let debug = log.lines("DEBUG").concat();
        assert!(debug.contains("the function of a connection ended with it"), "{debug}");
    }
}
