//! A token's life, seen from outside: one call for many who wait, no wait where none is needed, real expiry.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::support::{idp::Reply, *};

const COLD: &str = "prefetch = false\n";

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!("{}{more}{}", idp.profile("billing"), upstream.route("api.test", "billing"))
}

async fn ask_many(lanyard: &Lanyard, count: usize, path: &str) -> Vec<(Answer, Duration)> {
    let client = client(Some(lanyard.address()));
    let url = format!("http://api.test{path}");
    join_all((0..count).map(|_| async {
        let began = Instant::now();
        (send(client.get(&url)).await, began.elapsed())
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_who_wait_share_one_failure() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.delay(Duration::from_millis(100));
    idp.always(Reply::Json(500, "", "{}".to_owned()));
    let lanyard = Lanyard::start(&config(&idp, &upstream, COLD)).await;
    let answers = ask_many(&lanyard, 20, "/x").await;
    assert_eq!(idp.calls(), 1);
    for (answer, took) in &answers {
        assert_eq!((answer.status, answer.refusal()), (503, Some("token_unavailable")), "{}", answer.body);
        assert!(*took < Duration::from_secs(2), "{took:?}");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let body = answer.json();
        assert_eq!(body["profile"], "billing");
        assert!(!body["hint"].as_str().unwrap().is_empty() && body["request_id"].is_string());
    }
    assert!(upstream.seen.requests().is_empty());
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_nothing() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.delay(Duration::from_millis(300));
    let lanyard = Lanyard::start(&config(&idp, &upstream, COLD)).await;
    let mut first = tokio::net::TcpStream::connect(lanyard.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut first, b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    eventually("the call began", async || idp.calls() == 1).await;
    drop(first);
    assert_eq!(get_via(lanyard.address(), "http://api.test/second").await.status, 200);
    assert_eq!(idp.calls(), 1);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_on_a_cold_profile_are_one_call() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.delay(Duration::from_millis(500));
    let lanyard = Lanyard::start(&config(&idp, &upstream, COLD)).await;
    let answers = ask_many(&lanyard, 500, "/x").await;
    assert!(answers.iter().all(|(answer, _)| answer.status == 200));
    assert_eq!((idp.calls(), upstream.seen.requests().len()), (1, 500));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_refresh() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.always(Reply::Token(Some(4)));
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    idp.delay(Duration::from_millis(400));
    let client = client(Some(lanyard.address()));
    // Over two refreshes, each of which takes 400 ms.
    eventually("two refreshes", async || {
        assert_eq!(send(client.get("http://api.test/")).await.status, 200);
        idp.calls() >= 3
    })
    .await;
    assert_eq!(lanyard.metric("lanyard_token_wait_seconds_count{profile=\"billing\"}").await, 0.0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_profile_is_kept_warm() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.always(Reply::Token(Some(2)));
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    // Nobody asks for several lifetimes; the token of the start is long gone.
    eventually("several lifetimes", async || idp.calls() >= 4).await;
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    assert_ne!(upstream.seen.last().all("authorization"), ["Bearer canary-token-1"]);
    assert_eq!(lanyard.metric("lanyard_token_wait_seconds_count{profile=\"billing\"}").await, 0.0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_bridged_until_real_expiry_and_its_end_is_noticed() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.always(Reply::Token(Some(4)));
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    let arrived = Instant::now();
    idp.down().await;
    let client = client(Some(lanyard.address()));
    let (mut served, mut refused_at) = (0, None);
    eventually("the token expires", async || {
        let answer = send(client.get("http://api.test/")).await;
        match answer.status {
            200 => served += 1,
            _ => {
                assert_eq!((answer.status, answer.refusal()), (503, Some("token_unavailable")), "{}", answer.body);
                refused_at = Some(arrived.elapsed());
            }
        }
        refused_at.is_some()
    })
    .await;
    // `arrived` is noticed a little after the token was asked for, and never before.
    assert!(served > 0 && refused_at.unwrap() > Duration::from_secs(3), "{served} served, refused at {refused_at:?}");
    let ready = get(&format!("http://{}/readyz", lanyard.admin)).await;
    assert!(ready.status == 503 && ready.body.contains("billing"), "{}", ready.body);
    assert_eq!(get(&format!("http://{}/livez", lanyard.admin)).await.status, 200);
    idp.up().await;
    eventually("it recovers", async || send(client.get("http://api.test/")).await.status == 200).await;
    lanyard.ready().await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_at_token_wait_and_the_fetch_goes_on() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.delay(Duration::from_millis(800));
    let lanyard = Lanyard::start(&config(&idp, &upstream, "prefetch = false\ntoken_wait = \"200ms\"\n")).await;
    let answer = get_via(lanyard.address(), "http://api.test/").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    eventually("the token arrives", async || get_via(lanyard.address(), "http://api.test/").await.status == 200).await;
    assert_eq!(idp.calls(), 1);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_tried_while_the_old_token_serves() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.accept_secret(Some("canary-good"));
    let folder = Folder::new();
    folder.write("secret", "canary-good\n");
    let profile = idp.profile("billing").replace(&format!("\"{SECRET}\""), "{ file = \"secret\" }");
    let config = format!("{profile}{}", upstream.route("api.test", "billing"));
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    lanyard.ready().await;
    let client = client(Some(lanyard.address()));
    let served = async || assert_eq!(send(client.get("http://api.test/")).await.status, 200);

    lanyard.folder.write("secret", "canary-bad\n");
    let failed = |event: &serde_json::Value| event["kind"] == "invalid_client" && event["level"] == "ERROR";
    let event = lanyard.wait_for("the bad secret is loud", failed).await;
    assert_eq!((event["reason"].as_str(), event["serving"].as_bool()), (Some("source_changed"), Some(true)), "{event}");
    assert!(event["hint"].as_str().unwrap().contains("client_secret"), "{event}");
    served().await;
    let status = lanyard.status().await;
    assert_eq!(status["profiles"]["billing"]["last_error"]["kind"], "invalid_client");
    assert_eq!(status["profiles"]["billing"]["ready"], true);
    let series = "lanyard_token_requests_total{profile=\"billing\",result=\"invalid_client\"}";
    assert_eq!(lanyard.metric(series).await, 1.0);

    idp.accept_secret(Some("canary-new"));
    lanyard.folder.write("secret", "canary-new\n");
    eventually("the new secret brings a new token", async || {
        served().await;
        lanyard.status().await["profiles"]["billing"]["token"]["serial"] == 2
    })
    .await;
    assert_eq!(lanyard.status().await["profiles"]["billing"]["last_error"], serde_json::Value::Null);
    served().await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_a_request_may_go_bare_where_the_profile_says_so() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.down().await;
    let lanyard = Lanyard::start(&config(&idp, &upstream, "on_unavailable = \"pass\"\n")).await;
    let request = client(Some(lanyard.address())).get("http://api.test/").header("Authorization", "Bearer canary-mine");
    assert_eq!(send(request).await.status, 200);
    assert_eq!(upstream.seen.last().all("authorization"), [""; 0]);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_sent_itself_is_replaced_kept_or_rejected() {
    let upstream = Upstream::start().await;
    for (existing, status, sent) in
        [("replace", 200, "Bearer canary-token-1"), ("keep", 200, "Basic canary-mine"), ("reject", 400, "")]
    {
        let idp = Idp::start().await;
        let more = format!("existing = \"{existing}\"\n");
        let lanyard = Lanyard::start(&config(&idp, &upstream, &more)).await;
        let request =
            client(Some(lanyard.address())).get("http://api.test/").header("Authorization", "Basic canary-mine");
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{existing}: {}", answer.body);
        if status == 200 {
            assert_eq!(upstream.seen.last().all("authorization"), [sent], "{existing}");
        }
        lanyard.finish().await;
    }
}
