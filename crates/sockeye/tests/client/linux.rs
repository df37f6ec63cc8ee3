//! Getting to a server where it takes more than TCP, or less: sockets in the file system, and a server
//! that does not take its connections. How a system does these things is its own, and this is Linux.

use std::{env, fs, io::ErrorKind, net::SocketAddr, time::Duration};

use sockeye::Client;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    connecting::{no_tcp, talks},
    server::{Connection, within},
};

#[tokio::test]
async fn a_unix_socket_leads_to_the_server_too() {
    let path = env::temp_dir().join(format!("sockeye-{}.sock", Uuid::new_v4()));
    let listener = UnixListener::bind(&path).unwrap();
    let stream = UnixStream::connect(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    let client = Client::connect("ws://localhost/").transport(stream);
    talks(client, async { Connection::new(within(listener.accept()).await.unwrap().0) }).await;
}

/// A port on which connections are neither accepted nor refused: the queue of those that wait to be
/// accepted has its one place taken.
struct Full {
    addr: SocketAddr,
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl Full {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(addr).await.unwrap();
        Self { addr, _listener: listener, _waiting: waiting }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_take_the_connection_is_given_up_after_10_s() {
    let full = Full::new().await;
    let start = Instant::now();
    let timed_out = no_tcp(Client::connect(format!("ws://{}/", full.addr))).await;
    assert_eq!(timed_out, (full.addr.to_string(), ErrorKind::TimedOut));
    assert_at(start, Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn or_after_as_long_as_was_said() {
    let full = Full::new().await;
    let start = Instant::now();
    let time = Duration::from_millis(700);
    let client = Client::connect(format!("ws://{}/", full.addr)).connect_timeout(time);
    assert_eq!(no_tcp(client).await.1, ErrorKind::TimedOut);
    assert_at(start, time);
}

/// With this many more milliseconds than there should have been at most.
fn assert_at(start: Instant, time: Duration) {
    let late = start.elapsed().checked_sub(time).expect("not before its time");
    assert!(late < Duration::from_millis(10), "{late:?} late");
}
