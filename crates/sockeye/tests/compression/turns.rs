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

use sockeye::{Compression, Config, Handler, Message, Result, Session, testing};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use crate::{limits::zeros, side::OFFER, wire::Wire};

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
