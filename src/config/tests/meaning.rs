//! What good configurations mean: the defaults, and every key.

use http::{HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use super::*;
use crate::{
    egress::{Login, Proxy, no_proxy::NoProxy},
    secret::Secret,
};

const EVERY_KEY: &str = r#"
[[listeners]]
address = "0.0.0.0:3128"

[[listeners]]
address = "[::1]:9001"
upstream = "http://Localhost:8081/resource"
allowed_hosts = ["gateway.internal", "*.gateway.internal:9001"]
allow_browsers = true

[[listeners]]
address = "unix:run/lanyard.sock"

[admin]
address = "localhost:9191"

[forward]
unmatched = "deny"
connect = "deny"

[egress_proxy]
url = "http://Proxy.Corp.Example"
username = "lanyard"
password = { file = "secret" }
no_proxy = ["localhost", ".corp.example, 10.0.0.0/8"]

[profiles."billing.v2"]
grant_type = "client_credentials"
token_endpoint = "http://keycloak.auth.svc.cluster.local/token?realm=x"
allow_plaintext_token_endpoint = false
token_endpoint_auth_method = "client_secret_post"
client_id = "billing"
client_secret = { file = "secret" }
scope = ["api:read  api:write", "openid"]
audience = "https://api.example.com"
resource = ["https://one.example.com", "urn:example:two"]
params = { tenant = "acme", nonce = "x" }
headers = { X-Tenant = "acme" }
request_format = "json"
timeout = "1500ms"
egress_proxy = { url = "http://proxy:3128", username = "user", password = { env = "SECRET" } }
header = "X-Api-Key"
prefix = ""
existing = "reject"
prefetch = false
required = false
refresh_before = "2m"
default_token_lifetime = "1h"
token_wait = "1s"
idle_after = "24h"
retry_statuses = [401, 403]
replay_limit = "32KiB"
reject_interval = "30s"
on_unavailable = "pass"

[[routes]]
host = "*.Example.com.:8443"
path_prefix = "/v1/"
methods = ["POST", "GET"]
profile = "billing.v2"
upstream = "https://10.0.0.7/base"
server_name = "API.internal"
egress_proxy = "none"
connect_timeout = "3s"
response_timeout = "2h"

[[routes]]
host = "localhost"
profile = "none"

[limits]
max_connections = 20_000
header_timeout = "5s"
max_header_size = "16KiB"
max_headers = 0x40
idle_timeout = "90s"
body_timeout = "15s"
drain_timeout = "0s"

[log]
format = "text"
level = "debug"
access = false
"#;

#[test]
fn an_empty_file_is_a_forward_proxy_on_loopback() {
    let config = good("");
    let [listener] = config.listeners.as_slice() else { panic!("{config:?}") };
    assert_eq!(listener.address.to_string(), "127.0.0.1:8080");
    assert_eq!(listener.mode, ListenerMode::Forward);
    assert!(listener.allowed_hosts.is_empty());
    assert!(!listener.allow_browsers);
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9090");
    assert_eq!(config.forward, Forward { unmatched: Unmatched::Pass, connect: ConnectPolicy::Tunnel });
    assert!(config.profiles.is_empty() && config.routes.is_empty());
    let seconds = Duration::from_secs;
    assert_eq!(
        config.limits,
        Limits {
            max_connections: 10_000,
            header_timeout: seconds(10),
            max_header_size: 64 * 1024,
            max_headers: 100,
            idle_timeout: seconds(60),
            body_timeout: seconds(30),
            drain_timeout: seconds(25),
        }
    );
    assert_eq!(config.log, Log { format: None, level: None, access: true });
    assert_eq!(config, good("listeners = []\nroutes = []\n[profiles]\n[admin]\n[forward]\n[limits]\n[log]\n"));
}

#[test]
fn a_minimal_profile_and_route_have_the_documented_defaults() {
    let config = good(MINIMAL);
    let seconds = Duration::from_secs;
    let oauth2 = OAuth2 {
        grant: Grant::ClientCredentials,
        endpoint: Endpoint {
            token_endpoint: Some(Url::parse("https://auth.example.com/token").unwrap()),
            issuer: None,
            allow_plaintext: false,
        },
        authentication: Authentication::ClientSecretBasic(SecretSource::Env("SECRET".to_owned())),
        client_id: Some("client".to_owned()),
        dpop: None,
        scope: None,
        audience: None,
        resource: Vec::new(),
        params: Vec::new(),
        headers: Vec::new(),
        request_format: RequestFormat::Form,
        ca_file: None,
        timeout: seconds(10),
        egress_proxy: Arc::default(),
    };
    let profile = Profile {
        name: "p".into(),
        kind: CredentialKind::OAuth2(Box::new(oauth2)),
        placement: Placement::Header { name: header::AUTHORIZATION, prefix: "Bearer".to_owned() },
        existing: Existing::Replace,
        prefetch: true,
        required: true,
        refresh_before: seconds(60),
        default_token_lifetime: seconds(300),
        token_wait: seconds(5),
        idle_after: None,
        retry_statuses: vec![StatusCode::UNAUTHORIZED],
        replay_limit: 64 * 1024,
        reject_interval: seconds(10),
        on_unavailable: OnUnavailable::Fail,
    };
    assert_eq!(config.profiles.into_iter().collect::<Vec<_>>(), [("p".into(), Arc::new(profile))]);
    let route = Route {
        host: HostPattern::parse("api.example.com").unwrap(),
        path_prefix: None,
        methods: None,
        profile: Some("p".into()),
        upstream: None,
        ca_file: None,
        server_name: None,
        egress_proxy: Arc::default(),
        connect_timeout: seconds(5),
        response_timeout: seconds(60),
        intercept: false,
        line: 7,
    };
    assert_eq!(config.routes, [route]);
}

#[test]
fn every_key_is_read() {
    let config = good(EVERY_KEY);
    let seconds = Duration::from_secs;
    let pattern = |text| HostPattern::parse(text).unwrap();

    let upstream = Upstream {
        scheme: Scheme::Http,
        host: Host::parse("localhost").unwrap(),
        port: 8081,
        path: Some("/resource".to_owned()),
    };
    let plain =
        |address| Listener { address, mode: ListenerMode::Forward, allowed_hosts: Vec::new(), allow_browsers: false };
    let reverse = Listener {
        address: ListenAddress::Tcp("[::1]:9001".parse().unwrap()),
        mode: ListenerMode::Reverse(upstream),
        allowed_hosts: vec![pattern("gateway.internal"), pattern("*.gateway.internal:9001")],
        allow_browsers: true,
    };
    assert_eq!(
        config.listeners,
        [
            plain(ListenAddress::Tcp("0.0.0.0:3128".parse().unwrap())),
            reverse,
            plain(ListenAddress::Unix("/etc/lanyard/run/lanyard.sock".into())),
        ]
    );
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9191");
    assert_eq!(config.forward, Forward { unmatched: Unmatched::Deny, connect: ConnectPolicy::Deny });

    let oauth2 = OAuth2 {
        grant: Grant::ClientCredentials,
        endpoint: Endpoint {
            token_endpoint: Some(Url::parse("http://keycloak.auth.svc.cluster.local/token?realm=x").unwrap()),
            issuer: None,
            allow_plaintext: false,
        },
        authentication: Authentication::ClientSecretPost(SecretSource::File("/etc/lanyard/secret".into())),
        client_id: Some("billing".to_owned()),
        dpop: None,
        scope: Some("api:read api:write openid".to_owned()),
        audience: Some("https://api.example.com".to_owned()),
        resource: vec!["https://one.example.com".to_owned(), "urn:example:two".to_owned()],
        params: vec![("nonce".to_owned(), "x".to_owned()), ("tenant".to_owned(), "acme".to_owned())],
        headers: vec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("acme"))],
        request_format: RequestFormat::Json,
        ca_file: None,
        timeout: Duration::from_millis(1500),
        egress_proxy: Arc::new(Egress::all(
            Proxy {
                login: Some(Login { username: "user".to_owned(), password: SecretSource::Env("SECRET".to_owned()) }),
                ..Proxy::parse("http://proxy:3128").unwrap()
            },
            NoProxy::default(),
        )),
    };
    assert!(oauth2.headers.iter().all(|(_, value)| !value.is_sensitive()), "the comparison below ignores it");
    let profile = Profile {
        name: "billing.v2".into(),
        kind: CredentialKind::OAuth2(Box::new(oauth2)),
        placement: Placement::Header { name: HeaderName::from_static("x-api-key"), prefix: String::new() },
        existing: Existing::Reject,
        prefetch: false,
        required: false,
        refresh_before: seconds(120),
        default_token_lifetime: seconds(3600),
        token_wait: seconds(1),
        idle_after: Some(seconds(24 * 3600)),
        retry_statuses: vec![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN],
        replay_limit: 32 * 1024,
        reject_interval: seconds(30),
        on_unavailable: OnUnavailable::Pass,
    };
    let read = config.profiles.get("billing.v2").unwrap();
    let CredentialKind::OAuth2(oauth2) = &read.kind else { panic!("not OAuth2") };
    assert!(oauth2.headers.iter().all(|(_, value)| value.is_sensitive()));
    assert_eq!(**read, profile);

    let first = Route {
        host: pattern("*.example.com:8443"),
        path_prefix: Some(PathPrefix::parse("/v1/").unwrap()),
        methods: Some(vec![Method::GET, Method::POST]),
        profile: Some("billing.v2".into()),
        upstream: Some(Upstream {
            scheme: Scheme::Https,
            host: Host::parse("10.0.0.7").unwrap(),
            port: 443,
            path: Some("/base".to_owned()),
        }),
        ca_file: None,
        server_name: Some(Host::parse("api.internal").unwrap()),
        egress_proxy: Arc::default(),
        connect_timeout: seconds(3),
        response_timeout: seconds(7200),
        intercept: false,
        line: config.routes[0].line,
    };
    assert_eq!(config.routes[0], first);
    let login = Login { username: "lanyard".to_owned(), password: SecretSource::File("/etc/lanyard/secret".into()) };
    let proxy = Proxy { login: Some(login), ..Proxy::parse("http://proxy.corp.example:80").unwrap() };
    let (no_proxy, _) = NoProxy::parse("localhost,corp.example,10.0.0.0/8");
    assert_eq!(*config.egress_proxy, Egress::all(proxy, no_proxy));
    assert_eq!(config.routes[1].egress_proxy, config.egress_proxy);
    assert_eq!(config.routes[1].profile, None);
    assert_eq!(config.routes[1].host, pattern("localhost"));

    assert_eq!(
        config.limits,
        Limits {
            max_connections: 20_000,
            header_timeout: seconds(5),
            max_header_size: 16 * 1024,
            max_headers: 64,
            idle_timeout: seconds(90),
            body_timeout: seconds(15),
            drain_timeout: Duration::ZERO,
        }
    );
    assert_eq!(config.log, Log { format: Some(LogFormat::Text), level: Some(tracing::Level::DEBUG), access: false });
}

