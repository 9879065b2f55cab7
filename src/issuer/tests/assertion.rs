//! Client assertions: every algorithm, and every way in which one is wrong.

use serde_json::json;

use super::{signer::Signer, *};

const TYPE: &str = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ISSUER: &str = "http://127.0.0.1:8082";
const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What client `signing` has to say, with a `jti` that was not there before.
fn claims() -> Value {
    let jti = keys::random_text::<16>();
    json!({ "iss": "signing", "sub": "signing", "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "jti": jti })
}

fn changed(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

async fn present(server: &Server, assertion: &str) -> Answer {
    let body = format!("grant_type=client_credentials&{TYPE}&client_assertion={assertion}");
    server.form("/oauth/token", &body).await
}

fn server(signer: &Signer) -> Server {
    let keys = signer.keys();
    Server::with(|settings| settings.clients.push(Client::with_keys("signing", keys)))
}

#[tokio::test]
async fn every_algorithm_works() {
    let mut signers = vec![Signer::new(), Signer::es384(), Signer::es512(), Signer::ed25519()];
    signers.extend(Signer::rsa());
    for signer in signers {
        let server = server(&signer);
        let answer = present(&server, &signer.sign(&claims())).await;
        assert_eq!(answer.status, 200, "{} {}", signer.alg, answer.text);
        let token = answer.text("access_token");
        let shown = server.introspect(&token).await;
        assert_eq!((shown.text("sub"), shown.text("client_id")), ("signing".to_owned(), "signing".to_owned()));
        let [header, _, signature] = <[&str; 3]>::try_from(signer.sign(&claims()).split('.').collect::<Vec<_>>())
            .map(|parts| parts.map(str::to_owned))
            .unwrap();
        let forged = Signer::new().sign(&claims());
        let forged = format!("{header}.{}.{signature}", forged.split('.').nth(1).unwrap());
        present(&server, &forged).await.is_error(401, "invalid_client", "the signature is not valid");
    }
    for alg in ["HS256", "HS384", "HS512"] {
        let server = Server::with(|settings| {
            let methods = vec![AuthMethod::ClientSecretJwt];
            settings.clients.push(Client { methods, ..Client::new("signing", SECRET) });
        });
        let signed = |secret: &str| Signer::secret(secret, alg).sign(&claims());
        assert_eq!(present(&server, &signed(SECRET)).await.status, 200, "{alg}");
        present(&server, &signed("x")).await.is_error(401, "invalid_client", "another client_secret");
    }
}

#[tokio::test]
async fn each_wrong_claim_is_named() {
    let signer = Signer::new();
    let server = server(&signer);
    let refused = async |claims: &Value, why: &str| {
        let answer = present(&server, &signer.sign(claims)).await;
        answer.is_error(401, "invalid_client", &format!("client_assertion: {why}"));
    };
    let aud = "aud is https://other.example/token, expected the issuer http://127.0.0.1:8082 or the token endpoint \
               http://127.0.0.1:8082/oauth/token";
    refused(&changed("aud", json!("https://other.example/token")), aud).await;
    refused(&changed("aud", json!(["x", "y"])), "aud is x, y, expected").await;
    refused(&changed("aud", json!(7)), "aud is neither").await;
    refused(&changed("aud", Value::Null), "aud is missing").await;
    refused(&changed("exp", Value::Null), "exp is missing").await;
    refused(&changed("exp", json!("soon")), "exp is no number").await;
    refused(&changed("exp", json!(-1)), "exp is no number").await;
    refused(&changed("exp", json!(1e300)), "exp is no number").await;
    refused(&changed("exp", json!(NOW - 40)), "it expired 40 s ago (exp)").await;
    refused(&changed("exp", json!(NOW + 365 * 24 * 3600)), "exp is 31536000 s away; at most 3600 s").await;
    refused(&changed("exp", json!(u64::MAX)), "exp is ").await;
    refused(&changed("nbf", json!(NOW + 40)), "nbf is 40 s in the future").await;
    refused(&changed("iat", json!(NOW + 40)), "iat is 40 s in the future").await;
    refused(&changed("jti", Value::Null), "jti is missing").await;
    refused(&changed("jti", json!("")), "jti is missing").await;
    refused(&changed("iss", Value::Null), "iss is missing").await;
    refused(&changed("sub", Value::Null), "sub is missing").await;
    refused(&changed("sub", json!("demo")), "iss is signing and sub is demo; both must be").await;
    let mut nobody = claims();
    (nobody["iss"], nobody["sub"]) = (json!("nobody"), json!("nobody"));
    refused(&nobody, "iss nobody is neither a registered client nor a trusted issuer").await;
    let mut demo = claims();
    (demo["iss"], demo["sub"]) = (json!("demo"), json!("demo"));
    let why =
        "alg ES256 is private_key_jwt, but the client is registered for client_secret_basic or client_secret_post";
    refused(&demo, why).await;

    // What clocks that are a little apart do to it is no mistake; nor is a list, or the token endpoint.
    for good in [
        changed("exp", json!(NOW - 20)),
        changed("nbf", json!(NOW + 20)),
        changed("iat", Value::Null),
        changed("exp", json!(1_800_000_060.5)),
        changed("aud", json!(["https://other.example", ISSUER])),
        changed("aud", json!("http://127.0.0.1:8082/oauth/token")),
    ] {
        let answer = present(&server, &signer.sign(&good)).await;
        assert_eq!(answer.status, 200, "{good} {}", answer.text);
    }
    let alias = signer.sign(&changed("aud", json!("http://127.0.0.1:8082/token")));
    let body = format!("grant_type=client_credentials&{TYPE}&client_assertion={alias}");
    assert_eq!(server.form("/token", &body).await.status, 200);
    // A tenant is another issuer.
    let tenant = |aud: &str| {
        let assertion = signer.sign(&changed("aud", json!(aud)));
        format!("grant_type=client_credentials&{TYPE}&client_assertion={assertion}")
    };
    let path = "/api/v1/tenant/t/oauth/token";
    assert_eq!(server.form(path, &tenant(&format!("{ISSUER}/api/v1/tenant/t"))).await.status, 200);
    assert_eq!(server.form(path, &tenant(&format!("{ISSUER}{path}"))).await.status, 200);
    server.form(path, &tenant(ISSUER)).await.is_error(401, "invalid_client", "aud is http://127.0.0.1:8082, expected");
}

#[tokio::test]
async fn an_assertion_is_good_for_one_request_of_one_kind() {
    let signer = Signer::new();
    let server = server(&signer);
    let assertion = signer.sign(&claims());
    assert_eq!(present(&server, &assertion).await.status, 200);
    present(&server, &assertion).await.is_error(401, "invalid_client", "jti was used before");
    // One that was refused for another reason is not used up.
    let answer = present(&server, &signer.sign(&changed("aud", json!("x")))).await;
    answer.is_error(401, "invalid_client", "aud is x");
    let once = signer.sign(&claims());
    let introspection = format!("{TYPE}&client_assertion={once}&token=x");
    assert_eq!(server.form("/oauth/introspect", &introspection).await.text, r#"{"active":false}"#);
    present(&server, &once).await.is_error(401, "invalid_client", "jti was used before");

    let refused = async |body: String, status: u16, code: &str, why: &str| {
        server.form("/oauth/token", &format!("grant_type=client_credentials&{body}")).await.is_error(status, code, why);
    };
    let fresh = || format!("client_assertion={}", signer.sign(&claims()));
    refused(fresh(), 400, "invalid_request", "Missing client_assertion_type").await;
    refused(TYPE.to_owned(), 400, "invalid_request", "without a client_assertion").await;
    let saml = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
    refused(format!("{saml}&{}", fresh()), 401, "invalid_client", "expected urn:ietf:params:oauth:").await;
    refused(format!("{TYPE}&{}&client_id=demo", fresh()), 401, "invalid_client", "client_id is another").await;
    refused(format!("{TYPE}&{}&client_secret=x", fresh()), 400, "invalid_request", "More than one way").await;
    let giant = format!("{TYPE}&client_assertion={}", "a".repeat(20_000));
    refused(giant, 401, "invalid_client", "20000 bytes are too many").await;
    for rubbish in ["x", "a.b", "a.b.c", "..", "e30.e30.", "a.b.c.d"] {
        refused(format!("{TYPE}&client_assertion={rubbish}"), 401, "invalid_client", "client_assertion: ").await;
    }
}

#[tokio::test]
async fn the_header_decides_nothing_that_is_not_registered() {
    let signer = Signer::new();
    let mut jwk = signer.jwk.clone();
    jwk["kid"] = json!("current");
    let other = Signer::new();
    let mut second = other.jwk.clone();
    second["kid"] = json!("next");
    let set = json!({ "keys": [jwk, second] });
    let keys = KeySet::from_jwks(&set).unwrap();
    let server = Server::with(|settings| settings.clients.push(Client::with_keys("signing", keys)));
    let refused = async |assertion: String, why: &str| {
        present(&server, &assertion).await.is_error(401, "invalid_client", &format!("client_assertion: {why}"));
    };
    let header = |more: Value| {
        let mut header = json!({ "alg": "ES256" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header
    };
    for (kid, by) in [("current", &signer), ("next", &other)] {
        let assertion = by.sign_with(&header(json!({ "kid": kid })), &claims());
        assert_eq!(present(&server, &assertion).await.status, 200, "{kid}");
    }
    let with = |more: Value| signer.sign_with(&header(more), &claims());
    refused(with(json!({ "kid": "next" })), "the signature is not valid").await;
    refused(with(json!({ "kid": "old" })), "kid old is not among the registered keys: current, next").await;
    refused(with(json!({ "crit": ["b64"], "b64": false })), "crit in the header").await;
    refused(with(json!({ "typ": "dpop+jwt" })), "typ is dpop+jwt").await;
    refused(with(json!({ "typ": "at+jwt" })), "typ is at+jwt").await;
    refused(with(json!({ "alg": "none" })), "alg is none").await;
    refused(with(json!({ "alg": "nOnE" })), "alg is none").await;
    refused(with(json!({ "alg": "ES999" })), "alg ES999 is not supported").await;
    refused(with(json!({ "alg": 7 })), "alg is missing").await;
    refused(with(json!({ "alg": "RS256" })), "alg RS256 does not go with the registered key (P-256, P-256)").await;
    // The key that the assertion brings along is nobody's.
    let stranger = Signer::new();
    let own = stranger.sign_with(&header(json!({ "jwk": stranger.jwk })), &claims());
    refused(own, "the signature is not valid").await;
    // The public key as a secret: it is no secret.
    let confused = Signer::secret(&signer.jwk.to_string(), "HS256").sign(&claims());
    refused(confused, "alg HS256 is client_secret_jwt, but the client is registered for private_key_jwt").await;
    let unsigned = with(json!({ "alg": "none" }));
    let unsigned = unsigned.rsplit_once('.').unwrap().0.to_owned() + ".";
    refused(unsigned, "alg is none").await;

    let only = Server::with(|settings| {
        let client = Client::with_keys("signing", signer.keys());
        settings.clients.push(Client { signing_algorithm: Some("ES384".to_owned()), ..client });
    });
    present(&only, &signer.sign(&claims())).await.is_error(401, "invalid_client", "alg is ES256, and the client is");
}

#[tokio::test]
async fn a_short_secret_signs_nothing() {
    let server = Server::with(|settings| {
        let methods = vec![AuthMethod::ClientSecretJwt];
        settings.clients.push(Client { methods, ..Client::new("signing", "short") });
    });
    let answer = present(&server, &Signer::secret("short", "HS256").sign(&claims())).await;
    answer.is_error(401, "invalid_client", "of 5 bytes is too short for HS256: at least 32");
    // And to send it is another method.
    let sent = server.form("/oauth/token", "grant_type=client_credentials&client_id=signing&client_secret=short").await;
    sent.is_error(
        401,
        "invalid_client",
        "This is client_secret_post, but the client is registered for client_secret_jwt",
    );
}

#[tokio::test]
async fn the_thumbprint_of_the_certificate_is_compared() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ec_der(&pair.serialize_der());
    let keys = KeySet::from_pem(&certificate.pem()).unwrap();
    let server = Server::with(|settings| settings.clients.push(Client::with_keys("signing", keys)));
    let sign = |x5t: &str| {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(json!({ "alg": "ES256", "x5t#S256": x5t })), encode(claims()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    };
    assert_eq!(present(&server, &sign(&jwk::digest(certificate.der()))).await.status, 200);
    present(&server, &sign("other")).await.is_error(401, "invalid_client", "a certificate that is not registered");
}

#[tokio::test]
async fn a_trusted_issuer_vouches_for_a_client() {
    let cluster = Signer::new();
    let subject = "system:serviceaccount:shop:billing";
    let server = Server::with(|settings| {
        settings.clients.push(Client::with_keys("billing", KeySet::default()));
        settings.clients.push(client("other:s"));
        settings.trusted_issuers.push(TrustedIssuer {
            issuer: "https://kubernetes.default.svc".to_owned(),
            keys: cluster.keys(),
            subjects: [(subject, "billing"), ("system:serviceaccount:shop:other", "other")]
                .map(|(sub, id)| (sub.to_owned(), id.to_owned()))
                .into(),
            audiences: vec!["lanyard".to_owned()],
        });
    });
    // As the API server writes it, without a jti of one use.
    let token = |sub: &str, aud: Value| {
        json!({
            "iss": "https://kubernetes.default.svc", "sub": sub, "aud": aud, "exp": NOW + 3607, "iat": NOW, "nbf": NOW,
            "jti": "same", "kubernetes.io": { "namespace": "shop" },
        })
    };
    let good = cluster.sign(&token(subject, json!(["lanyard"])));
    for _ in 0..2 {
        let answer = present(&server, &good).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(server.introspect(&answer.text("access_token")).await.text("sub"), "billing");
    }
    let refused = async |assertion: &str, why: &str| {
        present(&server, assertion).await.is_error(401, "invalid_client", &format!("client_assertion: {why}"));
    };
    refused(&Signer::new().sign(&token(subject, json!(["lanyard"]))), "the signature is not valid").await;
    refused(&cluster.sign(&token(subject, json!(["https://kubernetes.default.svc"]))), "aud is https://kub").await;
    let stranger = cluster.sign(&token("system:serviceaccount:shop:stranger", json!("lanyard")));
    refused(&stranger, "sub system:serviceaccount:shop:stranger of https://kubernetes.default.svc stands for no").await;
    let other = cluster.sign(&token("system:serviceaccount:shop:other", json!("lanyard")));
    refused(&other, "it stands for a client that is registered for client_secret_basic").await;
    let claimed = format!("grant_type=client_credentials&{TYPE}&client_id=other&client_assertion={good}");
    let answer = server.form("/oauth/token", &claimed).await;
    answer.is_error(401, "invalid_client", "stands for another client than client_id");
    // It has no keys of its own to sign with.
    let mut own = claims();
    (own["iss"], own["sub"]) = (json!("billing"), json!("billing"));
    refused(&cluster.sign(&own), "the client has no keys of its own").await;
    let mut long = token(subject, json!("lanyard"));
    long["exp"] = json!(NOW + 365 * 24 * 3600);
    refused(&cluster.sign(&long), "exp is 31536000 s away; at most 86400 s").await;
}

#[tokio::test]
async fn metadata_lists_what_some_client_can_do() {
    let plain = Server::development().get("/.well-known/oauth-authorization-server").await;
    assert_eq!(
        plain.get("token_endpoint_auth_methods_supported"),
        json!(["client_secret_basic", "client_secret_post"])
    );
    assert_eq!(plain.get("grant_types_supported"), json!(["client_credentials"]));
    assert_eq!(plain.get("token_endpoint_auth_signing_alg_values_supported"), Value::Null);
    let server = server(&Signer::new());
    let metadata = server.get("/.well-known/oauth-authorization-server").await;
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt"]);
    assert_eq!(metadata.get("token_endpoint_auth_methods_supported"), methods);
    let algorithms = metadata.get("token_endpoint_auth_signing_alg_values_supported");
    assert_eq!(algorithms.as_array().unwrap().len(), 10);
    assert!(!algorithms.to_string().contains("HS256"));
}
