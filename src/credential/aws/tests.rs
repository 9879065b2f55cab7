use http::{HeaderMap, HeaderValue, StatusCode};

use super::{
    endpoint::Environment,
    signer::{RequestSigner, Shared},
    *,
};
use crate::{
    config::{self, CredentialKind},
    credential::{Body, Outgoing, Signer as _},
    oauth::tests::{
        dialer,
        server::{Reply, Server, Step},
    },
};

/// A profile as the configuration reads it.
fn profile(keys: &str) -> Arc<config::Profile> {
    let toml = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[profiles.aws]\ntype = \"aws_sigv4\"\nregion = \"eu-central-1\"\n{keys}"
    );
    let loaded = config::parse(&toml, "proxy.toml", std::path::Path::new("."), &config::System);
    Arc::clone(&loaded.unwrap_or_else(|problems| panic!("{problems}")).config.profiles["aws"])
}

fn settings(keys: &str) -> AwsSigV4 {
    let CredentialKind::AwsSigV4(aws) = &profile(keys).kind else { panic!("of another kind") };
    AwsSigV4::clone(aws)
}

const KEYS: &str = "access_key_id = \"AKIATEST\"\nsecret_access_key = \"canary-secret\"\n";

fn signer(service: &str, more: &str) -> RequestSigner {
    let config = settings(&format!("service = \"{service}\"\n{KEYS}{more}"));
    let credentials = Credentials {
        access_key_id: "AKIATEST".to_owned(),
        secret_access_key: Secret::new("canary-secret"),
        session_token: Some(Secret::new("canary-session")),
        expiration: None,
    };
    RequestSigner::new(Arc::new(Shared::new("aws", &config).unwrap()), credentials)
}

fn outgoing<'a>(
    scheme: &'a str,
    authority: &'a str,
    fields: &'a [(&'a str, &'a [u8])],
    body: Body<'a>,
) -> Outgoing<'a> {
    Outgoing { method: "PUT", scheme, authority: authority.as_bytes(), path_and_query: "/a?b=c", fields, body }
}

