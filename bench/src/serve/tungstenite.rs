//! tokio-tungstenite by itself, and as axum has it.

use std::future::ready;

use axum::{
    Router,
    extract::ws::{self, WebSocketUpgrade},
    routing::any,
    serve::ListenerExt,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt, TryStreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{self, protocol::WebSocketConfig};

use super::{Expected, announce, broadcast};
use crate::Result;

pub(super) async fn bare(expected: Expected) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is none of this program's business.
            let _ = accept(tcp, expected).await;
        });
    }
}

async fn accept(tcp: TcpStream, expected: Expected) -> tungstenite::Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(read_buffer(expected));
    let socket = tokio_tungstenite::accept_async_with_config(tcp, Some(config)).await?;
    echo(socket, expected, |message| message.is_text() || message.is_binary()).await
}

pub(super) async fn axum(expected: Expected) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    // Without nodelay nothing would be measured but delayed acknowledgements, so failing is better.
    let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).expect("an open socket takes it"));
    let upgrade = move |upgrade: WebSocketUpgrade| async move {
        upgrade.read_buffer_size(read_buffer(expected)).on_upgrade(move |socket| async move {
            let is_data =
                |message: &_| matches!(message, ws::Message::Text(_) | ws::Message::Binary(_));
            let _ = echo(socket, expected, is_data).await;
        })
    };
    let router = Router::new().route("/", any(upgrade)).merge(broadcast::routes(expected));
    axum::serve(listener, router).await?;
    Ok(())
}

/// The docs of `read_buffer_size` advise 4 KiB for many connections and 128 KiB for much to read.
/// All that is free in the buffer is filled with zeros before each read, so the smallest one that
/// takes in what comes at once is the fastest.
pub(super) fn read_buffer(expected: Expected) -> usize {
    const HEADER: usize = 14;
    let at_once = expected.in_flight * (HEADER + expected.size);
    at_once.next_power_of_two().clamp(4 * 1024, 128 * 1024)
}

/// One at a time, the loop of axum's docs is the faster one. Otherwise `forward` is, as in the
/// example of tokio-tungstenite: it flushes once nothing more has come, and to collect until then
/// is what the docs of `write_buffer_size` advise.
async fn echo<S, M, E>(mut socket: S, expected: Expected, is_data: fn(&M) -> bool) -> Result<(), E>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    if expected.in_flight > 1 {
        let (sink, stream) = socket.split();
        return stream.try_filter(|message| ready(is_data(message))).forward(sink).await;
    }
    while let Some(message) = socket.next().await {
        let message = message?;
        if is_data(&message) {
            socket.send(message).await?;
        }
    }
    Ok(())
}
