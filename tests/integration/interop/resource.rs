//! A resource server that asks the authorization server about each token (RFC 7662), and answers with what it was told.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::net::TcpListener;

use super::registrations::{RESOURCE_SERVER, SECRET};

/// The server. Ends when it is dropped.
pub struct ResourceServer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Introspection {
    client: reqwest::Client,
    endpoint: String,
}

impl ResourceServer {
    /// One that asks this endpoint, which may have a certificate of this CA.
    pub async fn start(endpoint: &str, ca: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let introspection = Introspection { client: client(ca), endpoint: endpoint.to_owned() };
        let router = Router::new().fallback(answer).with_state(introspection);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    /// A route in TOML that leads a host here in clear text.
    pub fn route(&self, host: &str, profile: &str) -> String {
        format!("[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"http://{}\"\n", self.address)
    }
}

impl Drop for ResourceServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that trusts this CA.
pub fn client(ca: &str) -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusted = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(30));
    builder.tls_certs_only([trusted]).build().unwrap()
}

/// 200 and what the token is good for, or 401.
async fn answer(State(introspection): State<Introspection>, request: Request) -> Response {
    let field = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = field.and_then(|field| field.strip_prefix("Bearer ")) else {
        return refused("Bearer");
    };
    let asked = introspection
        .client
        .post(&introspection.endpoint)
        .basic_auth(RESOURCE_SERVER, Some(SECRET))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish());
    let told = asked.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
    let active = serde_json::from_str::<Value>(&told).unwrap()["active"] == true;
    if active { ([(header::CONTENT_TYPE, "application/json")], told).into_response() } else { refused(&told) }
}

fn refused(why: &str) -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
    (StatusCode::UNAUTHORIZED, challenge, why.to_owned()).into_response()
}
