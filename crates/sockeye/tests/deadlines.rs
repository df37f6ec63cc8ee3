//! When does each deadline of `Config` end a wait: not before its time, and at most a second after?

use std::time::Duration;

use axum::http::StatusCode;
use sockeye::{
    Close, CloseCode, ClosedBy, Config, Limits, OpCode, Socket,
    testing::{self, Frame, Peer, frame},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until, timeout},
};

const HOUR: u64 = 3600;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a handler has noted.
enum Note {
    Open(Socket),
    Close(Close),
}

/// Echoes texts, and notes the begin and the end.
fn echo(notes: UnboundedSender<Note>) -> sockeye::On<()> {
    let (open, close) = (notes.clone(), notes);
    let note = |notes: &UnboundedSender<Note>, note| drop(notes.send(note));
    sockeye::on()
        .on_open(move |session| note(&open, Note::Open(session.socket.clone())))
        .on_text(|session, text| session.send(text))
        .on_close(move |_, got| note(&close, Note::Close(got.clone())))
}

/// A connection, and the time at which it was opened.
struct Scene {
    peer: Peer,
    socket: Socket,
    notes: UnboundedReceiver<Note>,
    start: Instant,
}

async fn scene(config: Config, pipe: usize) -> Scene {
    let (sender, mut notes) = unbounded_channel();
    let peer = testing::connect_with(echo(sender), config).pipe(pipe).await;
    let Some(Note::Open(socket)) = notes.recv().await else { panic!("`open` comes first") };
    Scene { peer, socket, notes, start: Instant::now() }
}

async fn connect(config: Config) -> Scene {
    scene(config, 64 * 1024).await
}

impl Scene {
    /// It is so many seconds since the connection was opened, or up to one more. To the millisecond
    /// it is looked at [elsewhere](no_deadline_comes_early_not_even_by_a_millisecond).
    #[track_caller]
    fn assert_at(&self, seconds: u64) {
        let at = self.start.elapsed();
        let range = secs(seconds).saturating_sub(Duration::from_millis(16))..=secs(seconds + 1);
        assert!(range.contains(&at), "at {at:?}, not {seconds} s");
    }

    async fn until(&self, seconds: u64) {
        sleep_until(self.start + secs(seconds)).await;
    }

    async fn echo(&mut self, text: &str) {
        self.peer.send(text).await;
        assert_eq!(self.peer.recv_text().await, text);
    }

    /// An empty ping comes at this second.
    async fn recv_ping_at(&mut self, seconds: u64) {
        let Frame { opcode, payload, .. } = self.peer.recv().await.expect("a ping");
        assert_eq!((opcode, &*payload), (OpCode::Ping, &b""[..]));
        self.assert_at(seconds);
    }

    async fn pong(&mut self) {
        self.peer.send_frame(OpCode::Pong, true, b"").await;
    }

    /// The connection breaks off at this second, and both sides see it.
    async fn assert_cut_at(mut self, seconds: u64, reason: &str) {
        let close = self.close().await;
        self.assert_at(seconds);
        let is = (close.by, close.code, &*close.reason, close.clean);
        assert_eq!(is, (ClosedBy::Network, CloseCode::ABNORMAL, reason, false));
        while self.peer.recv().await.is_some() {}
        self.assert_at(seconds);
    }

    /// A close frame comes at this second.
    async fn recv_close_at(&mut self, seconds: u64, code: CloseCode) {
        assert_eq!(self.peer.recv_close().await.0, code);
        self.assert_at(seconds);
    }

    async fn close(&mut self) -> Close {
        loop {
            match self.notes.recv().await {
                Some(Note::Close(close)) => return close,
                Some(Note::Open(_)) => {}
                None => panic!("`close` is called"),
            }
        }
    }
}

fn limits(message_time: u64) -> Config {
    let mut limits = Limits::default();
    limits.message_time = secs(message_time);
    Config::default().limits(limits)
}

// ---- keep-alive

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_after_30_s_and_gone_10_s_later() {
    let mut scene = connect(Config::default()).await;
    scene.recv_ping_at(30).await;
    scene.assert_cut_at(40, "no answer to a ping").await;
}

#[tokio::test(start_paused = true)]
async fn a_single_byte_is_a_sign_of_life() {
    let mut scene = connect(Config::default()).await;
    let ping = frame(OpCode::Ping, true, b"");
    scene.until(20).await;
    scene.peer.send_raw(&ping[..1]).await;
    scene.recv_ping_at(50).await;
    scene.until(58).await;
    scene.peer.send_raw(&ping[1..2]).await;
    scene.until(65).await;
    scene.peer.send_raw(&ping[2..]).await;
    assert_eq!(scene.peer.recv().await.unwrap().opcode, OpCode::Pong);
    scene.assert_at(65);
    scene.recv_ping_at(95).await;
    scene.assert_cut_at(105, "no answer to a ping").await;
}