#[test]
fn a_secret_may_be_a_literal() {
    let text = in_profile("client_secret = \"literal\"");
    let loaded = parse_in(&text, &machine()).unwrap();
    let CredentialKind::OAuth2(oauth2) = &loaded.config.profiles["p"].kind else { panic!("not OAuth2") };
    let literal = SecretSource::Literal(Secret::new("literal"));
    assert_eq!(oauth2.authentication, Authentication::ClientSecretBasic(literal));
}

#[test]
fn an_assertion_is_for_the_issuer_where_that_is_known() {
    let endpoint = "token_endpoint = \"https://auth.example.com/token\"\n";
    let issuer = "issuer = \"https://auth.example.com\"\n";
    for (lines, expected) in [
        (endpoint.to_owned(), AssertionAudience::TokenEndpoint),
        (issuer.to_owned(), AssertionAudience::Issuer),
        ([endpoint, issuer].concat(), AssertionAudience::Issuer),
        ([endpoint, issuer, "client_assertion_audience = \"issuer\"\n"].concat(), AssertionAudience::Issuer),
        ([issuer, "client_assertion_audience = \"token_endpoint\"\n"].concat(), AssertionAudience::TokenEndpoint),
        ([issuer, "client_assertion_audience = \"urn:x\"\n"].concat(), AssertionAudience::Text("urn:x".to_owned())),
    ] {
        let text = format!("[profiles.p]\nclient_id = \"client\"\nprivate_key = {{ env = \"SECRET\" }}\n{lines}");
        let loaded = parse_in(&text, &machine()).unwrap();
        let CredentialKind::OAuth2(oauth2) = &loaded.config.profiles["p"].kind else { panic!("not OAuth2") };
        let Authentication::SignedJwt { audience, .. } = &oauth2.authentication else { panic!("{oauth2:?}") };
        assert_eq!(*audience, expected, "{lines}");
    }
}

