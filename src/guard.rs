//! Keeps web pages away from lanyard's own endpoints: a page can make a browser send requests to loopback, but not without
//! marks, and not to an address that it does not name.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::route::pattern::split_authority;

/// Refuses what a web page may have sent: anything with the marks of one, and what changes something under a Host that is
/// neither an address nor a loopback name.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let foreign = headers.contains_key(header::ORIGIN)
        || headers.get("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin");
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if foreign || (changes && !host_is_address(headers)) {
        let hint = "call it without Origin, and by an address or localhost";
        let body = format!("{:#}\n", json!({ "error": "forbidden", "hint": hint }));
        let fields = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        return (StatusCode::FORBIDDEN, fields, body).into_response();
    }
    next.run(request).await
}

/// Whether Host is an IP address or a loopback name: a name of somebody's choice may have been rebound to us.
fn host_is_address(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.and_then(|host| split_authority(host).ok()).is_some_and(|(host, _)| host.ip().is_some() || host.is_loopback())
}
