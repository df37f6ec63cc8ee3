//! What does a peer gain that sends as much as it can of what costs it nothing?

use std::time::Duration;

use sockeye::{
    Close, CloseCode, ClosedBy, Config, Limits, OpCode, Server, Socket, State,
    testing::{self, Frame, Peer, frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};

/// What a handler has noted.
enum Note {
    Open(Socket),
    Message(usize),
    Close(Close),
}

/// Notes what comes, and sends nothing.
fn sink(notes: UnboundedSender<Note>) -> sockeye::On<()> {
    let note = move |note| drop(notes.send(note));
    let (open, text, binary, close) = (note.clone(), note.clone(), note.clone(), note);
    sockeye::on()
        .on_open(move |session| open(Note::Open(session.socket.clone())))
        .on_text(move |_, got| text(Note::Message(got.len())))
        .on_binary(move |_, got| binary(Note::Message(got.len())))
        .on_close(move |_, got| close(Note::Close(got.clone())))
}

async fn connect_with(config: Config, pipe: usize) -> (Peer, UnboundedReceiver<Note>, Socket) {
    let (sender, mut notes) = unbounded_channel();
    let peer = testing::connect_with(sink(sender), config).pipe(pipe).await;
    let Some(Note::Open(socket)) = notes.recv().await else { panic!("`open` comes first") };
    (peer, notes, socket)
}

async fn connect() -> (Peer, UnboundedReceiver<Note>, Socket) {
    connect_with(Config::default(), 64 * 1024).await
}

async fn close_of(notes: &mut UnboundedReceiver<Note>) -> Close {
    match notes.recv().await {
        Some(Note::Close(close)) => close,
        Some(Note::Open(_)) => panic!("opened twice"),
        Some(Note::Message(length)) => panic!("a message of {length} bytes"),
        None => panic!("`close` is called"),
    }
}

/// Writes all of it, a piece at a time, or until the connection ends; how much that was.
async fn flood(peer: &mut Peer, wire: &[u8], times: usize) -> usize {
    for n in 0..times {
        if peer.try_send_raw(wire).await.is_err() {
            return n;
        }
    }
    times
}

fn control_rate(limit: u32) -> Config {
    Config::default().limits(Limits::default().control_rate(limit))
}

// ---- pings

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_pings_end_the_connection_with_1008() {
    for opcode in [OpCode::Ping, OpCode::Pong] {
        let (mut peer, mut notes, socket) = connect().await;
        let ping = frame(opcode, true, b"flood");
        let start = Instant::now();
        for _ in 0..100_000 {
            assert!(socket.buffered() < 20_000, "{} bytes wait", socket.buffered());
            if timeout(Duration::from_secs(20), peer.try_send_raw(&ping)).await.is_err() {
                panic!("the peer is neither read from nor cut");
            }
            if socket.state() == State::Closed {
                break;
            }
        }
        let close = close_of(&mut notes).await;
        assert_eq!((close.by, close.code), (ClosedBy::Local, CloseCode::POLICY));
        assert!(close.reason.contains("1000 control frames"), "{}", close.reason);
        assert!(start.elapsed() < Duration::from_secs(1));
        let mut pongs = 0;
        while peer.recv().await.expect("the close frame").opcode == OpCode::Pong {
            pongs += 1;
        }
        assert!(pongs <= 1000, "{pongs} pongs");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_control_frames_counts_seconds_and_not_the_whole_life() {
    let (mut peer, mut notes, _socket) = connect_with(control_rate(10), 64 * 1024).await;
    for _ in 0..100 {
        for _ in 0..10 {
            peer.send_frame(OpCode::Ping, true, b"").await;
            assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Pong);
        }
        sleep(Duration::from_millis(1050)).await;
    }
    for _ in 0..11 {
        peer.send_frame(OpCode::Ping, true, b"").await;
    }
    let code = loop {
        match peer.recv().await.unwrap() {
            Frame { opcode: OpCode::Pong, .. } => {}
            Frame { payload, .. } => break u16::from_be_bytes([payload[0], payload[1]]),
        }
    };
    assert_eq!(CloseCode(code), CloseCode::POLICY);
    assert_eq!(close_of(&mut notes).await.code, CloseCode::POLICY);
}

/// With no limit on their rate; the pipe is full, so no pong can leave.
#[tokio::test(start_paused = true)]
async fn answers_to_pings_do_not_queue_up_for_a_peer_that_does_not_read() {
    for written in [0, 10_000] {
        let (mut peer, _notes, socket) = connect_with(control_rate(u32::MAX), 1000).await;
        socket.send(vec![0; written]);
        sleep(Duration::from_millis(1)).await;
        let mut most = 0;
        for n in 0..100_000_u32 {
            let ping = frame(OpCode::Ping, true, &n.to_be_bytes());
            let sent = timeout(Duration::from_secs(1), peer.send_raw(&ping)).await;
            assert!(sent.is_ok(), "pings are read");
            most = most.max(socket.buffered());
        }
        assert!(most < written + 16 * 1024, "{most} bytes wait");
        let mut pongs = Vec::new();
        while let Ok(frame) = timeout(Duration::from_secs(1), peer.recv()).await {
            let Frame { opcode, payload, .. } = frame.expect("the connection lives");
            if opcode == OpCode::Pong {
                pongs.push(u32::from_be_bytes(payload[..4].try_into().unwrap()));
            }
        }
        assert!(pongs.is_sorted(), "in the order of the pings: {pongs:?}");
        assert_eq!(pongs.last(), Some(&99_999), "the last one is answered");
    }
}

/// One byte taken now and then keeps the write deadline away.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_a_trickle_while_it_floods_gets_no_more_memory() {
    let (mut peer, _notes, socket) = connect_with(Config::default(), 1000).await;
    for _ in 0..200 {
        socket.send(vec![0; 200]);
    }
    let ping = frame(OpCode::Ping, true, &[0; 125]);
    for _ in 0..100 {
        for _ in 0..900 {
            if socket.state() == State::Closed {
                return;
            }
            let _ = timeout(Duration::from_secs(10), peer.try_send_raw(&ping)).await;
        }
        let buffered = socket.buffered();
        assert!(buffered < 60_000, "{buffered} bytes wait");
        sleep(Duration::from_millis(1100)).await;
        peer.recv().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pings_of_ones_own_are_bounded_too() {
    let (mut peer, _notes, socket) = connect_with(Config::default(), 1000).await;
    socket.send(vec![0; 10_000]);
    sleep(Duration::from_millis(1)).await;
    let mut taken = 0;
    for _ in 0..10_000 {
        taken += u32::from(socket.ping([0; 125]));
        tokio::task::yield_now().await;
    }
    assert!(taken < 100, "{taken} pings were taken, {} bytes wait", socket.buffered());
    assert_eq!(peer.recv_binary().await.len(), 10_000);
    assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Ping);
}

// ---- fragments and sizes

#[tokio::test(start_paused = true)]
async fn endless_fragments_end_with_1008_at_the_limit() {
    for (limit, payload) in [(100, &b""[..]), (100, b"x"), (131_072, b"")] {
        let config = Config::default().limits(Limits::default().fragments(limit));
        let (mut peer, mut notes, _) = connect_with(config, 64 * 1024).await;
        let fragment = frame(OpCode::Continuation, false, payload);
        peer.send_frame(OpCode::Text, false, payload).await;
        for _ in 1..limit {
            peer.send_raw(&fragment).await;
        }
        sleep(Duration::from_millis(1)).await;
        assert!(notes.is_empty(), "so many are permitted");
        let more = flood(&mut peer, &fragment, 10_000).await;
        assert!(more > 0);
        let (code, reason) = peer.recv_close().await;
        assert_eq!(code, CloseCode::POLICY);
        assert!(reason.contains(&limit.to_string()), "{reason}");
        assert_eq!(close_of(&mut notes).await.code, CloseCode::POLICY);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_as_many_fragments_as_permitted_is_delivered() {
    let config = Config::default().limits(Limits::default().fragments(100));
    let (mut peer, mut notes, _) = connect_with(config, 64 * 1024).await;
    for _ in 0..2 {
        peer.send_frame(OpCode::Text, false, b"x").await;
        for n in 2..=100 {
            peer.send_frame(OpCode::Continuation, n == 100, b"y").await;
        }
        assert!(matches!(notes.recv().await, Some(Note::Message(100))));
    }
}

/// Frames that carry nothing, and an end that never comes, for as long as the peer likes.
#[tokio::test(start_paused = true)]
async fn empty_messages_are_messages_and_nobody_is_starved() {
    let (mut peer, mut notes, _) = connect().await;
    let (mut other, mut others_notes, _) = connect().await;
    let wire = frame(OpCode::Binary, true, b"").repeat(10_000);
    peer.send_raw(&wire).await;
    other.send("let me in").await;
    assert!(matches!(others_notes.recv().await, Some(Note::Message(9))));
    for _ in 0..10_000 {
        assert!(matches!(notes.recv().await, Some(Note::Message(0))));
    }
}

/// The header of a frame of so many bytes, masked with zeros.
fn header(opcode: u8, length: u64) -> Vec<u8> {
    let mut wire = vec![opcode, 0x80 | 127];
    wire.extend(length.to_be_bytes());
    wire.extend([0; 4]);
    wire
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_ends_with_1009_that_the_peer_reads_after_sending_on() {
    let mib = 1024 * 1024;
    for length in [mib + 1, 10 * mib, 1 << 40, (1 << 63) - 1] {
        let (mut peer, mut notes, _) = connect().await;
        peer.send_raw(&header(0x82, length)).await;
        // It does not look at what comes back until it has sent what it wanted.
        assert_eq!(flood(&mut peer, &[0; 4096], 2048).await, 2048, "all of it is read");
        let (code, reason) = peer.recv_close().await;
        assert_eq!(code, CloseCode::TOO_BIG);
        assert!(reason.contains("1048576"), "{reason}");
        peer.recv_end().await;
        let close = close_of(&mut notes).await;
        assert_eq!((close.by, close.code), (ClosedBy::Local, CloseCode::TOO_BIG));
    }
}

#[tokio::test(start_paused = true)]
async fn fragments_that_together_exceed_the_limit_end_with_1009() {
    let config = Config::default().limits(Limits::default().message_size(10_000));
    let (mut peer, mut notes, _) = connect_with(config, 64 * 1024).await;
    peer.send_frame(OpCode::Binary, false, &[0; 5000]).await;
    peer.send_frame(OpCode::Continuation, true, &[0; 5000]).await;
    assert!(matches!(notes.recv().await, Some(Note::Message(10_000))));
    peer.send_frame(OpCode::Binary, false, &[0; 9999]).await;
    peer.send_frame(OpCode::Continuation, false, b"").await;
    peer.send_frame(OpCode::Continuation, false, b"x").await;
    peer.send_frame(OpCode::Continuation, true, b"x").await;
    assert_eq!(peer.recv_close().await.0, CloseCode::TOO_BIG);
    assert_eq!(close_of(&mut notes).await.code, CloseCode::TOO_BIG);
}

// ---- the close frame over unread input

#[tokio::test(start_paused = true)]
async fn a_close_frame_is_not_lost_though_the_peer_sends_for_seconds_before_it_reads() {
    let (mut peer, mut notes, _) = connect().await;
    peer.send_raw(&[0xff; 100]).await;
    for _ in 0..40 {
        peer.send_raw(&[0; 60_000]).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(peer.recv_close().await.0, CloseCode::PROTOCOL);
    peer.recv_end().await;
    assert_eq!(close_of(&mut notes).await.code, CloseCode::PROTOCOL);
}

/// A kernel that is told to close a socket with unread input resets the connection, and the close
/// frame is lost. Only a real one shows that.
#[tokio::test]
async fn a_close_frame_is_not_lost_over_tcp_though_more_is_sent_than_read() {
    let (sender, _notes) = unbounded_channel();
    let server = Server::new().ws("/", sink(sender)).bind("127.0.0.1:0").await.unwrap();
    for begin in [header(0x82, 100_000_000), vec![0xff; 100], b"\x81\x02no".to_vec()] {
        let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        tcp.write_all(&begin).await.unwrap();
        for _ in 0..100 {
            tcp.write_all(&[0; 100_000]).await.expect("what is sent is read");
        }
        sleep(Duration::from_millis(100)).await;
        let mut close = [0; 2];
        tcp.read_exact(&mut close).await.expect("a close frame and no reset");
        assert_eq!(close[0], 0x88);
        let mut payload = vec![0; usize::from(close[1])];
        tcp.read_exact(&mut payload).await.unwrap();
        let code = CloseCode(u16::from_be_bytes([payload[0], payload[1]]));
        assert!(code == CloseCode::PROTOCOL || code == CloseCode::TOO_BIG, "{code:?}");
        assert_eq!(tcp.read(&mut [0; 1]).await.unwrap(), 0, "then the end of the stream");
    }
}

/// Whoever never hangs up is hung up on: what is read and dropped is bounded by time.
#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_after_the_close_frame_is_cut_after_the_close_timeout() {
    let (mut peer, _notes, socket) = connect().await;
    let start = Instant::now();
    peer.send_raw(&[0xff; 100]).await;
    socket.closed().await;
    while peer.try_send_raw(&[0; 60_000]).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(7), "it is read from for ever");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() > Duration::from_secs(4));
}
