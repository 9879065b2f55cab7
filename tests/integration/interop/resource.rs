//! A resource server that asks the authorization server about each token (RFC 7662), wants a proof of who has a token that
//! is for a key (RFC 9449), and answers with what it was told.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{
    dpop,
    registrations::{RESOURCE_SERVER, SECRET},
};

/// The server. Ends when it is dropped.
pub struct ResourceServer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Introspection {
    client: reqwest::Client,
    endpoint: String,
    proofs: dpop::Proofs,
}

impl ResourceServer {
    /// One that asks this endpoint, which may have a certificate of this CA.
    pub async fn start(endpoint: &str, ca: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let introspection =
            Introspection { client: client(ca), endpoint: endpoint.to_owned(), proofs: dpop::Proofs::default() };
        let router = Router::new().fallback(answer).with_state(introspection);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    /// What it protects.
    pub fn url(&self) -> String {
        format!("http://{}/resource", self.address)
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
    let (request, _) = request.into_parts();
    let field = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let Some((scheme, token)) = field("authorization").and_then(|field| field.split_once(' ')) else {
        return refused("Bearer", "invalid_request", "no token");
    };
    let asked = introspection
        .client
        .post(&introspection.endpoint)
        .basic_auth(RESOURCE_SERVER, Some(SECRET))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish());
    let told = asked.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
    let token_info: Value = serde_json::from_str(&told).unwrap();
    if token_info["active"] != true {
        return refused(scheme, "invalid_token", &told);
    }
    match (scheme, token_info["cnf"]["jkt"].as_str(), field("dpop")) {
        ("Bearer", None, _) => {}
        ("DPoP", Some(thumbprint), Some(proof)) => {
            let url = format!("http://{}{}", field("host").unwrap_or_default(), request.uri.path());
            let of = (request.method.as_str(), url.as_str());
            if let Err((error, why)) = introspection.proofs.check(proof, of, token, thumbprint) {
                return refused("DPoP", error, &why);
            }
        }
        _ => return refused("DPoP", "invalid_token", "a token for a key goes with a proof, and no other does"),
    }
    ([(header::CONTENT_TYPE, "application/json")], told).into_response()
}

fn refused(scheme: &str, error: &str, why: &str) -> Response {
    let challenge =
        [("www-authenticate", format!("{scheme} error=\"{error}\"")), ("dpop-nonce", dpop::NONCE.to_owned())];
    let challenge = AppendHeaders(challenge.into_iter().take(if error == "use_dpop_nonce" { 2 } else { 1 }));
    (StatusCode::UNAUTHORIZED, challenge, why.to_owned()).into_response()
}
