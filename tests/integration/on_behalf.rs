//! Tokens on behalf of callers (RFC 8693), and tokens that a route narrows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::join_all;

use super::support::{idp::Reply, *};

/// A profile that exchanges the token of each request.
fn exchanging(idp: &Idp, more: &str) -> String {
    format!(
        "{}grant_type = \"urn:ietf:params:oauth:grant-type:token-exchange\"\n\
         subject_token = {{ header = \"Authorization\" }}\naudience = \"https://api.test\"\n{more}",
        idp.profile("obo")
    )
}

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!("{}{}", exchanging(idp, more), upstream.route("api.test", "obo"))
}

/// A JWT that ends so many seconds from now. Nobody here looks at its signature.
fn jwt(subject: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let claims = format!("{{\"sub\":\"{subject}\",\"exp\":{}}}", now + seconds);
    format!("e30.{}.{CANARY}signature", URL_SAFE_NO_PAD.encode(claims))
}

async fn ask_as(lanyard: &Lanyard, authorization: Option<&str>) -> Answer {
    let mut request = client(Some(lanyard.address())).get("http://api.test/x");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    send(request).await
}

/// A request whose body comes in chunks, which goes by pingora; its status.
async fn chunked(lanyard: &Lanyard, fields: &str) -> u16 {
    let request = format!(
        "POST http://api.test/ HTTP/1.1\r\nHost: api.test\r\n{fields}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         1\r\na\r\n0\r\n\r\n"
    );
    status_of(&raw(lanyard.address(), request).await)
}