#[test]
fn forms_that_are_good() {
    for line in [
        r#"token_endpoint = "http://localhost/token""#,
        r#"token_endpoint = "http://127.9.9.9:8080/token""#,
        r#"token_endpoint = "http://[::1]:8080/token""#,
        r#"token_endpoint = "http://idp.localhost/token""#,
        r#"token_endpoint = "http://keycloak.auth.svc/token""#,
        "token_endpoint = \"http://auth.example.com/token\"\nallow_plaintext_token_endpoint = true",
        "scope = \"one two\"",
        "resource = \"urn:example:one\"",
        "retry_statuses = []",
        "retry_statuses = [400, 599]",
        "replay_limit = \"0B\"",
        "refresh_before = \"0s\"",
        "header = \"authorization\"",
        "prefix = \"token\"",
        "params = {}",
    ] {
        good(&in_profile(line));
    }
    for line in [
        r#"host = "*.internal""#,
        r#"host = "*.svc:8080""#,
        r#"host = "[::1]:8080""#,
        r#"host = "10.0.0.7""#,
        r#"host = "api_v2.example.com.""#,
        r#"path_prefix = "/""#,
        r#"path_prefix = "/a%20b""#,
        r#"methods = ["PATCH", "M-SEARCH"]"#,
        r#"upstream = "http://127.0.0.1:8081/""#,
        r#"upstream = "https://[2001:db8::1]:8443/a/b/""#,
        r#"server_name = "10.0.0.7""#,
    ] {
        good(&in_route(line));
    }
    for line in [r#"address = "localhost:0""#, r#"address = "[::1]:8080""#, r#"address = "unix:/run/l.sock""#] {
        good(&in_listener(line));
    }
    let port_zero_twice = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    good(&port_zero_twice.repeat(2));
}
