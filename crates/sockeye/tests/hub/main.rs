//! Does the hub bring together whom it should, and nobody else?

mod ends;
mod model;
mod presence;
mod servers;
mod slow;
mod threads;
mod topics;

use sockeye::{
    Accept, Config, Handler, Handshake, Hub, Rejection, Result, Session, Socket,
    testing::{self, Peer},
};

/// Gives the test the socket of each connection.
pub(crate) struct Handed(pub(crate) tokio::sync::mpsc::UnboundedSender<Socket>);

impl Handler for Handed {
    type Data = ();

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<()>, Rejection> {
        Ok(Accept::new(()))
    }

    async fn open(&self, session: &mut Session<()>) -> Result {
        self.0.send(session.socket.clone())?;
        Ok(())
    }
}

/// A connection of this hub: its socket, and its peer.
pub(crate) async fn connect(hub: &Hub) -> (Socket, Peer) {
    connect_with(Config::default().hub(hub.clone())).await
}

pub(crate) async fn connect_with(config: Config) -> (Socket, Peer) {
    let (handed, mut sockets) = tokio::sync::mpsc::unbounded_channel();
    let peer = testing::connect_with(Handed(handed), config).await;
    (sockets.recv().await.expect("a socket"), peer)
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
