//! A server on a thread of its own, and connections to it that allocate nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use sockeye::Server;

use crate::counting::{Usage, usage};

/// Runs what `server` makes, and gives its address.
pub(crate) fn start(server: impl FnOnce() -> Server + Send + 'static) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let server = server().bind("127.0.0.1:0").await.expect("a port");
            sender.send(server.local_addr()).expect("the test waits");
            server.stopped().await;
        });
    });
    receiver.recv().expect("the server starts")
}

/// Opens a connection, with further headers in the request, each with its end of line.
pub(crate) fn connect(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(address).expect("a connection");
    tcp.set_nodelay(true).expect("a live socket");
    tcp.set_read_timeout(Some(Duration::from_secs(20))).expect("not zero");
    for part in [
        "GET ",
        path,
        " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        headers,
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ] {
        tcp.write_all(part.as_bytes()).expect("a live socket");
    }
    let mut end = [0; 4];
    while end != *b"\r\n\r\n" {
        end.rotate_left(1);
        tcp.read_exact(&mut end[3..]).expect("an answer");
    }
    tcp
}

/// Reads, changing nothing, until what the process holds stays the same for a while: the task that
/// spoke HTTP ends after the client has its answer.
pub(crate) fn settled() -> Usage {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = usage();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(200) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
        let now = usage();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
