//! What does compression hold, for a connection that is idle, one that has ended, and one whose peer
//! wants much?
//!
//! The server runs on a thread of its own; the clients are bare sockets whose code allocates nothing.
//! One test, as the figures are the whole process's.

#[path = "memory/blocking.rs"]
mod blocking;
#[path = "memory/counting.rs"]
mod counting;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
};
use sockeye::{Compression, Config, Handler, Message, Result, Server, Session, Socket, ws_with};

use crate::{
    blocking::{settled, start},
    counting::usage,
};

/// Echoes texts; of other messages it counts the bytes.
struct Echo;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        match message.as_text() {
            Some(text) => drop(session.send(text)),
            None => drop(TAKEN.fetch_add(message.len(), Relaxed)),
        }
        Ok(())
    }
}

/// Echoes, and keeps all sockets.
struct Keep;

static KEPT: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

impl Handler for Keep {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> Result {
        KEPT.lock().expect("no panic").push(session.socket.clone());
        Ok(())
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}

fn start_server() -> SocketAddr {
    start(|| {
        let with = |compression| Config::default().compression(compression);
        Server::new()
            .route("/off", ws_with(Echo, with(Compression::Off)))
            .route("/shared", ws_with(Echo, with(Compression::Shared)))
            .route("/dedicated", ws_with(Echo, with(Compression::dedicated())))
            .route("/keep", ws_with(Keep, with(Compression::dedicated())))
    })
}

fn connect(address: SocketAddr, path: &str) -> TcpStream {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    blocking::connect(address, path, offer)
}

/// A client's frame with a mask of zeros, compressed or not.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

const COMPRESSED_TEXT: u8 = 0xc1;
const COMPRESSED: u8 = 0xc2;

fn deflate(message: &[u8]) -> Vec<u8> {
    let flags = create_comp_flags_from_zip_params(9, -15, 0);
    let mut payload = Vec::new();
    compress_to_output(&mut CompressorOxide::new(flags), message, TDEFLFlush::Sync, |bytes| {
        payload.extend_from_slice(bytes);
        true
    });
    payload.truncate(payload.len() - 4);
    payload
}

/// Reads one frame of the server: its first byte, and the length of its payload.
fn read_frame(tcp: &mut TcpStream) -> (u8, usize) {
    let mut payload = [0; 70_000];
    tcp.read_exact(&mut payload[..2]).expect("a frame");
    let (first, mut length) = (payload[0], usize::from(payload[1]));
    if length == 126 {
        tcp.read_exact(&mut payload[..2]).expect("a frame");
        length = usize::from(u16::from_be_bytes([payload[0], payload[1]]));
    }
    tcp.read_exact(&mut payload[..length]).expect("a frame");
    if first == 0x88 {
        return (first, usize::from(u16::from_be_bytes([payload[0], payload[1]])));
    }
    (first, length)
}

/// Sends and reads an echo, so many times; compressed if `first` says so.
fn echo(tcp: &mut TcpStream, sent: &[u8], first: u8, times: usize) {
    for _ in 0..times {
        tcp.write_all(sent).expect("a live socket");
        assert_eq!(read_frame(tcp).0, first);
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn compression_holds_what_it_says_and_no_more() {
    let address = start_server();
    let text = r#"{"id":7,"name":"a player","score":123456,"team":"red"},"#.repeat(6);
    let plain = frame(0x81, text.as_bytes());
    let compressed = frame(COMPRESSED_TEXT, &deflate(text.as_bytes()));

    // The first ones make the runtime, the pools and the windows what they are.
    let mut first = ["/off", "/shared", "/dedicated"].map(|path| connect(address, path));
    echo(&mut first[0], &plain, 0x81, 100);
    echo(&mut first[1], &compressed, 0xc1, 100);
    echo(&mut first[2], &compressed, 0xc1, 100);
    for tcp in &mut first[1..] {
        let before = usage();
        echo(tcp, &compressed, 0xc1, 1000);
        assert_eq!(usage().calls - before.calls, 1000, "calls of the allocator in 1000 messages");
    }

    // A thread keeps a compressor for each size of window.
    let [_, shared, dedicated] = &mut first;
    let before = usage();
    for _ in 0..100 {
        echo(shared, &compressed, 0xc1, 1);
        echo(dedicated, &compressed, 0xc1, 1);
    }
    assert_eq!(usage().calls - before.calls, 200, "calls with two windows by turns");

    idle(address, &plain, &compressed);
    ended(address, &compressed);
    bombs(&mut first);
}

/// Blocks and bytes for an idle connection that was used.
fn held(address: SocketAddr, path: &str, sent: &[u8], first: u8) -> (f64, f64) {
    // Few enough for a limit of 1024 open files, the clients' included.
    let count = 200;
    let mut connections = Vec::with_capacity(count);
    let before = settled();
    connections.extend((0..count).map(|_| connect(address, path)));
    for tcp in &mut connections {
        // Until its windows are full.
        echo(tcp, sent, first, 30);
    }
    let after = settled();
    let each = |after: usize, before: usize| (after - before) as f64 / count as f64;
    let held = (each(after.blocks, before.blocks), each(after.bytes, before.bytes));
    drop(connections);
    settled();
    held
}

fn idle(address: SocketAddr, plain: &[u8], compressed: &[u8]) {
    // Once for the tables that grow with the connections.
    held(address, "/off", plain, 0x81);
    let off = held(address, "/off", plain, 0x81);
    let shared = held(address, "/shared", compressed, 0xc1);
    assert_eq!(shared, off, "blocks and bytes, and those without compression");
    let dedicated = held(address, "/dedicated", compressed, 0xc1);
    // A block for each window, and one for what there is to say about both.
    assert_eq!(dedicated.0, off.0 + 3.0, "blocks");
    let more = dedicated.1 - off.1;
    assert!((8192.0..8192.0 + 100.0).contains(&more), "{more} bytes for two windows of 4096");
}

fn ended(address: SocketAddr, compressed: &[u8]) {
    KEPT.lock().expect("no panic").reserve(200);
    let used = Compression::window_budget_used();
    let before = settled();
    for n in 0..100 {
        let mut tcp = connect(address, "/keep");
        echo(&mut tcp, compressed, 0xc1, 30);
        if n % 2 == 0 {
            tcp.write_all(&[0x88, 0x80, 0, 0, 0, 0]).expect("a live socket");
            assert_eq!(read_frame(&mut tcp).0, 0x88);
        }
    }
    wait_until("the windows are given back", || Compression::window_budget_used() == used);
    let bytes = (settled().bytes - before.bytes) / 100;
    assert!(bytes <= 700, "{bytes} bytes for the socket of a connection that has ended");
    assert_eq!(KEPT.lock().expect("no panic").len(), 100);
}

/// A thousandth of what they inflate to.
fn bombs([_, shared, dedicated]: &mut [TcpStream; 3]) {
    const LIMIT: usize = 1024 * 1024;
    let million = frame(COMPRESSED, &deflate(&vec![0; 1_000_000]));
    let bomb = frame(COMPRESSED, &deflate(&vec![0; 100_000_000]));
    assert!(bomb.len() < 102_000);
    for tcp in [shared, dedicated] {
        let taken = TAKEN.load(Relaxed);
        let before = settled();
        tcp.write_all(&million).expect("a live socket");
        wait_until("a million zeros pass", || TAKEN.load(Relaxed) - taken == 1_000_000);
        let peak = usage().peak - before.bytes;
        assert!(peak < 2 * LIMIT, "{peak} bytes for a million zeros");
        let before = settled();
        tcp.write_all(&bomb).expect("a live socket");
        assert_eq!(read_frame(tcp), (0x88, 1009));
        let peak = usage().peak - before.bytes;
        println!("{peak} bytes for a bomb");
        assert!(peak < 2 * LIMIT, "{peak} bytes for a bomb");
    }
}
