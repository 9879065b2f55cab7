//! The protected API.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

async fn call(server: &Server, method: &str, path: &str, authorization: &[&str]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for value in authorization {
        request = request.header(header::AUTHORIZATION, *value);
    }
    server.send(request.body(Body::from("12345")).unwrap()).await
}

const OTHER: &str = "Token is for another audience: aud is other, expected billing";

const PATH: &str = "/api/v1/protected-resource";

fn is_denied(answer: &Answer, status: u16, code: &str, description: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!((answer.text("error"), answer.text("error_description")), (code.to_owned(), description.to_owned()));
    let challenge = format!("Bearer realm=\"lanyard demo\", error=\"{code}\", error_description=\"{description}\"");
    assert!(answer.header(header::WWW_AUTHENTICATE).starts_with(&challenge), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_good_token_is_let_in_and_not_shown() {
    for algorithm in [Algorithm::Es256, Algorithm::Hs256, Algorithm::Opaque] {
        let server = Server::with(|settings| settings.algorithm = algorithm);
        let token = server.token().await;
        for (method, path) in [("GET", PATH), ("POST", PATH), ("DELETE", "/resource"), ("PATCH", "/any/thing")] {
            let answer = call(&server, method, path, &[&format!("bearer {token}")]).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.text("message"), "Access granted");
            assert_eq!(answer.text("sub"), "demo");
            assert_eq!(answer.text("client_id"), "demo");
            assert_eq!(answer.text("scope"), "api:read api:write");
            assert_eq!(answer.text("method"), method);
            assert_eq!(answer.text("path"), path);
            assert_eq!(answer.get("body_bytes"), 5);
            assert!(!answer.text.contains(&token));
        }
    }
}

#[tokio::test]
async fn no_token_is_challenged_without_an_error_code() {
    let server = Server::development();
    for authorization in [&[][..], &["Basic ZGVtbzp4"]] {
        let answer = call(&server, "GET", PATH, authorization).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header(header::WWW_AUTHENTICATE), "Bearer realm=\"lanyard demo\"");
        assert_eq!(answer.text("error"), "unauthorized");
    }
}

#[tokio::test]
async fn a_malformed_request_is_a_bad_one() {
    let server = Server::development();
    for authorization in [&["Bearer"][..], &["Bearer a b"], &["Bearer a\"b"]] {
        let text = "Malformed Authorization header: expected Bearer and one token";
        is_denied(&call(&server, "GET", PATH, authorization).await, 400, "invalid_request", text);
    }
    let answer = call(&server, "GET", PATH, &["Bearer a", "Bearer b"]).await;
    is_denied(&answer, 400, "invalid_request", "More than one Authorization header");
}

#[tokio::test]
async fn a_bad_token_is_told_why() {
    let server = Server::development();
    let token = server.token().await;
    let denied = async |token: &str, why: &str| {
        let answer = call(&server, "GET", PATH, &[&format!("Bearer {token}")]).await;
        is_denied(&answer, 401, "invalid_token", why);
        assert!(!answer.text.contains(token));
    };
    denied("rubbish", "Token is malformed").await;
    // Same shape, another server's key.
    denied(&Server::development().token().await, "Token signature is not valid").await;
    // An algorithm that the token chose itself: `{"alg":"none"}`.
    let payload = token.split('.').nth(1).unwrap();
    denied(&format!("eyJhbGciOiJub25lIn0.{payload}."), "Token is malformed").await;
    // More scope than was given.
    let forged: Vec<&str> = token.split('.').collect();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(forged[1]).unwrap()).unwrap();
    let claims = URL_SAFE_NO_PAD.encode(claims.replace("api:read", "api:root"));
    denied(&format!("{}.{claims}.{}", forged[0], forged[2]), "Token signature is not valid").await;
    let hs256 = Server::with(|settings| settings.algorithm = Algorithm::Hs256);
    denied(&hs256.token().await, "Token signature is not valid").await;

    let revoked = server.token().await;
    server.form("/oauth/revoke", &format!("{DEMO}&token={revoked}")).await;
    denied(&revoked, "Token has been revoked").await;
    server.pass(3600);
    denied(&token, "Token has expired").await;

    let opaque = Server::with(|settings| settings.algorithm = Algorithm::Opaque);
    let answer = call(&opaque, "GET", PATH, &["Bearer rubbish"]).await;
    is_denied(&answer, 401, "invalid_token", "Token is unknown");
}

