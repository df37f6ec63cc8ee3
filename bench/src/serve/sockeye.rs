//! sockeye, in its two ways to be used.

use std::sync::{Arc, Mutex, PoisonError};

use sockeye::{Config, Encoded, Handler, Message, Server, Session, Socket, deflate::Level};

use super::{Compression, Expected, announce};
use crate::Result;

pub(super) async fn handler(expected: Expected, level: Level) -> Result {
    let config =
        Config::default().compression(expected.compression.into()).compression_level(level);
    let receivers = Receivers::default();
    let server = Server::new()
        .config(config)
        .ws("/", Echo)
        .ws("/wait", Wait)
        .ws("/receive", Receive(receivers.clone()))
        .ws("/once", Once(receivers.clone()))
        .ws("/each", Each(receivers))
        .ws("/hear", Hear)
        .ws("/publish", Publish)
        .ws("/talk", Talk);
    run(server).await
}

pub(super) async fn websocket() -> Result {
    let echo = sockeye::accept(|mut ws, _| async move {
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok(())
    });
    run(Server::new().route("/", echo)).await
}

async fn run(server: Server) -> Result {
    let server = server.bind("127.0.0.1:0").await?;
    announce(server.local_addr())?;
    server.stopped().await;
    Ok(())
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        session.send(message);
        Ok(())
    }
}

/// Waits for ever, with the message in hand.
struct Wait;

impl Handler for Wait {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        std::future::pending::<()>().await;
        session.send(message);
        Ok(())
    }
}

impl From<Compression> for sockeye::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Off => Self::Off,
            Compression::Shared => Self::Shared,
            Compression::Dedicated => Self::dedicated(),
        }
    }
}

/// Who gets what is sent to all.
type Receivers = Arc<Mutex<Vec<Socket>>>;

struct Receive(Receivers);

impl Handler for Receive {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> sockeye::Result {
        let mut receivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receivers.push(session.socket.clone());
        Ok(())
    }
}

/// Encodes what comes once, for all receivers.
struct Once(Receivers);

impl Handler for Once {
    type Data = ();

    async fn message(&self, _: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        let encoded = Encoded::new(message);
        for receiver in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            receiver.send_encoded(&encoded);
        }
        Ok(())
    }
}

/// Sends what comes to all receivers, one after the other.
struct Each(Receivers);

impl Handler for Each {
    type Data = ();

    async fn message(&self, _: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        for receiver in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            receiver.send(message.clone());
        }
        Ok(())
    }
}

/// What the rows with fan-out are about.
const TOPIC: &str = "all";

/// Hears what is published, and says nothing.
struct Hear;

impl Handler for Hear {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> sockeye::Result {
        session.subscribe(TOPIC);
        Ok(())
    }
}

/// Publishes to all who hear, and does not.
struct Publish;

impl Handler for Publish {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        session.hub().publish(TOPIC, message);
        Ok(())
    }
}

/// Hears what the others say, and publishes to them.
struct Talk;

impl Handler for Talk {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> sockeye::Result {
        session.subscribe(TOPIC);
        Ok(())
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        session.publish(TOPIC, message);
        Ok(())
    }
}