#[tokio::test(start_paused = true)]
async fn pongs_alone_keep_a_connection_alive_for_hours() {
    let mut scene = connect(Config::default()).await;
    let mut pings = 0;
    while scene.start.elapsed() < secs(12 * HOUR) {
        assert_eq!(scene.peer.recv().await.unwrap().opcode, OpCode::Ping);
        sleep(secs(9)).await;
        scene.pong().await;
        pings += 1;
    }
    assert!((1080..=1108).contains(&pings), "{pings} pings, one each 39 s");
    scene.echo("still here").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_is_not_pinged() {
    let mut scene = connect(Config::default()).await;
    for n in 0..60 {
        scene.echo(&n.to_string()).await;
        sleep(secs(29)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_times_of_the_keep_alive_can_be_chosen() {
    let mut scene = connect(Config::default().keep_alive(secs(300), secs(2))).await;
    scene.recv_ping_at(300).await;
    scene.assert_cut_at(302, "no answer to a ping").await;
}

#[tokio::test(start_paused = true)]
async fn without_keep_alive_a_silent_peer_is_left_alone() {
    let mut scene = connect(Config::default().no_keep_alive()).await;
    let heard = timeout(secs(100 * HOUR), scene.peer.recv()).await;
    assert!(heard.is_err(), "nothing comes: {heard:?}");
    scene.echo("still here").await;
}

/// The ping has to wait for the end of the frame on the wire; the peer cannot answer it before.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_cut_over_a_ping_that_it_cannot_have_seen_yet() {
    let handler = sockeye::on().on_text_async(async |session, _| {
        for _ in 0..15 {
            session.send(vec![0; 60_000]);
        }
        session.flushed().await
    });
    let mut peer = testing::connect(handler).pipe(1000).await;
    peer.send("go").await;
    let mut taken = 0;
    while taken < 15 {
        let frame = timeout(secs(60), peer.recv()).await;
        let Ok(Some(frame)) = frame else { panic!("cut after {taken} messages") };
        if frame.opcode == OpCode::Ping {
            peer.send_frame(OpCode::Pong, true, &frame.payload).await;
        } else {
            taken += 1;
            sleep(secs(15)).await;
        }
    }
}

// ---- idle and lifetime

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_counts_neither_what_this_side_sends_nor_pings_nor_pongs() {
    let mut scene = connect(Config::default().idle_timeout(secs(60))).await;
    let socket = scene.socket.clone();
    tokio::spawn(async move {
        while socket.state() == sockeye::State::Open {
            socket.send("news");
            socket.ping("are you there?");
            sleep(secs(5)).await;
        }
    });
    loop {
        match timeout(secs(3), scene.peer.recv()).await.map(Option::unwrap) {
            Ok(Frame { opcode: OpCode::Close, .. }) => break scene.assert_at(60),
            Ok(Frame { opcode: OpCode::Ping, .. }) => scene.pong().await,
            Ok(_) => {}
            Err(_) => scene.peer.send_frame(OpCode::Ping, true, b"").await,
        }
        assert!(scene.start.elapsed() < secs(70), "it never ends");
    }
    scene.peer.send_close(CloseCode::AWAY, "").await;
    let close = scene.close().await;
    assert_eq!((close.by, close.code, close.clean), (ClosedBy::Local, CloseCode::AWAY, true));
}

#[tokio::test(start_paused = true)]
async fn each_message_starts_the_idle_timeout_anew() {
    let config = Config::default().idle_timeout(secs(60)).no_keep_alive();
    let mut scene = connect(config).await;
    scene.until(59).await;
    scene.echo("1").await;
    scene.until(118).await;
    scene.echo("2").await;
    scene.recv_close_at(178, CloseCode::AWAY).await;
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_ends_the_busiest_connection() {
    let mut scene = connect(Config::default().max_lifetime(secs(HOUR))).await;
    for n in 0..HOUR / 10 {
        scene.until(n * 10).await;
        scene.echo("busy").await;
    }
    scene.recv_close_at(HOUR, CloseCode::AWAY).await;
}

// ---- closing

#[tokio::test(start_paused = true)]
async fn a_close_that_is_not_answered_ends_after_5_s() {
    let mut scene = connect(Config::default().no_keep_alive()).await;
    scene.until(100).await;
    scene.socket.close(CloseCode::NORMAL, "");
    let close = scene.close().await;
    scene.assert_at(105);
    assert_eq!((close.by, close.code, close.clean), (ClosedBy::Local, CloseCode::NORMAL, false));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_on_does_not_delay_the_close_timeout() {
    let mut scene = connect(Config::default().close_timeout(secs(20))).await;
    scene.socket.close(CloseCode::NORMAL, "");
    scene.recv_close_at(0, CloseCode::NORMAL).await;
    let mut sent = 0;
    while scene.peer.try_send_raw(&frame(OpCode::Text, true, b"talk")).await.is_ok() {
        sent += 1;
        sleep(secs(1)).await;
    }
    assert!((20..=22).contains(&sent), "cut after {sent} s");
    scene.assert_at(sent);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_does_not_delay_the_close_timeout() {
    let mut scene = scene(Config::default(), 1000).await;
    scene.socket.send(vec![0; 200_000]);
    scene.socket.close(CloseCode::NORMAL, "");
    let close = scene.close().await;
    scene.assert_at(5);
    assert_eq!((close.by, close.clean), (ClosedBy::Local, false));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_hang_up_after_a_protocol_error_is_listened_to_for_5_s() {
    let mut scene = connect(Config::default()).await;
    scene.peer.send_raw(b"\xff\xff").await;
    scene.recv_close_at(0, CloseCode::PROTOCOL).await;
    while scene.peer.try_send_raw(&[0; 1000]).await.is_ok() {
        assert!(scene.start.elapsed() < secs(10), "it listens for ever");
        sleep(Duration::from_millis(100)).await;
    }
    scene.assert_at(5);
}

// ---- writing

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_after_30_s() {
    for size in [2_000, 60_000, 900_000] {
        for config in [Config::default(), Config::default().no_keep_alive()] {
            let mut scene = scene(config, 1000).await;
            scene.until(5).await;
            scene.socket.send(vec![0; size]);
            let close = scene.close().await;
            scene.assert_at(35);
            let reason = "the peer took nothing of what waits for it";
            assert_eq!((close.code, &*close.reason), (CloseCode::ABNORMAL, reason));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_and_never_reads_is_cut_all_the_same() {
    let mut scene = scene(Config::default().write_timeout(secs(50)), 1000).await;
    scene.socket.send(vec![0; 20_000]);
    while scene.peer.try_send_raw(&frame(OpCode::Pong, true, b"")).await.is_ok() {
        assert!(scene.start.elapsed() < secs(60), "it lives for ever");
        sleep(Duration::from_millis(100)).await;
    }
    scene.assert_at(50);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_a_little_now_and_then_is_not_cut() {
    let mut scene = scene(Config::default(), 1000).await;
    for _ in 0..100 {
        scene.socket.send(vec![0; 5000]);
    }
    let mut taken = 0;
    while taken < 100 {
        match scene.peer.recv().await.expect("the connection lives").opcode {
            OpCode::Ping => scene.pong().await,
            _ => taken += 1,
        }
        sleep(secs(4)).await;
    }
    scene.echo("still here").await;
}

// ---- messages

#[tokio::test(start_paused = true)]
async fn a_message_in_slow_fragments_ends_with_1008() {
    let mut scene = connect(Config::default()).await;
    scene.until(7).await;
    scene.peer.send_frame(OpCode::Text, false, b"a").await;
    let mut sent = 0;
    let (code, reason) = loop {
        match timeout(secs(2), scene.peer.recv_close()).await {
            Ok(close) => break close,
            Err(_) => scene.peer.send_frame(OpCode::Continuation, false, b"b").await,
        }
        sent += 1;
    };
    assert_eq!(code, CloseCode::POLICY);
    assert!(reason.contains("60s") && sent >= 29, "after {sent} fragments: {reason}");
    scene.assert_at(67);
    let close = scene.close().await;
    assert_eq!((close.by, close.code, close.clean), (ClosedBy::Local, CloseCode::POLICY, false));
}

#[tokio::test(start_paused = true)]
async fn a_slow_frame_ends_with_1008_wherever_it_is_slow() {
    for begin in [1, 5, 7, 50] {
        let mut scene = connect(Config::default().no_keep_alive()).await;
        let wire = frame(OpCode::Text, true, &[b'x'; 100]);
        scene.until(100).await;
        scene.peer.send_raw(&wire[..begin]).await;
        scene.until(125).await;
        scene.peer.send_raw(&wire[begin..begin + 1]).await;
        scene.until(150).await;
        scene.peer.send_raw(&wire[begin + 1..begin + 2]).await;
        scene.recv_close_at(160, CloseCode::POLICY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pings_between_slow_fragments_do_not_help() {
    let mut scene = connect(limits(20)).await;
    scene.peer.send_frame(OpCode::Text, false, b"a").await;
    for n in 1..10 {
        scene.until(n * 2).await;
        scene.peer.send_frame(OpCode::Ping, true, b"").await;
        assert_eq!(scene.peer.recv().await.unwrap().opcode, OpCode::Pong);
    }
    scene.recv_close_at(20, CloseCode::POLICY).await;
}

#[tokio::test(start_paused = true)]
async fn each_message_has_its_own_time() {
    let mut scene = connect(limits(20)).await;
    for n in 0..10 {
        scene.until(n * 19).await;
        // The end of one message and the begin of the next come in the same read.
        let wire = [
            frame(OpCode::Continuation, true, b"end"),
            frame(OpCode::Text, false, n.to_string().as_bytes()),
        ];
        let wire = wire[usize::from(n == 0)..].concat();
        scene.peer.send_raw(&wire).await;
        if n > 0 {
            assert_eq!(scene.peer.recv_text().await, format!("{}end", n - 1));
        }
    }
    scene.recv_close_at(9 * 19 + 20, CloseCode::POLICY).await;
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_handler_did_not_listen_is_not_counted_against_a_message() {
    let handler = sockeye::on().on_text_async(async |session, text| {
        if text == "wait" {
            sleep(secs(100)).await;
        }
        session.send(text)
    });
    let mut peer = testing::connect_with(handler, limits(20)).await;
    let wire = [frame(OpCode::Text, true, b"wait"), frame(OpCode::Text, false, b"be")].concat();
    peer.send_raw(&wire).await;
    sleep(secs(50)).await;
    peer.send_frame(OpCode::Continuation, false, b"gi").await;
    assert_eq!(peer.recv_text().await, "wait");
    sleep(secs(10)).await;
    peer.send_frame(OpCode::Continuation, true, b"n").await;
    assert_eq!(peer.recv_text().await, "begin");
}

// ---- the opening handshake

#[tokio::test(start_paused = true)]
async fn an_attach_that_takes_too_long_is_answered_with_503() {
    struct Slow;

    impl sockeye::Handler for Slow {
        type Data = ();

        async fn attach(
            &self,
            _: &mut sockeye::Handshake,
        ) -> Result<sockeye::Accept<()>, sockeye::Rejection> {
            std::future::pending().await
        }
    }

    let start = Instant::now();
    let refused = testing::connect(Slow).try_connect().await.expect_err("it takes too long");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let took = start.elapsed();
    assert!((secs(10)..=secs(11)).contains(&took), "{took:?}");
    let config = Config::default().handshake_timeout(secs(3));
    let refused = testing::connect_with(Slow, config).try_connect().await;
    assert!(refused.is_err());
    let took = start.elapsed() - took;
    assert!((secs(3)..=secs(4)).contains(&took), "{took:?}");
}

/// The clock of a connection has coarse steps, and a wait begins anywhere within one.
#[tokio::test(start_paused = true)]
async fn no_deadline_comes_early_not_even_by_a_millisecond() {
    for offset in 0..40 {
        let scene = connect(Config::default().no_keep_alive()).await;
        sleep(Duration::from_millis(offset)).await;
        let asked = Instant::now();
        scene.socket.close(CloseCode::NORMAL, "");
        scene.socket.closed().await;
        let waited = asked.elapsed();
        assert!((secs(5)..=secs(6)).contains(&waited), "{waited:?} instead of 5 s");
    }
}

/// A timer that is set counts against the budget that tokio gives a task, and one that is not set for
/// want of it stays unset.
#[tokio::test(start_paused = true)]
async fn a_handler_that_has_used_up_the_budget_of_its_task_does_not_stop_the_clock() {
    let handler = sockeye::on().on_open_async(async |_: &mut sockeye::Session<()>| {
        let (sender, mut receiver) = unbounded_channel();
        for n in 0..128 {
            sender.send(n).expect("the receiver is there");
            receiver.recv().await;
        }
    });
    let mut peer = testing::connect(handler).await;
    let start = Instant::now();
    let ping = timeout(secs(HOUR), peer.recv()).await.expect("a ping").expect("a frame");
    assert_eq!(ping.opcode, OpCode::Ping);
    assert!(start.elapsed() < secs(31), "after {:?}", start.elapsed());
}
