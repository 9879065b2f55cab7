//! Health, metrics, status, logs: what an operator sees, and that no secret is in it.

use super::support::*;

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!("{}{}{more}", idp.profile("billing"), upstream.route("api.test", "billing"))
}

async fn probe(lanyard: &Lanyard, path: &str) -> (u16, String) {
    let answer = get(&format!("http://{}/{path}", lanyard.admin)).await;
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn boot_with_the_provider_down_is_alive_not_ready_and_recovers() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.down().await;
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    assert_eq!(probe(&lanyard, "livez").await.0, 200);
    eventually("the first answer is out", async || probe(&lanyard, "startupz").await.0 == 200).await;
    let (status, body) = probe(&lanyard, "readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("billing") && body.contains("refused") && body.contains("hint"), "{body}");
    idp.up().await;
    lanyard.ready().await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_needs_what_is_required_and_was_asked_for() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    idp.down().await;
    for (more, ready) in [("required = false\n", 200), ("prefetch = false\n", 200), ("", 503)] {
        let config =
            config(&idp, &upstream, "").replace("[profiles.billing]\n", &format!("[profiles.billing]\n{more}"));
        let lanyard = Lanyard::start(&config).await;
        assert_eq!(probe(&lanyard, "readyz").await.0, ready, "{more:?}");
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_is_counted_once_and_every_family_is_there() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let dead = Upstream::start().await;
    let dead_route = "[[routes]]\nhost = \"dead.test\"\nprofile = \"billing\"\nupstream = \"http://127.0.0.1:1\"\n";
    let lanyard = Lanyard::start(&config(&idp, &upstream, dead_route)).await;
    lanyard.ready().await;
    let via = lanyard.address();
    assert_eq!(get_via(via, "http://api.test/").await.status, 200);
    upstream.seen.revoke(&idp.last_token());
    assert_eq!(get_via(via, "http://api.test/").await.status, 200);
    assert_eq!(get_via(via, &format!("{}/bare", dead.url())).await.status, 200);
    let connect = format!(
        "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        dead.address
    );
    assert!(raw(via, connect).await.starts_with("HTTP/1.1 200 Connection Established"));
    assert_eq!(get_via(via, "http://169.254.169.254/").await.refusal(), Some("route_denied"));
    assert_eq!(get_via(via, "http://dead.test/").await.refusal(), Some("upstream_unreachable"));

    let metrics = lanyard.metrics().await;
    for line in [
        "lanyard_requests_total{outcome=\"injected\",profile=\"billing\"} 1",
        "lanyard_requests_total{outcome=\"retried\",profile=\"billing\"} 1",
        "lanyard_requests_total{outcome=\"passed\",profile=\"none\"} 1",
        "lanyard_requests_total{outcome=\"bypassed\",profile=\"none\"} 1",
        "lanyard_requests_total{outcome=\"refused\",profile=\"none\"} 1",
        "lanyard_requests_total{outcome=\"upstream_error\",profile=\"billing\"} 1",
        "lanyard_request_duration_seconds_count{profile=\"billing\"} 3",
        "lanyard_upstream_responses_total{class=\"2xx\",profile=\"billing\"} 2",
        "lanyard_upstream_responses_total{class=\"4xx\",profile=\"billing\"} 1",
        "lanyard_refusals_total{code=\"route_denied\"} 1",
        "lanyard_refusals_total{code=\"upstream_unreachable\"} 1",
        "lanyard_token_requests_total{profile=\"billing\",result=\"success\"} 2",
        "lanyard_token_request_duration_seconds_count{profile=\"billing\"} 2",
        "lanyard_token_rejected_total{profile=\"billing\"} 1",
        "lanyard_token_wait_seconds_count{profile=\"billing\"} 0",
        "lanyard_config_generation 1",
        "lanyard_config_reloads_total{result=\"success\"} 0",
        "lanyard_tunnels_total 1",
        &format!("lanyard_connections{{listener=\"{via}\"}} "),
        "lanyard_token_expiry_timestamp_seconds{profile=\"billing\"} ",
        "lanyard_token_last_success_timestamp_seconds{profile=\"billing\"} ",
        "lanyard_build_info{version=\"",
    ] {
        assert!(metrics.lines().any(|l| l.starts_with(line)), "{line} is not in:\n{metrics}");
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_be_followed_by_its_id() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let cold = config(&idp, &upstream, "").replace("[profiles.billing]\n", "[profiles.billing]\nprefetch = false\n");
    let lanyard = Lanyard::start(&cold).await;
    idp.down().await;
    let answer = get_via(lanyard.address(), "http://api.test/path?query=canary-query").await;
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    let line = lanyard.wait_for("the request", |event| event["message"] == "request").await;
    assert_eq!(line["request_id"], id.as_str());
    assert_eq!((line["path"].as_str(), line["code"].as_str()), (Some("/path"), Some("token_unavailable")));
    let fetch = lanyard.wait_for("the fetch", |event| event["message"] == "token request failed").await;
    assert_eq!(fetch["request_id"], id.as_str());
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_loudest_level_nothing_of_a_request_is_told() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    upstream.seen.revoke("canary-token-1");
    let more = "[log]\nlevel = \"trace\"\n[limits]\nbody_timeout = \"200ms\"\n";
    let config = config(&idp, &upstream, more).replace(
        "[profiles.billing]\n",
        "[profiles.billing]\nparams = { pin_assertion = \"canary-param\" }\nheaders = { \"X-Key\" = \"canary-header\" }\n",
    );
    let lanyard = Lanyard::start_in(Folder::new(), &config, &[("RUST_LOG", "trace")]).await;
    lanyard.ready().await;
    let client = client(Some(lanyard.address()));
    for host in ["api.test".to_owned(), upstream.address.to_string()] {
        let request = client
            .post(format!("http://{host}/x?secret=canary-query"))
            .header("Authorization", "Bearer canary-mine")
            .header("Proxy-Authorization", "Basic canary-proxy")
            .header("Cookie", "session=canary-cookie")
            .body("canary-body");
        assert_eq!(send(request).await.status, 200);
    }
    // Broken in every way that somebody might want to log.
    for text in [
        "GET /canary-a HTTP/1.1\r\nHost: canary-b\r\nHost: canary-c\r\nAuthorization: canary-d\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: api.test\r\nCookie canary-e\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\ncanary-f\r\n",
        "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\ncanary-g",
    ] {
        drop(raw(lanyard.address(), text).await);
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_are_kept_out_and_what_changes_wants_a_post() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    let url = |path: &str| format!("http://{}/{path}", lanyard.admin);
    for request in [
        client(None).post(url("reload")).header("Origin", "http://evil.test"),
        client(None).post(url("quitquitquit")).header("Host", "evil.test"),
        client(None).get(url("status")).header("Sec-Fetch-Site", "cross-site"),
    ] {
        assert_eq!(send(request).await.status, 403);
    }
    assert_eq!(get(&url("reload")).await.status, 405);
    let unknown = get(&url("nothing")).await;
    assert!(unknown.status == 404 && unknown.body.contains("/metrics"), "{}", unknown.body);
    let config = get(&url("config")).await.json();
    assert_eq!(config["profiles"]["billing"]["client_secret"], "[redacted]");
    assert_eq!(post(&url("quitquitquit"), "").await.status, 200);
    assert_eq!(lanyard.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_there_is_no_line_a_request() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "[log]\naccess = false\n")).await;
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    assert!(!lanyard.log().iter().any(|event| event["message"] == "request"));
    lanyard.finish().await;
}