/// The names of the fields that a signature has, or what is wrong.
fn signed(signer: &RequestSigner, request: &Outgoing<'_>) -> Result<Vec<&'static str>, String> {
    let streamed = signer.sign_streamed(request).map_err(|error| error.detail)?;
    assert_eq!(streamed.chunks.is_some(), streamed.fields.iter().any(|(name, _)| *name == "Content-Encoding"));
    Ok(streamed.fields.iter().map(|(name, _)| *name).collect())
}

#[test]
fn what_is_said_of_a_body_follows_from_what_is_known_of_it() {
    const HASH: &[u8] = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let usual = ["X-Amz-Date", "X-Amz-Security-Token", "Authorization"];
    let s3 = ["X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "Authorization"];
    let streamed = [
        "X-Amz-Date",
        "X-Amz-Content-Sha256",
        "X-Amz-Security-Token",
        "X-Amz-Decoded-Content-Length",
        "Content-Length",
        "Content-Encoding",
        "Authorization",
    ];
    let (whole, long, endless) = (Body::Whole(b"x"), Body::Streamed(Some(70_000)), Body::Streamed(None));
    let tls = |fields, body| outgoing("https", "api.example.com", fields, body);
    let api = signer("execute-api", "");
    assert_eq!(signed(&api, &tls(&[], whole)).unwrap(), usual);
    assert!(signed(&api, &tls(&[], long)).unwrap_err().contains("70000 bytes"));
    assert!(signed(&api, &tls(&[], endless)).unwrap_err().contains("whose length nobody told"));
    // The client's own stays where it is.
    for said in [HASH, b"UNSIGNED-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        for body in [whole, long, endless] {
            let fields = [("X-Amz-Content-SHA256", said)];
            assert_eq!(signed(&api, &outgoing("https", "api.example.com", &fields, body)).unwrap(), usual);
        }
    }
    let bucket = signer("s3", "");
    assert_eq!(signed(&bucket, &tls(&[], whole)).unwrap(), s3);
    assert_eq!(signed(&bucket, &tls(&[], long)).unwrap(), streamed);
    assert!(signed(&bucket, &tls(&[], endless)).unwrap_err().contains("for s3"));
    let unsigned = signer("execute-api", "payload = \"unsigned\"\n");
    for body in [whole, long, endless] {
        assert_eq!(signed(&unsigned, &tls(&[], body)).unwrap(), s3);
    }
    for (authority, is_local) in
        [("localhost:8080", true), ("127.0.0.1", true), ("[::1]:80", true), ("[::1]", true), ("api.example.com", false)]
    {
        let plain = signed(&unsigned, &outgoing("http", authority, &[], whole));
        assert_eq!(plain.is_ok(), is_local, "{authority}: {plain:?}");
    }
    for (said, problem) in [
        (&b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"[..], "piece by piece"),
        (b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "piece by piece"),
        (b"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", "lower case"),
        (b"e3b0", "no SHA-256"),
        (b"", "no SHA-256"),
        (b"\xff", "no SHA-256"),
    ] {
        let fields = [("x-amz-content-sha256", said)];
        let error = signed(&bucket, &outgoing("https", "api.example.com", &fields, whole)).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let twice = [("x-amz-content-sha256", HASH), ("X-Amz-Content-Sha256", HASH)];
    assert!(signed(&bucket, &outgoing("https", "x", &twice, whole)).unwrap_err().contains("more than one"));
}

#[test]
fn only_bodies_that_can_be_kept_are_wanted_before() {
    let none = HeaderMap::new();
    let said = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-amz-content-sha256"),
        HeaderValue::from_static("UNSIGNED-PAYLOAD"),
    )]);
    for service in ["s3", "execute-api"] {
        let signer = signer(service, "");
        assert!(signer.wants_body(&none, Some(65_536)) && signer.wants_body(&none, None));
        assert!(!signer.wants_body(&none, Some(65_537)) && !signer.wants_body(&said, Some(1)));
    }
    assert!(!signer("s3", "payload = \"unsigned\"\n").wants_body(&none, Some(1)));
}

#[test]
fn a_signature_shows_its_key_and_no_secret() {
    let signer = signer("execute-api", "");
    assert_eq!(signer.key(), Some("AKIATEST"));
    assert!(!format!("{signer:?}").contains("canary"));
    let fields = signer.sign(&outgoing("https", "api.example.com", &[], Body::Whole(b""))).unwrap();
    let authorization = fields.iter().find(|(name, _)| *name == "Authorization").unwrap();
    assert!(authorization.1.is_sensitive());
    assert!(authorization.1.to_str().unwrap().contains("Credential=AKIATEST/"));
    assert!(fields.iter().any(|(name, value)| *name == "X-Amz-Security-Token" && value.is_sensitive()));
}

#[test]
fn a_403_asks_for_other_credentials_by_default() {
    let (keys, both) = (format!("service = \"s3\"\n{KEYS}"), [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]);
    assert_eq!(profile(&keys).retry_statuses, both);
    assert_eq!(profile(&format!("{keys}retry_statuses = [400]\n")).retry_statuses, [StatusCode::BAD_REQUEST]);
}

