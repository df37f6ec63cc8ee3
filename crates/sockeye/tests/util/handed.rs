//! A connection in memory of which the test has both ends.

use sockeye::{
    Accept, Config, Handler, Handshake, Rejection, Result, Session, Socket,
    testing::{self, Connect, Peer},
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Gives the test the socket of each connection.
struct Handed(UnboundedSender<Socket>);

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

/// A connection with these settings: its socket, and its peer, over the pipe that `over` makes of one.
pub(crate) async fn connect_over(
    config: Config,
    over: impl FnOnce(Connect) -> Connect,
) -> (Socket, Peer) {
    let (handed, mut sockets) = unbounded_channel();
    let peer = over(testing::connect_with(Handed(handed), config)).await;
    (sockets.recv().await.expect("a socket"), peer)
}
