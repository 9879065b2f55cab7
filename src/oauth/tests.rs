//! The client against real sockets: what it sends, byte by byte, and what it makes of servers that misbehave.

pub(crate) mod server;

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use self::server::{Reply, Server, Step};
use super::*;
use crate::{
    config::{CaBundle, Endpoint, RequestFormat},
    egress::{Egress, no_proxy::NoProxy},
    tls::TlsError,
};

const TOKEN: &str = r#"{"access_token":"canary-token","token_type":"Bearer","expires_in":60}"#;

/// The settings of a profile that says only what it must.
pub(crate) fn oauth2(endpoint: &str) -> OAuth2 {
    OAuth2 {
        grant: Grant::ClientCredentials,
        endpoint: Endpoint {
            token_endpoint: Some(Url::parse(endpoint).unwrap()),
            issuer: None,
            allow_plaintext: false,
        },
        client_id: Some("client".to_owned()),
        authentication: Authentication::ClientSecretBasic(literal("canary-secret")),
        scope: None,
        audience: None,
        resource: Vec::new(),
        params: Vec::new(),
        headers: Vec::new(),
        request_format: RequestFormat::Form,
        dpop: None,
        ca_file: None,
        timeout: Duration::from_secs(5),
        egress_proxy: Arc::default(),
    }
}

/// A secret that stands in the configuration.
pub(crate) fn literal(text: &str) -> SecretSource {
    SecretSource::Literal(Secret::new(text))
}

/// A client secret and nothing else.
pub(crate) fn client_secret(text: &str) -> secrets::Secrets {
    secrets::Secrets { proof: secrets::Proof::Secret(Secret::new(text)), grant: Vec::new() }
}

/// The endpoint that [`oauth2`] was given.
pub(crate) fn endpoint(config: &OAuth2) -> &Url {
    config.endpoint.token_endpoint.as_ref().unwrap()
}

fn client(config: &OAuth2) -> TokenClient {
    TokenClient::new("billing", config, &dialer()).unwrap()
}

pub(crate) fn dialer() -> Dialer {
    Dialer { resolver: crate::dns::Resolver::system().unwrap(), own: [].into() }
}

