//! What a provider can do wrong, and what a request meets: when there is no token yet, while one is good, and after it
//! has expired. The table is printed.

use super::support::{idp::Reply, *};

/// A fault, the kind it is told as, and the Retry-After that a refused client sees, if it is known.
struct Fault {
    name: &'static str,
    kind: &'static str,
    make: fn(&Idp),
    retry_after: Option<&'static str>,
}

fn html() -> String {
    "<!doctype html><html><body>Sign in</body></html>".to_owned()
}

const FAULTS: [Fault; 10] = [
    Fault { name: "hangs", kind: "timeout", make: |idp| idp.always(Reply::Hang), retry_after: None },
    Fault { name: "slow body", kind: "timeout", make: |idp| idp.always(Reply::HalfBody), retry_after: None },
    Fault { name: "closes at once", kind: "unreachable", make: |idp| idp.always(Reply::Close), retry_after: None },
    Fault {
        name: "500",
        kind: "server_error",
        make: |idp| idp.always(Reply::Json(500, "", "oops".to_owned())),
        retry_after: None,
    },
    Fault {
        name: "429, Retry-After: 7",
        kind: "rate_limited",
        make: |idp| idp.always(Reply::Json(429, "Retry-After: 7\r\n", "{}".to_owned())),
        retry_after: Some("8"),
    },
    Fault {
        name: "200 with HTML",
        kind: "invalid_response",
        make: |idp| idp.always(Reply::Json(200, "", html())),
        retry_after: None,
    },
    Fault {
        name: "200, empty",
        kind: "invalid_response",
        make: |idp| idp.always(Reply::Json(200, "", String::new())),
        retry_after: None,
    },
    Fault {
        name: "200 without access_token",
        kind: "invalid_response",
        make: |idp| idp.always(Reply::Json(200, "", "{\"token_type\":\"Bearer\"}".to_owned())),
        retry_after: None,
    },
    Fault {
        name: "200, truncated JSON",
        kind: "invalid_response",
        make: |idp| idp.always(Reply::Json(200, "", "{\"access_token\":\"canary-".to_owned())),
        retry_after: None,
    },
    Fault {
        name: "invalid_scope",
        kind: "invalid_scope",
        make: |idp| idp.always(Reply::Json(400, "", "{\"error\":\"invalid_scope\"}".to_owned())),
        retry_after: None,
    },
];

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!("{}timeout = \"400ms\"\n{more}{}", idp.profile("p"), upstream.route("api.test", "p"))
}