#[tokio::test]
async fn another_issuer_with_the_same_key_is_another_issuer() {
    let with = |issuer: &str| {
        Server::with(|settings| {
            settings.issuer = Some(issuer.to_owned());
            settings.algorithm = Algorithm::Hs256;
            settings.hs256_key = Some(Secret::new("0123456789abcdef0123456789abcdef"));
        })
    };
    let (one, two) = (with("https://one.example"), with("https://two.example"));
    let answer = call(&one, "GET", PATH, &[&format!("Bearer {}", two.token().await)]).await;
    is_denied(&answer, 401, "invalid_token", "Token is from another issuer");

    // A tenant's token opens the API that all tenants share.
    let body = format!("grant_type=client_credentials&{DEMO}");
    let tenant = one.form("/api/v1/tenant/t/oauth/token", &body).await.text("access_token");
    assert_eq!(call(&one, "GET", PATH, &[&format!("Bearer {tenant}")]).await.status, 200);
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let server = Server::development();
    let token = server.ask("scope=api:read").await.text("access_token");
    let authorization = format!("Bearer {token}");
    assert_eq!(call(&server, "GET", PATH, &[&authorization]).await.status, 200);
    let answer = call(&server, "POST", PATH, &[&authorization]).await;
    is_denied(&answer, 403, "insufficient_scope", "This needs the scope api:write");
    assert!(answer.header(header::WWW_AUTHENTICATE).ends_with(", scope=\"api:write\""));
}

#[tokio::test]
async fn the_audience_must_match_where_one_is_required() {
    let server = Server::development();
    let requirements = Requirements { audience: Some("billing".to_owned()), ..Requirements::default() };
    let api = super::super::resource::router(Arc::clone(&server.issuer), requirements);
    let strict =
        Server { address: listen(api), issuer: Arc::clone(&server.issuer), seconds: Arc::clone(&server.seconds) };
    let own = "http://127.0.0.1:8082";
    for (parameters, status, aud) in [("", 401, own), ("audience=other", 401, "other"), ("audience=billing", 200, "")] {
        let token = server.ask(parameters).await.text("access_token");
        let answer = call(&strict, "POST", "/", &[&format!("Bearer {token}")]).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        if status == 401 {
            let why = format!("Token is for another audience: aud is {aud}, expected billing");
            is_denied(&answer, 401, "invalid_token", &why);
        }
    }
}

#[tokio::test]
async fn a_plain_api_asks_the_same_of_every_method() {
    let server = Server::development();
    let api = server.issuer.protected_api(Some("api:write"), Some("billing"));
    let plain =
        Server { address: listen(api), issuer: Arc::clone(&server.issuer), seconds: Arc::clone(&server.seconds) };
    let open = Server { address: listen(server.issuer.protected_api(None, None)), ..Server::development() };
    for (parameters, code) in [
        ("audience=billing&scope=api:write", None),
        ("audience=billing&scope=api:read", Some((403, "insufficient_scope", "This needs the scope api:write"))),
        ("audience=other&scope=api:write", Some((401, "invalid_token", OTHER))),
    ] {
        let authorization = format!("Bearer {}", server.ask(parameters).await.text("access_token"));
        for method in ["GET", "POST"] {
            let answer = call(&plain, method, PATH, &[&authorization]).await;
            match code {
                Some((status, code, description)) => is_denied(&answer, status, code, description),
                None => assert_eq!(answer.status, 200, "{}", answer.text),
            }
            assert_eq!(call(&open, method, PATH, &[&authorization]).await.status, 200);
        }
    }
}
