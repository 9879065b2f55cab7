//! Client authentication, and clients and settings as such.

use super::*;

async fn with_basic(server: &Server, authorization: &str, body: &str) -> Answer {
    let request = form("/oauth/token").header(header::AUTHORIZATION, authorization);
    server.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

const GRANT: &str = "grant_type=client_credentials";

#[tokio::test]
async fn http_basic_works_and_its_scheme_has_no_case() {
    let server = Server::development();
    let pair = basic("demo:demo-secret");
    assert_eq!(with_basic(&server, &pair, GRANT).await.status, 200);
    assert_eq!(with_basic(&server, &pair.replace("Basic", "basic"), GRANT).await.status, 200);
    assert_eq!(with_basic(&server, &pair, &format!("{GRANT}&client_id=demo")).await.status, 200);
}

#[tokio::test]
async fn basic_credentials_are_form_decoded() {
    let server = Server::with(|settings| {
        settings.clients = vec![Client::new("a b:c%d", "s: 100%+&=ü")];
    });
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode("a b:c%d"), encode("s: 100%+&=ü"));
    let answer = with_basic(&server, &basic(&pair), GRANT).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // A space may be %20 too.
    assert_eq!(with_basic(&server, &basic(&pair.replace('+', "%20")), GRANT).await.status, 200);
    let body = format!("{GRANT}&client_id={}&client_secret={}", encode("a b:c%d"), encode("s: 100%+&=ü"));
    assert_eq!(server.form("/oauth/token", &body).await.status, 200);
}

#[tokio::test]
async fn a_client_that_forgot_to_encode_is_told_so() {
    let server = Server::with(|settings| settings.clients = vec![client("id:se+cret%41")]);
    with_basic(&server, &basic("id:se+cret%41"), GRANT).await.is_error(401, "invalid_client", "not form-encoded");
    with_basic(&server, &basic("id:se+cret%42"), GRANT).await.is_error(
        401,
        "invalid_client",
        "Client authentication failed",
    );
}

#[tokio::test]
async fn wrong_credentials_are_an_invalid_client() {
    let server = Server::development();
    for body in ["client_id=demo&client_secret=wrong", "client_id=nobody&client_secret=demo-secret"] {
        let answer = server.form("/oauth/token", &format!("{GRANT}&{body}")).await;
        answer.is_error(401, "invalid_client", "Client authentication failed");
        assert_eq!(answer.json().as_object().unwrap().len(), 2);
    }
    server.form("/oauth/token", GRANT).await.is_error(401, "invalid_client", "No client authentication");
    let id_only = server.form("/oauth/token", &format!("{GRANT}&client_id=demo&client_secret=")).await;
    id_only.is_error(401, "invalid_client", "Missing client_secret parameter");
    let secret_only = server.form("/oauth/token", &format!("{GRANT}&client_secret=demo-secret")).await;
    secret_only.is_error(401, "invalid_client", "Missing client_id parameter");
    for (authorization, problem) in [
        ("Bearer abc", "must be Basic"),
        ("Basic", "Malformed"),
        ("Basic !!!", "Malformed"),
        (&basic("demo"), "Malformed"),
        (&basic("demo:"), "Client authentication failed"),
        (&basic(":"), "Client authentication failed"),
    ] {
        with_basic(&server, authorization, GRANT).await.is_error(401, "invalid_client", problem);
    }
}

#[tokio::test]
async fn two_ways_of_authentication_are_one_too_many() {
    let server = Server::development();
    let pair = basic("demo:demo-secret");
    with_basic(&server, &pair, &format!("{GRANT}&{DEMO}")).await.is_error(400, "invalid_request", "More than one way");
    let assertion = format!("{GRANT}&client_assertion=x");
    with_basic(&server, &pair, &assertion).await.is_error(400, "invalid_request", "More than one way");
    let other = format!("{GRANT}&client_id=other");
    with_basic(&server, &pair, &other).await.is_error(400, "invalid_request", "client_id is another");
    let twice = form("/oauth/token").header(header::AUTHORIZATION, &pair).header(header::AUTHORIZATION, &pair);
    let answer = server.send(twice.body(Body::from(GRANT)).unwrap()).await;
    answer.is_error(400, "invalid_request", "More than one Authorization header");
}

#[test]
fn a_client_is_read_from_the_command_line() {
    let full = client("billing:s3cret:api:read,api:write");
    assert_eq!((full.id.as_str(), full.secret.unwrap().expose()), ("billing", "s3cret"));
    assert_eq!(full.scopes, ["api:read", "api:write"]);
    assert!(client("billing:s3cret").scopes.is_empty());
    for (text, problem) in [
        ("canary", "the secret is empty"),
        ("canary:", "the secret is empty"),
        (":canary", "the id is empty"),
        ("id:canary:canary\"", "a scope is empty or has"),
    ] {
        let error = text.parse::<Client>().unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let wrong = |change: fn(&mut Settings)| {
        let mut settings = Settings { algorithm: Algorithm::Opaque, ..Settings::development() };
        change(&mut settings);
        let error = Issuer::new(settings, ([127, 0, 0, 1], 1).into()).err().unwrap();
        error.to_string()
    };
    assert!(wrong(|s| s.issuer = Some("localhost:80".to_owned())).contains("expected an http(s) URL"));
    assert!(wrong(|s| s.issuer = Some("https://a/?x".to_owned())).contains("expected an http(s) URL"));
    assert!(wrong(|s| s.hs256_key = Some(Secret::new("canary"))).contains("the algorithm is another"));
    assert!(wrong(|s| s.clients.clear()).contains("no clients"));
    assert!(wrong(|s| s.clients.push(client("demo:x"))).contains("\"demo\" is there twice"));
    let empty_key = |s: &mut Settings| (s.algorithm, s.hs256_key) = (Algorithm::Hs256, Some(Secret::new("")));
    assert!(wrong(empty_key).contains("is empty"));
    assert_eq!("ES256".parse(), Ok(Algorithm::Es256));
    assert_eq!("none".parse::<Algorithm>(), Err(UnknownAlgorithm));
}

#[test]
fn the_identifier_comes_from_the_address_unless_it_is_given() {
    let at = |address: &str, issuer: Option<&str>| {
        let issuer = issuer.map(str::to_owned);
        let settings = Settings { issuer, algorithm: Algorithm::Opaque, ..Settings::development() };
        Issuer::new(settings, address.parse().unwrap()).unwrap().identifier().to_owned()
    };
    assert_eq!(at("127.0.0.1:8082", None), "http://127.0.0.1:8082");
    assert_eq!(at("0.0.0.0:8082", None), "http://localhost:8082");
    assert_eq!(at("[::1]:8082", None), "http://[::1]:8082");
    assert_eq!(at("127.0.0.1:1", Some("https://auth.example.com/")), "https://auth.example.com/");
}