/// A refused request, and what the operator was told.
async fn refused(lanyard: &Lanyard, name: &str, kind: &str) -> Answer {
    let answer = get_via(lanyard.address(), "http://api.test/").await;
    assert_eq!((answer.status, answer.refusal()), (503, Some("token_unavailable")), "{name}: {}", answer.body);
    assert!(answer.header("retry-after").is_some(), "{name}");
    let event = lanyard.wait_for(name, |event| event["message"] == "token request failed").await;
    assert_eq!(event["kind"], kind, "{name}: {event}");
    assert!(!event["hint"].as_str().unwrap().is_empty() && !event["detail"].as_str().unwrap().is_empty());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_told_and_never_becomes_a_wrong_answer() {
    let rows = futures::future::join_all(FAULTS.iter().map(row)).await;
    println!("{:<26} {:<18} {:<12} {:<6} expired", "fault", "told as", "cold", "warm");
    println!("{}", rows.join("\n"));
}

/// What a request meets with one fault.
async fn row(fault: &Fault) -> String {
    let upstream = Upstream::start().await;
    // Cold: one call for the request, refused.
    let idp = Idp::start().await;
    (fault.make)(&idp);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "prefetch = false\n")).await;
    let answer = refused(&lanyard, fault.name, fault.kind).await;
    // 7 to 7.7 s, rounded up, less what went by.
    if fault.retry_after.is_some() {
        assert!(matches!(answer.header("retry-after"), Some("7" | "8")), "{:?}", answer.header("retry-after"));
    }
    assert_eq!(idp.calls(), 1, "{}", fault.name);
    assert!(upstream.seen.requests().is_empty(), "{}", fault.name);
    lanyard.finish().await;

    // Warm: the token serves while the refresh (forced by a new secret file) fails; then it expires.
    let idp = Idp::start().await;
    idp.always(Reply::Token(Some(4)));
    let folder = Folder::new();
    folder.write("secret", "canary-one");
    let profile = config(&idp, &upstream, "").replace(&format!("\"{SECRET}\""), "{ file = \"secret\" }");
    let lanyard = Lanyard::start_in(folder, &profile, &[]).await;
    lanyard.ready().await;
    (fault.make)(&idp);
    lanyard.folder.write("secret", "canary-two");
    lanyard.wait_for(fault.name, |event| event["message"] == "token request failed").await;
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200, "{}", fault.name);
    eventually("it expires", async || get_via(lanyard.address(), "http://api.test/").await.status != 200).await;
    refused(&lanyard, fault.name, fault.kind).await;
    lanyard.finish().await;
    format!("{:<26} {:<18} {:<12} {:<6} 503", fault.name, fault.kind, "503, 1 call", "200")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_reached_is_told_by_its_reason() {
    let upstream = Upstream::start().await;
    let down = Idp::start().await;
    down.down().await;
    let ca = Authority::new();
    let untrusted = Upstream::start_tls(ca.server(&["localhost"], &["http/1.1"])).await;
    for (endpoint, kind) in [
        (down.url(), "unreachable"),
        (format!("https://localhost:{}/token", untrusted.address.port()), "tls"),
        ("https://does-not-exist.invalid/token".to_owned(), "unresolved"),
    ] {
        let config = config(&down, &upstream, "prefetch = false\n").replace(&down.url(), &endpoint);
        let lanyard = Lanyard::start(&config.replace("400ms", "8s")).await;
        refused(&lanyard, &endpoint, kind).await;
        lanyard.finish().await;
    }
    assert!(untrusted.seen.requests().is_empty(), "the secret went to a server that was not verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_do_differently_is_taken_and_what_is_wrong_is_not() {
    let upstream = Upstream::start().await;
    for (body, good) in [
        ("{\"access_token\":\"canary-a\",\"expires_in\":\"1799\",\"token_type\":\"bearer\",\"scope\":\"\"}", true),
        ("{\"access_token\":\"canary-a\"}", true),
        ("{\"access_token\":\"canary-a\",\"token_type\":\"BEARER\",\"expires_in\":60.0,\"extra\":{}}", true),
        ("{\"access_token\":\"canary a\"}", false),
        ("{\"access_token\":\"canary\\r\\nX: y\"}", false),
        ("{\"access_token\":\"\"}", false),
        ("{\"access_token\":5}", false),
        ("[]", false),
        ("{\"access_token\":\"canary-a\",\"token_type\":\"mac\"}", false),
        ("{\"error\":\"invalid_client\"}", false),
    ] {
        let idp = Idp::start().await;
        idp.always(Reply::Json(200, "", body.to_owned()));
        let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
        eventually("an answer", async || {
            idp.calls() == 1 && lanyard.status().await["profiles"]["p"]["token_requests"] == 1
        })
        .await;
        let answer = get_via(lanyard.address(), "http://api.test/").await;
        assert_eq!(answer.status, if good { 200 } else { 503 }, "{body}: {}", answer.body);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_request_goes_through_its_own_proxy_and_no_other() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let proxy = ForwardProxy::start().await;
    let authority = idp.url().trim_start_matches("http://").trim_end_matches("/token").to_owned();
    proxy.knows(&authority, authority.parse().unwrap());
    let environment = [
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
    ];
    for (more, calls) in [(String::new(), (1, 0)), (format!("egress_proxy = \"{}\"\n", proxy.url()), (2, 1))] {
        let lanyard = Lanyard::start_in(Folder::new(), &config(&idp, &upstream, &more), &environment).await;
        lanyard.ready().await;
        assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
        assert_eq!((idp.calls(), proxy.heads().len()), calls);
        lanyard.finish().await;
    }
    assert_eq!(proxy.targets(), [authority]);
}