#[tokio::test]
async fn files_are_read_at_each_fetch_and_watched() {
    let folder = std::env::temp_dir().join(format!("lanyard-aws-{:016x}", fastrand::u64(..)));
    std::fs::create_dir_all(&folder).unwrap();
    let (secret, token, ini) = (folder.join("secret"), folder.join("token"), folder.join("credentials"));
    std::fs::write(&secret, "canary-1\n").unwrap();
    std::fs::write(&token, "canary-t").unwrap();
    std::fs::write(&ini, "[default]\naws_access_key_id = AKIA1\n").unwrap();
    let keys = settings(&format!(
        "service = \"s3\"\naccess_key_id = \"AKIATEST\"\nsecret_access_key = {{ file = {secret:?} }}\n\
         session_token = {{ file = {token:?} }}\n"
    ));
    let of_keys = Aws::new("aws", &keys, &dialer()).unwrap();
    assert_eq!(of_keys.files(), [secret.clone(), token.clone()]);
    assert_eq!(of_keys.credentials().await.unwrap().secret_access_key, Secret::new("canary-1"));
    std::fs::write(&secret, "canary-2\n").unwrap();
    assert_eq!(of_keys.credentials().await.unwrap().secret_access_key, Secret::new("canary-2"));
    std::fs::remove_file(&token).unwrap();
    let error = of_keys.fetch().await.unwrap_err();
    assert!(error.kind == FetchErrorKind::Secret && error.detail.starts_with("session_token"), "{error}");

    let file = settings(&format!("service = \"s3\"\ncredentials = \"file\"\ncredentials_file = {ini:?}\n"));
    let of_file = Aws::new("aws", &file, &dialer()).unwrap();
    assert_eq!(of_file.files(), std::slice::from_ref(&ini));
    let error = of_file.fetch().await.unwrap_err();
    assert!(error.is_transient() && error.detail.ends_with("there is no aws_secret_access_key"), "{error}");
    std::fs::write(&ini, "[default]\naws_access_key_id = AKIA1\naws_secret_access_key = canary\n").unwrap();
    let fetched = of_file.fetch().await.unwrap();
    assert_eq!(fetched.lifetime, Some(Fetched::FOREVER));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_end_that_is_over_leaves_nothing() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    assert_eq!(left(now + Duration::from_secs(5), now), Duration::from_secs(5));
    assert_eq!(left(now - Duration::from_secs(5), now), Duration::ZERO);
}

/// A container's endpoint with this environment.
fn container(environment: &[(&str, &str)]) -> Endpoint {
    let read = |name: &str| environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    Endpoint::container("aws", None, Environment::read(read), Duration::from_secs(5), &dialer()).unwrap()
}

#[tokio::test]
async fn clear_text_is_for_addresses_of_the_machine() {
    const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    for url in ["http://credentials.example/", "http://10.0.0.1/", "http://169.254.170.24/", "http://[fd00:ec2::24]/"] {
        let error = container(&[(FULL, url)]).ask().await.unwrap_err();
        assert!(error.detail.ends_with("would bring the credentials in clear text"), "{error}");
    }
    for url in ["ftp://127.0.0.1/", "nothing", "/x"] {
        let error = container(&[(FULL, url)]).ask().await.unwrap_err();
        assert!(error.detail.contains("is no URL"), "{error}");
    }
    for path in ["@evil.example/", ".evil.example/", ":81/x", "5/x"] {
        let error = container(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path)]).ask().await.unwrap_err();
        assert!(error.detail.contains("is no URL"), "{path}: {error}");
    }
    for (name, value, shown) in [
        (FULL, "http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/credentials"),
        (FULL, "http://[fd00:ec2::23]/v1", "http://[fd00:ec2::23]/v1"),
        (FULL, "https://credentials.example/x", "https://credentials.example/x"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1?x", "http://169.254.170.2/v2/credentials/1"),
    ] {
        let endpoint = format!("{:?}", container(&[(name, value)]));
        let url = url::Url::parse(shown).unwrap();
        assert!(endpoint.contains("Ok(") && endpoint.contains(url.path()), "{endpoint}");
    }
}

