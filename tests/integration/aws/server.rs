//! A service of AWS's: it writes down what it gets, refuses keys that it does not know, and keeps objects as S3 does. What
//! it wrote down is looked at by botocore (`tests/aws/verify.py`).

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command};

use super::super::support::{repository, tools, upstream::serve};

/// The service. Ends when it is dropped.
pub struct Service {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<Inner>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Inner {
    scheme: &'static str,
    requests: Vec<Value>,
    objects: HashMap<String, Bytes>,
    parts: BTreeMap<u32, Bytes>,
    /// Until when keys are good; one that is not in here is unknown.
    keys: Keys,
    /// So far its clock is behind ours.
    behind: Duration,
    /// What everything is answered with.
    says: Option<(StatusCode, &'static str)>,
    /// Requests that were refused for their keys.
    refused: u64,
}

/// Keys with their secrets, their session tokens and their ends; shared with what hands them out.
pub type Keys = Arc<Mutex<HashMap<String, Key>>>;

#[derive(Clone)]
pub struct Key {
    pub secret: String,
    pub token: Option<String>,
    pub until: Option<SystemTime>,
}

impl Key {
    pub fn number(number: u64, until: Option<SystemTime>) -> (String, Self) {
        let (secret, token) = (format!("canary-aws-secret/{number}+"), format!("canary-aws-session/{number}=="));
        (format!("ASIATEST{number}"), Self { secret, token: Some(token), until })
    }
}

impl Service {
    pub async fn start(keys: &Keys) -> Self {
        Self::listen(keys, None).await
    }

    pub async fn start_tls(keys: &Keys, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(keys, Some(tls)).await
    }

    async fn listen(keys: &Keys, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(Mutex::new(Inner { scheme, keys: Arc::clone(keys), ..Inner::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = serve(listener, tls, router, || ());
        Self { address, scheme, state, task }
    }

    /// A route in TOML that leads a host here.
    pub fn route(&self, host: &str, profile: &str, more: &str) -> String {
        let (scheme, port) = (self.scheme, self.address.port());
        format!(
            "[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"{scheme}://localhost:{port}\"\n{more}"
        )
    }

    /// From now on everything is answered with this.
    pub fn say(&self, status: u16, body: &'static str) {
        self.state.lock().unwrap().says = Some((StatusCode::from_u16(status).unwrap(), body));
    }

    pub fn set_clock_behind(&self, behind: Duration) {
        self.state.lock().unwrap().behind = behind;
    }

    pub fn requests(&self) -> Vec<Value> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How many requests were refused for their keys.
    pub fn refused(&self) -> u64 {
        self.state.lock().unwrap().refused
    }

    /// Has botocore look at every request; what their bodies said.
    pub async fn verified(&self, service: &str) -> Vec<Vec<u8>> {
        let world = {
            let inner = self.state.lock().unwrap();
            let keys = inner.keys.lock().unwrap();
            let keys: HashMap<&str, (&str, Option<&str>)> =
                keys.iter().map(|(id, key)| (&**id, (&*key.secret, key.token.as_deref()))).collect();
            json!({ "region": "us-east-1", "service": service, "keys": keys, "requests": inner.requests })
        };
        let count = world["requests"].as_array().unwrap().len();
        assert!(count > 0, "no request arrived");
        let mut python = python(tools().await, "verify.py").stdin(Stdio::piped()).spawn().unwrap();
        let mut input = python.stdin.take().unwrap();
        let write = async move {
            input.write_all(&serde_json::to_vec(&world).unwrap()).await.unwrap();
            drop(input);
        };
        let run = async { tokio::join!(write, python.wait_with_output()).1.unwrap() };
        let output = tokio::time::timeout(Duration::from_secs(120), run).await.expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bodies: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(bodies.len(), count);
        bodies.iter().map(|body| BASE64_STANDARD.decode(body).unwrap()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A program of `tests/aws`, which knows nothing of this machine's own settings for AWS.
pub fn python(tools: &Path, program: &str) -> Command {
    let mut command = Command::new(tools.join("python/bin/python"));
    command.arg(repository().join("tests/aws").join(program)).kill_on_drop(true);
    command.env_clear().envs([("PATH", std::env::var("PATH").unwrap()), ("AWS_EC2_METADATA_DISABLED", "true".into())]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn answer(State(state): State<Arc<Mutex<Inner>>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).to_owned();
    let host = parts.headers.get(header::HOST).map(|host| host.to_str().unwrap().to_owned());
    let authority = host.or_else(|| parts.uri.authority().map(ToString::to_string)).unwrap_or_default();
    let headers: Vec<(&str, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let mut inner = state.lock().unwrap();
    let recorded = json!({
        "method": parts.method.as_str(),
        "scheme": inner.scheme,
        "authority": authority,
        "target": target,
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body": BASE64_STANDARD.encode(&body),
    });
    inner.requests.push(recorded);
    let date = httpdate::fmt_http_date(SystemTime::now() - inner.behind);
    let (status, body) = if let Some((status, text)) = inner.says {
        (status, Bytes::from_static(text.as_bytes()))
    } else if inner.knows(&parts.headers) {
        inner.keep(&parts.method, &target, body, &parts.headers)
    } else {
        inner.refused += 1;
        (StatusCode::FORBIDDEN, Bytes::from_static(b"<Error><Code>InvalidAccessKeyId</Code></Error>"))
    };
    (status, [(header::DATE, date), (header::ETAG, "\"1\"".to_owned())], body).into_response()
}

impl Inner {
    fn knows(&self, headers: &HeaderMap) -> bool {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let id = authorization.and_then(|text| text.split_once("Credential=")?.1.split('/').next());
        let keys = self.keys.lock().unwrap();
        let key = id.and_then(|id| keys.get(id));
        key.is_some_and(|key| key.until.is_none_or(|until| SystemTime::now() < until))
    }

    fn keep(&mut self, method: &Method, target: &str, body: Bytes, headers: &HeaderMap) -> (StatusCode, Bytes) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap());
        let body = if encoding.starts_with("aws-chunked") { unchunked(body) } else { body };
        let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")?.parse().ok());
        let text = |text: &str| (StatusCode::OK, Bytes::from(text.to_owned()));
        match (method.as_str(), number) {
            ("PUT", Some(number)) => {
                self.parts.insert(number, body);
                text("")
            }
            ("PUT", None) => {
                self.objects.insert(path.to_owned(), body);
                text("")
            }
            ("POST", _) if query == "uploads" => {
                self.parts.clear();
                text("<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
            }
            ("POST", _) if query.starts_with("uploadId=") => {
                let whole: Vec<u8> = self.parts.values().flatten().copied().collect();
                self.objects.insert(path.to_owned(), whole.into());
                text("<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")
            }
            ("GET", _) if query.contains("list-type=2") => text(
                "<ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>\
                 <Contents><Key>x</Key><Size>1</Size></Contents></ListBucketResult>",
            ),
            _ => (StatusCode::OK, self.objects.get(path).cloned().unwrap_or_default()),
        }
    }
}

/// What an `aws-chunked` body says.
fn unchunked(mut body: Bytes) -> Bytes {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").expect("a chunk's head");
        let head = String::from_utf8(body.split_to(end + 2).to_vec()).unwrap();
        let size = usize::from_str_radix(head.trim().split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            return whole.into();
        }
        whole.extend_from_slice(&body.split_to(size));
        assert_eq!(&body.split_to(2)[..], b"\r\n");
    }
}
