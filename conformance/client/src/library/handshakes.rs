//! The opening handshake: what arrives at the server, what comes back, and refusals.

use serde_json::json;
use sockeye::{ConnectError, HandshakeFault};

use super::{Seen, echoes, finish};
use crate::checks::{Checks, ensure, equal};

pub(super) async fn check(checks: &mut Checks) {
    addresses(checks).await;
    headers(checks).await;
    subprotocols(checks).await;
    refusals(checks).await;
}

async fn addresses(checks: &mut Checks) {
    checks
        .check("url: path, query and host arrive as they are", |stranger| async move {
            let odd = "a b+c&d=e/f?g%20%e4\u{fc}";
            let plan = stranger.plan(json!([])).told("odd", odd);
            let ws = plan.connect().await?;
            let seen = finish(&plan, ws).await?;
            equal(&seen.target, &plan.target(), "request target")?;
            equal(seen.header("host"), [format!("127.0.0.1:{}", stranger.port())], "Host")
        })
        .await;

    checks
        .check("url: a name instead of an address", |stranger| async move {
            let authority = format!("localhost:{}", stranger.port());
            let plan = stranger.plan(json!([])).at(authority.clone());
            let mut ws = plan.connect().await?;
            echoes(&mut ws, "by name").await?;
            equal(finish(&plan, ws).await?.header("host"), [authority], "Host")
        })
        .await;

    checks
        .check("url: an IPv6 address in brackets", |stranger| async move {
            let authority = format!("[::1]:{}", stranger.port());
            let plan = stranger.plan(json!([])).at(authority.clone());
            let mut ws = plan.connect().await?;
            echoes(&mut ws, "over IPv6").await?;
            equal(finish(&plan, ws).await?.header("host"), [authority], "Host")
        })
        .await;
}

async fn headers(checks: &mut Checks) {
    checks
        .check("headers: the handshake has its own, and no others", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let ws = plan.connect().await?;
            let seen = finish(&plan, ws).await?;
            equal(seen.header("connection"), ["Upgrade"], "Connection")?;
            equal(seen.header("upgrade"), ["websocket"], "Upgrade")?;
            equal(seen.header("sec-websocket-version"), ["13"], "Sec-WebSocket-Version")?;
            equal(seen.header("sec-websocket-key").len(), 1, "number of keys")?;
            for name in ["origin", "authorization", "sec-websocket-protocol", "cookie"] {
                ensure(seen.header(name).is_empty(), || format!("there is a header {name}"))?;
            }
            Ok(())
        })
        .await;

    checks
        .check("headers: what is set arrives", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let client = plan.client().header("X-Team", "red").header("x-team", "blue");
            let ws = client.header("Origin", "http://example.com").await?;
            let seen = finish(&plan, ws).await?;
            equal(seen.header("x-team"), ["red", "blue"], "X-Team")?;
            equal(seen.header("origin"), ["http://example.com"], "Origin")
        })
        .await;

    checks
        .check("headers: those of the answer can be read", |stranger| async move {
            let plan = stranger.plan(json!([])).told("header", "X-Served-By: a stranger");
            let ws = plan.connect().await?;
            let response = ws.response().ok_or("there is no answer")?;
            equal(response.status().as_u16(), 101, "status")?;
            let header = response.headers().get("x-served-by").ok_or("the header is missing")?;
            equal(header, "a stranger", "X-Served-By")?;
            finish(&plan, ws).await.map(drop)
        })
        .await;

    checks
        .check("headers: user and password of the URL authorize", |stranger| async move {
            let authority = format!("Aladdin:open%20sesame@127.0.0.1:{}", stranger.port());
            let plan = stranger.plan(json!([])).at(authority);
            let ws = plan.connect().await?;
            let seen = finish(&plan, ws).await?;
            // The example of RFC 7617 section 2.
            let expected = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
            equal(seen.header("authorization"), [expected], "Authorization")?;
            equal(seen.header("host"), [format!("127.0.0.1:{}", stranger.port())], "Host")
        })
        .await;
}

async fn subprotocols(checks: &mut Checks) {
    checks
        .check("subprotocol: the server's choice among the offered", |stranger| async move {
            let plan = stranger.plan(json!([])).told("subprotocol", "superchat");
            let mut ws = plan.client().protocols(["chat", "superchat"]).await?;
            equal(ws.socket().protocol(), Some("superchat"), "subprotocol")?;
            echoes(&mut ws, "chosen").await?;
            let seen = finish(&plan, ws).await?;
            equal(seen.header("sec-websocket-protocol"), ["chat, superchat"], "offer")
        })
        .await;

    checks
        .check("subprotocol: the server may choose none", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.client().protocols(["chat"]).await?;
            equal(ws.socket().protocol(), None, "subprotocol")?;
            echoes(&mut ws, "none").await?;
            finish(&plan, ws).await.map(drop)
        })
        .await;
}

async fn refusals(checks: &mut Checks) {
    for (status, header, value) in [
        (200, "Content-Language", "en"),
        (302, "Location", "ws://elsewhere.example/"),
        (401, "WWW-Authenticate", "Basic realm=\"here\""),
        (403, "X-Reason", "not you"),
        (404, "X-Reason", "not here"),
        (426, "Upgrade", "websocket"),
        (503, "Retry-After", "120"),
    ] {
        let what = format!("refusal: {status} with {header} and body is in the error");
        checks
            .check(&what, move |stranger| async move {
                let plan = stranger.plan(json!([])).told("refuse", status.to_string());
                let plan = plan.told("header", format!("{header}: {value}"));
                let plan = plan.told("body", "this is why");
                let error = match plan.client().await {
                    Err(ConnectError::Refused(error)) => error,
                    other => return Err(format!("expected a refusal, got {other:?}").into()),
                };
                equal(error.response.status().as_u16(), status, "status")?;
                let fault = HandshakeFault::Status(error.response.status());
                equal(&error.reason, &fault, "reason")?;
                let actual = error.response.headers().get(header).ok_or("the header is missing")?;
                equal(actual, value, header)?;
                equal(&error.response.body()[..], b"this is why", "body")?;
                equal(Seen::of(&plan).await?.target, plan.target(), "request target")
            })
            .await;
    }
}
