//! The server from outside: requests to it and answers from it, over real sockets.

mod assertion;
mod client;
mod dpop;
mod grants;
mod lifecycle;
mod mutual_tls;
mod registration;
mod resource;
mod signer;
mod token;

use std::sync::atomic::AtomicU64;

use axum::http::{HeaderMap, Request, StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Body;
use serde_json::Value;

use super::{resource::Requirements, *};
use crate::secret::Secret;

/// A server with its protected API, and a hand on its clock.
struct Server {
    issuer: Arc<Issuer>,
    address: SocketAddr,
    seconds: Arc<AtomicU64>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    fn get(&self, key: &str) -> Value {
        self.json()[key].clone()
    }

    fn text(&self, key: &str) -> String {
        self.json()[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.text)).to_owned()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks an error of an OAuth endpoint in all its parts.
    fn is_error(&self, status: u16, code: &str, description: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.text("error"), code);
        assert!(self.text("error_description").contains(description), "{}", self.text);
        assert_eq!(self.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(self.header(header::WWW_AUTHENTICATE).starts_with("Basic realm="), code == "invalid_client");
    }
}

impl Server {
    /// A server of fast elliptic keys with the client `demo`, changed as the test likes.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { algorithm: Algorithm::Es256, ..Settings::development() };
        change(&mut settings);
        let seconds = Arc::new(AtomicU64::new(1_800_000_000));
        let clock = Arc::clone(&seconds);
        let now = Arc::new(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed)));
        let issuer = Arc::new(Issuer::with_clock(settings, ([127, 0, 0, 1], 8082).into(), now).unwrap());
        let api = super::resource::router(Arc::clone(&issuer), Requirements::development());
        Self { address: listen(api.merge(issuer.router())), issuer, seconds }
    }

    fn development() -> Self {
        Self::with(|_| {})
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("http://{}{}", self.address, parts.uri).parse().unwrap();
        let request = reqwest::Request::try_from(Request::from_parts(parts, body)).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::from("")).unwrap()).await
    }

    async fn form(&self, path: &str, body: &str) -> Answer {
        self.send(form(path).body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn json(&self, body: &str) -> Answer {
        let request = Request::post("/oauth/token").header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// A token request of the client `demo`, with more parameters.
    async fn ask(&self, more: &str) -> Answer {
        self.form("/oauth/token", &format!("grant_type=client_credentials&{DEMO}&{more}")).await
    }

    async fn token(&self) -> String {
        self.ask("").await.text("access_token")
    }

    async fn introspect(&self, token: &str) -> Answer {
        self.form("/oauth/introspect", &format!("{DEMO}&token={token}")).await
    }
}

/// Serves the router on a port of its own for as long as the test runs.
fn listen(router: Router) -> SocketAddr {
    crate::tls::install_provider();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(serve(listener, router, std::future::pending()));
    address
}

fn form(path: &str) -> http::request::Builder {
    Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn client(text: &str) -> Client {
    text.parse().unwrap()
}

const DEMO: &str = "client_id=demo&client_secret=demo-secret";
