//! The 401 loop: one rejected token costs one fetch, and a request that can be replayed never shows it.

use std::time::Duration;

use futures::future::join_all;

use super::support::*;

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!("{}{more}{}", idp.profile("billing"), upstream.route("api.test", "billing"))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_in_flight_with_one_revoked_token_cost_one_call() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    // The interval would hide it if a rejection were not tied to the token's serial.
    let lanyard = Lanyard::start(&config(&idp, &upstream, "reject_interval = \"1ms\"\n")).await;
    lanyard.ready().await;
    upstream.seen.revoke(&idp.last_token());
    idp.delay(Duration::from_millis(100));
    let client = client(Some(lanyard.address()));
    // Their 401s are spread over 600 ms.
    let answers = join_all((0..20u64).map(|n| {
        let request = client.post(format!("http://api.test/slow/{}", n * 30)).body("x".repeat(1000 + n as usize));
        send(request)
    }))
    .await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!((answer.status, answer.json()["length"].as_u64()), (200, Some(1000 + n as u64)), "{}", answer.body);
    }
    assert_eq!(idp.calls(), 2);
    assert_eq!(lanyard.metric("lanyard_token_rejected_total{profile=\"billing\"}").await, 1.0);
    assert_eq!(lanyard.metric("lanyard_requests_total{outcome=\"retried\",profile=\"billing\"}").await, 20.0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_everything_costs_one_call_an_interval() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    upstream.seen.refuse_all();
    let lanyard = Lanyard::start(&config(&idp, &upstream, "reject_interval = \"60s\"\n")).await;
    lanyard.ready().await;
    let client = client(Some(lanyard.address()));
    for _ in 0..10 {
        for answer in join_all((0..100).map(|_| send(client.get("http://api.test/")))).await {
            assert_eq!((answer.status, answer.body.as_str(), answer.refusal()), (401, "no", None));
        }
    }
    assert_eq!(idp.calls(), 2);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_interval_there_is_one_more_call() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    upstream.seen.refuse_all();
    let lanyard = Lanyard::start(&config(&idp, &upstream, "reject_interval = \"1s\"\n")).await;
    lanyard.ready().await;
    let began = tokio::time::Instant::now();
    eventually("three intervals", async || {
        assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 401);
        idp.calls() >= 4
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_replayed_up_to_the_limit_and_beyond_it_the_next_request_has_the_new_token() {
    for (more, length, status) in [
        ("", 65_536, 200),
        ("", 65_537, 401),
        ("replay_limit = \"1KiB\"\n", 1024, 200),
        ("replay_limit = \"1KiB\"\n", 1025, 401),
    ] {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let lanyard = Lanyard::start(&config(&idp, &upstream, more)).await;
        lanyard.ready().await;
        upstream.seen.revoke(&idp.last_token());
        let client = client(Some(lanyard.address()));
        let answer = send(client.post("http://api.test/").body("y".repeat(length))).await;
        assert_eq!(answer.status, status, "{length} bytes {more:?}");
        assert_eq!(idp.calls(), 2);
        let answer = send(client.post("http://api.test/").body("y".repeat(length))).await;
        assert_eq!((answer.status, answer.json()["length"].as_u64()), (200, Some(length as u64)));
        assert_eq!(idp.calls(), 2);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_statuses_of_the_profile_reject_a_token() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "retry_statuses = [403]\n")).await;
    lanyard.ready().await;
    for (status, calls) in [(401, 1), (500, 1), (403, 2)] {
        assert_eq!(get_via(lanyard.address(), &format!("http://api.test/status/{status}")).await.status, status);
        assert_eq!(idp.calls(), calls, "{status}");
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_a_rejection_stands_and_the_token_stays() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    idp.down().await;
    assert_eq!(get_via(lanyard.address(), "http://api.test/status/401").await.status, 401);
    // The same token is still good elsewhere.
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    assert_eq!(upstream.seen.last().all("authorization"), ["Bearer canary-token-1"]);
    lanyard.finish().await;
}
