//! Does the hub bring together whom it should, and nobody else?

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
