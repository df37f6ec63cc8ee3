//! What is left behind when connecting is given up? Nothing, after any number of polls and at any time.

use std::{
    future::{Future, IntoFuture},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::MethodRouter};
use sockeye::{Client, CloseCode, Closed, Handler, Server, accept, testing};
use tokio::{
    io::DuplexStream,
    time::{sleep, timeout},
};

use crate::{polled, secs, settle, tasks, tasks_end, within};

/// How each connection ended that the server has seen.
type Seen = Arc<Mutex<Vec<CloseCode>>>;

/// Waits for the end of each connection; nothing may come.
fn noting(seen: &Seen) -> MethodRouter {
    let seen = seen.clone();
    accept(move |mut ws, _| {
        let seen = seen.clone();
        async move {
            let received = ws.recv().await;
            assert!(!matches!(received, Ok(Some(_))), "{received:?}");
            let close = ws.socket().closed().await;
            seen.lock().unwrap().push(close.code);
            Ok(())
        }
    })
}

/// Gives up what `connect` makes of a stream after any number of polls, until so many more than the
/// connection needs, and gives the codes that the server has seen.
async fn give_up_after_any_number_of_polls<F: Future>(
    mut connect: impl FnMut(DuplexStream) -> F,
    is_connected: impl Fn(&F::Output) -> bool,
    most: usize,
) -> Vec<Option<CloseCode>> {
    let mut codes = Vec::new();
    for polls in 0..most {
        let seen = Seen::default();
        let before = tasks();
        let router = Router::new().route("/", noting(&seen));
        let connection = testing::connect_to(router, "/").pipe(20).stream();
        let connected = polled(polls, connect(connection)).await;
        let is_over = connected.as_ref().is_some_and(&is_connected);
        drop(connected);
        tasks_end(before).await;
        let seen = seen.lock().unwrap();
        assert!(seen.len() <= 1, "{seen:?}");
        codes.push(seen.first().copied());
        if is_over {
            break;
        }
    }
    codes
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_given_up_while_it_connects_leaves_nothing_behind() {
    let codes = give_up_after_any_number_of_polls(
        |stream| Client::connect("ws://localhost/").transport(stream).into_future(),
        Result::is_ok,
        1000,
    )
    .await;
    // The last one was connected, and dropped then; before it the server may have said yes to one
    // that has left meanwhile.
    let (last, given_up) = codes.split_last().unwrap();
    assert_eq!(*last, Some(CloseCode::AWAY));
    assert!(given_up.len() > 10, "{} polls", given_up.len());
    let begun = given_up.iter().position(Option::is_some).expect("the server had said yes");
    assert!(begun > 5, "{begun} polls until the server says yes");
    assert!(given_up[begun..].iter().all(|code| *code == Some(CloseCode::ABNORMAL)), "{codes:?}");
}

/// Notes how much data it has, to see that none is left.
struct Counting(Arc<AtomicUsize>);

impl Counting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Quiet;

impl Handler for Quiet {
    type Data = Counting;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_given_up_leaves_nothing_behind_and_closes_with_1001_once_connected() {
    let count = Arc::new(AtomicUsize::new(0));
    let codes = give_up_after_any_number_of_polls(
        |stream| {
            let client = Client::connect("ws://localhost/").transport(stream);
            client.drive(Quiet, Counting::new(&count))
        },
        |_| panic!("the server does not end it"),
        100,
    )
    .await;
    assert_eq!(count.load(Ordering::Relaxed), 0);
    let begun = codes.iter().position(Option::is_some).expect("the server had said yes");
    let connected = codes.iter().position(|code| *code == Some(CloseCode::AWAY));
    let connected = connected.expect("it was connected");
    assert!(5 < begun && begun < connected && connected < 90, "{codes:?}");
    assert!(codes[begun..connected].iter().all(|code| *code == Some(CloseCode::ABNORMAL)));
    assert!(codes[connected..].iter().all(|code| *code == Some(CloseCode::AWAY)));
}

/// The handler itself may be at work, and it is not cut off there: its connection is closed.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_given_up_while_it_waits_ends_its_connection_all_the_same() {
    let seen = Seen::default();
    let before = tasks();
    let router = Router::new().route("/", noting(&seen));
    let stream = testing::connect_to(router, "/").stream();
    let slow = sockeye::on().on_open_async(async |_| {
        sleep(secs(60)).await;
        Ok::<_, Closed>(())
    });
    let driving = Client::connect("ws://localhost/").transport(stream).drive(slow, ());
    assert!(timeout(secs(30), driving).await.is_err());
    settle().await;
    assert_eq!(*seen.lock().unwrap(), [CloseCode::AWAY]);
    sleep(secs(31)).await;
    tasks_end(before).await;
}

/// Over TCP, where it may wait for other things.
#[tokio::test]
async fn a_client_that_is_given_up_at_any_time_leaves_its_server_without_connections() {
    let seen = Seen::default();
    let server = Server::new().route("/", noting(&seen)).bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", server.local_addr());
    let before = tasks();
    let mut connected = 0;
    for step in 0..100 {
        let client = Client::connect(&url).into_future();
        let ws = timeout(Duration::from_micros(step * 30), client).await;
        connected += usize::from(matches!(ws, Ok(Ok(_))));
        drop(ws);
    }
    within(30, async {
        while server.connections() > 0 || tasks() > before {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    // Those that were connected were closed, and any others have broken off.
    let seen = seen.lock().unwrap().clone();
    let closed = seen.iter().filter(|code| **code == CloseCode::AWAY).count();
    assert!(closed >= connected, "{closed} of {connected}");
    assert!(seen.iter().all(|code| [CloseCode::AWAY, CloseCode::ABNORMAL].contains(code)));
    within(30, server.shutdown(secs(20))).await.expect("nothing is left");
}
