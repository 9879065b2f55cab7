//! `[token_endpoint]`: applications that fetch tokens themselves get one, or a placeholder that is swapped on the way out.

use super::support::{idp::Reply, *};

async fn started(config: &str) -> (Lanyard, String) {
    let lanyard = Lanyard::start(config).await;
    let event = lanyard.wait_for("its token endpoint", |event| event["message"] == "token endpoint is listening").await;
    let address = event["address"].as_str().unwrap().to_owned();
    (lanyard, address)
}

fn config(idp: &Idp, upstream: &Upstream, profiles: &str, more: &str) -> String {
    format!(
        "[token_endpoint]\naddress = \"127.0.0.1:0\"\nprofiles = {profiles}\n{more}{}{}{}{}",
        idp.profile("billing"),
        upstream.route("api.test", "billing"),
        idp.profile("crm").replace("\"client\"", "\"crm-client\""),
        upstream.route("crm.test", "crm"),
    )
}

async fn ask(address: &str, path: &str, body: &str) -> Answer {
    let request = client(None).post(format!("http://{address}{path}"));
    send(request.header("content-type", "application/x-www-form-urlencoded").body(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_is_swapped_for_the_token_on_the_way_out() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    for existing in ["", "existing = \"keep\"\n", "existing = \"reject\"\n"] {
        let config = config(&idp, &upstream, "{ billing = \"placeholder\" }", "");
        let config = config.replace("[profiles.billing]\n", &format!("[profiles.billing]\n{existing}"));
        let (lanyard, address) = started(&config).await;
        lanyard.ready().await;
        // As a library does it: form, Basic, and an id and a secret that mean nothing here.
        let request =
            client(None).post(format!("http://{address}/oauth2/token")).basic_auth("old-id", Some("old secret"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let given = send(request.body("grant_type=client_credentials&scope=x")).await;
        assert_eq!((given.status, given.header("cache-control")), (200, Some("no-store")), "{}", given.body);
        let given = given.json();
        assert_eq!((&given["token_type"], &given["expires_in"]), (&"Bearer".into(), &3600.into()));
        let placeholder = given["access_token"].as_str().unwrap();
        assert!(!placeholder.contains(CANARY));

        let request = client(Some(lanyard.address())).get("http://api.test/").bearer_auth(placeholder);
        assert_eq!(send(request).await.status, 200, "{existing}");
        assert!(upstream.seen.last().all("authorization")[0].starts_with(&format!("Bearer {CANARY}token-")));

        // What the client has of its own is still its own.
        let request = client(Some(lanyard.address())).get("http://api.test/").bearer_auth("own");
        let answer = send(request).await;
        match existing {
            "" => assert!(upstream.seen.last().all("authorization")[0].starts_with(&format!("Bearer {CANARY}token-"))),
            "existing = \"keep\"\n" => assert_eq!(upstream.seen.last().all("authorization"), ["Bearer own"]),
            _ => assert_eq!((answer.status, answer.refusal()), (400, Some("bad_request"))),
        }
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_itself_is_given_where_that_is_written() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.always(Reply::Token(Some(600)));
    let profiles = "{ billing = \"token\", crm = \"placeholder\" }";
    let (lanyard, address) = started(&config(&idp, &upstream, profiles, "")).await;
    lanyard.ready().await;
    let grant = "grant_type=client_credentials";
    // By path, by the profile's name, by its client's id.
    for (path, body) in [
        ("/billing/token", grant.to_owned()),
        ("/token", format!("{grant}&client_id=billing&client_secret=x")),
        ("/token", format!("client_id=client&{grant}")),
    ] {
        let answer = ask(&address, path, &body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
        let given = answer.json();
        assert!(given["access_token"].as_str().unwrap().starts_with(&format!("{CANARY}token-")), "{given}");
        let left = given["expires_in"].as_u64().unwrap();
        assert!((500..=600).contains(&left), "{left}");
    }
    let answer = ask(&address, "/crm/oauth/token", grant).await;
    assert_eq!(answer.json()["access_token"], "lanyard-placeholder-crm");
    let json = client(None).post(format!("http://{address}/token")).header("content-type", "application/json");
    let answer = send(json.body(r#"{"grant_type":"client_credentials","client_id":"crm-client"}"#)).await;
    assert_eq!(answer.json()["access_token"], "lanyard-placeholder-crm");
    let metadata = get(&format!("http://{address}/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(metadata["token_endpoint"], format!("http://{address}/token"));
    assert_eq!(idp.calls(), 2, "what is given is the profile's own token");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_not_give_it_says_as_a_server_would() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let profiles = "{ billing = \"token\", crm = \"placeholder\" }";
    let secret = format!("client_secret = \"{CANARY}local\"\n");
    let (lanyard, address) = started(&config(&idp, &upstream, profiles, &secret)).await;
    let grant = "grant_type=client_credentials";
    let right = format!("client_secret={CANARY}local");
    for (path, body, status, error) in [
        ("/token", format!("{grant}&client_id=nobody&{right}"), 401, "invalid_client"),
        ("/billing/token", format!("{grant}&client_secret=wrong"), 401, "invalid_client"),
        ("/billing/token", grant.to_owned(), 401, "invalid_client"),
        ("/billing/token", right.clone(), 400, "invalid_request"),
        ("/billing/token", format!("grant_type=password&{right}"), 400, "unsupported_grant_type"),
    ] {
        let answer = ask(&address, path, &body).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{path} {body}");
    }
    assert_eq!(ask(&address, "/billing/token", &format!("{grant}&{right}")).await.status, 200);
    assert_eq!(get(&format!("http://{address}/billing/token")).await.status, 405);
    // A web page.
    let page = client(None).post(format!("http://{address}/billing/token")).header("origin", "http://evil.test");
    assert_eq!(send(page.body(format!("{grant}&{right}"))).await.status, 403);
    let rebound = format!(
        "POST /billing/token HTTP/1.1\r\nHost: evil.test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{grant}",
        grant.len()
    );
    assert_eq!(status_of(&raw(&address, rebound).await), 403);
    let huge = ask(&address, "/token", &"x".repeat(70_000)).await;
    assert_eq!(huge.status, 413);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_provider_placeholders_are_given_and_tokens_are_not() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.down().await;
    let profiles = "{ billing = \"token\", crm = \"placeholder\" }";
    let (lanyard, address) = started(&config(&idp, &upstream, profiles, "")).await;
    let answer = ask(&address, "/billing/token", "grant_type=client_credentials").await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("temporarily_unavailable")));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(ask(&address, "/crm/token", "grant_type=client_credentials").await.status, 200);
    lanyard.finish().await;
}

/// The id of one profile's client is the name of another, and two have the same: nobody gets what is not meant for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_goes_before_an_id_and_an_id_that_many_have_is_none() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let given = "{ billing = \"placeholder\", crm = \"placeholder\", mail = \"placeholder\" }";
    let config = config(&idp, &upstream, given, "").replacen("\"client\"", "\"crm\"", 1)
        + &idp.profile("mail").replace("\"client\"", "\"crm-client\"")
        + &upstream.route("mail.test", "mail");
    let (lanyard, address) = started(&config).await;
    let asked =
        async |id: &str| ask(&address, "/token", &format!("grant_type=client_credentials&client_id={id}")).await;
    for name in ["billing", "crm", "mail"] {
        assert_eq!(asked(name).await.json()["access_token"], format!("lanyard-placeholder-{name}"));
    }
    let refused = asked("crm-client").await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("invalid_client")), "{}", refused.body);
    lanyard.finish().await;
}
