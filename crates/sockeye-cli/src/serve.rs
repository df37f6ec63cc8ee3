//! `sockeye serve`.

use std::{io::Write, time::Duration};

use axum::routing::get;
use sockeye::{Config, Handler, Hub, HubOptions, Limits, Message, Result, Server, Session};

use crate::{
    Compression, ServeArgs,
    chat::{self, Chat},
    page, topic,
};

/// How long somebody is still in a room of the chat after the connection has ended: who loads the page
/// again has not gone.
const GRACE: Duration = Duration::from_secs(1);

/// Sends every message back as it came.
struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}

/// Serves until SIGINT or SIGTERM.
pub(crate) async fn serve(args: &ServeArgs) -> Result {
    let max_message = usize::try_from(args.max_message.as_u64())?;
    let limits = Limits::default().message_size(max_message);
    let compression = match args.compression {
        Compression::Off => sockeye::Compression::Off,
        Compression::Shared => sockeye::Compression::Shared,
        Compression::Dedicated => sockeye::Compression::dedicated(),
    };
    let config = Config::default().limits(limits).compression(compression);
    let hub = Hub::with(HubOptions::default().presence_grace(GRACE));
    let chat = Chat::new(&hub);
    let server = Server::new()
        .hub(hub)
        .config(config.clone())
        .ws("/echo", Echo)
        .ws("/chat/{room}", chat)
        .route("/rooms", get(chat::rooms))
        .route("/topics/{topic}", topic::route(config, max_message))
        .routes(page::routes())
        .bind(&args.listen)
        .await?;
    // Before the line: whoever has read it may send a signal at once.
    let stopped = server.until_signal();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", server.local_addr())?;
    stdout.flush()?;
    stopped.await;
    Ok(())
}
