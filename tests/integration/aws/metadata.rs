//! What hands credentials out: a container's endpoint at `/container`, and IMDSv2. It gives a new key with each question.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    super::support::upstream::serve,
    server::{Key, Keys},
};

/// The server. Ends when it is dropped.
pub struct Metadata {
    pub address: SocketAddr,
    state: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

struct Inner {
    keys: Keys,
    given: AtomicU64,
    lifetime: Duration,
    /// What it answers instead.
    says: Mutex<Option<StatusCode>>,
    /// What a container has to show.
    authorization: Mutex<String>,
}

impl Metadata {
    /// Its keys go into `keys`, and live for so long.
    pub async fn start(keys: &Keys, lifetime: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Inner {
            keys: Arc::clone(keys),
            given: AtomicU64::new(0),
            lifetime,
            says: Mutex::default(),
            authorization: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        Self { address, state, task: serve(listener, None, router, || ()) }
    }

    /// From now on everything is answered so; `None`: as usual.
    pub fn say(&self, status: Option<u16>) {
        *self.state.says.lock().unwrap() = status.map(|status| StatusCode::from_u16(status).unwrap());
    }

    /// From now on a container has to show this.
    pub fn want(&self, authorization: &str) {
        authorization.clone_into(&mut self.state.authorization.lock().unwrap());
    }

    /// How many keys it gave.
    pub fn given(&self) -> u64 {
        self.state.given.load(Ordering::SeqCst)
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(state): State<Arc<Inner>>, method: Method, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    if let Some(status) = *state.says.lock().unwrap() {
        return (status, "canary-of-the-endpoint".to_owned());
    }
    let has = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    let knows = has("x-aws-ec2-metadata-token", "canary-imds-token");
    let refused = (StatusCode::UNAUTHORIZED, String::new());
    let roles = "/latest/meta-data/iam/security-credentials/";
    match (method.as_str(), uri.path()) {
        ("PUT", "/latest/api/token") if headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds") => {
            (StatusCode::OK, "canary-imds-token".to_owned())
        }
        ("GET", path) if path == roles => {
            if knows {
                (StatusCode::OK, "a+role".to_owned())
            } else {
                refused
            }
        }
        ("GET", path) if path == format!("{roles}a+role") => {
            if knows {
                state.give()
            } else {
                refused
            }
        }
        ("GET", "/container") => {
            let wanted = state.authorization.lock().unwrap().clone();
            if has("authorization", &wanted) { state.give() } else { refused }
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    }
}

impl Inner {
    fn give(&self) -> (StatusCode, String) {
        let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        let until = SystemTime::now() + self.lifetime;
        let (id, key) = Key::number(number, Some(until));
        let end = time::OffsetDateTime::from(until);
        let (hour, minute, second) = end.to_hms();
        let expiration = format!("{}T{hour:02}:{minute:02}:{second:02}Z", end.date());
        let answer = json!({
            "Code": "Success",
            "AccessKeyId": id,
            "SecretAccessKey": key.secret,
            "Token": key.token,
            "Expiration": expiration,
        });
        self.keys.lock().unwrap().insert(id, key);
        (StatusCode::OK, answer.to_string())
    }
}
