//! The protected API of the demo: verifies the token for real and refuses as RFC 6750 3 has it. Any method, any path.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Claims, Invalid, Issuer};

/// What a request needs.
#[derive(Debug)]
pub(super) struct Wants {
    pub(super) scope: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) issuer: Arc<Issuer>,
}

pub(super) async fn serve(State(wants): State<Arc<Wants>>, request: Request<Body>) -> Response {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let claims = match (values.next(), values.next()) {
        (None, _) => return unauthorized(None),
        (Some(_), Some(_)) => return unauthorized(Some("There is more than one Authorization header")),
        (Some(value), None) => check(&wants, value),
    };
    match claims {
        Err(description) => unauthorized(Some(description)),
        Ok(claims) => match &wants.scope {
            Some(scope) if !claims.scope.split(' ').any(|word| word == scope) => insufficient_scope(scope),
            _ => {
                let body = json!({
                    "message": "hello, you have a good token",
                    "method": request.method().as_str(),
                    "path": request.uri().path(),
                    "client_id": claims.client_id,
                    "scope": claims.scope,
                });
                ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
            }
        },
    }
}

fn check(wants: &Wants, value: &HeaderValue) -> Result<Claims, &'static str> {
    let text = value.to_str().map_err(|_| "The Authorization header is not ASCII")?;
    let (scheme, token) = text.split_once(' ').ok_or("The Authorization header has no token")?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("The Authorization scheme is not Bearer");
    }
    let claims = wants.issuer.verify(token.trim()).map_err(|invalid| match invalid {
        Invalid::Malformed => "Token is malformed or was not issued by this server",
        Invalid::Expired => "Token has expired",
        Invalid::Revoked => "Token was revoked",
    })?;
    match &wants.audience {
        Some(audience) if claims.aud.as_ref() != Some(audience) => Err("Token is for another audience"),
        _ => Ok(claims),
    }
}

/// 401; a request without a token is told no error code (RFC 6750 3.1).
fn unauthorized(description: Option<&str>) -> Response {
    let (challenge, body) = match description {
        None => (
            format!("Bearer realm=\"{REALM}\""),
            json!({ "error": "unauthorized", "error_description": "A bearer token is needed" }),
        ),
        Some(description) => (
            format!("Bearer realm=\"{REALM}\", error=\"invalid_token\", error_description=\"{description}\""),
            json!({ "error": "invalid_token", "error_description": description }),
        ),
    };
    refused(StatusCode::UNAUTHORIZED, challenge, &body)
}

fn insufficient_scope(scope: &str) -> Response {
    let description = "The token does not have the scope that is needed";
    let challenge = format!("Bearer realm=\"{REALM}\", error=\"insufficient_scope\", scope=\"{scope}\"");
    let body = json!({ "error": "insufficient_scope", "error_description": description, "scope": scope });
    refused(StatusCode::FORBIDDEN, challenge, &body)
}

fn refused(status: StatusCode, challenge: String, body: &serde_json::Value) -> Response {
    let headers = [(header::WWW_AUTHENTICATE, challenge), (header::CONTENT_TYPE, "application/json".to_owned())];
    (status, headers, format!("{body}\n")).into_response()
}

const REALM: &str = "lanyard demo";
