//! The documents that lanyard was asked for from, each as a scenario.

use super::support::{idp::Reply, *};

/// Couper's walk-through: `/foo` goes to `http://localhost:8081/resource`, whose API wants a token.
#[tokio::test(flavor = "multi_thread")]
async fn couper_client_credentials() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    upstream.seen.want_token();
    idp.always(Reply::Json(200, "", "{\"access_token\":\"canary-token-a\",\"expires_in\":4}".to_owned()));
    let route = |profile: &str| {
        format!(
            "[[routes]]\nhost = \"localhost\"\npath_prefix = \"/foo\"\nprofile = \"{profile}\"\nupstream = \"http://localhost:{}/resource\"\n",
            upstream.address.port()
        )
    };
    let ask = async |lanyard: &Lanyard, path: &str| {
        let port = lanyard.address().rsplit_once(':').unwrap().1.to_owned();
        get(&format!("http://localhost:{port}{path}")).await
    };
    // Without a token the resource server refuses.
    let lanyard = Lanyard::start(&route("none")).await;
    assert_eq!(ask(&lanyard, "/foo").await.status, 401);
    lanyard.finish().await;

    for (more, expected) in [
        ("", &["Authorization: Basic ", "\r\n\r\ngrant_type=client_credentials"][..]),
        (
            "token_endpoint_auth_method = \"client_secret_post\"\nscope = \"foo bar\"\n",
            &["client_id=my-client", "client_secret=canary-client-secret", "scope=foo+bar"],
        ),
    ] {
        let before = idp.calls();
        let profile = idp.profile("couper").replace("\"client\"", "\"my-client\"");
        let lanyard = Lanyard::start(&format!("{profile}prefetch = false\n{more}{}", route("couper"))).await;
        let answer = ask(&lanyard, "/foo").await;
        assert_eq!((answer.status, answer.json()["path"].as_str()), (200, Some("/resource")));
        assert_eq!(ask(&lanyard, "/foo/1?x=y").await.json()["path"], "/resource/1?x=y");
        assert_eq!(ask(&lanyard, "/foobar").await.refusal(), Some("route_denied"));
        // One token request for the first call, none within the lifetime...
        assert_eq!(idp.calls(), before + 1);
        let request = idp.requests()[usize::try_from(before).unwrap()].clone();
        for part in expected {
            assert!(request.to_lowercase().contains(&part.to_lowercase()), "{part} is not in {request}");
        }
        // ... and a new one after it, in the background: nobody waits.
        let waits = lanyard.metric("lanyard_token_wait_seconds_count{profile=\"couper\"}").await;
        eventually("a new token in the background", async || {
            assert_eq!(ask(&lanyard, "/foo").await.status, 200);
            idp.calls() > before + 1
        })
        .await;
        assert_eq!(lanyard.metric("lanyard_token_wait_seconds_count{profile=\"couper\"}").await, waits);
        lanyard.finish().await;
    }
}

/// The tenant server: its errors are told to the operator with their fix, and never to the app as a success.
#[tokio::test(flavor = "multi_thread")]
async fn tenant_server_client_credentials() {
    for (status, code, description, fix) in [
        (401, "invalid_client", "Client authentication failed", "client_secret"),
        (400, "invalid_request", "Missing grant_type parameter", "parameter"),
        (400, "unsupported_grant_type", "Grant type not supported", "enable client credentials"),
        (400, "invalid_scope", "Scope not allowed", "scope"),
    ] {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        idp.always(Reply::Json(
            status,
            "",
            format!("{{\"error\":\"{code}\",\"error_description\":\"{description}\"}}"),
        ));
        let profile = idp.profile("tenant").replace("/token\"", "/api/v1/tenant/my-tenant/oauth/token\"");
        let config = format!(
            "{profile}token_endpoint_auth_method = \"client_secret_post\"\nscope = [\"api:read\", \"api:write\"]\n{}",
            upstream.route("api.test", "tenant")
        );
        let lanyard = Lanyard::start(&config).await;
        let event = lanyard.wait_for(code, |event| event["kind"] == code).await;
        assert_eq!(event["level"], "ERROR");
        assert!(event["detail"].as_str().unwrap().contains(description), "{event}");
        assert!(event["hint"].as_str().unwrap().contains(fix), "{fix} is not in {event}");
        let answer = get_via(lanyard.address(), "http://api.test/api/v1/protected-resource").await;
        assert_eq!((answer.status, answer.refusal()), (503, Some("token_unavailable")));
        assert!(answer.body.contains(description), "{}", answer.body);
        assert!(upstream.seen.requests().is_empty());
        assert!(idp.requests()[0].starts_with("POST /api/v1/tenant/my-tenant/oauth/token HTTP/1.1\r\n"));
        assert!(idp.requests()[0].contains("scope=api%3Aread+api%3Awrite"), "{}", idp.requests()[0]);

        let path = lanyard.config_path();
        let (exit, told, _) = lanyard::command(&["doctor", "--config", path.to_str().unwrap()], &[]).await;
        assert_eq!(exit, Some(1));
        assert!(told.contains(code) && told.contains(description) && told.contains("fix: "), "{told}");
        lanyard.finish().await;
    }
}

