//! What is left of a connection that has ended, while its `WebSocket` or a `Socket` is kept?
//!
//! One test, as the figures are the whole process's.

#[path = "memory/counting.rs"]
mod counting;

use std::time::Duration;

use axum::Router;
use sockeye::{CloseCode, Socket, WebSocket, accept, testing};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{sleep, timeout},
};

use crate::counting::usage;

const COUNT: usize = 100;

/// How a connection ends, seen from the server.
#[derive(Clone, Copy, Debug)]
enum Way {
    ClosedByPeer,
    Closed,
    Terminated,
    LeftWithMessages,
}

/// The server's end of a connection that was used, and has ended.
async fn ended(way: Way, router: &Router, handles: &mut UnboundedReceiver<WebSocket>) -> WebSocket {
    let mut client = testing::connect_to(router.clone(), "/").websocket().await;
    let mut server = handles.recv().await.expect("the function gets a handle");
    for text in ["one", "two"] {
        client.send(text).await.expect("it is open");
        let message = server.recv().await.expect("it is open").expect("a message");
        server.send(message).await.expect("it is open");
        client.recv().await.expect("it is open").expect("a message");
    }
    match way {
        Way::ClosedByPeer => drop(client.close(CloseCode::NORMAL, "").await),
        Way::Closed => drop(server.close(CloseCode::NORMAL, "").await),
        Way::Terminated => {
            server.socket().terminate();
            client.recv().await.expect_err("it was cut");
        }
        Way::LeftWithMessages => {
            // In one turn, so that there was room for all of them.
            for _ in 0..100 {
                client.send("not taken").await.expect("it is open");
            }
            drop(client);
            for _ in 0..100 {
                server.recv().await.expect("it is open").expect("a message");
            }
        }
    }
    let end = server.recv().await;
    assert_eq!(end.is_err(), matches!(way, Way::Terminated), "{end:?}");
    server
}

/// Waits until no task is left.
async fn quiet() {
    let quiet = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), quiet).await.expect("all tasks end");
}

#[tokio::test(start_paused = true)]
async fn an_ended_connection_is_no_more_than_what_tells_how_it_ended() {
    let (sender, handles) = unbounded_channel();
    let route = accept(move |ws, _| {
        let _ = sender.send(ws);
        async { Ok(()) }
    });
    let router = Router::new().route("/", route);
    let scene = measure(router, handles);
    timeout(Duration::from_secs(1000), scene).await.expect("nothing waits for ever");
}

async fn measure(router: Router, mut handles: UnboundedReceiver<WebSocket>) {
    for way in [Way::ClosedByPeer, Way::Closed, Way::Terminated, Way::LeftWithMessages] {
        // The first ones make the runtime and the pools what they are.
        for _ in 0..10 {
            ended(way, &router, &mut handles).await;
        }
        quiet().await;
        let mut kept = Vec::with_capacity(COUNT);
        let mut sockets: Vec<Socket> = Vec::with_capacity(COUNT);
        let before = usage();
        for _ in 0..COUNT {
            kept.push(ended(way, &router, &mut handles).await);
        }
        quiet().await;
        let handle = (usage().bytes - before.bytes) / COUNT;
        sockets.extend(kept.iter().map(WebSocket::socket));
        kept.clear();
        let socket = (usage().bytes - before.bytes) / COUNT;
        println!("{way:?}: {handle} bytes for a handle, {socket} for a socket");
        // Its task would be another 512 and more, and a buffer 16 KiB. Some 150 are those of the
        // registry that `testing` makes for each connection.
        assert!(handle <= 800, "{handle} bytes for a handle");
        assert!(socket <= 700, "{socket} bytes for a socket");
    }
}
