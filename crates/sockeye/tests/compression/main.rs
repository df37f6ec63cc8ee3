//! Does a connection with permessage-deflate (RFC 7692) do what it says, at either end?

mod closing;
mod content;
#[path = "../../../sockeye-proto/tests/deflate/peer.rs"]
#[allow(dead_code, reason = "the tests of the protocol crate use more of it")]
mod deflate;
mod encoded;
mod exchange;
mod limits;
mod negotiation;
mod pressure;
mod side;
mod turns;
mod wire;

use std::{
    future::{Future, IntoFuture},
    panic::Location,
    time::Duration,
};

use sockeye::deflate::WindowBits;
use tokio::time::{sleep, timeout};

/// Runs a scene in a runtime of its own, whose time is paused.
fn paused<F: Future>(scene: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(scene)
}

/// Lets all tasks run until they wait. For paused time.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Waits for what has to come without further ado. For paused time.
#[track_caller]
fn soon<F: IntoFuture>(what: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let outcome = timeout(Duration::from_secs(1), what).await;
        outcome.unwrap_or_else(|_| panic!("what {caller} waits for does not come"))
    }
}

fn bits(bits: u8) -> WindowBits {
    WindowBits::new(bits).expect("8 to 15")
}