/// An expired token is replaced and the request sent again.
#[tokio::test(flavor = "multi_thread")]
async fn tenant_server_expired_token() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&format!("{}{}", idp.profile("tenant"), upstream.route("api.test", "tenant"))).await;
    lanyard.ready().await;
    upstream.seen.revoke(&idp.last_token());
    assert_eq!(get_via(lanyard.address(), "http://api.test/api/v1/protected-resource").await.status, 200);
    lanyard.finish().await;
}

/// fosite says `bearer`, and an empty scope.
#[tokio::test(flavor = "multi_thread")]
async fn fosite_client_credentials() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let body = "{\"access_token\":\"canary-fosite\",\"expires_in\":1799,\"scope\":\"\",\"token_type\":\"bearer\"}";
    idp.always(Reply::Json(200, "", body.to_owned()));
    let lanyard = Lanyard::start(&format!("{}{}", idp.profile("fosite"), upstream.route("api.test", "fosite"))).await;
    lanyard.ready().await;
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    assert_eq!(upstream.seen.last().all("authorization"), ["Bearer canary-fosite"]);
    let left = lanyard.status().await["profiles"]["fosite"]["token"]["expires_in_seconds"].as_u64().unwrap();
    assert!((1700..1799).contains(&left), "{left}");
    assert!(!lanyard.log().iter().any(|event| event["level"] == "WARN"));
    lanyard.finish().await;
}

/// Aidbox takes a form or JSON, and its simple token does not tell how long it lives.
#[tokio::test(flavor = "multi_thread")]
async fn aidbox_client_credentials() {
    let upstream = Upstream::start().await;
    for (more, expected) in [
        ("", "\r\n\r\ngrant_type=client_credentials"),
        ("audience = \"http://resource.server.com\"\n", "audience=http%3A%2F%2Fresource.server.com"),
        (
            "request_format = \"json\"\ntoken_endpoint_auth_method = \"client_secret_post\"\n",
            "{\"client_id\":\"client\",\"client_secret\":\"canary-client-secret\",\"grant_type\":\"client_credentials\"}",
        ),
    ] {
        let idp = Idp::start().await;
        let body =
            "{\"token_type\":\"Bearer\",\"access_token\":\"canary-aidbox\",\"refresh_token\":\"canary-refresh\"}";
        idp.always(Reply::Json(200, "", body.to_owned()));
        let config = format!(
            "{}default_token_lifetime = \"10m\"\n{more}{}",
            idp.profile("aidbox"),
            upstream.route("api.test", "aidbox")
        );
        let lanyard = Lanyard::start(&config).await;
        lanyard.ready().await;
        assert_eq!(get_via(lanyard.address(), "http://api.test/Patient").await.status, 200);
        assert_eq!(upstream.seen.last().all("authorization"), ["Bearer canary-aidbox"]);
        let left = lanyard.status().await["profiles"]["aidbox"]["token"]["expires_in_seconds"].as_u64().unwrap();
        assert!((500..600).contains(&left), "{left}");
        let request = idp.requests()[0].clone();
        let body = request.split_once("\r\n\r\n").unwrap().1;
        if more.contains("json") {
            let (sent, wanted): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(body).unwrap(), serde_json::from_str(expected).unwrap());
            assert_eq!(sent, wanted);
            assert!(request.to_lowercase().contains("content-type: application/json"));
        } else {
            assert!(request.contains(expected), "{request}");
        }
        lanyard.finish().await;
    }
}
