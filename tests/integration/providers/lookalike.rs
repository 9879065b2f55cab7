//! A server that looks at each request and answers as a provider would.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The server. Ends when it is dropped.
pub struct Lookalike {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
    /// `http://127.0.0.1:PORT` of the server.
    pub base: String,
}

/// What it is answered with.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Lookalike {
    pub async fn start(answer: impl Fn(&Asked) -> Told + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let serve = move |request: Request<Body>| {
            let (answer, seen) = (answer.clone(), Arc::clone(&seen));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let asked = Asked {
                    method: parts.method.to_string(),
                    path: parts.uri.path_and_query().unwrap().to_string(),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                    base: format!("http://{address}"),
                };
                seen.lock().unwrap().push(asked.clone());
                answer(&asked).into_response()
            }
        };
        let router = Router::new().fallback(serve);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, task }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The token requests so far.
    pub fn posts(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.method == "POST").collect()
    }
}

impl Drop for Lookalike {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asked {
    /// The form's parameters in their order; none is there twice.
    pub fn form(&self) -> Vec<(String, String)> {
        assert_eq!(self.header("content-type"), Some("application/x-www-form-urlencoded"));
        let pairs: Vec<(String, String)> = form_urlencoded::parse(self.body.as_bytes()).into_owned().collect();
        for (at, (name, _)) in pairs.iter().enumerate() {
            assert!(pairs.iter().skip(at + 1).all(|(other, _)| other != name), "{name} twice: {}", self.body);
        }
        pairs
    }

    /// One parameter of the form; empty where it is not there.
    pub fn get(&self, name: &str) -> String {
        self.form().into_iter().find(|(found, _)| found == name).map(|(_, value)| value).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The names of the form's parameters, in their order.
    pub fn names(&self) -> Vec<String> {
        self.form().into_iter().map(|(name, _)| name).collect()
    }

    /// Whether it is a POST to this path.
    pub fn is_post(&self, path: &str) -> bool {
        self.method == "POST" && self.path == path
    }

    /// The user and password of HTTP Basic, as they were before they were form-encoded.
    pub fn basic(&self) -> Option<(String, String)> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let text = BASE64_STANDARD.decode(self.header("authorization")?.strip_prefix("Basic ")?).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (user, password) = text.split_once(':')?;
        let decode = |part: &str| form_urlencoded::parse(part.as_bytes()).next().unwrap().0.into_owned();
        Some((decode(user), decode(password)))
    }
}

impl Told {
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// RFC 6749 5.1, with what else is told.
    pub fn token(token: &str, more: Value) -> Self {
        let mut body = json!({ "access_token": token, "token_type": "Bearer" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self::new(200, body)
    }

    /// RFC 6749 5.2; without a description where that is empty.
    pub fn error(status: u16, code: &str, description: &str) -> Self {
        let mut body = json!({ "error": code });
        if !description.is_empty() {
            body["error_description"] = description.into();
        }
        Self::new(status, body)
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn not_found() -> Self {
        Self::error(404, "not_found", "")
    }

    fn into_response(self) -> Response {
        let mut response = (StatusCode::from_u16(self.status).unwrap(), self.body.to_string()).into_response();
        response.headers_mut().insert("content-type", "application/json;charset=UTF-8".parse().unwrap());
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }
}
