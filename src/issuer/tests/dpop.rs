//! Proof of possession, at the token endpoint and at the protected API.

use serde_json::json;

use super::{signer::Signer, *};

const NOW: u64 = 1_800_000_000;
const ENDPOINT: &str = "http://127.0.0.1:8082/oauth/token";
const GRANT: &str = "grant_type=client_credentials";

fn claims(method: &str, url: &str) -> Value {
    json!({ "jti": keys::random_text::<16>(), "htm": method, "htu": url, "iat": NOW })
}

fn header_of(signer: &Signer) -> Value {
    json!({ "typ": "dpop+jwt", "alg": signer.alg, "jwk": signer.jwk })
}

fn proof(signer: &Signer, claims: &Value) -> String {
    signer.sign_with(&header_of(signer), claims)
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
        value => object[name] = value,
    }
    object
}

async fn ask(server: &Server, proof: &str) -> Answer {
    post(server, proof, &format!("{GRANT}&{DEMO}")).await
}

async fn post(server: &Server, proof: &str, body: &str) -> Answer {
    server.send(form("/oauth/token").header("DPoP", proof).body(Body::from(body.to_owned())).unwrap()).await
}

/// A request to the protected API.
async fn call(server: &Server, authorization: &str, proof: Option<&str>) -> Answer {
    let mut request = Request::get("/x?y=z").header(header::AUTHORIZATION, authorization);
    if let Some(proof) = proof {
        request = request.header("DPoP", proof);
    }
    server.send(request.body(Body::from("")).unwrap()).await
}

/// The claims of a proof for [`call`] with this token.
fn for_call(server: &Server, token: &str) -> Value {
    let url = format!("http://{}/x", server.address);
    with(claims("GET", &url), "ath", json!(jwk::digest(token.as_bytes())))
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_of_its_proof() {
    for signer in [Signer::new(), Signer::es384(), Signer::es512(), Signer::ed25519(), Signer::rsa().remove(3)] {
        for algorithm in [Algorithm::Es256, Algorithm::Opaque] {
            let server = Server::with(|settings| settings.algorithm = algorithm);
            let answer = ask(&server, &proof(&signer, &claims("POST", ENDPOINT))).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text("token_type")),
                (200, "DPoP".to_owned()),
                "{}",
                answer.text
            );
            let token = answer.text("access_token");
            let jkt = signer.keys().iter().next().unwrap().thumbprint();
            let shown = server.introspect(&token).await;
            assert_eq!((shown.get("cnf"), shown.text("token_type")), (json!({ "jkt": jkt }), "DPoP".to_owned()));
            let own = proof(&signer, &for_call(&server, &token));
            let answer = call(&server, &format!("DPoP {token}"), Some(&own)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text("token_type")),
                (200, "DPoP".to_owned()),
                "{}",
                answer.text
            );
        }
    }
    assert_eq!(Server::development().ask("").await.text("token_type"), "Bearer");
}

