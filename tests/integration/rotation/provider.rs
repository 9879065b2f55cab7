//! An authorization server over TLS that takes some credentials of each kind and no others, and says which it saw.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::support::Authority;

/// The server. Ends when it is dropped.
pub struct Provider {
    address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

/// What a client proves itself by.
#[derive(Clone)]
pub enum Known {
    /// It says this.
    Text(String),
    /// It signs with this key (ES256).
    Key(DecodingKey),
    /// It shows this certificate.
    Certificate(Vec<u8>),
    /// It proves that it has this key (RFC 9449).
    Proof(Value),
    /// A refresh token of this family: whose beginning this is. Each is good for once.
    Family(String),
}

#[derive(Default)]
struct State {
    /// For each kind what is taken, by its generation.
    good: Mutex<HashMap<&'static str, Vec<(usize, Known)>>>,
    /// The kinds and generations that were seen, in their order.
    used: Mutex<Vec<(String, usize)>>,
    refused: Mutex<Vec<String>>,
    refresh_tokens: Mutex<Vec<String>>,
    tls: Mutex<Option<Arc<ServerConfig>>>,
}

/// Settings with a certificate of `authority`, for clients with and without one of it.
pub fn tls(authority: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (certificate, key) = authority.pair(&["127.0.0.1"]);
    let mut roots = RootCertStore::empty();
    roots.add(der(authority.pem())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![der(&certificate)], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap());
    Arc::new(config.unwrap())
}

/// The first certificate of a PEM text.
pub fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Provider {
    pub async fn start(tls: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        *state.tls.lock().unwrap() = Some(tls);
        let shared = Arc::clone(&state);
        let mut connections = tokio::task::JoinSet::new();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                let tls = state.tls.lock().unwrap().clone().unwrap();
                connections.spawn(async move {
                    let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
                    let serve = move |request: Request<Body>| answer(Arc::clone(&state), shown.clone(), request);
                    let service = TowerToHyperService::new(Router::new().fallback(serve));
                    // A client that leaves is nobody's failure.
                    drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, state, task }
    }

    /// The token endpoint of a kind.
    pub fn url(&self, kind: &str) -> String {
        format!("https://{}/{kind}", self.address)
    }

    /// From now on clients of this kind prove themselves by one of these, and by nothing else.
    pub fn accept(&self, kind: &'static str, known: Vec<(usize, Known)>) {
        self.state.good.lock().unwrap().insert(kind, known);
    }

    /// New connections meet another certificate.
    pub fn show(&self, tls: Arc<ServerConfig>) {
        *self.state.tls.lock().unwrap() = Some(tls);
    }

    /// How often a generation of a kind was seen.
    pub fn seen(&self, kind: &str, generation: usize) -> usize {
        self.state.used.lock().unwrap().iter().filter(|(k, g)| k == kind && *g == generation).count()
    }

    /// What it did not take.
    pub fn refused(&self) -> Vec<String> {
        self.state.refused.lock().unwrap().clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<State>, shown: Option<Vec<u8>>, request: Request<Body>) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let kind = parts.uri.path().trim_start_matches('/').to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let good = state.good.lock().unwrap().get(&*kind).cloned().unwrap_or_default();
    let is = |known: &Known| is_it(known, &state, &parts.headers, &form, shown.as_deref());
    let Some((generation, known)) = good.into_iter().find(|(_, known)| is(known)) else {
        state.refused.lock().unwrap().push(kind);
        let body = json!({ "error": "invalid_client", "error_description": "not taken (any longer)" });
        return (StatusCode::UNAUTHORIZED, body.to_string());
    };
    let mut token = json!({ "token_type": "Bearer", "expires_in": LIFETIME });
    let number = {
        let mut used = state.used.lock().unwrap();
        used.push((kind.clone(), generation));
        used.len()
    };
    token["access_token"] = format!("canary-{kind}-{generation}-{number}").into();
    match known {
        Known::Proof(_) => {
            token["token_type"] = "DPoP".into();
            // Bound to the key: the resource server finds it in the token.
            let header = jsonwebtoken::decode_header(parts.headers["dpop"].to_str().unwrap()).unwrap();
            let jwk = serde_json::to_string(&header.jwk).unwrap();
            token["access_token"] = format!("canary-{number}.{}", BASE64_STANDARD.encode(jwk)).into();
        }
        Known::Family(family) => {
            let next = format!("{family}-{number}");
            token["refresh_token"] = next.clone().into();
            let mut valid = state.refresh_tokens.lock().unwrap();
            valid.retain(|one| !one.starts_with(&family));
            valid.push(next);
        }
        Known::Text(_) | Known::Key(_) | Known::Certificate(_) => {}
    }
    (StatusCode::OK, token.to_string())
}

fn is_it(
    known: &Known,
    state: &State,
    headers: &HeaderMap,
    form: &HashMap<String, String>,
    shown: Option<&[u8]>,
) -> bool {
    match known {
        Known::Text(text) => {
            let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("client:{text}")));
            headers.get("authorization").is_some_and(|value| value.as_bytes() == basic.as_bytes())
                || ["client_assertion", "password", "assertion", "subject_token"]
                    .iter()
                    .any(|name| form.get(*name).is_some_and(|value| value == text))
        }
        Known::Key(key) => {
            let assertion = form.get("client_assertion").or_else(|| form.get("assertion"));
            let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
            validation.validate_aud = false;
            assertion.is_some_and(|jwt| jsonwebtoken::decode::<Value>(jwt, key, &validation).is_ok())
        }
        Known::Certificate(certificate) => shown == Some(certificate),
        Known::Proof(jwk) => {
            let proof = headers.get("dpop").map(|value| value.to_str().unwrap());
            let of_proof: Option<Jwk> = proof.and_then(|proof| jsonwebtoken::decode_header(proof).unwrap().jwk);
            of_proof.is_some_and(|of_proof| serde_json::to_value(of_proof).unwrap()["x"] == jwk["x"])
        }
        Known::Family(family) => {
            let token = form.get("refresh_token").cloned().unwrap_or_default();
            // The one of the login, unless it was used.
            let valid = state.refresh_tokens.lock().unwrap();
            let used = valid.iter().any(|one| one.starts_with(family));
            if used { valid.contains(&token) } else { token == *family }
        }
    }
}

/// Of each token, seconds.
pub const LIFETIME: u64 = 4;
