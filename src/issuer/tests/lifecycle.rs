//! What becomes of tokens: introspection, revocation, expiry, refresh; the log; and the server on a real socket.

use std::io::Write;

use super::*;

#[tokio::test]
async fn introspection_tells_the_claims_of_a_good_token_only() {
    for algorithm in [Algorithm::Es256, Algorithm::Opaque, Algorithm::Hs256] {
        let server = Server::with(|settings| settings.algorithm = algorithm);
        let token = server.token().await;
        let answer = server.introspect(&token).await;
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(answer.get("active"), true);
        assert_eq!(answer.get("sub"), "demo");
        assert_eq!(answer.get("exp"), 1_800_003_600);
        assert_eq!(answer.text("token_type"), "Bearer");
        assert_eq!(answer.text("scope"), "api:read api:write");
        assert_eq!(server.introspect("rubbish").await.text, r#"{"active":false}"#);
        let elsewhere = server.form("/api/v1/tenant/t/oauth/introspect", &format!("{DEMO}&token={token}")).await;
        assert_eq!(elsewhere.text, r#"{"active":false}"#);
        server.pass(3599);
        assert_eq!(server.introspect(&token).await.get("active"), true);
        server.pass(1);
        assert_eq!(server.introspect(&token).await.text, r#"{"active":false}"#);
    }
    let server = Server::development();
    server.form("/oauth/introspect", "token=x").await.is_error(401, "invalid_client", "No client authentication");
    server.form("/oauth/introspect", DEMO).await.is_error(400, "invalid_request", "Missing token parameter");
}

#[tokio::test]
async fn a_revoked_token_is_inactive_and_others_are_not() {
    for algorithm in [Algorithm::Es256, Algorithm::Opaque] {
        let server = Server::with(|settings| {
            settings.algorithm = algorithm;
            settings.clients.push(client("other:s"));
        });
        let (token, bystander) = (server.token().await, server.token().await);
        let by_other = format!("client_id=other&client_secret=s&token={token}");
        let refused = server.form("/oauth/revoke", &by_other).await;
        refused.is_error(400, "unauthorized_client", "issued to another client");
        assert_eq!(server.introspect(&token).await.get("active"), true);

        let revocation = format!("{DEMO}&token={token}&token_type_hint=access_token");
        for _ in 0..2 {
            let answer = server.form("/oauth/revoke", &revocation).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
        }
        assert_eq!(server.introspect(&token).await.get("active"), false);
        assert_eq!(server.introspect(&bystander).await.get("active"), true);
        assert_eq!(server.form("/oauth/revoke", &format!("{DEMO}&token=unknown")).await.status, 200);
        server.form("/oauth/revoke", "token=x").await.is_error(401, "invalid_client", "No client authentication");
    }
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_use() {
    let server = Server::with(|settings| {
        settings.send_refresh_token = true;
        settings.clients.push(client("other:s"));
    });
    let refresh = async |token: &str, more: &str| {
        let body = format!("grant_type=refresh_token&refresh_token={token}&{more}");
        server.form("/oauth/token", &body).await
    };
    let first = server.ask("audience=a").await.text("refresh_token");
    let other = refresh(&first, "client_id=other&client_secret=s").await;
    other.is_error(400, "invalid_grant", "Refresh token is unknown");
    refresh(&first, &format!("{DEMO}&scope=admin")).await.is_error(400, "invalid_scope", "'admin'");

    let narrow = refresh(&first, &format!("{DEMO}&scope=api:read")).await;
    assert_eq!(narrow.text("scope"), "api:read");
    assert_eq!(server.introspect(&narrow.text("access_token")).await.text("aud"), "a");
    let second = narrow.text("refresh_token");
    assert_eq!(server.introspect(&second).await.get("active"), true);
    let wide = refresh(&second, DEMO).await;
    assert_eq!(wide.text("scope"), "api:read api:write");
    let third = wide.text("refresh_token");
    assert_eq!(server.form("/oauth/revoke", &format!("{DEMO}&token={third}")).await.status, 200);
    refresh(&third, DEMO).await.is_error(400, "invalid_grant", "revoked");
    let fourth = server.ask("").await.text("refresh_token");
    server.pass(24 * 3600);
    refresh(&fourth, DEMO).await.is_error(400, "invalid_grant", "expired");
    refresh("", DEMO).await.is_error(400, "invalid_request", "Missing refresh_token parameter");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_each_token_request_and_no_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // With one subscriber alone, tracing lets the thread that meets an event first decide for all threads whether anybody
    // listens, and that may be another test's. With two it asks both.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let server = Server::development();
    let token = server.token().await;
    server.form("/oauth/token", "grant_type=canary&client_id=canary&client_secret=canary").await;
    server.form("/oauth/token", &format!("grant_type=password&{DEMO}")).await;
    server.form("/oauth/revoke", &format!("{DEMO}&token={token}")).await;
    drop(guard);
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let requests: Vec<&str> = log.lines().filter(|line| line.contains("token request")).collect();
    assert_eq!(requests.len(), 3, "{log}");
    assert!(requests[0].contains("lanyard::issuer: token request client_id=\"demo\""), "{log}");
    assert!(requests[0].contains("grant_type=\"client_credentials\" result=\"issued\""), "{log}");
    assert!(requests[1].contains("client_id=\"unknown\" grant_type=\"other\" result=\"invalid_client\""), "{log}");
    assert!(
        requests[2].contains("client_id=\"demo\" grant_type=\"password\" result=\"unsupported_grant_type\""),
        "{log}"
    );
    for secret in ["canary", "demo-secret", token.as_str()] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn it_serves_on_a_socket_until_it_is_told_to_stop() {
    crate::tls::install_provider();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings { algorithm: Algorithm::Opaque, ..Settings::development() };
    let issuer = Arc::new(Issuer::new(settings, address).unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, issuer.router(), async move {
        stopped.await.unwrap();
    }));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/oauth/token", issuer.identifier())).basic_auth("demo", Some("demo-secret"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.body("grant_type=client_credentials").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(issuer.token_requests(), 1);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
