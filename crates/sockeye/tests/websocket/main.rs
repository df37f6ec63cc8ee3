//! Does a `WebSocket` do what it says, at either end of a connection?

mod accept;
mod cancelled;
mod connecting;
mod dropped;
mod ends;
mod function;
mod messages;
mod peer;
mod pressure;
mod serve;
mod untaken;

use std::{
    future::{Future, IntoFuture, poll_fn},
    panic::Location,
    pin::pin,
    task::Poll,
    time::Duration,
};

use sockeye::{Close, CloseCode, ClosedBy, Message};
use tokio::time::{sleep, timeout};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets all tasks run until they wait. For paused time.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Waits for what has to come without further ado. For paused time.
#[track_caller]
fn soon<F: IntoFuture>(what: F) -> impl Future<Output = F::Output> {
    within(1, what)
}

/// Waits for what has to come within so many seconds.
#[track_caller]
fn within<F: IntoFuture>(seconds: u64, what: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let outcome = timeout(secs(seconds), what).await;
        outcome.unwrap_or_else(|_| panic!("what {caller} waits for has not come in {seconds} s"))
    }
}

/// Polls a future so many times, with a round of all other tasks between two polls, and drops it then.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        cx.waker().wake_by_ref();
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// How many tasks there are, the test itself not counted.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until there are as many tasks as there were.
#[track_caller]
fn tasks_end(before: usize) -> impl Future<Output = ()> {
    within(100, async move {
        while tasks() > before {
            sleep(Duration::from_millis(10)).await;
        }
    })
}

fn text(message: &Message<'_>) -> String {
    message.as_text().expect("a text").to_owned()
}

#[track_caller]
fn assert_close(close: &Close, by: ClosedBy, code: u16, reason: &str, clean: bool) {
    let is = (close.by, close.code, &*close.reason, close.clean);
    assert_eq!(is, (by, CloseCode(code), reason, clean));
}
