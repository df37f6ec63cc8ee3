//! `/topics/{topic}`: a topic of the hub, by WebSocket and by POST.

use std::time::Duration;

use axum::{
    Json, RequestExt,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use sockeye::{
    Accept, Config, Handler, Handshake, Hub, Message, Origins, Rejection, Result, Session, ws_with,
};
use tokio::time::timeout;

/// How long the body of a POST may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The route: WebSockets with these settings, and POSTs of at most `max_message` bytes.
pub(crate) fn route(config: Config, max_message: usize) -> MethodRouter {
    let publish = post(publish).with_state(config.origins.clone());
    ws_with(Topic, config).merge(publish.layer(DefaultBodyLimit::max(max_message)))
}

/// Whoever connects is subscribed, and what it sends goes to the others.
struct Topic;

impl Handler for Topic {
    /// The topic's name.
    type Data = String;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<String>, Rejection> {
        Ok(Accept::new(handshake.param("topic").unwrap_or_default().to_owned()))
    }

    async fn open(&self, session: &mut Session<String>) -> Result {
        session.subscribe(&session.data);
        Ok(())
    }

    async fn message(&self, session: &mut Session<String>, message: Message<'_>) -> Result {
        session.publish(&session.data, message);
        Ok(())
    }
}

/// Publishes the body, and answers with the report.
async fn publish(
    hub: Hub,
    State(origins): State<Origins>,
    Path(topic): Path<String>,
    request: Request,
) -> Response {
    // A page may send a POST anywhere without being asked whether it may, so this one asks.
    if !origins.allow(request.uri(), request.headers()) {
        return (StatusCode::FORBIDDEN, "pages of this origin may not publish\n").into_response();
    }
    let is_textual = is_textual(request.headers());
    let body = match timeout(BODY_TIME, request.extract::<Bytes, _>()).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) => return rejection.into_response(),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response(),
    };
    let report = match std::str::from_utf8(&body) {
        Ok(text) if is_textual => hub.publish(&topic, text),
        _ => hub.publish(&topic, body),
    };
    Json(report).into_response()
}

/// Whether the body is text by its content type. A form is what `curl -d` calls everything.
fn is_textual(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("/json")
        || kind.ends_with("+json")
        || kind == "application/x-www-form-urlencoded"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_send_text_as_is_text() {
        for (kind, expected) in [
            (None, true),
            (Some("text/plain;charset=UTF-8"), true),
            (Some("Text/HTML"), true),
            (Some("application/json"), true),
            (Some("application/json ; charset=utf-8"), true),
            (Some("application/ld+json"), true),
            (Some("application/x-www-form-urlencoded"), true),
            (Some("application/octet-stream"), false),
            (Some("image/png"), false),
            (Some("application/jsonp"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            }
            assert_eq!(is_textual(&headers), expected, "{kind:?}");
        }
    }
}
