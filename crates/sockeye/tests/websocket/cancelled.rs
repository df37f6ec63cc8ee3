//! What is lost when a future of a handle is given up? Nothing: no message is lost, doubled, or out
//! of order, whichever await it waited in.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::Router;
use futures_util::{Sink, SinkExt, StreamExt, stream};
use proptest::prelude::*;
use sockeye::{
    Client, CloseCode, Closed, ClosedBy, Config, Message, OpCode, Server, State, WebSocket, accept,
    accept_with,
    testing::{self, Faults},
};
use tokio::{
    runtime::Builder,
    sync::mpsc::unbounded_channel,
    task::yield_now,
    time::{interval, sleep},
};

use crate::{
    assert_close,
    peer::{Peer, SIDES, Setup},
    polled, settle, soon, text, within,
};

/// Lets all other tasks have so many rounds.
async fn rounds(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Lets them have one after something was given up, and now and then time go on, as it does not while
/// anybody is busy.
async fn round_after(gave_up: usize) {
    if gave_up.is_multiple_of(100) { settle().await } else { yield_now().await }
}

fn numbers(range: impl Iterator<Item = usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Marks that are easily reached.
fn marks() -> Config {
    Config::default().water_marks(50, 100).no_keep_alive()
}

// ---- receiving

/// A loop each of whose receiving futures is given up after so many polls; says how often that was.
async fn receive(
    ws: &mut WebSocket,
    polls: usize,
    mut next: impl AsyncFnMut(&mut WebSocket) -> Option<Message<'static>>,
) -> (Vec<String>, usize) {
    let (mut received, mut gave_up) = (Vec::new(), 0);
    loop {
        match polled(polls, next(ws)).await {
            None => {
                gave_up += 1;
                round_after(gave_up).await;
            }
            Some(Some(message)) => received.push(text(&message)),
            Some(None) => return (received, gave_up),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recv_that_is_given_up_after_any_number_of_polls_loses_nothing() {
    for side in SIDES {
        for (polls, pause, as_stream) in
            (1..5).flat_map(|polls| (0..5).map(move |pause| (polls, pause, pause % 2 == 0)))
        {
            let (mut ws, mut peer) = Setup::new(side).pipe(40).connect().await;
            let send = async {
                for n in 0..100 {
                    peer.send_text(&n.to_string()).await;
                    rounds(if n % 3 == 0 { pause } else { 0 }).await;
                }
                peer.send_close(1000, "").await;
            };
            let receive = receive(&mut ws, polls, async |ws| {
                let next = if as_stream { ws.next().await.transpose() } else { ws.recv().await };
                next.expect("an orderly connection")
            });
            let (received, ()) = within(10, async { tokio::join!(receive, send) }).await;
            let (received, gave_up) = received;
            assert_eq!(received, numbers(0..100), "{polls} polls, {pause} rounds");
            assert!(gave_up > 0 || polls > 1, "nothing was given up");
        }
    }
}

/// Not the one in which it was given up.
#[tokio::test(start_paused = true)]
async fn who_waits_last_is_woken() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
        assert_eq!(polled(1, ws.recv()).await, None);
        let receiving = tokio::spawn(async move { (ws.recv().await, ws) });
        settle().await;
        peer.send_text("hello").await;
        let (received, mut ws) = soon(receiving).await.unwrap();
        assert_eq!(received, Ok(Some(Message::from("hello"))));

        assert!(polled(1, SinkExt::send(&mut ws, Message::from(vec![0; 500]))).await.is_none());
        assert!(polled(1, ready(&mut ws)).await.is_none());
        let sending = tokio::spawn(async move { ready(&mut ws).await.map(|()| ws) });
        settle().await;
        assert!(!sending.is_finished());
        assert_eq!(soon(peer.recv()).await.unwrap().payload, [0; 500]);
        assert!(soon(sending).await.unwrap().is_ok());
    }
}

/// With threads, so that a message may come while the future is being given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recv_that_is_given_up_while_messages_come_on_another_thread_loses_nothing() {
    const COUNT: usize = 10_000;
    let (sender, mut received) = unbounded_channel();
    let route = accept(move |mut ws, _| {
        let sender = sender.clone();
        async move {
            let mut polls = 0;
            let recv = async |ws: &mut WebSocket| ws.recv().await.expect("an orderly connection");
            loop {
                polls += 1;
                match polled(polls % 4, recv(&mut ws)).await {
                    Some(None) => return Ok(()),
                    Some(Some(message)) => sender.send(text(&message))?,
                    None => {}
                }
            }
        }
    });
    let server = Server::new().route("/", route).bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect(format!("ws://{}/", server.local_addr()));
    let mut ws = within(30, client).await.unwrap();
    within(30, async {
        for n in 0..COUNT {
            ws.send(n.to_string()).await.unwrap();
            if n % 100 == 0 {
                yield_now().await;
            }
        }
        for n in 0..COUNT {
            assert_eq!(received.recv().await, Some(n.to_string()));
        }
        ws.close(CloseCode::NORMAL, "").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_selects_between_recv_a_timer_and_a_channel_loses_nothing() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        let (sender, mut channel) = unbounded_channel();
        let send = async {
            for n in 0..500 {
                peer.send_text(&n.to_string()).await;
                sender.send(n).unwrap();
                // Now and then in the same millisecond as the timer.
                sleep(Duration::from_millis(n * 7 % 5)).await;
            }
            peer.send_close(1000, "").await;
        };
        let select = async {
            let mut ticks = interval(Duration::from_millis(2));
            let (mut ticked, mut received, mut from_channel) = (0, Vec::new(), Vec::new());
            loop {
                tokio::select! {
                    message = ws.recv() => match message.unwrap() {
                        Some(message) => received.push(text(&message)),
                        None => return (ticked, received, from_channel),
                    },
                    Some(n) = channel.recv() => from_channel.push(n),
                    _ = ticks.tick() => ticked += 1,
                }
            }
        };
        let (selected, ()) = within(10, async { tokio::join!(select, send) }).await;
        let (ticked, received, from_channel) = selected;
        assert_eq!(received, numbers(0..500));
        assert_eq!(from_channel, (0..500).collect::<Vec<_>>());
        assert!(ticked >= 400, "{ticked} ticks");
    }
}

// ---- sending

/// Receives texts until the close frame, and answers it.
async fn receive_all(peer: &mut Peer, pause: usize) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        rounds(pause).await;
        let frame = peer.recv().await.expect("the connection lives");
        if frame.opcode == OpCode::Close {
            peer.send_raw(&peer.frame(OpCode::Close, true, &frame.payload)).await;
            return texts;
        }
        texts.push(String::from_utf8(frame.payload).expect("a text"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_has_sent_its_message_once_if_it_was_polled() {
    for side in SIDES {
        for (polls, pause) in (0..5).flat_map(|polls| (0..3).map(move |pause| (polls, pause * 20)))
        {
            let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
            let send = async {
                let mut gave_up = 0;
                for n in 0..100 {
                    let sent = polled(polls, ws.send(n.to_string())).await;
                    gave_up += usize::from(sent.is_none());
                    assert!(sent.is_none_or(|sent| sent.is_ok()));
                }
                ws.close(CloseCode::NORMAL, "").await;
                gave_up
            };
            let receive = receive_all(&mut peer, pause);
            let (gave_up, received) = within(60, async { tokio::join!(send, receive) }).await;
            assert!(gave_up > 0, "nothing was given up");
            let expected = if polls == 0 { Vec::new() } else { numbers(0..100) };
            assert_eq!(received, expected, "{polls} polls");
        }
    }
}

/// Sends through the sink as `SinkExt::send` does, and notes when the message was taken.
async fn send_through_sink(
    ws: &mut WebSocket,
    message: String,
    taken: &mut Vec<String>,
) -> Result<(), Closed> {
    ready(ws).await?;
    Pin::new(&mut *ws).start_send(Message::from(message.clone()))?;
    taken.push(message);
    ws.flush().await
}

#[tokio::test(start_paused = true)]
async fn a_send_through_a_sink_that_is_given_up_has_sent_its_message_once_or_not_at_all() {
    for side in SIDES {
        for (polls, pause) in (0..8).flat_map(|polls| (0..3).map(move |pause| (polls, pause * 20)))
        {
            let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
            let send = async {
                let (mut taken, mut gave_up) = (Vec::new(), 0);
                for n in 0..200 {
                    let sending = send_through_sink(&mut ws, n.to_string(), &mut taken);
                    let sent = polled(polls, sending).await;
                    gave_up += usize::from(sent.is_none());
                    assert!(sent.is_none_or(|sent| sent.is_ok()));
                    polled(polls, ws.flush()).await;
                }
                SinkExt::close(&mut ws).await.expect("an orderly end");
                (taken, gave_up)
            };
            let receive = receive_all(&mut peer, pause);
            let (sent, received) = within(60, async { tokio::join!(send, receive) }).await;
            let (taken, gave_up) = sent;
            assert_eq!(received, taken, "{polls} polls");
            assert_eq!(taken.is_empty(), polls == 0);
            assert!(gave_up > 0 || pause == 0, "nothing was given up");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_was_ready_and_given_up_has_taken_nothing() {
    for side in SIDES {
        for polls in 1..6 {
            let (mut ws, mut peer) = Setup::new(side).config(marks()).pipe(10).connect().await;
            let mut messages = stream::iter((0..200).map(|n| Message::from(n.to_string())));
            let send = async {
                let mut gave_up = 0;
                while polled(polls, feed_all(&mut ws, &mut messages)).await.is_none() {
                    gave_up += 1;
                    round_after(gave_up).await;
                }
                SinkExt::close(&mut ws).await.expect("an orderly end");
                gave_up
            };
            let receive = receive_all(&mut peer, 1);
            let (gave_up, received) = within(60, async { tokio::join!(send, receive) }).await;
            assert_eq!(received, numbers(0..200), "{polls} polls");
            assert!(gave_up > 0, "nothing was given up");
        }
    }
}

/// Takes an item out of the stream only once the sink is ready for it.
async fn feed_all(
    ws: &mut WebSocket,
    messages: &mut (impl StreamExt<Item = Message<'static>> + Unpin),
) -> Result<(), Closed> {
    loop {
        ready(ws).await?;
        let Some(message) = messages.next().await else { break };
        Pin::new(&mut *ws).start_send(message)?;
    }
    ws.flush().await
}

async fn ready(ws: &mut WebSocket) -> Result<(), Closed> {
    poll_fn(|cx| Sink::<Message<'static>>::poll_ready(Pin::new(&mut *ws), cx)).await
}

// ---- closing

#[tokio::test(start_paused = true)]
async fn a_close_that_is_given_up_goes_on_if_it_was_polled() {
    for side in SIDES {
        for (polls, as_sink) in (0..6).flat_map(|polls| [(polls, false), (polls, true)]) {
            let (mut ws, mut peer) = Setup::new(side).pipe(10).connect().await;
            ws.send("last words").await.unwrap();
            let given_up = if as_sink {
                polled(polls, SinkExt::close(&mut ws)).await.is_none()
            } else {
                polled(polls, ws.close(CloseCode(4000), "enough")).await.is_none()
            };
            assert!(given_up, "nobody has answered yet");
            assert_eq!(soon(peer.recv_text()).await, "last words");
            if polls == 0 {
                assert_eq!(ws.socket().state(), State::Open);
                continue;
            }
            let code = if as_sink { 1000 } else { 4000 };
            let reason = if as_sink { "" } else { "enough" };
            soon(peer.answer_close(code)).await;
            assert_eq!(soon(ws.recv()).await, Ok(None));
            let close = soon(ws.socket().closed()).await;
            assert_close(&close, ClosedBy::Local, code, reason, true);
        }
    }
}

// ---- anything, in any order

#[derive(Clone, Copy, Debug)]
enum Op {
    Recv,
    Next,
    Send(usize),
    SinkSend(usize),
    Flush,
    Rounds,
}

/// At which of the two ends, what, and the polls after which it is given up.
type Step = (bool, Op, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = || prop_oneof![4 => 0..20usize, 1 => 100..1000usize];
    let op = prop_oneof![
        4 => Just(Op::Recv),
        2 => Just(Op::Next),
        3 => length().prop_map(Op::Send),
        3 => length().prop_map(Op::SinkSend),
        1 => Just(Op::Flush),
        1 => Just(Op::Rounds),
    ];
    prop::collection::vec((any::<bool>(), op, 0..12usize), 1..100)
}

/// One end, what it has sent, and what it has received.
struct End {
    ws: WebSocket,
    sent: Vec<String>,
    received: Vec<String>,
}

impl End {
    fn new(ws: WebSocket) -> Self {
        Self { ws, sent: Vec::new(), received: Vec::new() }
    }

    async fn step(&mut self, op: Op, polls: usize, n: usize) {
        let name = |length| format!("{n}{}", "x".repeat(length));
        match op {
            Op::Recv => {
                let got = polled(polls, self.ws.recv()).await;
                let got = got.and_then(|got| got.expect("the connection lives"));
                self.received.extend(got.as_ref().map(text));
            }
            Op::Next => {
                let got = polled(polls, self.ws.next()).await.flatten();
                let got = got.transpose().expect("the connection lives");
                self.received.extend(got.as_ref().map(text));
            }
            Op::Send(length) => {
                let sent = polled(polls, self.ws.send(name(length))).await;
                assert!(sent.is_none_or(|sent| sent.is_ok()));
                self.sent.extend((polls > 0).then(|| name(length)));
            }
            Op::SinkSend(length) => {
                let sending = send_through_sink(&mut self.ws, name(length), &mut self.sent);
                let sent = polled(polls, sending).await;
                assert!(sent.is_none_or(|sent| sent.is_ok()));
            }
            Op::Flush => {
                polled(polls, self.ws.flush()).await;
            }
            Op::Rounds => rounds(polls).await,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order_whatever_is_given_up(
        steps in steps(),
        pipe in prop_oneof![1..20usize, 20..2000usize],
        split in 1..50u64,
    ) {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (sender, mut handles) = unbounded_channel();
            let take = move |ws, _| {
                let _ = sender.send(ws);
                async { Ok(()) }
            };
            let config = Config::default().water_marks(500, 1000);
            let router = Router::new().route("/", accept_with(take, config));
            let faults = Faults::new().split_every(split).behind_handshake();
            let connect = testing::connect_to(router, "/").pipe(pipe);
            let stream = connect.faults(faults.clone(), faults).stream();
            let client = Client::connect("ws://localhost/").transport(stream);
            let mut ends = [End::new(client.await.unwrap()), End::new(handles.recv().await.unwrap())];
            for (n, (at_server, op, polls)) in steps.into_iter().enumerate() {
                ends[usize::from(at_server)].step(op, polls, n).await;
            }
            // What is still on its way arrives.
            let mut turns = 0;
            while ends[0].received.len() < ends[1].sent.len()
                || ends[1].received.len() < ends[0].sent.len()
            {
                for end in &mut ends {
                    end.step(Op::Recv, 3, 0).await;
                }
                turns += 1;
                prop_assert!(turns < 10_000, "something does not arrive");
            }
            let [mut client, mut server] = ends;
            prop_assert_eq!(&client.received, &server.sent);
            prop_assert_eq!(&server.received, &client.sent);
            // Nothing more comes than was sent.
            let close = client.ws.close(CloseCode::NORMAL, "");
            let (close, last) = within(60, async { tokio::join!(close, server.ws.recv()) }).await;
            prop_assert_eq!(last, Ok(None));
            prop_assert!(close.clean);
            Ok(())
        })?;
    }
}
