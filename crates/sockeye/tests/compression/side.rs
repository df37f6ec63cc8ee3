//! Either end of a connection, and a peer by hand at the other.

use sockeye::{
    Client, Close, Compression, Config, Handler, Message, Result, Session, Socket,
    testing::{self, Faults, Faulty},
};
use tokio::{
    io::duplex,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{soon, wire::Wire};

/// What a handler is told.
#[derive(Debug)]
pub(crate) enum Call {
    Open(Socket),
    Message(Message<'static>),
    /// And what waits then.
    Drain(usize),
    Close(Close),
}

pub(crate) type Calls = UnboundedReceiver<Call>;

/// Passes everything on.
pub(crate) struct Tell(pub(crate) UnboundedSender<Call>);

impl Handler for Tell {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> Result {
        Ok(self.0.send(Call::Open(session.socket.clone()))?)
    }

    async fn message(&self, _: &mut Session<()>, message: Message<'_>) -> Result {
        Ok(self.0.send(Call::Message(message.into_owned()))?)
    }

    async fn drain(&self, session: &mut Session<()>) -> Result {
        Ok(self.0.send(Call::Drain(session.buffered()))?)
    }

    async fn close(&self, _: &mut Session<()>, close: &Close) -> Result {
        Ok(self.0.send(Call::Close(close.clone()))?)
    }
}

/// The end that is tested, and what is agreed on.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// A client offers this.
    Server(Compression, String),
    /// A server answers this to what a `Client` offers by itself.
    Client(String),
}

pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";

impl Side {
    pub(crate) fn dedicated() -> Self {
        Self::Server(Compression::dedicated(), OFFER.to_owned())
    }

    pub(crate) fn shared() -> Self {
        Self::Server(Compression::Shared, OFFER.to_owned())
    }

    /// A client that may refer to what it sent before.
    pub(crate) fn client() -> Self {
        Self::Client("permessage-deflate".to_owned())
    }

    /// Connects over a pipe of this capacity, which splits what this end writes.
    pub(crate) async fn connect(
        &self,
        config: Config,
        pipe: usize,
        split: Option<u64>,
    ) -> (Socket, Calls, Wire) {
        let (sender, mut calls) = unbounded_channel();
        let writes = split.map_or(Faults::new(), |bytes| Faults::new().split_every(bytes));
        let wire = match self {
            Self::Server(compression, offer) => {
                let config = config.compression(*compression);
                let connect = testing::connect_with(Tell(sender), config).pipe(pipe);
                Wire::connect(connect.faults(Faults::new(), writes), Some(offer)).await.0
            }
            Self::Client(answer) => {
                let (near, far) = duplex(pipe);
                let near = Faulty::new(near, Faults::new(), writes);
                let client = Client::connect("ws://localhost/").config(config).transport(near);
                tokio::spawn(async { client.drive(Tell(sender), ()).await.expect("it connects") });
                Wire::accept(far, Some(answer)).await.0
            }
        };
        let Some(Call::Open(socket)) = soon(calls.recv()).await else { panic!("`open` is first") };
        (socket, calls, wire)
    }
}

/// The next message.
pub(crate) async fn message(calls: &mut Calls) -> Message<'static> {
    match soon(calls.recv()).await {
        Some(Call::Message(message)) => message,
        other => panic!("a message was expected, and not {other:?}"),
    }
}

/// How it ended; what comes before is dropped.
pub(crate) async fn close(calls: &mut Calls) -> Close {
    loop {
        if let Call::Close(close) = calls.recv().await.expect("`close` is called") {
            return close;
        }
    }
}
