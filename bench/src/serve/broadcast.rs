//! axum, with tokio's broadcast channel between its connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    routing::any,
};
use futures_util::SinkExt;
use tokio::sync::broadcast::{Receiver, Sender, error::TryRecvError};

use super::{Expected, tungstenite::read_buffer};
use crate::Result;

/// More than 500 members say in two rounds, as who misses something ends the run.
const CAPACITY: usize = 1024;

/// What somebody says. In the chat of axum's examples all hear it; here the one who says it does not.
#[derive(Clone)]
struct Said {
    by: usize,
    text: Utf8Bytes,
}

pub(super) fn routes(expected: Expected) -> Router {
    let hub = Sender::new(CAPACITY);
    let members = Arc::new(AtomicUsize::new(0));
    let route = |does: fn(&Sender<Said>) -> Option<Receiver<Said>>| {
        let (hub, members) = (hub.clone(), Arc::clone(&members));
        any(move |upgrade: WebSocketUpgrade| async move {
            let by = members.fetch_add(1, Ordering::Relaxed);
            upgrade.read_buffer_size(read_buffer(expected)).on_upgrade(move |socket| async move {
                // A client that goes away is none of this program's business.
                let _ = match does(&hub) {
                    Some(heard) => talk(socket, heard, hub, by).await,
                    None => publish(socket, hub, by).await,
                };
            })
        })
    };
    Router::new()
        .route("/hear", route(|hub| Some(hub.subscribe())))
        .route("/talk", route(|hub| Some(hub.subscribe())))
        .route("/publish", route(|_| None))
}

async fn publish(mut socket: WebSocket, hub: Sender<Said>, by: usize) -> Result {
    while let Some(message) = socket.recv().await {
        say(message?, &hub, by);
    }
    Ok(())
}

/// Passes on what is heard, and says what comes.
async fn talk(
    mut socket: WebSocket,
    mut heard: Receiver<Said>,
    hub: Sender<Said>,
    by: usize,
) -> Result {
    loop {
        tokio::select! {
            said = heard.recv() => {
                let mut next = Some(said?);
                // As the docs of `write_buffer_size` advise, all that is there leaves in one write.
                while let Some(said) = next {
                    if said.by != by {
                        socket.feed(Message::Text(said.text)).await?;
                    }
                    next = match heard.try_recv() {
                        Ok(said) => Some(said),
                        Err(TryRecvError::Empty) => None,
                        Err(error) => return Err(error.into()),
                    };
                }
                socket.flush().await?;
            }
            message = socket.recv() => match message {
                Some(message) => say(message?, &hub, by),
                None => return Ok(()),
            },
        }
    }
}

fn say(message: Message, hub: &Sender<Said>, by: usize) {
    if let Message::Text(text) = message {
        // Nobody may be there to hear it.
        let _ = hub.send(Said { by, text });
    }
}
