use axum::Router;
use base64::{Engine, prelude::BASE64_STANDARD};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

struct Server {
    base: String,
    api: String,
    issuer: Arc<Issuer>,
    client: reqwest::Client,
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

async fn start(change: impl FnOnce(&mut Settings)) -> Server {
    crate::tls::install_provider();
    let mut settings = Settings::development("http://issuer.test");
    settings.algorithm = Algorithm::Es256;
    settings.clients.push(Client {
        id: "odd%:id".to_owned(),
        secret: Secret::new("s%c r:e+t&="),
        scopes: vec!["api:write".to_owned()],
        audiences: vec!["https://only.test".to_owned()],
    });
    change(&mut settings);
    let issuer = Arc::new(Issuer::new(settings).unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (base, api) = (serve(issuer.router()).await, serve(issuer.protected_api(Some("api:read"), None)).await);
    Server { base, api, issuer, client }
}

impl Server {
    async fn post(&self, path: &str, content_type: &str, authorization: Option<&str>, body: &str) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", content_type);
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        if status != 404 && status != 405 {
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
        if status == 401 {
            assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        }
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn form(&self, authorization: Option<&str>, body: &str) -> (u16, Value) {
        self.post("/oauth/token", "application/x-www-form-urlencoded", authorization, body).await
    }

    async fn token(&self, extra: &str) -> String {
        let body = format!("grant_type=client_credentials{extra}");
        let (status, answer) = self.form(Some(&basic("demo", "demo-secret")), &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn get(&self, url: String, token: Option<&str>) -> (u16, String, Value) {
        let request = self.client.get(url);
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate").map(|v| v.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap();
        assert!(token.is_none_or(|token| !body.contains(token)), "the token is echoed");
        (status, challenge.unwrap_or_default(), serde_json::from_str(&body).unwrap())
    }
}

fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret))))
}

#[tokio::test]
async fn every_way_to_authenticate_gets_a_token() {
    let server = start(|_| {}).await;
    let good = basic("demo", "demo-secret");
    let post = "grant_type=client_credentials&client_id=demo&client_secret=demo-secret&scope=api:read";
    let json = json!({ "grant_type": "client_credentials", "client_id": "demo", "client_secret": "demo-secret" });
    let form = "application/x-www-form-urlencoded";
    for (path, kind, authorization, body) in [
        ("/oauth/token", form, Some(good.as_str()), "grant_type=client_credentials"),
        ("/token", form, None, post),
        ("/auth/token", "application/json; charset=utf-8", None, &json.to_string()),
        ("/api/v1/tenant/my-tenant/oauth/token", form, None, post),
        ("/oauth/token", form, Some(&basic("odd%:id", "s%c r:e+t&=")), "grant_type=client_credentials"),
    ] {
        let (status, answer) = server.post(path, kind, authorization, body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        assert_eq!((answer["token_type"].as_str(), answer["expires_in"].as_u64()), (Some("Bearer"), Some(3600)));
        assert!(answer["access_token"].is_string() && answer["scope"].is_string(), "{answer}");
    }
    assert_eq!(server.issuer.token_requests(), 5);
}

#[tokio::test]
async fn refusals_say_what_to_change() {
    let server = start(|_| {}).await;
    let good = basic("demo", "demo-secret");
    let odd = basic("odd%:id", "s%c r:e+t&=");
    let grant = "grant_type=client_credentials";
    let both = format!("{grant}&client_id=demo&client_secret=demo-secret");
    for (authorization, body, status, code, word) in [
        (None, grant, 401, "invalid_client", "Client authentication failed"),
        (Some(basic("demo", "wrong")), grant, 401, "invalid_client", "Client authentication failed"),
        (Some(basic("nobody", "x")), grant, 401, "invalid_client", "Client authentication failed"),
        (Some("Basic %%%".to_owned()), grant, 400, "invalid_request", "base64"),
        (Some(good.clone()), "", 400, "invalid_request", "Missing grant_type parameter"),
        (Some(good.clone()), "grant_type=password", 400, "unsupported_grant_type", "client_credentials"),
        (Some(good.clone()), &format!("{grant}&scope=admin"), 400, "invalid_scope", "api:read api:write"),
        (Some(good.clone()), &format!("{grant}&{grant}"), 400, "invalid_request", "repeated"),
        (Some(good.clone()), &both, 400, "invalid_request", "two ways"),
        (Some(good), &format!("{grant}&client_id=other"), 400, "invalid_request", "client_id"),
        (Some(odd), &format!("{grant}&audience=https://else.test"), 400, "invalid_target", "https://else.test"),
    ] {
        let (got, answer) = server.form(authorization.as_deref(), body).await;
        assert_eq!((got, answer["error"].as_str()), (status, Some(code)), "{body}: {answer}");
        assert!(answer["error_description"].as_str().unwrap().contains(word), "{answer}");
    }
    let (status, answer) = server.post("/oauth/token", "text/plain", None, grant).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")));
    assert_eq!(server.post("/oauth/token", "application/json", None, "{").await.0, 400);
    assert_eq!(server.client.get(format!("{}/oauth/token", server.base)).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn jwts_verify_against_the_published_keys() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let server = start(|settings| settings.algorithm = algorithm).await;
        let token = server.token("&audience=https://api.test&scope=api:read").await;
        let (_, _, jwks) = server.get(format!("{}/api/v1/tenant/t/.well-known/jwks.json", server.base), None).await;
        let jwks: JwkSet = serde_json::from_value(jwks).unwrap();
        let header = decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("at+jwt"));
        let key = DecodingKey::from_jwk(jwks.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&["https://api.test"]);
        validation.set_issuer(&["http://issuer.test"]);
        let claims = decode::<Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!((claims["scope"].as_str(), claims["client_id"].as_str()), (Some("api:read"), Some("demo")));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    }
}

