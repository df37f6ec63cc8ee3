//! One cookie leads to the caller's own sockets, on every tab and device: in `attach`, and in a POST
//! route, `curl -b user=ana -d 'your order is on its way' http://127.0.0.1:8080/notify`.
//!
//! Start it with `cargo run -p sockeye --example notifications`, then listen from another terminal:
//! `npx wscat -H 'Cookie: user=ana' -c ws://127.0.0.1:8080/ws`. An argument is the address to listen on.

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode, header::COOKIE},
    routing::post,
};
use cookie::Cookie;
use sockeye::{Accept, Handler, Handshake, Hub, PublishReport, Rejection, Result, Server, Session};

/// Who asks; a real program looks up a session, or checks a signature.
fn user(headers: &HeaderMap) -> Result<String, (StatusCode, &'static str)> {
    let cookies = headers.get(COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user = Cookie::split_parse(cookies).flatten().find(|cookie| cookie.name() == "user");
    user.map(|cookie| cookie.value().to_owned()).ok_or((StatusCode::UNAUTHORIZED, "log in first"))
}

struct Notifications;

impl Handler for Notifications {
    type Data = String;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<String>, Rejection> {
        Ok(Accept::new(user(handshake.headers())?))
    }

    async fn open(&self, session: &mut Session<String>) -> Result {
        session.identify(&session.data);
        let devices = session.hub().user(&session.data).connections().await.len();
        session.send(format!("{} listens on {devices} devices", session.data));
        Ok(())
    }
}

async fn notify(
    hub: Hub,
    headers: HeaderMap,
    text: String,
) -> Result<Json<PublishReport>, (StatusCode, &'static str)> {
    Ok(Json(hub.user(user(&headers)?).send(text)))
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let routes = Router::new().route("/notify", post(notify));
    let server = Server::new().ws("/ws", Notifications).routes(routes).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
