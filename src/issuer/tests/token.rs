//! The token endpoint: what it takes, what it gives, what it says of mistakes; and the published keys.

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};

use super::*;

#[tokio::test]
async fn an_answer_has_all_that_rfc_6749_asks_for() {
    let server = Server::development();
    let answer = server.ask("scope=api:read").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text("token_type"), "Bearer");
    assert_eq!(answer.get("expires_in"), 3600);
    assert_eq!(answer.text("scope"), "api:read");
    assert_eq!(answer.get("refresh_token"), Value::Null);
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    assert_eq!(answer.header(header::PRAGMA), "no-cache");
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");

    let server = Server::with(|settings| settings.send_expires_in = false);
    assert!(!server.ask("").await.json().as_object().unwrap().contains_key("expires_in"));
}

/// Takes the published key, as any resource server would, and returns header and claims.
async fn check_as_a_stranger(server: &Server, prefix: &str, token: &str) -> (jsonwebtoken::Header, Value) {
    let metadata = server.get(&format!("{prefix}/.well-known/oauth-authorization-server")).await;
    let jwks = metadata.text("jwks_uri");
    let jwks = server.get(jwks.strip_prefix(server.issuer.identifier()).unwrap()).await;
    let set: JwkSet = serde_json::from_str(&jwks.text).unwrap();
    let header = decode_header(token).unwrap();
    let key = set.find(header.kid.as_ref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_issuer(&[metadata.text("issuer")]);
    let claims = decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims;
    (header, claims)
}

#[tokio::test]
async fn the_published_keys_verify_the_tokens() {
    for (algorithm, name, kty) in [(Algorithm::Rs256, "RS256", "RSA"), (Algorithm::Es256, "ES256", "EC")] {
        let server = Server::with(|settings| settings.algorithm = algorithm);
        let (header, claims) = check_as_a_stranger(&server, "", &server.token().await).await;
        assert_eq!(format!("{:?}", header.alg), name);
        assert_eq!(header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(claims["iss"], "http://127.0.0.1:8082");
        assert_eq!(claims["sub"], "demo");
        assert_eq!(claims["client_id"], "demo");
        assert_eq!(claims["aud"], "http://127.0.0.1:8082");
        assert_eq!(claims["iat"], 1_800_000_000);
        assert_eq!(claims["exp"], 1_800_003_600);
        assert_eq!(claims["scope"], "api:read api:write");
        assert_eq!(claims["jti"].as_str().unwrap().len(), 22);

        let key = server.get("/.well-known/jwks.json").await.get("keys")[0].clone();
        assert_eq!(
            (key["kty"].as_str(), key["alg"].as_str(), key["use"].as_str()),
            (Some(kty), Some(name), Some("sig"))
        );
        for private in ["d", "p", "q", "k"] {
            assert_eq!(key[private], Value::Null);
        }
    }
}

#[tokio::test]
async fn a_shared_key_and_opaque_tokens_publish_nothing() {
    let key = "0123456789abcdef0123456789abcdef";
    let server = Server::with(|settings| {
        settings.algorithm = Algorithm::Hs256;
        settings.hs256_key = Some(Secret::new(key));
    });
    let token = server.token().await;
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.validate_aud = false;
    let claims = decode::<Value>(&token, &DecodingKey::from_secret(key.as_bytes()), &validation).unwrap().claims;
    assert_eq!(claims["sub"], "demo");
    assert_eq!(server.get("/.well-known/jwks.json").await.text, r#"{"keys":[]}"#);

    let server = Server::with(|settings| settings.algorithm = Algorithm::Opaque);
    let (one, two) = (server.token().await, server.token().await);
    assert_eq!(one.len(), 43);
    assert_ne!(one, two);
    assert_eq!(server.get("/.well-known/jwks.json").await.text, r#"{"keys":[]}"#);
    assert_eq!(server.get("/.well-known/oauth-authorization-server").await.get("jwks_uri"), Value::Null);
}

#[tokio::test]
async fn every_tenant_is_an_issuer_of_its_own() {
    let server = Server::development();
    let prefix = "/api/v1/tenant/test-tenant";
    let body = format!("grant_type=client_credentials&{DEMO}");
    let token = server.form(&format!("{prefix}/oauth/token"), &body).await.text("access_token");
    let (_, claims) = check_as_a_stranger(&server, prefix, &token).await;
    assert_eq!(claims["iss"], "http://127.0.0.1:8082/api/v1/tenant/test-tenant");

    let metadata = server.get(&format!("{prefix}/.well-known/openid-configuration")).await;
    assert_eq!(metadata.get("id_token_signing_alg_values_supported"), serde_json::json!(["ES256"]));
    let rfc_8414 = server.get(&format!("/.well-known/oauth-authorization-server{prefix}")).await;
    assert_eq!(rfc_8414.get("issuer"), metadata.get("issuer"));
    assert_eq!(rfc_8414.text("token_endpoint"), format!("http://127.0.0.1:8082{prefix}/oauth/token"));
    assert_eq!(rfc_8414.get("response_types_supported"), serde_json::json!([]));
    assert_eq!(rfc_8414.get("scopes_supported"), serde_json::json!(["api:read", "api:write"]));

    let strategies = server.get(&format!("{prefix}/strategies")).await;
    assert_eq!(strategies.text("tenant_id"), "test-tenant");
    assert_eq!(strategies.text("tenant_name"), "Test Tenant");
    assert_eq!(strategies.get("strategies")[0]["name"], "oauth2");
    server.form("/api/v1/tenant/a%2Fb/oauth/token", &body).await.is_error(404, "not_found", "A tenant's name");
}

#[tokio::test]
async fn all_token_paths_and_body_formats_work() {
    let server = Server::development();
    let body = format!("grant_type=client_credentials&{DEMO}");
    for path in ["/oauth/token", "/token", "/auth/token", "/api/v1/tenant/t/oauth/token"] {
        assert_eq!(server.form(path, &body).await.status, 200, "{path}");
    }
    let answer = server
        .json(
            r#"{"grant_type":"client_credentials","client_id":"demo","client_secret":"demo-secret",
                "scope":null,"resource":["https://a/","https://b/"]}"#,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let claims = server.introspect(&answer.text("access_token")).await;
    assert_eq!(claims.get("aud"), serde_json::json!(["https://a/", "https://b/"]));
    assert_eq!((server.issuer.token_requests(), server.issuer.tokens_issued()), (5, 5));
}

#[tokio::test]
async fn a_malformed_request_is_told_what_is_wrong_with_it() {
    let server = Server::development();
    let missing = server.form("/oauth/token", DEMO).await;
    missing.is_error(400, "invalid_request", "Missing grant_type parameter");
    let empty = server.form("/oauth/token", &format!("grant_type=&{DEMO}")).await;
    empty.is_error(400, "invalid_request", "Missing grant_type parameter");
    server.ask("grant_type=x").await.is_error(400, "invalid_request", "Repeated parameter grant_type");
    server.ask("unknown=1&unknown=2").await.is_error(400, "invalid_request", "Repeated parameter unknown");
    assert_eq!(server.ask("unknown=1").await.status, 200);
    for (body, problem) in [
        ("[]", "no JSON object"),
        ("\"canary\"", "no JSON object"),
        ("{\"client_secret\":canary}", "no JSON object"),
        (r#"{"scope":"a","scope":"b"}"#, "Repeated parameter scope"),
        (r#"{"scope":["canary"]}"#, "Parameter scope must be a string"),
        (r#"{"resource":[1]}"#, "Parameter resource must be a string"),
        ("{}", "Missing grant_type parameter"),
    ] {
        let answer = server.json(body).await;
        answer.is_error(400, "invalid_request", problem);
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    let plain = Request::post("/oauth/token").header(header::CONTENT_TYPE, "text/plain");
    let answer = server.send(plain.body(Body::from(DEMO)).unwrap()).await;
    answer.is_error(400, "invalid_request", "Content-Type must be");
    let answer = server.send(Request::post("/oauth/token").body(Body::from("")).unwrap()).await;
    answer.is_error(400, "invalid_request", "Missing grant_type parameter");
    let in_url = server.form("/oauth/token?client_secret=demo-secret", "grant_type=client_credentials").await;
    in_url.is_error(400, "invalid_request", "never into the URL");
    let huge = server.ask(&"x".repeat(64 * 1024)).await;
    huge.is_error(413, "invalid_request", "larger than 64 KiB");
    assert_eq!(server.issuer.tokens_issued(), 1);
}

#[tokio::test]
async fn a_body_that_is_far_too_large_is_told_so() {
    let server = Server::development();
    for size in [65 * 1024, 1 << 20, 8 << 20] {
        server.ask(&"x".repeat(size)).await.is_error(413, "invalid_request", "larger than 64 KiB");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let server = Server::development();
    let answer = server.get("/oauth/token").await;
    answer.is_error(405, "invalid_request", "Method not allowed");
    assert_eq!(answer.header(header::ALLOW), "POST");
    let answer = server.form("/.well-known/jwks.json", "").await;
    assert_eq!((answer.status.as_u16(), answer.header(header::ALLOW)), (405, "GET,HEAD"));
    let alone = Server { address: listen(server.issuer.router()), ..server };
    alone.get("/nowhere").await.is_error(404, "not_found", "No endpoint /nowhere");
}

#[tokio::test]
async fn an_unknown_grant_type_is_told_the_known_ones() {
    let server = Server::development();
    let answer = server.form("/oauth/token", &format!("grant_type=pass\"word&{DEMO}")).await;
    answer.is_error(
        400,
        "unsupported_grant_type",
        "Grant type 'pass?word' is not supported; supported: client_credentials",
    );
    let refresh = server.form("/oauth/token", &format!("grant_type=refresh_token&refresh_token=x&{DEMO}")).await;
    refresh.is_error(400, "unsupported_grant_type", "'refresh_token' is not supported");
}

#[tokio::test]
async fn scopes_are_limited_to_those_of_the_client() {
    let server = Server::with(|settings| settings.clients.push(client("free:s")));
    assert_eq!(server.ask("").await.text("scope"), "api:read api:write");
    assert_eq!(server.ask("scope=api:write+api:read+api:write").await.text("scope"), "api:write api:read");
    server.ask("scope=api:read+admin").await.is_error(400, "invalid_scope", "Scope 'admin' is not allowed");
    server.ask("scope=a%22b").await.is_error(400, "invalid_scope", "Malformed scope");
    server.ask("scope=+").await.is_error(400, "invalid_scope", "Malformed scope");

    let free = "grant_type=client_credentials&client_id=free&client_secret=s";
    assert_eq!(server.form("/token", free).await.get("scope"), Value::Null);
    assert_eq!(server.form("/token", &format!("{free}&scope=x+y")).await.text("scope"), "x y");
}

#[tokio::test]
async fn audience_and_resource_become_aud() {
    let server = Server::with(|settings| {
        settings.default_audience = Some("default".to_owned());
        let limited = Client { audiences: vec!["https://a.example/".to_owned()], ..client("limited:s") };
        settings.clients.push(limited);
    });
    for (parameters, aud) in [
        ("", serde_json::json!("default")),
        ("audience=billing", serde_json::json!("billing")),
        ("resource=https://a.example/", serde_json::json!("https://a.example/")),
        ("audience=x&resource=urn:y&resource=urn:z&resource=urn:y", serde_json::json!(["x", "urn:y", "urn:z"])),
    ] {
        let token = server.ask(parameters).await.text("access_token");
        assert_eq!(server.introspect(&token).await.get("aud"), aud);
    }
    server.ask("resource=not-a-uri").await.is_error(400, "invalid_target", "absolute URI without a fragment");
    server.ask("resource=https://a/%23f").await.is_error(400, "invalid_target", "absolute URI without a fragment");
    let limited = "grant_type=client_credentials&client_id=limited&client_secret=s";
    assert_eq!(server.form("/token", &format!("{limited}&audience=https://a.example/")).await.status, 200);
    let other = server.form("/token", &format!("{limited}&audience=https://b.example/")).await;
    other.is_error(400, "invalid_target", "Audience 'https://b.example/' is not allowed");
}
