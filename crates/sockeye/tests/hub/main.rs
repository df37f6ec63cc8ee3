//! Does the hub bring together whom it should, and nobody else?

mod ends;
mod model;
mod presence;
mod servers;
mod slow;
mod threads;
mod topics;

#[path = "../util/handed.rs"]
mod handed;

use sockeye::{Config, Hub, Socket, testing::Peer};

/// A connection of this hub: its socket, and its peer.
pub(crate) async fn connect(hub: &Hub) -> (Socket, Peer) {
    connect_with(Config::default().hub(hub.clone())).await
}

pub(crate) async fn connect_with(config: Config) -> (Socket, Peer) {
    handed::connect_over(config, |connect| connect).await
}

/// Runs it on a thread of its own, so that a lock that is never given back is a failure and not the end of
/// all tests.
pub(crate) fn without_deadlock(test: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test);
        done.send(())
    });
    is_done.recv_timeout(std::time::Duration::from_secs(20)).expect("it fails, or waits for ever");
}
