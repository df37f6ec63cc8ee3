//! The page at `/`, which is part of the program.

use axum::{Router, http::header, response::IntoResponse, routing::get};

/// Only what comes from here may run, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page and what belongs to it.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(|| file("text/html", include_str!("page/index.html"))))
        .route("/style.css", get(|| file("text/css", include_str!("page/style.css"))))
        .route("/script.js", get(|| file("text/javascript", include_str!("page/script.js"))))
        .route("/icon.svg", get(|| file("image/svg+xml", include_str!("page/icon.svg"))))
}

async fn file(kind: &str, content: &'static str) -> impl IntoResponse + use<> {
    let headers = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        // The next version of the program has the same addresses.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, content)
}
