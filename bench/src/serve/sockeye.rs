//! sockeye, in its two ways to be used.

use sockeye::{Handler, Message, Server, Session};

use super::announce;
use crate::Result;

pub(super) async fn handler() -> Result {
    run(Server::new().ws("/", Echo).ws("/wait", Wait)).await
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