const ANSWER: &str =
    r#"{"AccessKeyId":"ASIA1","SecretAccessKey":"canary","Token":"canary","Expiration":"2100-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn a_containers_endpoint_is_shown_the_token_that_is_there_now() {
    let ok = || Step::Answer(Reply::json(ANSWER));
    let server = Server::start(vec![ok(), ok(), Step::Answer(Reply::new("403 Forbidden").body("canary"))]).await;
    let file = std::env::temp_dir().join(format!("lanyard-aws-token-{:016x}", fastrand::u64(..)));
    std::fs::write(&file, "canary-1").unwrap();
    let endpoint = container(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server.url("/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this one"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
    ]);
    assert_eq!(endpoint.ask().await.unwrap().access_key_id, "ASIA1");
    std::fs::write(&file, "canary-2").unwrap();
    endpoint.ask().await.unwrap();
    for (request, token) in server.requests().iter().zip(["canary-1", "canary-2"]) {
        assert!(
            request.starts_with("GET /v1/credentials ") && request.contains(&format!("authorization: {token}\r\n"))
        );
    }
    let error = endpoint.ask().await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::InvalidClient);
    assert!(!format!("{error:?} {endpoint:?}").contains("canary"), "{error:?}");
    for illegal in ["", "a\nb"] {
        std::fs::write(&file, illegal).unwrap();
        let error = endpoint.ask().await.unwrap_err();
        assert!(error.kind == FetchErrorKind::Secret && error.hint.contains("TOKEN_FILE"), "{error:?}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn the_metadata_service_is_asked_as_imdsv2_wants_it() {
    let text = |text: &str| Step::Answer(Reply::new("200 OK").body(text));
    let none = |status: &str| Step::Answer(Reply::new(status));
    let server = Server::start(vec![text("canary-token"), text("role\nanother"), text(ANSWER)]).await;
    let imds = |url: &str, timeout| {
        let url = url::Url::parse(url).unwrap();
        Endpoint::imds("aws", Some(&url), timeout, &dialer()).unwrap()
    };
    let endpoint = imds(&server.url(""), Duration::from_secs(5));
    assert_eq!(endpoint.ask().await.unwrap().access_key_id, "ASIA1");
    let requests = server.requests();
    assert!(requests[0].starts_with("PUT /latest/api/token ") && requests[0].contains("token-ttl-seconds: 300\r\n"));
    let path = "GET /latest/meta-data/iam/security-credentials/";
    assert!(requests[1].starts_with(&format!("{path} ")) && requests[1].contains("-metadata-token: canary-token\r\n"));
    assert!(requests[2].starts_with(&format!("{path}role ")) && requests[2].contains("-token: canary-token\r\n"));

    for (script, kind, says, hints) in [
        (vec![none("403 Forbidden")], FetchErrorKind::InvalidClient, "answered 403", "turned off"),
        (vec![none("503 Busy")], FetchErrorKind::ServerError, "answered 503", "tried again"),
        (vec![none("429 Slow")], FetchErrorKind::RateLimited, "answered 429", "less often"),
        (vec![text("")], FetchErrorKind::InvalidResponse, "gave a token that is none", "metadata_endpoint"),
        (vec![text("t"), none("404 Not Found")], FetchErrorKind::Refused, "answered 404", "give the instance a role"),
        (vec![text("t"), text("../../secret")], FetchErrorKind::InvalidResponse, "named no role", "metadata_endpoint"),
        (vec![text("t"), text("r"), text("<html>")], FetchErrorKind::InvalidResponse, "not JSON", "AccessKeyId"),
        (vec![text("t"), text("r"), text(r#"{"Code":"Failed"}"#)], FetchErrorKind::Refused, "`Code`", "role"),
    ] {
        server.then(script);
        let error = endpoint.ask().await.unwrap_err();
        assert!(error.kind == kind && error.detail.contains(says) && error.hint.contains(hints), "{error:?}");
    }
    server.then(vec![Step::Silence]);
    for url in [server.url(""), format!("http://{}", Server::closed().await)] {
        let error = imds(&url, Duration::from_millis(300)).ask().await.unwrap_err();
        assert!(error.is_transient() && error.hint.contains("hop-limit 2"), "{error:?}");
    }
}