#[tokio::test]
async fn a_token_alone_opens_nothing() {
    let (server, signer) = (Server::development(), Signer::new());
    let token = ask(&server, &proof(&signer, &claims("POST", ENDPOINT))).await.text("access_token");
    let denied = async |authorization: &str, proof: Option<&str>, scheme: &str, code: &str, why: &str| {
        let answer = call(&server, authorization, proof).await;
        assert_eq!((answer.status.as_u16(), answer.text("error")), (401, code.to_owned()), "{}", answer.text);
        assert!(answer.text("error_description").starts_with(why), "{}", answer.text);
        let challenge = answer.header(header::WWW_AUTHENTICATE);
        assert!(challenge.starts_with(&format!("{scheme} realm=")), "{challenge}");
        assert!(challenge.contains(&format!("error=\"{code}\", error_description=\"{why}")), "{challenge}");
        assert_eq!(challenge.contains("algs=\"RS256 RS384"), scheme == "DPoP");
    };
    let bound = format!("DPoP {token}");
    denied(&format!("Bearer {token}"), None, "DPoP", "invalid_token", "Token is bound to a key: the").await;
    denied(&bound, None, "DPoP", "invalid_dpop_proof", "DPoP: there is no DPoP header").await;
    let own = || for_call(&server, &token);
    let thief = Signer::new();
    denied(&bound, Some(&proof(&thief, &own())), "DPoP", "invalid_token", "Token is bound to another key").await;
    let bearer = server.token().await;
    let unbound = format!("DPoP {bearer}");
    let for_bearer = proof(&signer, &for_call(&server, &bearer));
    denied(&unbound, Some(&for_bearer), "Bearer", "invalid_token", "Token is bound to no key").await;
    let bad = async |claims: Value, why: &str| {
        denied(&bound, Some(&proof(&signer, &claims)), "DPoP", "invalid_dpop_proof", why).await;
    };
    bad(with(own(), "ath", Value::Null), "DPoP: ath is missing").await;
    bad(with(own(), "ath", json!(jwk::digest(b"x"))), "DPoP: ath is the hash of another access token").await;
    bad(with(own(), "htm", json!("POST")), "DPoP: htm is POST, and the request is a GET").await;
    bad(with(own(), "htu", json!(ENDPOINT)), "DPoP: htu is http://127.0.0.1:8082/oauth/token, expected http://").await;
    let once = proof(&signer, &own());
    assert_eq!(call(&server, &bound, Some(&once)).await.status, 200);
    denied(&bound, Some(&once), "DPoP", "invalid_dpop_proof", "DPoP: jti was used before").await;
    // Neither query nor fragment nor case matter.
    let url = format!("HTTP://{}/x?other#part", server.address);
    assert_eq!(call(&server, &bound, Some(&proof(&signer, &with(own(), "htu", json!(url))))).await.status, 200);
}

#[tokio::test]
async fn each_fault_of_a_proof_is_named() {
    let (server, signer) = (Server::development(), Signer::new());
    let good = || claims("POST", ENDPOINT);
    let refused = async |proof: String, why: &str| {
        ask(&server, &proof).await.is_error(400, "invalid_dpop_proof", &format!("DPoP: {why}"));
    };
    let with_header = |name: &str, value: Value| signer.sign_with(&with(header_of(&signer), name, value), &good());
    refused(with_header("typ", json!("JWT")), "typ is JWT, expected dpop+jwt").await;
    refused(with_header("typ", Value::Null), "typ is missing").await;
    refused(with_header("alg", json!("none")), "alg is none").await;
    refused(with_header("alg", json!("HS256")), "alg is HS256; a proof is signed with a private key").await;
    refused(with_header("alg", json!("RS256")), "alg RS256 does not go with the key in jwk (P-256)").await;
    refused(with_header("jwk", Value::Null), "jwk is missing").await;
    refused(with_header("jwk", json!("x")), "jwk is missing").await;
    refused(with_header("jwk", Signer::new().jwk), "the signature is not by the key in jwk").await;
    let private = with(signer.jwk.clone(), "d", json!("AAAA"));
    refused(with_header("jwk", private), "jwk in the header: the JWK has the member d: it is a private").await;
    refused(with_header("jwk", json!({ "kty": "oct", "k": "AAAA" })), "jwk in the header: the JWK has the member k")
        .await;
    refused(with_header("crit", json!(["x"])), "crit in the header").await;
    let with_claim = |name: &str, value: Value| proof(&signer, &with(good(), name, value));
    refused(with_claim("htm", json!("post")), "htm is post, and the request is a POST").await;
    refused(with_claim("htm", Value::Null), "htm is missing").await;
    refused(with_claim("htu", json!("http://127.0.0.1:8082/token")), "htu is http://127.0.0.1:8082/token, expected")
        .await;
    refused(with_claim("htu", json!("x")), "htu is x, which is no URL").await;
    refused(with_claim("htu", Value::Null), "htu is missing").await;
    refused(with_claim("iat", json!(NOW - 61)), "iat is 61 s ago; a proof is good for 60 s").await;
    refused(with_claim("iat", json!(NOW + 61)), "iat is 61 s in the future").await;
    refused(with_claim("iat", Value::Null), "iat is missing").await;
    refused(with_claim("jti", Value::Null), "jti is missing").await;
    refused(with_claim("jti", json!("")), "jti is missing").await;
    refused("x".to_owned(), "not a signed JWT").await;
    refused(with_claim("more", json!("a".repeat(20_000))), "27127 bytes are too many").await;
    let once = proof(&signer, &good());
    assert_eq!(ask(&server, &once).await.status, 200);
    refused(once, "jti was used before").await;
    let (one, two) = (proof(&signer, &good()), proof(&signer, &good()));
    let twice = form("/oauth/token").header("DPoP", one).header("DPoP", two);
    let answer = server.send(twice.body(Body::from(format!("{GRANT}&{DEMO}"))).unwrap()).await;
    answer.is_error(400, "invalid_dpop_proof", "DPoP: more than one DPoP header");
    // A replay stays one for as long as the proof would be good.
    let early = proof(&signer, &with(good(), "iat", json!(NOW + 60)));
    assert_eq!(ask(&server, &early).await.status, 200);
    server.pass(119);
    refused(early, "jti was used before").await;
}

