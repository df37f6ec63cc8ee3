//! What all outboxes hold together: whom does it concern, and is it given back?
//!
//! One test, as the budget is the whole process's.

#[path = "util/handed.rs"]
mod handed;

use sockeye::{
    CloseCode, Config, DropReason, Hub, OpCode, Overflow, SendStatus, Socket, testing::Peer,
};

const KIB: usize = 1024;
const HIGH: usize = 32 * KIB;
const BUDGET: usize = 256 * KIB;

/// A peer that takes nothing but a little by itself.
async fn connect(hub: &Hub, overflow: Overflow) -> (Socket, Peer) {
    let config = Config::default().hub(hub.clone()).no_keep_alive();
    let config = config.backpressure(HIGH, 1024 * KIB, overflow);
    handed::connect_over(config, |connect| connect.pipe(64)).await
}

fn fill(socket: &Socket, bytes: usize) {
    for _ in 0..bytes / KIB {
        assert!(!matches!(socket.send([b'a'; KIB].as_slice()), SendStatus::Dropped(_)));
    }
}

async fn wait_for_nothing() {
    while Config::outbox_budget_used() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_outboxes_hold_too_much_those_above_their_high_water_pay_and_nobody_else() {
    let hub = Hub::new();
    let (full, mut to_full) = connect(&hub, Overflow::DropNewest).await;
    let (closed, mut to_closed) = connect(&hub, Overflow::Close).await;
    let (low, mut to_low) = connect(&hub, Overflow::Close).await;
    let (empty, mut to_empty) = connect(&hub, Overflow::Close).await;
    let (other, to_other) = connect(&hub, Overflow::Close).await;
    for socket in [&full, &closed, &low, &empty, &other] {
        assert!(socket.subscribe("news"));
    }
    assert_eq!(Config::outbox_budget_used(), 0);

    // Without a budget, there is but the limit of each.
    fill(&full, 100 * KIB);
    fill(&closed, 100 * KIB);
    fill(&low, 20 * KIB);
    fill(&other, 100 * KIB);
    let used = Config::outbox_budget_used();
    assert!((300 * KIB..=320 * KIB).contains(&used), "{used}");
    fill(&full, KIB);

    Config::set_outbox_budget(BUDGET);
    let report = hub.publish("news", "too much for some");
    assert_eq!((report.queued, report.backpressured, report.dropped), (2, 0, 3));
    assert_eq!(hub.dropped("news"), 3);
    assert_eq!(full.send("more"), SendStatus::Dropped(DropReason::Overflow));
    assert_eq!(closed.send("more"), SendStatus::Dropped(DropReason::Closed));
    assert_eq!((full.dropped(), closed.dropped(), low.dropped(), empty.dropped()), (2, 1, 0, 0));
    // Whoever has little takes on, up to the high-water mark and one message more.
    fill(&low, 11 * KIB);
    assert!(matches!(low.send([0; KIB].as_slice()), SendStatus::Backpressure { .. }));
    assert_eq!(low.dropped(), 0);
    assert_eq!(empty.send("also this"), SendStatus::Queued);

    // Those that were closed for it give back what they held.
    let mut last = None;
    while let Some(frame) = to_closed.recv().await {
        last = Some(frame);
    }
    let last = last.expect("a close frame");
    assert_eq!(last.opcode, OpCode::Close);
    assert_eq!(last.payload[..2], CloseCode::TRY_AGAIN.0.to_be_bytes());
    drop(to_other);
    other.closed().await;
    let used = Config::outbox_budget_used();
    assert!((100 * KIB..=150 * KIB).contains(&used), "{used}");

    // Below the budget, nothing is refused.
    assert!(matches!(full.send("again"), SendStatus::Backpressure { .. }));
    assert_eq!(full.dropped(), 2);

    // What is written is given back: nothing but what was refused is missing.
    for _ in 0..101 {
        assert_eq!(to_full.recv_binary().await.len(), KIB);
    }
    assert_eq!(to_full.recv_text().await, "again");
    for _ in 0..20 {
        to_low.recv_binary().await;
    }
    assert_eq!(to_low.recv_text().await, "too much for some");
    assert_eq!(to_empty.recv_text().await, "too much for some");
    assert_eq!(to_empty.recv_text().await, "also this");
    for _ in 0..12 {
        to_low.recv_binary().await;
    }
    wait_for_nothing().await;
    assert_eq!((full.buffered(), low.buffered(), empty.buffered()), (0, 0, 0));

    // And what is not, however a connection ends.
    Config::set_outbox_budget(usize::MAX);
    for end in 0..4 {
        let (socket, mut peer) = connect(&hub, Overflow::DropNewest).await;
        fill(&socket, 200 * KIB);
        assert!(Config::outbox_budget_used() > 0);
        match end {
            0 => socket.terminate(),
            1 => drop(peer),
            2 => {
                // It takes nothing, and is cut in the end.
                socket.close(CloseCode::NORMAL, "");
                socket.closed().await;
            }
            _ => {
                socket.close(CloseCode::NORMAL, "");
                while peer.recv().await.is_some_and(|frame| frame.opcode != OpCode::Close) {}
                drop(peer);
            }
        }
        socket.closed().await;
        wait_for_nothing().await;
    }
}
