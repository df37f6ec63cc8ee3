//! `sockeye serve`.

use std::io::Write;

use axum::{Router, response::Html, routing::get};
use sockeye::{Config, Handler, Limits, Message, Result, Server, Session};

use crate::{Compression, ServeArgs, topic};

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
    let server = Server::new()
        .config(config.clone())
        .ws("/echo", Echo)
        .route("/topics/{topic}", topic::route(config, max_message))
        .routes(Router::new().route("/", get(Html(include_str!("page.html")))))
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
