//! Topics: `subscribe prices`, `unsubscribe prices`, `publish prices 42`, `topics`, or
//! `curl -d 42 http://127.0.0.1:8080/topics/prices` from outside.
//!
//! Start it with `cargo run -p sockeye --example pubsub`, then connect from two other terminals:
//! `npx wscat -c ws://127.0.0.1:8080/`. An argument is the address to listen on.

use axum::{Json, Router, extract::Path, routing::post};
use sockeye::{Hub, Message, PublishReport, Result, Server, Session};

struct PubSub;

impl sockeye::Handler for PubSub {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        let words: Vec<_> = message.as_text().unwrap_or_default().splitn(3, ' ').collect();
        match words[..] {
            ["subscribe", topic] => {
                session.subscribe(topic);
                session.send(format!("{} subscribers", session.hub().subscribers(topic)));
            }
            ["unsubscribe", topic] => {
                session.unsubscribe(topic);
                session.send(format!("left are {:?}", session.subscriptions()));
            }
            ["publish", topic, text] => {
                // To all but this connection; `session.hub().publish` would be to all.
                let report = session.publish(topic, text);
                session.send(format!("{} have got it", report.sent()));
            }
            ["topics"] => _ = session.send_json(&session.hub().topics())?,
            _ => _ = session.send("subscribe, unsubscribe or publish a topic, or ask for topics"),
        }
        Ok(())
    }
}

/// The report says for how many it is on its way, and for how many it is not.
async fn publish(hub: Hub, Path(topic): Path<String>, text: String) -> Json<PublishReport> {
    Json(hub.publish(&topic, text))
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new()
        .ws("/", PubSub)
        .routes(Router::new().route("/topics/{topic}", post(publish)))
        .bind(address)
        .await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