#[tokio::test]
async fn a_nonce_of_the_servers_is_asked_for_at_both_places_apart() {
    let server = Server::with(|settings| {
        settings.dpop_nonce = Some(NoncePolicy { lifetime: Duration::from_secs(50), uses: 1 });
    });
    let signer = Signer::new();
    let nonce_of = |answer: &Answer| answer.headers.get("dpop-nonce").unwrap().to_str().unwrap().to_owned();
    let with_nonce = |nonce: &str| proof(&signer, &with(claims("POST", ENDPOINT), "nonce", json!(nonce)));
    let first = ask(&server, &proof(&signer, &claims("POST", ENDPOINT))).await;
    first.is_error(400, "use_dpop_nonce", "needs the nonce in the DPoP-Nonce header");
    let nonce = nonce_of(&first);
    let second = ask(&server, &with_nonce(&nonce)).await;
    assert_eq!(second.status, 200, "{}", second.text);
    let next = nonce_of(&second);
    assert_ne!(next, nonce);
    ask(&server, &with_nonce(&nonce)).await.is_error(400, "use_dpop_nonce", "nonce");
    ask(&server, &with_nonce("made up")).await.is_error(400, "use_dpop_nonce", "nonce");

    let token = second.text("access_token");
    let bound = format!("DPoP {token}");
    let at_api = |nonce: &str| proof(&signer, &with(for_call(&server, &token), "nonce", json!(nonce)));
    let answer = call(&server, &bound, Some(&at_api(&next))).await;
    assert_eq!((answer.status.as_u16(), answer.text("error")), (401, "use_dpop_nonce".to_owned()));
    assert!(answer.header(header::WWW_AUTHENTICATE).contains("DPoP realm=") && answer.text.contains("DPoP-Nonce"));
    assert!(answer.header(header::WWW_AUTHENTICATE).contains("error=\"use_dpop_nonce\""));
    let for_api = nonce_of(&answer);
    ask(&server, &with_nonce(&for_api)).await.is_error(400, "use_dpop_nonce", "nonce");
    let answer = call(&server, &bound, Some(&at_api(&for_api))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = call(&server, &bound, Some(&at_api(&nonce_of(&answer)))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    assert_eq!(ask(&server, &with_nonce(&next)).await.status, 200);
    let late = nonce_of(&ask(&server, &with_nonce("x")).await);
    server.pass(51);
    ask(&server, &with_nonce(&late)).await.is_error(400, "use_dpop_nonce", "nonce");
    // Who proves nothing needs no nonce.
    assert_eq!(server.ask("").await.status, 200);
}

#[tokio::test]
async fn to_be_asked_for_a_nonce_uses_nothing_up() {
    let (key, signer) = (Signer::new(), Signer::new());
    let server = Server::with(|settings| {
        settings.dpop_nonce = Some(NoncePolicy::default());
        settings.clients.push(Client { dpop_bound: true, ..Client::with_keys("signing", key.keys()) });
    });
    let iss = "http://127.0.0.1:8082";
    let assertion = json!({ "iss": "signing", "sub": "signing", "aud": iss, "exp": NOW + 60, "jti": "once" });
    let kind = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let body = format!("{GRANT}&{kind}&client_assertion={}", key.sign(&assertion));
    let first = post(&server, &proof(&signer, &claims("POST", ENDPOINT)), &body).await;
    first.is_error(400, "use_dpop_nonce", "nonce");
    let nonce = first.headers["dpop-nonce"].to_str().unwrap();
    let second = post(&server, &proof(&signer, &with(claims("POST", ENDPOINT), "nonce", json!(nonce))), &body).await;
    assert_eq!(second.status, 200, "{}", second.text);
    let other = with(assertion, "jti", json!("other"));
    let body = format!("{GRANT}&{kind}&client_assertion={}", key.sign(&other));
    server.form("/oauth/token", &body).await.is_error(400, "invalid_request", "dpop_bound_access_tokens");
}

#[tokio::test]
async fn a_public_clients_refresh_token_is_bound_too() {
    let server = Server::with(|settings| {
        settings.clients.push(Client {
            grant_types: vec![GrantType::Password, GrantType::RefreshToken],
            users: vec![User { name: "zoe".to_owned(), password: Secret::new("p") }],
            ..Client::public("app")
        });
    });
    let (own, thief) = (Signer::new(), Signer::new());
    let fresh = |signer: &Signer| proof(signer, &claims("POST", ENDPOINT));
    let user = "grant_type=password&client_id=app&username=zoe&password=p";
    let token = post(&server, &fresh(&own), user).await.text("refresh_token");
    let body = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
    server.form("/oauth/token", &body).await.is_error(400, "invalid_grant", "bound to a key");
    post(&server, &fresh(&thief), &body).await.is_error(400, "invalid_grant", "bound to a key");
    let next = post(&server, &fresh(&own), &body).await;
    assert_eq!(next.text("token_type"), "DPoP");
    // Other clients prove by their credentials who they are, and may change their key.
    let server = Server::with(|settings| settings.send_refresh_token = true);
    let token = ask(&server, &fresh(&own)).await.text("refresh_token");
    let body = format!("grant_type=refresh_token&{DEMO}&refresh_token={token}");
    assert_eq!(post(&server, &fresh(&thief), &body).await.text("token_type"), "DPoP");
}

#[tokio::test]
async fn the_api_may_have_a_url_of_its_own() {
    let server = Server::development();
    let requirements = Requirements { url: Some("https://api.example/v1/".to_owned()), ..Requirements::default() };
    let api = super::super::resource::router(Arc::clone(&server.issuer), requirements);
    let api = Server { address: listen(api), issuer: Arc::clone(&server.issuer), seconds: Arc::clone(&server.seconds) };
    let signer = Signer::new();
    let token = ask(&server, &proof(&signer, &claims("POST", ENDPOINT))).await.text("access_token");
    let own = |url: &str| proof(&signer, &with(for_call(&api, &token), "htu", json!(url)));
    let bound = format!("DPoP {token}");
    assert_eq!(call(&api, &bound, Some(&own("https://api.example/v1/x"))).await.status, 200);
    let answer = call(&api, &bound, Some(&own(&format!("http://{}/x", api.address)))).await;
    assert!(answer.text.contains("expected https://api.example/v1/x"), "{}", answer.text);
}
