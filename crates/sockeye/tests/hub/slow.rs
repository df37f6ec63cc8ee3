//! Slow consumers: what is refused, who is told of it, and what the others see.

use std::{
    sync::Arc,
    task::{Context, Wake, Waker},
};

use sockeye::{
    CloseCode, Config, DropReason, Hub, OpCode, Overflow, SendStatus, Socket, testing::Peer,
};

use super::{connect_with, without_deadlock};

const HIGH: usize = 16 * 1024;
const LIMIT: usize = 64 * 1024;

/// A message with its number in front, of some 1000 bytes.
fn numbered(number: usize) -> String {
    format!("{number:06}{}", "x".repeat(994))
}

async fn connect(hub: &Hub, overflow: Overflow) -> (Socket, Peer) {
    let config = Config::default().hub(hub.clone()).backpressure(HIGH, LIMIT, overflow);
    connect_with(config).await
}

#[test]
fn backpressure_sets_what_it_says() {
    let config = Config::default().backpressure(HIGH, LIMIT, Overflow::DropNewest);
    assert_eq!((config.low_water, config.high_water), (HIGH / 2, HIGH));
    assert_eq!((config.outbox_limit, config.overflow), (LIMIT, Overflow::DropNewest));
    assert_eq!(Config::default().overflow, Overflow::Close);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_counted_everywhere_and_what_comes_after_goes_on_in_order() {
    let hub = Hub::new();
    let (slow, mut to_slow) = connect(&hub, Overflow::DropNewest).await;
    let (quick, mut to_quick) = connect(&hub, Overflow::DropNewest).await;
    let reading = tokio::spawn(async move {
        let mut count = 0;
        while let Some(frame) = to_quick.recv().await {
            if frame.opcode != OpCode::Text {
                break;
            }
            assert_eq!(&frame.payload[..6], format!("{count:06}").as_bytes());
            count += 1;
        }
        count
    });
    slow.subscribe("prices");
    quick.subscribe("prices");

    let (mut dropped, mut pressed, mut expected) = (0, 0, Vec::new());
    let mut number = 0;
    for round in 0..3 {
        // It takes nothing, until some hundred of the others are refused.
        while dropped < 100 * (round + 1) {
            let report = hub.publish("prices", numbered(number));
            assert_eq!(report.queued + report.backpressured + report.dropped, 2);
            if report.dropped == 0 {
                expected.push(number);
            }
            dropped += report.dropped;
            pressed += report.backpressured;
            number += 1;
            tokio::task::yield_now().await;
            quick.flushed().await.unwrap();
        }
        for number in expected.drain(..) {
            assert_eq!(&to_slow.recv_text().await[..6], format!("{number:06}"));
        }
        slow.flushed().await.unwrap();
        assert_eq!(slow.buffered(), 0);
    }
    assert!(pressed > 0);
    assert_eq!((slow.dropped(), quick.dropped()), (dropped as u64, 0));
    assert_eq!(hub.dropped("prices"), dropped as u64);
    quick.close(CloseCode::NORMAL, "");
    assert_eq!(reading.await.unwrap(), number, "the quick one has seen all");
    slow.unsubscribe("prices");
    quick.unsubscribe("prices");
    assert_eq!(hub.dropped("prices"), 0, "the topic is gone, and its count");
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_for_being_slow_has_seen_all_up_to_a_point_and_the_close() {
    let hub = Hub::new();
    let (slow, mut to_slow) = connect(&hub, Overflow::Close).await;
    slow.subscribe("prices");
    let mut number = 0;
    while hub.publish("prices", numbered(number)).dropped == 0 {
        number += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.send("more"), SendStatus::Dropped(DropReason::Closed));
    assert_eq!((slow.dropped(), hub.dropped("prices")), (1, 1));
    let mut next = 0;
    loop {
        let frame = to_slow.recv().await.expect("a close frame comes first");
        if frame.opcode == OpCode::Close {
            assert_eq!(&frame.payload[..2], 1013_u16.to_be_bytes());
            break;
        }
        assert_eq!(&frame.payload[..6], format!("{next:06}").as_bytes(), "no hole");
        next += 1;
    }
    assert!(next < number);
}

#[tokio::test]
async fn what_a_closing_subscriber_does_not_get_is_in_the_report_and_not_called_too_slow() {
    let hub = Hub::new();
    let (ana, mut to_ana) = connect(&hub, Overflow::DropNewest).await;
    ana.subscribe("news");
    ana.close(CloseCode::NORMAL, "bye");
    assert_eq!(hub.publish("news", "too late").dropped, 1);
    assert_eq!((ana.dropped(), hub.dropped("news")), (0, 0), "nothing waited for it");
    to_ana.recv_close().await;
}

/// Asks the hub as soon as it is woken, within the call.
struct Asks(Hub);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        self.0.subscribers("prices");
    }
}

#[test]
fn who_waits_for_the_end_of_a_slow_one_may_use_the_topic_when_it_is_woken() {
    without_deadlock(async {
        let hub = Hub::new();
        let (slow, _to_slow) = connect(&hub, Overflow::Close).await;
        slow.subscribe("prices");
        let waker = Waker::from(Arc::new(Asks(hub.clone())));
        let mut closed = Box::pin(slow.closed());
        assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        while hub.publish("prices", numbered(0)).dropped == 0 {}
    });
}
