//! The grants that have more to them than a client's own credentials.

use serde_json::json;

use super::{signer::Signer, *};

const ISSUER: &str = "http://127.0.0.1:8082";
const NOW: u64 = 1_800_000_000;
const BEARER: &str = "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// `demo` may ask for anything, `plain` for its own tokens only.
fn settings(settings: &mut Settings) {
    settings.clients[0].grant_types = GrantType::ALL.to_vec();
    settings.clients[0].users = vec![User { name: "zoe".to_owned(), password: Secret::new("p w") }];
    settings.clients.push(client("plain:s"));
}

#[tokio::test]
async fn a_password_gives_tokens_of_the_user() {
    let server = Server::with(settings);
    let ask = async |user: &str| server.form("/oauth/token", &format!("grant_type=password&{DEMO}&{user}")).await;
    let answer = ask("username=zoe&password=p+w&scope=api:read").await;
    assert_eq!((answer.status.as_u16(), answer.text("scope")), (200, "api:read".to_owned()));
    let shown = server.introspect(&answer.text("access_token")).await;
    assert_eq!((shown.text("sub"), shown.text("client_id")), ("zoe".to_owned(), "demo".to_owned()));
    for wrong in ["username=zoe&password=p", "username=adam&password=p+w"] {
        ask(wrong).await.is_error(400, "invalid_grant", "username or password is wrong");
    }
    ask("username=zoe").await.is_error(400, "invalid_request", "Missing password parameter");
    ask("username=zoe&password=").await.is_error(400, "invalid_request", "Missing password parameter");
    let plain = "grant_type=password&client_id=plain&client_secret=s&username=zoe&password=p+w";
    let refused = server.form("/oauth/token", plain).await;
    refused.is_error(400, "unauthorized_client", "may not use the grant type password");

    // Its refresh token stands for the user too.
    let next = format!("grant_type=refresh_token&{DEMO}&refresh_token={}", answer.text("refresh_token"));
    let next = server.form("/oauth/token", &next).await;
    assert_eq!(server.introspect(&next.text("access_token")).await.text("sub"), "zoe");
    // Client credentials still have none.
    assert_eq!(server.ask("").await.get("refresh_token"), Value::Null);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_ends_its_whole_family() {
    let server = Server::with(|all| {
        settings(all);
        all.send_refresh_token = true;
    });
    let refresh = async |token: &str| {
        server.form("/oauth/token", &format!("grant_type=refresh_token&{DEMO}&refresh_token={token}")).await
    };
    let bystander = server.ask("").await;
    let first = server.ask("").await;
    let second = refresh(&first.text("refresh_token")).await;
    let third = refresh(&second.text("refresh_token")).await;
    let active = async |token: &str| server.introspect(token).await.get("active") == true;
    assert!(active(&third.text("access_token")).await && active(&third.text("refresh_token")).await);
    assert!(!active(&second.text("refresh_token")).await);
    // Another client that got hold of an old one does no harm to the family.
    let token = first.text("refresh_token");
    let other = format!("grant_type=refresh_token&client_id=plain&client_secret=s&refresh_token={token}");
    server.form("/oauth/token", &other).await.is_error(400, "invalid_grant", "another client's");
    assert!(active(&third.text("access_token")).await);

    refresh(&token).await.is_error(400, "invalid_grant", "already used: all tokens of its grant are revoked");
    for answer in [&first, &second, &third] {
        assert!(!active(&answer.text("access_token")).await);
        refresh(&answer.text("refresh_token")).await.is_error(400, "invalid_grant", "unknown, expired or revoked");
    }
    assert!(active(&bystander.text("access_token")).await);
    assert_eq!(refresh(&bystander.text("refresh_token")).await.status, 200);

    // To revoke a refresh token is to end its family as well.
    let first = server.ask("").await;
    let second = refresh(&first.text("refresh_token")).await;
    server.form("/oauth/revoke", &format!("{DEMO}&token={}", second.text("refresh_token"))).await;
    assert!(!active(&first.text("access_token")).await && !active(&second.text("access_token")).await);
}

#[tokio::test]
async fn of_two_uses_at_once_one_wins_and_neither_lasts() {
    let server = Server::with(|settings| settings.send_refresh_token = true);
    for _ in 0..20 {
        let token = server.ask("").await.text("refresh_token");
        let body = format!("grant_type=refresh_token&{DEMO}&refresh_token={token}");
        let (one, two) = tokio::join!(server.form("/oauth/token", &body), server.form("/oauth/token", &body));
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
    }
}

/// What `iss` says of `sub`, good for a minute.
fn claims(iss: &str, sub: &str) -> Value {
    json!({ "iss": iss, "sub": sub, "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "jti": keys::random_text::<16>() })
}

fn with(claims: Value, name: &str, value: Value) -> Value {
    let mut claims = claims;
    claims[name] = value;
    claims
}

#[tokio::test]
async fn an_assertion_gives_tokens_of_its_subject() {
    let (own, cluster) = (Signer::new(), Signer::ed25519());
    let server = Server::with(|all| {
        settings(all);
        let grant_types = vec![GrantType::JwtBearer];
        let scopes = vec!["a".to_owned(), "b".to_owned()];
        all.clients.push(Client { grant_types, scopes, ..Client::with_keys("robot", own.keys()) });
        all.trusted_issuers.push(TrustedIssuer {
            issuer: "https://cluster".to_owned(),
            keys: cluster.keys(),
            subjects: [("pod".to_owned(), "robot".to_owned())].into(),
            audiences: Vec::new(),
        });
    });
    let ask = async |assertion: &str, more: &str| {
        server.form("/oauth/token", &format!("{BEARER}&assertion={assertion}&{more}")).await
    };
    // Alone, as service accounts do it: the scope stands in the claims.
    let answer = ask(&own.sign(&with(claims("robot", "zoe"), "scope", json!("a"))), "").await;
    assert_eq!((answer.status.as_u16(), answer.text("scope")), (200, "a".to_owned()), "{}", answer.text);
    let shown = server.introspect(&answer.text("access_token")).await;
    assert_eq!((shown.text("sub"), shown.text("client_id")), ("zoe".to_owned(), "robot".to_owned()));
    // The parameter wins over the claim, and neither over the client.
    let both = own.sign(&with(claims("robot", "zoe"), "scope", json!("a")));
    assert_eq!(ask(&both, "scope=b").await.text("scope"), "b");
    let more = own.sign(&with(claims("robot", "zoe"), "scope", json!("c")));
    ask(&more, "").await.is_error(400, "invalid_scope", "'c'");
    assert_eq!(ask(&own.sign(&claims("robot", "zoe")), "").await.text("scope"), "a b");
    // Of a trusted issuer: for the client that it vouches for, and for one that says who it is itself.
    assert_eq!(ask(&cluster.sign(&claims("https://cluster", "pod")), "").await.status, 200);
    let answer = ask(&cluster.sign(&claims("https://cluster", "anybody")), DEMO).await;
    let shown = server.introspect(&answer.text("access_token")).await;
    assert_eq!((shown.text("sub"), shown.text("client_id")), ("anybody".to_owned(), "demo".to_owned()));

    // To name the client as well changes nothing, unless it is another.
    assert_eq!(ask(&own.sign(&claims("robot", "zoe")), "client_id=robot").await.status, 200);
    let named = ask(&cluster.sign(&claims("https://cluster", "anybody")), "client_id=robot").await;
    named.is_error(401, "invalid_client", "stands for no client");
    let named = ask(&own.sign(&claims("robot", "zoe")), "client_id=demo").await;
    named.is_error(401, "invalid_client", "Missing client_secret");

    let once = own.sign(&claims("robot", "zoe"));
    assert_eq!(ask(&once, "").await.status, 200);
    ask(&once, "").await.is_error(400, "invalid_grant", "assertion: jti was used before");
    let mut unnamed = claims("robot", "zoe");
    unnamed.as_object_mut().unwrap().remove("jti");
    assert_eq!(ask(&own.sign(&unnamed), "").await.status, 200);

    for (assertion, more, why) in [
        (Signer::new().sign(&claims("robot", "zoe")), "", "assertion: the signature is not valid"),
        (own.sign(&claims("robot", "zoe")), DEMO, "assertion: iss robot is neither this client nor a trusted issuer"),
        (own.sign(&claims("demo", "zoe")), DEMO, "assertion: its issuer, this client, has no registered keys"),
        (own.sign(&with(claims("robot", "zoe"), "aud", json!("x"))), "", "assertion: aud is x, expected the issuer"),
        (own.sign(&with(claims("robot", "zoe"), "exp", json!(NOW - 60))), "", "assertion: it expired 60 s ago"),
        (own.sign(&with(claims("robot", "zoe"), "exp", json!(NOW + 9999))), "", "assertion: exp is 9999 s away"),
        (own.sign(&claims("robot", "")), "", "assertion: sub is missing"),
        ("x".to_owned(), "", "assertion: not a signed JWT"),
        (Signer::secret("s", "HS256").sign(&claims("robot", "zoe")), "", "assertion: alg is HS256, but what is"),
    ] {
        ask(&assertion, more).await.is_error(400, "invalid_grant", why);
    }
    ask("", "").await.is_error(400, "invalid_request", "Missing assertion parameter");
    for (iss, sub) in [("nobody", "nobody"), ("https://cluster", "stranger")] {
        ask(&cluster.sign(&claims(iss, sub)), "").await.is_error(401, "invalid_client", "stands for no client");
    }
    let plain = ask(&cluster.sign(&claims("https://cluster", "pod")), "client_id=plain&client_secret=s").await;
    plain.is_error(400, "unauthorized_client", "may not use the grant type");
}

async fn exchange(server: &Server, token: &str, kind: &str, more: &str) -> Answer {
    let body = format!("{EXCHANGE}&{DEMO}&subject_token={token}&subject_token_type={kind}&{more}");
    server.form("/oauth/token", &body).await
}

#[tokio::test]
async fn a_token_is_exchanged_for_one_of_the_same_subject() {
    for algorithm in [Algorithm::Es256, Algorithm::Opaque] {
        let server = Server::with(|all| {
            settings(all);
            all.algorithm = algorithm;
        });
        let user = format!("grant_type=password&{DEMO}&username=zoe&password=p+w&scope=api:read");
        let subject = server.form("/oauth/token", &user).await.text("access_token");
        server.pass(3000);
        let answer = exchange(&server, &subject, ACCESS_TOKEN, "audience=a&audience=b&resource=urn:c").await;
        assert_eq!(answer.text("issued_token_type"), ACCESS_TOKEN);
        // It does not outlive the subject token, and has no more scope.
        assert_eq!((answer.get("expires_in"), answer.text("scope")), (json!(600), "api:read".to_owned()));
        assert_eq!(answer.get("refresh_token"), Value::Null);
        let token = answer.text("access_token");
        let shown = server.introspect(&token).await;
        assert_eq!((shown.text("sub"), shown.text("client_id")), ("zoe".to_owned(), "demo".to_owned()));
        assert_eq!(shown.get("aud"), json!(["a", "b", "urn:c"]));
        assert_eq!(shown.get("exp"), NOW + 3600);

        // Who acts for her is told, and who acted before.
        let actor = server.form("/oauth/token", "grant_type=client_credentials&client_id=plain&client_secret=s").await;
        let actor = format!("actor_token={}&actor_token_type={ACCESS_TOKEN}", actor.text("access_token"));
        let first = exchange(&server, &token, ACCESS_TOKEN, &actor).await;
        let shown = server.introspect(&first.text("access_token")).await;
        assert_eq!((shown.text("sub"), &shown.get("act")["sub"]), ("zoe".to_owned(), &json!("plain")));
        let own = format!("actor_token={}&actor_token_type={ACCESS_TOKEN}", server.token().await);
        let second = exchange(&server, &first.text("access_token"), ACCESS_TOKEN, &own).await;
        let act = server.introspect(&second.text("access_token")).await.get("act");
        assert_eq!((&act["sub"], &act["act"]["sub"]), (&json!("demo"), &json!("plain")));

        let wrong = exchange(&server, &subject, ACCESS_TOKEN, "scope=api:write").await;
        wrong.is_error(400, "invalid_scope", "'api:write' is not in the scope of the subject_token");
        let revocation = format!("{DEMO}&token={subject}");
        server.form("/oauth/revoke", &revocation).await;
        let revoked = exchange(&server, &subject, ACCESS_TOKEN, "").await;
        revoked.is_error(400, "invalid_request", "subject_token: Token has been revoked");
        let jwt = exchange(&server, &token, ACCESS_TOKEN, &format!("requested_token_type={JWT}")).await;
        match algorithm {
            Algorithm::Opaque => jwt.is_error(400, "invalid_request", "requested_token_type urn:ietf:params:oauth:tok"),
            _ => assert_eq!(jwt.text("issued_token_type"), JWT),
        }
        server.pass(600);
        let expired = exchange(&server, &token, ACCESS_TOKEN, "").await;
        expired.is_error(400, "invalid_request", "subject_token: Token has expired");
    }
}

#[tokio::test]
async fn a_trusted_issuers_token_is_exchanged() {
    let cluster = Signer::new();
    let server = Server::with(|all| {
        settings(all);
        all.trusted_issuers.push(TrustedIssuer {
            issuer: "https://cluster".to_owned(),
            keys: cluster.keys(),
            subjects: Default::default(),
            audiences: vec!["lanyard".to_owned()],
        });
    });
    let token = |name: &str, value: Value| cluster.sign(&with(claims("https://cluster", "pod"), name, value));
    for aud in [json!("lanyard"), json!([ISSUER]), json!("demo")] {
        let answer = exchange(&server, &token("aud", aud), JWT, "").await;
        assert_eq!((answer.get("expires_in"), answer.text("scope")), (json!(60), "api:read api:write".to_owned()));
        assert_eq!(server.introspect(&answer.text("access_token")).await.text("sub"), "pod");
    }
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    assert_eq!(exchange(&server, &token("x", json!(1)), id_token, "").await.status, 200);
    let may = |sub: &str| token("may_act", json!({ "sub": sub }));
    assert_eq!(exchange(&server, &may("demo"), JWT, "").await.status, 200);
    exchange(&server, &may("x"), JWT, "").await.is_error(
        400,
        "invalid_request",
        "may_act is for x, and the actor is demo",
    );

    let own = server.token().await;
    let tenant = format!("grant_type=client_credentials&{DEMO}");
    let tenant = server.form("/api/v1/tenant/t/oauth/token", &tenant).await.text("access_token");
    for (token, kind, more, why) in [
        (token("aud", json!("x")), JWT, "", "subject_token: aud is x, expected the issuer"),
        (token("exp", json!(NOW - 60)), JWT, "", "subject_token: it expired 60 s ago"),
        (token("exp", json!(NOW - 5)), JWT, "", "subject_token: it has expired"),
        (token("sub", json!("")), JWT, "", "subject_token: sub is missing"),
        (
            token("iss", json!("https://x")),
            JWT,
            "",
            "subject_token: iss https://x is neither this server nor a trusted",
        ),
        (Signer::new().sign(&claims("https://cluster", "pod")), JWT, "", "subject_token: the signature is not valid"),
        ("rubbish".to_owned(), JWT, "", "subject_token: not a signed JWT"),
        ("rubbish".to_owned(), ACCESS_TOKEN, "", "subject_token: Token is malformed"),
        (own.clone(), id_token, "", "subject_token: it is from no trusted issuer, and this server issues no ID tokens"),
        (tenant, ACCESS_TOKEN, "", "subject_token: it belongs to another tenant"),
        (
            own.clone(),
            "urn:ietf:params:oauth:token-type:saml2",
            "",
            "subject_token_type urn:ietf:params:oauth:token-type:saml2 is",
        ),
        (own.clone(), "", "", "Missing subject_token_type parameter"),
        (String::new(), JWT, "", "Missing subject_token parameter"),
        (own.clone(), JWT, "actor_token=x", "Missing actor_token_type parameter"),
        (own.clone(), JWT, "actor_token=x&actor_token_type=urn:ietf:params:oauth:token-type:jwt", "actor_token: not a"),
        (own.clone(), JWT, "actor_token_type=x", "actor_token_type without an actor_token"),
        (own, JWT, "requested_token_type=x", "requested_token_type x is not supported"),
    ] {
        exchange(&server, &token, kind, more).await.is_error(400, "invalid_request", why);
    }
}

#[tokio::test]
async fn a_public_client_has_nothing_to_show_for_itself() {
    let server = Server::with(|settings| {
        settings.clients.push(Client {
            grant_types: vec![GrantType::ClientCredentials, GrantType::Password],
            users: vec![User { name: "zoe".to_owned(), password: Secret::new("p") }],
            ..Client::public("app")
        });
    });
    let own = server.form("/oauth/token", "grant_type=client_credentials&client_id=app").await;
    own.is_error(400, "unauthorized_client", "A public client");
    let user = server.form("/oauth/token", "grant_type=password&client_id=app&username=zoe&password=p").await;
    assert_eq!(user.status, 200, "{}", user.text);
    let token = user.text("access_token");
    let tried = server.form("/oauth/introspect", &format!("client_id=app&token={token}")).await;
    tried.is_error(401, "invalid_client", "may not introspect");
    let metadata = server.get("/.well-known/oauth-authorization-server").await;
    assert!(metadata.get("token_endpoint_auth_methods_supported").to_string().contains("none"));
    assert!(!metadata.get("introspection_endpoint_auth_methods_supported").to_string().contains("none"));
    // But it may give its own back (RFC 7009 section 2.1).
    assert_eq!(server.form("/oauth/revoke", &format!("client_id=app&token={token}")).await.status, 200);
    assert_eq!(server.introspect(&token).await.get("active"), false);
    let secret = server.form("/oauth/token", "grant_type=client_credentials&client_id=app&client_secret=x").await;
    secret.is_error(401, "invalid_client", "but the client is registered for none");
}
