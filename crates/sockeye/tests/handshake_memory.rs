//! What does a handshake cost that is kept? Not the 8 KiB of the buffer it was read into.

#[path = "memory/counting.rs"]
mod counting;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use axum::Router;
use sockeye::{Handshake, Server, WebSocket, accept, testing};
use tokio::{runtime::Builder, time::sleep};

use crate::counting::usage;

const COUNT: usize = 100;

fn start_server() -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            // As the documentation of `accept` has it.
            let route = accept(|mut ws: WebSocket, handshake: Handshake| async move {
                let name = handshake.query("name").unwrap_or("stranger".into());
                ws.send(format!("welcome, {name}")).await?;
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            });
            let server = Server::new().route("/", route);
            let server = server.bind("127.0.0.1:0").await.expect("a port");
            sender.send(server.local_addr()).expect("the test waits");
            server.stopped().await;
        });
    });
    receiver.recv().expect("the server starts")
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut tcp = TcpStream::connect(address).expect("a connection");
    tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("not zero");
    tcp.write_all(
        b"GET /?name=ana HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    )
    .expect("a live socket");
    let mut end = [0; 12];
    while end != *b"welcome, ana" {
        end.rotate_left(1);
        tcp.read_exact(&mut end[11..]).expect("a greeting");
    }
    tcp
}

/// One test, as the figures are the whole process's.
#[test]
fn a_handshake_that_is_kept_does_not_keep_the_buffer_it_was_read_into() {
    let address = start_server();
    let first: Vec<_> = (0..10).map(|_| connect(address)).collect();
    thread::sleep(Duration::from_millis(300));
    let mut kept = Vec::with_capacity(COUNT);
    let before = usage();
    kept.extend((0..COUNT).map(|_| connect(address)));
    thread::sleep(Duration::from_millis(300));
    let server = (usage().bytes - before.bytes) / COUNT;
    drop((first, kept));
    thread::sleep(Duration::from_millis(300));

    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    let client = runtime.expect("a runtime").block_on(async {
        let leave = accept(|ws, _| async {
            drop(ws);
            Ok(())
        });
        let router = Router::new().route("/", leave);
        let ended = async || {
            let mut ws = testing::connect_to(router.clone(), "/").websocket().await;
            assert_eq!(ws.recv().await, Ok(None));
            ws
        };
        for _ in 0..10 {
            ended().await;
        }
        let mut kept = Vec::with_capacity(COUNT);
        let before = usage();
        for _ in 0..COUNT {
            kept.push(ended().await);
        }
        sleep(Duration::from_secs(60)).await;
        (usage().bytes - before.bytes) / COUNT
    });
    println!("{server} bytes for a function's connection, {client} for a client's ended one");
    assert!(server < 4096 && client < 4096, "{server}, {client}");
}