/// Fetches once and fails; nothing of what failed shows a secret.
async fn failure(config: &OAuth2) -> FetchError {
    let client = client(config);
    let error = client.fetch().await.unwrap_err();
    let shown = format!("{error} {error:?} {client:?}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!error.hint.is_empty());
    error
}

#[tokio::test]
async fn a_token_is_fetched_by_exactly_this_request() {
    let server = Server::start(vec![Step::Answer(Reply::json(TOKEN))]).await;
    let mut config = oauth2(&server.url("/token?tenant=acme"));
    config.scope = Some("api:read api:write".to_owned());
    config.authentication = Authentication::ClientSecretBasic(literal("p%c:d e+f&ü"));
    config.headers = vec![(HeaderName::from_static("x-api-key"), HeaderValue::from_static("canary-key"))];
    let fetched = client(&config).fetch().await.unwrap();
    assert_eq!(fetched.material.token().unwrap().expose(), "canary-token");
    assert_eq!(fetched.lifetime, Some(Duration::from_secs(60)));
    assert!(!format!("{fetched:?}").contains("canary"));

    let sent = server.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /token?tenant=acme HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    let agent = format!("user-agent: lanyard/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines,
        [
            "accept: application/json",
            // base64 of "client:p%25c%3Ad+e%2Bf%26%C3%BC"
            "authorization: Basic Y2xpZW50OnAlMjVjJTNBZCtlJTJCZiUyNiVDMyVCQw==",
            "content-length: 58",
            "content-type: application/x-www-form-urlencoded",
            &host,
            &agent,
            "x-api-key: canary-key",
        ]
    );
    assert_eq!(body, "grant_type=client_credentials&scope=api%3Aread+api%3Awrite");
}

#[tokio::test]
async fn json_with_the_credentials_in_the_body_arrives_as_it_should() {
    let server = Server::start(vec![Step::Answer(Reply::json(TOKEN))]).await;
    let mut config = oauth2(&server.url("/token"));
    config.request_format = RequestFormat::Json;
    config.authentication = Authentication::ClientSecretPost(literal("canary-secret"));
    client(&config).fetch().await.unwrap();
    let sent = server.requests().remove(0);
    assert!(!sent.contains("authorization:"));
    assert!(sent.ends_with(
        "\r\n\r\n{\"grant_type\":\"client_credentials\",\"client_id\":\"client\",\"client_secret\":\"canary-secret\"}"
    ));
}

#[tokio::test]
async fn a_rotated_secret_is_used_at_the_next_fetch() {
    let server = Server::start(vec![Step::Answer(Reply::json(TOKEN)), Step::Answer(Reply::json(TOKEN))]).await;
    let path = std::env::temp_dir().join(format!("lanyard-oauth-{}", std::process::id()));
    let mut config = oauth2(&server.url("/token"));
    config.authentication = Authentication::ClientSecretPost(SecretSource::File(path.clone()));
    let client = client(&config);
    assert_eq!(client.files(), std::slice::from_ref(&path));
    for secret in ["first", "second"] {
        std::fs::write(&path, secret).unwrap();
        client.fetch().await.unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    let sent = server.requests();
    assert!(sent[0].ends_with("client_secret=first") && sent[1].ends_with("client_secret=second"));
    let error = client.fetch().await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Secret);
    assert!(error.detail.contains("lanyard-oauth-"), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::start(vec![Step::Answer(Reply::json(TOKEN))]).await;
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = target.url("/token");
        let server = Server::start(vec![Step::Answer(Reply::new(status).header("location", &location))]).await;
        let error = failure(&oauth2(&server.url("/token"))).await;
        assert_eq!(error.kind, FetchErrorKind::Refused);
        assert!(error.detail.contains("a redirect to 127.0.0.1"), "{error}");
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn a_reflecting_server_gives_nothing_away() {
    let body = r#"{"error":"invalid_client","error_description":"bad secret canary-secret"}"#;
    let server = Server::start(vec![Step::Answer(Reply::new("401 Unauthorized").body(body))]).await;
    let error = failure(&oauth2(&server.url("/token?key=canary"))).await;
    assert_eq!(error.kind, FetchErrorKind::InvalidClient);
    assert!(error.detail.ends_with("/token answered 401 invalid_client: bad secret [redacted]"), "{error}");
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let server = Server::start(vec![Step::Endless("200 OK")]).await;
    let error = failure(&oauth2(&server.url("/token"))).await;
    assert_eq!(error.kind, FetchErrorKind::InvalidResponse);
    assert!(error.detail.ends_with("sent more than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_understood_though_its_body_never_ends_or_breaks_off() {
    for step in [
        Step::Endless("503 Service Unavailable\r\nretry-after: 7"),
        Step::CutShort("503 Service Unavailable\r\nretry-after: 7"),
    ] {
        let server = Server::start(vec![step]).await;
        let error = failure(&oauth2(&server.url("/token"))).await;
        assert_eq!(error.kind, FetchErrorKind::ServerError);
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn the_time_limit_is_for_the_whole_answer() {
    for step in [Step::Silence, Step::Trickle] {
        let server = Server::start(vec![step]).await;
        let mut config = oauth2(&server.url("/token"));
        config.timeout = Duration::from_millis(300);
        let error = failure(&config).await;
        assert_eq!(error.kind, FetchErrorKind::Timeout);
        assert!(error.detail.ends_with("/token gave no whole answer within 300ms"), "{error}");
    }
}

#[tokio::test]
async fn connections_that_fail_are_told_apart() {
    let closed = Server::closed().await;
    let error = failure(&oauth2(&format!("http://{closed}/token?x=canary"))).await;
    assert_eq!(error.kind, FetchErrorKind::Unreachable);
    assert!(error.detail.contains("no connection: Connection refused"), "{error}");
    assert!(!error.detail.contains('?'), "{error}");

    let error = failure(&oauth2("https://no-such-host.invalid/token")).await;
    assert_eq!(error.kind, FetchErrorKind::Unresolved);
    assert!(error.detail.contains("the name does not resolve"), "{error}");

    for (step, kind) in [
        (Step::Reset, FetchErrorKind::Unreachable),
        (Step::Close, FetchErrorKind::Unreachable),
        (Step::CutShort("200 OK"), FetchErrorKind::Unreachable),
        (Step::Raw("SSH-2.0-OpenSSH_9.6\r\n"), FetchErrorKind::InvalidResponse),
    ] {
        let server = Server::start(vec![step]).await;
        let error = failure(&oauth2(&server.url("/token"))).await;
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(server.requests().len(), 1, "a first connection is not retried: {error}");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced_once() {
    for dies in [Step::Close, Step::Reset] {
        let answer = || Step::Answer(Reply::json(TOKEN));
        let server = Server::start(vec![answer(), dies, answer(), answer()]).await;
        let client = client(&oauth2(&server.url("/token")));
        for _ in 0..3 {
            client.fetch().await.unwrap();
        }
        assert_eq!(server.requests().len(), 4);
        assert_eq!(server.connections(), 2, "the others were reused");
    }

    // A server that always closes is asked once more, not for ever.
    let server = Server::start(vec![Step::Answer(Reply::json(TOKEN)), Step::Close, Step::Close, Step::Close]).await;
    let client = client(&oauth2(&server.url("/token")));
    client.fetch().await.unwrap();
    assert_eq!(client.fetch().await.unwrap_err().kind, FetchErrorKind::Unreachable);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn names_are_resolved_by_the_resolver_that_is_given() {
    struct Fixed(std::net::SocketAddr);
    impl reqwest::dns::Resolve for Fixed {
        fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let (found, address) = (name.as_str() == "auth.test", self.0);
            Box::pin(async move {
                if !found {
                    return Err("10.0.0.1 is not allowed".into());
                }
                Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs)
            })
        }
    }
    let server = Server::start(vec![Step::Answer(Reply::json(TOKEN))]).await;
    let resolver: Arc<dyn reqwest::dns::Resolve> = Arc::new(Fixed(server.address));
    let fetch = async |host: &str| {
        let config = oauth2(&format!("http://{host}:{}/token", server.address.port()));
        let provider = Provider::with_resolver("billing", settings(&config), &dialer(), resolver.clone()).unwrap();
        TokenClient::with(&config, provider, &dialer()).fetch().await
    };
    assert!(fetch("auth.test").await.is_ok());
    let error = fetch("other.test").await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unresolved);
    assert!(error.detail.ends_with("10.0.0.1 is not allowed"), "{error}");
}

/// A profile whose token endpoint is reached through this server.
fn through(proxy: &Server, login: &str, endpoint: &str) -> OAuth2 {
    let mut config = oauth2(endpoint);
    let proxy = Proxy::parse(&proxy.url("").replace("http://", &format!("http://{login}"))).unwrap();
    config.egress_proxy = Arc::new(Egress::all(proxy, NoProxy::parse("direct.test, 127.0.0.1").0));
    config
}

#[tokio::test]
async fn an_egress_proxy_is_asked_for_a_tunnel_and_gets_no_secret_of_ours() {
    // The server answers CONNECT, and then the request in the tunnel.
    let script = vec![Step::Answer(Reply::new("200 Connection Established")), Step::Answer(Reply::json(TOKEN))];
    let proxy = Server::start(script).await;
    let config = through(&proxy, "user:can%40ary@", "http://auth.test/token?tenant=acme");
    let fetched = client(&config).fetch().await.unwrap();
    assert_eq!(fetched.material.token().unwrap().expose(), "canary-token");
    let requests = proxy.requests();
    assert_eq!(
        requests[0],
        concat!(
            "CONNECT auth.test:80 HTTP/1.1\r\nHost: auth.test:80\r\nProxy-Authorization: Basic dXNlcjpjYW5AYXJ5\r\n",
            "User-Agent: lanyard/",
            env!("CARGO_PKG_VERSION"),
            "\r\n\r\n"
        )
    );
    assert!(requests[1].starts_with("POST /token?tenant=acme HTTP/1.1\r\nhost: auth.test\r\n"), "{}", requests[1]);
    assert!(requests[1].ends_with("\r\n\r\ngrant_type=client_credentials"), "{}", requests[1]);
    assert!(!requests[1].to_lowercase().contains("proxy-authorization"), "{}", requests[1]);

    // What no_proxy names goes directly.
    let server = Server::start(vec![Step::Answer(Reply::json(TOKEN))]).await;
    client(&through(&proxy, "", &server.url("/token"))).fetch().await.unwrap();
    assert_eq!((proxy.requests().len(), server.requests().len()), (2, 1));
}

#[tokio::test]
async fn what_an_egress_proxy_does_wrong_is_told() {
    use FetchErrorKind::{Timeout, Tls, Unreachable};
    let answer = |status: &str| Step::Answer(Reply::new(status));
    let raw = |text: &str| Step::Raw(text.to_owned().leak());
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(20_000));
    for (login, step, kind, detail, hint) in [
        (
            "",
            answer("407 Proxy Authentication Required"),
            Unreachable,
            "wants credentials",
            "set username and password",
        ),
        ("u:canary@", answer("401 X"), Unreachable, "the credentials (401", "check username and password"),
        ("u:canary@", answer("407 X"), Unreachable, "does not take the credentials", "check username and password"),
        ("", answer("403 Forbidden"), Unreachable, "auth.test:443 with 403 Forbidden", "have auth.test:443 allowed"),
        ("", answer("502 Bad Gateway"), Unreachable, "with 502 Bad Gateway", "cannot reach auth.test:443"),
        ("", answer("504 Gateway Timeout"), Timeout, "with 504 Gateway Timeout", "cannot reach auth.test:443"),
        ("", answer("302 Found"), Unreachable, "with 302 Found", "allowed at the egress proxy"),
        ("", raw("SSH-2.0-OpenSSH_9.6\r\n"), Unreachable, "not HTTP/1", "really an HTTP proxy"),
        ("", raw("HTTP/1.1 abc\r\n\r\n"), Unreachable, "not HTTP/1", "really an HTTP proxy"),
        ("", raw(&long), Unreachable, "more than 16384 bytes", "really an HTTP proxy"),
        ("", Step::Close, Unreachable, "without an answer to CONNECT", "really an HTTP proxy"),
        ("", Step::Reset, Unreachable, "without an answer to CONNECT", "really an HTTP proxy"),
        ("", Step::Silence, Timeout, "opened no tunnel to auth.test:443 within 500ms", "a firewall"),
        ("", raw("HTTP/1.1 200 OK\r\n\r\n"), Unreachable, "no connection through egress proxy", "token_endpoint"),
        ("", raw("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n"), Tls, "does not speak TLS", "port"),
    ] {
        let proxy = Server::start(vec![step]).await;
        let mut config = through(&proxy, login, "https://auth.test/token");
        config.ca_file = Some(server::Certified::new("auth.test").bundle());
        config.timeout = Duration::from_secs(1);
        let error = failure(&config).await;
        assert_eq!(error.kind, kind, "{detail}: {error:?}");
        assert!(error.detail.contains(detail), "{detail}: {error}");
        assert!(error.hint.contains(hint), "{hint}: {error:?}");
        if kind != Tls {
            assert!(error.detail.contains(&format!("egress proxy {}", proxy.url("").trim_end_matches('/'))), "{error}");
        }
        let request = proxy.requests()[0].clone();
        assert!(request.starts_with("CONNECT auth.test:443 HTTP/1.1\r\n") && !request.contains("canary-secret"));
    }
    // Nobody there; a password that cannot be had; and lanyard itself.
    let proxy = Server::start(Vec::new()).await;
    let mut config = through(&proxy, "", "https://auth.test/token");
    config.ca_file = Some(server::Certified::new("auth.test").bundle());
    let mut changed = (**config.egress_proxy.https.as_ref().unwrap()).clone();
    changed.port = 1;
    config.egress_proxy = Arc::new(Egress::all(changed.clone(), NoProxy::default()));
    let error = failure(&config).await;
    assert!(
        error.kind == Unreachable && error.detail.contains("no connection to egress proxy http://127.0.0.1:1"),
        "{error}"
    );
    let password = SecretSource::File("/nonexistent/password".into());
    changed.login = Some(crate::egress::Login { username: "user".to_owned(), password });
    config.egress_proxy = Arc::new(Egress::all(changed.clone(), NoProxy::default()));
    let error = failure(&config).await;
    assert!(error.kind == FetchErrorKind::Secret && error.detail.contains("/nonexistent/password"), "{error}");
    let dialer = Dialer { own: ["127.0.0.1:1".parse().unwrap()].into(), ..dialer() };
    let error = TokenClient::new("billing", &config, &dialer).unwrap().fetch().await.unwrap_err();
    assert!(error.detail.contains("is lanyard itself"), "{error}");
}

/// Runs another test in a process of its own, whose environment points every client at a proxy that does not exist.
#[tokio::test]
async fn the_proxy_of_the_environment_is_not_ours() {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["oauth::tests::a_token_is_fetched_by_exactly_this_request", "--exact"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, "http://127.0.0.1:1");
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn tls_is_verified_and_its_problems_are_named() {
    let certified = server::Certified::new("localhost");
    let server = Server::start_tls(&certified, vec![Step::Answer(Reply::json(TOKEN))]).await;
    let port = server.address.port();
    let mut config = oauth2(&format!("https://localhost:{port}/token"));
    config.ca_file = Some(certified.bundle());
    assert_eq!(client(&config).fetch().await.unwrap().material.token().unwrap().expose(), "canary-token");

    // Another CA than the server's.
    config.ca_file = Some(server::Certified::new("localhost").bundle());
    let error = failure(&config).await;
    assert_eq!(error.kind, FetchErrorKind::Tls);
    assert!(error.detail.contains("certificate not trusted: "), "{error}");
    assert!(error.hint.contains("set ca_file of profile billing"), "{error:?}");

    // Another name than the certificate's.
    let mut config = oauth2(&format!("https://127.0.0.1:{port}/token"));
    config.ca_file = Some(certified.bundle());
    let error = failure(&config).await;
    assert_eq!(error.kind, FetchErrorKind::Tls);
    assert!(error.hint.contains("as its certificate does"), "{error:?}");

    // No TLS at all.
    let plain = Server::start(vec![]).await;
    let mut config = oauth2(&format!("https://{}/token", plain.address));
    config.ca_file = Some(certified.bundle());
    plain.speak_first("HTTP/1.1 400 Bad Request\r\n\r\n");
    let error = failure(&config).await;
    assert_eq!(error.kind, FetchErrorKind::Tls);
    assert!(error.detail.contains("does not speak TLS"), "{error}");
    // The secret went to the one server that was trusted, once.
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_bad_bundle_is_an_error_when_the_client_is_built() {
    let mut config = oauth2("https://auth.test/token");
    config.ca_file = Some(CaBundle { path: "/etc/ca.pem".into(), certificates: vec![vec![1]].into() });
    let error = TokenClient::new("billing", &config, &dialer()).unwrap_err();
    assert!(matches!(error, BuildError::Tls(TlsError::Bundle { .. })), "{error}");
}

#[test]
fn an_endpoint_is_shown_without_what_may_be_secret() {
    let url = Url::parse("https://user:canary@auth.test:8443/t/token?key=canary#canary").unwrap();
    assert_eq!(shown(&url), "https://auth.test:8443/t/token");
}

#[tokio::test]
async fn a_refresh_token_that_is_kept_in_memory_alone_is_told() {
    let next = r#"{"access_token":"canary-token","token_type":"Bearer","refresh_token":"canary-next"}"#;
    let answer = |body| Step::Answer(Reply::json(body));
    let server = Server::start(vec![answer(next), answer(TOKEN)]).await;
    let mut config = oauth2(&server.url("/token"));
    config.grant = Grant::RefreshToken { token: literal("canary-first"), state_file: None };
    let client = client(&config);
    let warning = client.fetch().await.unwrap().warning.unwrap();
    assert!(warning.contains("refresh_token_state_file") && !warning.contains("canary"), "{warning}");
    // A server that goes on with the same one asks for nothing.
    assert_eq!(client.fetch().await.unwrap().warning, None);
    assert!(server.requests()[1].contains("refresh_token=canary-next"));
}
