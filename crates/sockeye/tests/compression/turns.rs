//! Do the other tasks get their turn, however much a peer makes this side inflate or compress at once?
//!
//! All tasks are on one thread and counted in rounds: a task that wakes itself each time it runs runs
//! once in a round.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use sockeye::{
    Compress, Compression, Config, Handler, Message, Result, SendStatus, Session, deflate::Level,
    testing,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use crate::{
    content::json,
    limits::zeros,
    side::{OFFER, Side},
    wire::Wire,
};

/// Says in which round a message came, and how long it was.
struct Rounds {
    round: Arc<AtomicU64>,
    messages: UnboundedSender<(u64, usize)>,
}

impl Handler for Rounds {
    type Data = ();

    async fn message(&self, _: &mut Session<()>, message: Message<'_>) -> Result {
        Ok(self.messages.send((self.round.load(Relaxed), message.len()))?)
    }
}

/// Counts the rounds.
fn count(round: Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(poll_fn(move |cx| {
        round.fetch_add(1, Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}

/// Lets the tasks that are ready run once.
async fn next_round() {
    let mut has_run = false;
    poll_fn(|cx| {
        if has_run {
            return Poll::Ready(());
        }
        has_run = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test]
async fn messages_that_inflate_to_the_limit_let_other_tasks_run_in_between() {
    const MIB: usize = 1024 * 1024;
    // Many of them lie in one read.
    for (length, times) in [(MIB, 30), (300_000, 60), (20_000, 600), (8191, 1000), (10, 3000)] {
        for compression in [Compression::Shared, Compression::dedicated()] {
            let (messages, mut received) = unbounded_channel();
            let round = Arc::new(AtomicU64::new(0));
            let counting = count(round.clone());
            let config = Config::default().compression(compression);
            let connect = testing::connect_with(Rounds { round, messages }, config).pipe(1 << 20);
            let (mut wire, _) = Wire::connect(connect, Some(OFFER)).await;
            let frame = wire.compressed(2, &zeros(length));
            wire.write(&frame.repeat(times)).await;
            let mut rounds = std::collections::BTreeMap::<_, (usize, usize)>::new();
            for _ in 0..times {
                let received = timeout(Duration::from_secs(60), received.recv()).await;
                let (round, length) = received.expect("they are handled").expect("all of them");
                let (count, bytes) = rounds.entry(round).or_default();
                (*count, *bytes) = (*count + 1, *bytes + length);
            }
            counting.abort();
            for (count, bytes) in rounds.values() {
                assert!(*bytes <= MIB + length, "{bytes} bytes of {length} in one turn");
                assert!(*count <= 128, "{count} messages of {length} in one turn");
            }
            assert!(rounds.len() > 1);
        }
    }
}

/// What others have queued is compressed in the connection's task, at some 5 to 50 microseconds for
/// each message and 10 for each kilobyte: all that an outbox may hold is too much for one turn.
#[tokio::test]
async fn a_full_outbox_is_not_compressed_in_one_turn() {
    for (length, times) in [(30, 8000), (300, 3000), (10_000, 100)] {
        for side in [Side::dedicated(), Side::client()] {
            let task = async move {
                let config = Config::default()
                    .compression_level(Level::FASTEST)
                    .outbox_limit(1 << 30)
                    .water_marks(1 << 30, 1 << 30);
                let (socket, _calls, mut wire) = side.connect(config, 1 << 22, None).await;
                for n in 0..times {
                    let text = json(n % 100, length);
                    assert_eq!(socket.send_with(text, Compress::Always), SendStatus::Queued);
                }
                let (mut arrived, mut most) = (0, 0);
                let rounds = async {
                    while arrived < times {
                        next_round().await;
                        wire.read_at_most(1 << 22).await;
                        let before = arrived;
                        while wire.next().is_some() {
                            arrived += 1;
                        }
                        most = most.max(arrived - before);
                    }
                };
                timeout(Duration::from_secs(60), rounds).await.expect("all of them arrive");
                let bytes = most * length;
                assert!(most <= 1000, "{side:?}: {most} messages of {length} in one turn");
                assert!(bytes <= 512 * 1024, "{side:?}: {bytes} bytes in one turn");
            };
            tokio::spawn(task).await.expect("no panic");
        }
    }
}