/// What the upstream saw last.
fn carried(upstream: &Upstream) -> Vec<String> {
    upstream.seen.last().all("authorization")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_a_token_of_its_own_and_nobody_elses() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    assert_eq!(idp.calls(), 0, "there is nothing to fetch before there is a caller");

    let mut tokens = Vec::new();
    for name in ["alice", "bob"] {
        let bearer = format!("Bearer {CANARY}{name}");
        for _ in 0..3 {
            assert_eq!(ask_as(&lanyard, Some(&bearer)).await.status, 200);
        }
        tokens.push(carried(&upstream));
        let sent = idp.requests().pop().unwrap();
        for part in [
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
            "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
            &format!("subject_token={CANARY}{name}"),
            "audience=https%3A%2F%2Fapi.test",
        ] {
            assert!(sent.contains(part), "no {part} in {sent}");
        }
    }
    assert_eq!(tokens[0], [format!("Bearer {CANARY}token-1")]);
    assert_eq!(tokens[1], [format!("Bearer {CANARY}token-2")]);
    assert_eq!(idp.calls(), 2);

    // A body in chunks goes the other way through lanyard.
    assert_eq!(chunked(&lanyard, &format!("Authorization: bearer {CANARY}alice\r\n")).await, 200);
    assert_eq!(carried(&upstream), tokens[0]);
    assert_eq!(idp.calls(), 2);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_are_one_exchange_each_and_never_mixed_up() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    idp.delay(Duration::from_millis(50));
    let client = client(Some(lanyard.address()));
    let answers = join_all((0..200).map(|n| {
        let name = n % 20;
        let bearer = format!("Bearer {CANARY}{name}");
        let request = client.get(format!("http://api.test/{name}")).header("authorization", bearer);
        send(request)
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(idp.calls(), 20);
    let mut by_caller = std::collections::HashMap::new();
    for seen in upstream.seen.requests() {
        let token = seen.all("authorization");
        assert_eq!(by_caller.entry(seen.path.clone()).or_insert_with(|| token.clone()), &token, "{}", seen.path);
    }
    let different: std::collections::HashSet<_> = by_caller.values().collect();
    assert_eq!((by_caller.len(), different.len()), (20, 20));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_of_itself_is_asked_to() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    for authorization in [None, Some("Basic abc"), Some("Bearer"), Some("Bearer a b"), Some("token")] {
        let answer = ask_as(&lanyard, authorization).await;
        assert_eq!((answer.status, answer.refusal()), (401, Some("subject_token_missing")), "{authorization:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let twice = format!(
        "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {CANARY}a\r\nAuthorization: Bearer {CANARY}b\r\n\
         Connection: close\r\n\r\n"
    );
    assert_eq!(status_of(&raw(lanyard.address(), twice).await), 401);

    // The server does not take it: the caller is to blame, and no other caller suffers.
    let refusal = r#"{"error":"invalid_grant","error_description":"subject token is revoked"}"#;
    idp.always(Reply::Json(400, "", refusal.to_owned()));
    let bad = format!("Bearer {CANARY}revoked");
    for _ in 0..3 {
        let answer = ask_as(&lanyard, Some(&bad)).await;
        assert_eq!((answer.status, answer.refusal()), (401, Some("subject_token_refused")), "{}", answer.body);
        assert!(answer.body.contains("subject token is revoked"), "{}", answer.body);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    assert_eq!(idp.calls(), 1, "who was refused is not asked about again and again");
    idp.always(Reply::Token(Some(60)));
    assert_eq!(ask_as(&lanyard, Some(&format!("Bearer {CANARY}good"))).await.status, 200);

    // The server is down: that is not the caller's fault.
    idp.down().await;
    let answer = ask_as(&lanyard, Some(&format!("Bearer {CANARY}other"))).await;
    assert_eq!((answer.status, answer.refusal()), (503, Some("token_unavailable")));
    assert!(
        upstream.seen.requests().iter().all(|seen| seen.all("authorization") == [format!("Bearer {CANARY}token-1")])
    );
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_not_outlive_its_subject() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    let dead = ask_as(&lanyard, Some(&format!("Bearer {}", jwt("alice", -1)))).await;
    assert_eq!((dead.status, dead.refusal(), idp.calls()), (401, Some("subject_token_refused"), 0));

    // The server's token would live for an hour, and its subject's ends in 2 s.
    let bearer = format!("Bearer {}", jwt("alice", 2));
    assert_eq!(ask_as(&lanyard, Some(&bearer)).await.status, 200);
    eventually("her own token has ended", async || {
        let answer = ask_as(&lanyard, Some(&bearer)).await;
        if answer.status == 200 {
            return false;
        }
        assert_eq!((answer.status, answer.refusal()), (401, Some("subject_token_refused")));
        true
    })
    .await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_exchanged_anew_for_its_caller_alone() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    let (alice, bob) = (format!("Bearer {CANARY}alice"), format!("Bearer {CANARY}bob"));
    for bearer in [&alice, &bob] {
        assert_eq!(ask_as(&lanyard, Some(bearer)).await.status, 200);
    }
    upstream.seen.revoke(&format!("{CANARY}token-1"));
    assert_eq!(ask_as(&lanyard, Some(&alice)).await.status, 200);
    assert_eq!(carried(&upstream), [format!("Bearer {CANARY}token-3")]);
    assert_eq!(ask_as(&lanyard, Some(&bob)).await.status, 200);
    assert_eq!(carried(&upstream), [format!("Bearer {CANARY}token-2")]);
    assert_eq!(idp.calls(), 3);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_in_a_field_of_its_own_does_not_go_out() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let profile = exchanging(&idp, "").replace("\"Authorization\"", "\"X-User-Token\"");
    let lanyard = Lanyard::start(&format!("{profile}{}", upstream.route("api.test", "obo"))).await;
    let fields = format!("X-User-Token: {CANARY}user\r\nX_User_Token: twin\r\n");
    let plain = format!("GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n{fields}Connection: close\r\n\r\n");
    for by_pingora in [false, true] {
        let status = match by_pingora {
            false => status_of(&raw(lanyard.address(), &plain).await),
            true => chunked(&lanyard, &fields).await,
        };
        assert_eq!(status, 200);
        let seen = upstream.seen.last();
        assert_eq!(seen.all("authorization"), [format!("Bearer {CANARY}token-1")]);
        assert!(seen.all("x-user-token").is_empty() && seen.all("x_user_token").is_empty());
    }
    assert!(idp.requests()[0].contains(&format!("subject_token={CANARY}user&")), "{:?}", idp.requests());
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_narrow_the_token_of_one_client() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let route = |host: &str, more: &str| format!("{}{more}", upstream.route(host, "billing"));
    let config = format!(
        "{}scope = \"read write\"\n{}{}{}",
        idp.profile("billing"),
        route("all.test", ""),
        route("read.test", "scope = \"read\"\n"),
        route("other.test", "audience = \"https://other.test\"\nresource = \"https://other.test/\"\n"),
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    assert_eq!(idp.calls(), 3);
    let bodies: Vec<String> =
        idp.requests().iter().map(|request| request.split("\r\n\r\n").nth(1).unwrap().to_owned()).collect();
    let narrowed = "&audience=https%3A%2F%2Fother.test&resource=https%3A%2F%2Fother.test%2F";
    for asked in ["&scope=read+write", "&scope=read", &format!("&scope=read+write{narrowed}")] {
        let found = bodies.iter().filter(|body| body.ends_with(&format!("client_credentials{asked}"))).count();
        assert_eq!(found, 1, "{asked} in {bodies:#?}");
    }
    let mut tokens = std::collections::HashSet::new();
    for host in ["all.test", "read.test", "other.test"] {
        assert_eq!(get_via(lanyard.address(), &format!("http://{host}/")).await.status, 200);
        tokens.insert(carried(&upstream).remove(0));
    }
    assert_eq!(tokens.len(), 3);
    let profiles = lanyard.status().await["profiles"].clone();
    let names: Vec<&String> = profiles.as_object().unwrap().keys().collect();
    assert_eq!(names, ["billing", "billing@other.test", "billing@read.test"]);

    // A reload that changes one route asks for that one's token alone.
    lanyard.write_config(&config.replace("scope = \"read\"\n", "scope = \"write\"\n"));
    assert_eq!(lanyard.reload().await.status, 200);
    assert_eq!(idp.calls(), 4);
    assert!(idp.requests()[3].ends_with("scope=write"), "{}", idp.requests()[3]);
    assert_eq!(get_via(lanyard.address(), "http://read.test/").await.status, 200);
    assert_eq!(carried(&upstream), [format!("Bearer {CANARY}token-4")]);
    lanyard.finish().await;
}
