//! A GitHub that follows a script: what it is asked, byte for byte, and what is made of its answers.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation};
use rsa::{
    RsaPrivateKey,
    pkcs1::{EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _},
    pkcs8::LineEnding,
};

use super::*;
use crate::{
    oauth::tests::{
        dialer,
        server::{Certified, Reply, Server, Step},
    },
    secret::SecretSource,
};

/// One for all tests: making it takes a while.
fn rsa() -> &'static RsaPrivateKey {
    static KEY: std::sync::OnceLock<RsaPrivateKey> = std::sync::OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut rand_core::OsRng, 2048).unwrap())
}

fn pem() -> String {
    // GitHub gives PKCS#1.
    rsa().to_pkcs1_pem(LineEnding::LF).unwrap().to_string()
}

fn config(api: &str) -> GitHubApp {
    GitHubApp {
        client_id: "Iv1.abc".to_owned(),
        installation_id: "12345678".to_owned(),
        key: SigningKeySource { source: SecretSource::Literal(Secret::new(pem())), algorithm: None, key_id: None },
        repositories: Vec::new(),
        permissions: Vec::new(),
        api: Url::parse(api).unwrap(),
        ca_file: None,
        timeout: Duration::from_secs(10),
        egress_proxy: Arc::default(),
    }
}

fn installation(config: &GitHubApp) -> Installation {
    Installation::new(&"p".into(), config, &dialer()).unwrap()
}

fn created() -> Step {
    let body = r#"{"token":"ghs_canary","expires_at":"2100-01-01T00:00:00Z","permissions":{"contents":"read"}}"#;
    Step::Answer(Reply::new("201 Created").body(body))
}

fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_token_is_asked_for_with_a_proof_that_verifies() {
    let server = Server::start(vec![created()]).await;
    let fetched = installation(&config(&server.url("/api/v3/"))).fetch().await.unwrap();
    assert_eq!(fetched.material.token().unwrap().expose(), "ghs_canary");
    assert!(fetched.lifetime.unwrap() > Duration::from_secs(1_000_000));
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /api/v3/app/installations/12345678/access_tokens HTTP/1.1\r\n"), "{request}");
    assert_eq!(field(&request, "accept"), Some("application/vnd.github+json"));
    assert_eq!(field(&request, "x-github-api-version"), Some("2022-11-28"));
    assert!(field(&request, "user-agent").unwrap().starts_with("lanyard/"));
    assert!(request.ends_with("\r\n\r\n") && field(&request, "content-type").is_none(), "{request}");

    let proof = field(&request, "authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let public = rsa().to_public_key().to_pkcs1_der().unwrap();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_issuer(&["Iv1.abc"]);
    let claims = jsonwebtoken::decode::<Value>(proof, &DecodingKey::from_rsa_der(public.as_bytes()), &validation);
    let claims = claims.unwrap().claims;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!((now - 65..=now - 60).contains(&iat) && exp <= now + 540 && exp > now + 500, "{claims}");
    assert_eq!(claims.as_object().unwrap().len(), 3, "{claims}");
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(proof.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header, r#"{"typ":"JWT","alg":"RS256"}"#);
}

#[tokio::test]
async fn a_token_can_be_narrowed() {
    let server = Server::start(vec![created()]).await;
    let mut config = config(&server.url(""));
    config.repositories = vec!["hello".to_owned(), "world".to_owned()];
    config.permissions = vec![("contents".to_owned(), "read".to_owned()), ("issues".to_owned(), "write".to_owned())];
    installation(&config).fetch().await.unwrap();
    let request = server.requests().remove(0);
    assert_eq!(field(&request, "content-type"), Some("application/json"));
    let expected = r#"{"permissions":{"contents":"read","issues":"write"},"repositories":["hello","world"]}"#;
    assert_eq!(request.split_once("\r\n\r\n").unwrap().1, expected);
}

#[tokio::test]
async fn refusals_are_told_with_their_fix() {
    let said = |status: &str, message: &str| Reply::new(status).body(&format!("{{\"message\":\"{message}\"}}"));
    for (reply, kind, detail, hint) in [
        (
            said("401 Unauthorized", "'Expiration time' claim ('exp') is too far in the future"),
            FetchErrorKind::InvalidClient,
            "answered 401: 'Expiration time' claim ('exp') is too far in the future",
            "clock",
        ),
        (
            said("403 Forbidden", "This installation has been suspended"),
            FetchErrorKind::UnauthorizedClient,
            "suspended",
            "suspended",
        ),
        (
            said("403 Forbidden", "API rate limit").header("X-RateLimit-Remaining", "0"),
            FetchErrorKind::RateLimited,
            "403",
            "limits",
        ),
        (said("429 Too Many", "slow").header("Retry-After", "9"), FetchErrorKind::RateLimited, "429", "limits"),
        (said("404 Not Found", "Not Found"), FetchErrorKind::Refused, "404: Not Found", "installation_id (12345678)"),
        (
            said("422 Unprocessable", "The permissions requested are not granted to this installation."),
            FetchErrorKind::InvalidScope,
            "not granted",
            "repositories",
        ),
        (Reply::new("502 Bad Gateway").body("<html>"), FetchErrorKind::ServerError, "answered 502", "githubstatus"),
        (
            Reply::new("301 Moved").header("Location", "http://127.0.0.1:1/"),
            FetchErrorKind::Refused,
            "answered 301",
            "final address",
        ),
        (Reply::new("201 Created").body("<html>"), FetchErrorKind::InvalidResponse, "no JSON", "/api/v3"),
    ] {
        let server = Server::start(vec![Step::Answer(reply)]).await;
        let error = installation(&config(&server.url(""))).fetch().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.detail.contains(detail) && error.hint.contains(hint), "{error:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

/// A server that says what it was sent must not bring the proof into the log.
#[tokio::test]
async fn a_reflected_proof_is_not_shown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let proof = field(&head, "authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let body = format!("{{\"message\":\"bad {proof}\"}}");
        let answer = format!("HTTP/1.1 401 X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        proof
    });
    let error = installation(&config(&api)).fetch().await.unwrap_err();
    let proof = server.await.unwrap();
    assert!(error.detail.ends_with("answered 401: bad [redacted]"), "{error:?}");
    assert!(!format!("{error:?}").contains(proof.split('.').nth(2).unwrap()));
}

#[tokio::test]
async fn keys_that_github_does_not_take_and_a_server_of_ones_own() {
    let server = Server::start(Vec::new()).await;
    for (key, problem) in [
        (rcgen::KeyPair::generate().unwrap().serialize_pem(), "RS256 cannot be signed with"),
        ("canary".to_owned(), "not a private key"),
    ] {
        let mut config = config(&server.url(""));
        config.key.source = SecretSource::Literal(Secret::new(key));
        let error = installation(&config).fetch().await.unwrap_err();
        assert!(error.detail.contains(problem) && error.kind == FetchErrorKind::Secret, "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
    }
    assert!(server.requests().is_empty());

    // GitHub Enterprise Server, with a CA of its own; without it the fix is named.
    let certified = Certified::new("localhost");
    let server = Server::start_tls(&certified, vec![created(), created()]).await;
    let mut config = config(&format!("https://localhost:{}/api/v3", server.address.port()));
    let error = installation(&config).fetch().await.unwrap_err();
    assert!(error.kind == FetchErrorKind::Tls && error.hint.contains("ca_file"), "{error:?}");
    config.ca_file = Some(certified.bundle());
    assert!(installation(&config).fetch().await.is_ok());
}

#[tokio::test]
async fn its_files_are_watched() {
    let mut config = config("https://api.github.com");
    assert!(installation(&config).files().is_empty());
    config.key.source = SecretSource::File("/run/secrets/app.pem".into());
    let shown = format!("{:?}", installation(&config));
    assert_eq!(installation(&config).files(), [PathBuf::from("/run/secrets/app.pem")]);
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}