#[tokio::test]
async fn metadata_names_every_endpoint() {
    let server = start(|_| {}).await;
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let (_, _, metadata) = server.get(format!("{}{path}", server.base), None).await;
        assert_eq!(metadata["issuer"], "http://issuer.test");
        assert_eq!(metadata["token_endpoint"], "http://issuer.test/oauth/token");
    }
    let (_, _, tenant) = server.get(format!("{}/api/v1/tenant/test-tenant/strategies", server.base), None).await;
    assert_eq!(tenant["tenant_id"], "test-tenant");
}

#[tokio::test]
async fn the_api_wants_a_good_token_and_the_right_scope() {
    for algorithm in [Algorithm::Es256, Algorithm::Hs256, Algorithm::Opaque] {
        let server = start(|settings| settings.algorithm = algorithm).await;
        let url = format!("{}/api/v1/protected-resource", server.api);
        let (status, challenge, _) = server.get(url.clone(), None).await;
        assert_eq!((status, challenge.as_str()), (401, "Bearer realm=\"lanyard demo\""));
        let (status, challenge, _) = server.get(url.clone(), Some("nonsense")).await;
        assert!(status == 401 && challenge.contains("error=\"invalid_token\""), "{challenge}");
        let (status, _, body) = server.get(url.clone(), Some(&server.token("").await)).await;
        assert_eq!((status, body["client_id"].as_str()), (200, Some("demo")));
        let (status, challenge, _) = server.get(url, Some(&server.token("&scope=api:write").await)).await;
        assert!(status == 403 && challenge.contains("error=\"insufficient_scope\", scope=\"api:read\""), "{challenge}");
    }
}

#[tokio::test]
async fn an_expired_token_is_no_token() {
    let server = start(|settings| settings.lifetime = Duration::ZERO).await;
    let (status, _, body) = server.get(format!("{}/x", server.api), Some(&server.token("").await)).await;
    assert_eq!((status, body["error_description"].as_str()), (401, Some("Token has expired")));
}

#[tokio::test]
async fn a_revoked_token_is_inactive_and_refused() {
    for algorithm in [Algorithm::Es256, Algorithm::Opaque] {
        let server = start(|settings| settings.algorithm = algorithm).await;
        let token = server.token("").await;
        let about = async |path: &str, authorization: Option<&str>| {
            server.post(path, "application/x-www-form-urlencoded", authorization, &format!("token={token}")).await
        };
        let good = basic("demo", "demo-secret");
        assert_eq!(about("/oauth/introspect", None).await.0, 401);
        let (_, told) = about("/oauth/introspect", Some(&good)).await;
        assert_eq!((told["active"].as_bool(), told["client_id"].as_str()), (Some(true), Some("demo")));
        assert_eq!(about("/oauth/revoke", Some(&good)).await.0, 200);
        assert_eq!(about("/oauth/revoke", Some(&good)).await.0, 200);
        assert_eq!(about("/oauth/introspect", Some(&good)).await.1, json!({ "active": false }));
        let (status, challenge, _) = server.get(format!("{}/x", server.api), Some(&token)).await;
        assert!(status == 401 && challenge.contains("Token was revoked"), "{challenge}");
    }
}

#[test]
fn clients_are_written_with_colons_and_their_errors_hide_them() {
    let client: Client = "id:secret:api:read,b".parse().unwrap();
    assert_eq!((client.id.as_str(), client.secret.expose()), ("id", "secret"));
    assert_eq!(client.scopes, ["api:read", "b"]);
    assert!(!"canary-secret".parse::<Client>().unwrap_err().contains("canary"));
    assert!("rs256".parse::<Algorithm>().is_ok() && "none".parse::<Algorithm>().is_err());
}
