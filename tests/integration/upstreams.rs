//! Upstreams over TLS: private CAs, server names, HTTP/2 by ALPN, and connections that profiles do not share.

use axum::http::Version;

use super::support::*;

fn route(upstream: &Upstream, host: &str, profile: &str, more: &str) -> String {
    format!(
        "[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"https://localhost:{}\"\n{more}\n",
        upstream.address.port()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_ca_is_trusted_where_the_route_says_so_and_alpn_decides_the_version() {
    for (alpn, version) in [(&["http/1.1"][..], Version::HTTP_11), (&["h2", "http/1.1"], Version::HTTP_2)] {
        let (idp, ca) = (Idp::start().await, Authority::new());
        let upstream = Upstream::start_tls(ca.server(&["localhost"], alpn)).await;
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        let config = format!(
            "{}{}{}{}",
            idp.profile("billing"),
            route(&upstream, "good.test", "billing", "ca_file = \"ca.pem\""),
            route(&upstream, "untrusted.test", "billing", ""),
            route(&upstream, "misnamed.test", "billing", "ca_file = \"ca.pem\"\nserver_name = \"other.test\""),
        );
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;

        let answer = get_via(lanyard.address(), "http://good.test/x").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = upstream.seen.last();
        assert_eq!(seen.version, version);
        assert_eq!(seen.all("authorization"), [format!("Bearer {}", idp.last_token())]);
        if version == Version::HTTP_11 {
            assert_eq!(seen.all("host"), [format!("localhost:{}", upstream.address.port())]);
        }
        let answer = send(client(Some(lanyard.address())).post("http://good.test/x").body("12345")).await;
        assert_eq!(answer.json()["length"], 5);

        // A 401 is retried on either version.
        upstream.seen.revoke(&idp.last_token());
        let answer = send(client(Some(lanyard.address())).post("http://good.test/y").body("12345")).await;
        assert_eq!((answer.status, answer.json()["length"].as_u64()), (200, Some(5)));
        assert_eq!(idp.calls(), 2);

        let before = upstream.seen.requests().len();
        for host in ["untrusted.test", "misnamed.test"] {
            let answer = get_via(lanyard.address(), &format!("http://{host}/x")).await;
            assert_eq!((answer.status, answer.refusal()), (502, Some("upstream_tls")), "{host}: {}", answer.body);
            assert!(answer.json()["hint"].as_str().unwrap().contains("ca_file"));
        }
        assert_eq!(upstream.seen.requests().len(), before, "the token was sent to a server that was not verified");
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_is_not_shared_by_profiles_or_tls_settings() {
    let (idp, ca, other) = (Idp::start().await, Authority::new(), Authority::new());
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let upstream = Upstream::start_tls(ca.server(&["localhost"], alpn)).await;
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        folder.write("other.pem", other.pem());
        let config = format!(
            "{}{}{}{}{}",
            idp.profile("a"),
            idp.profile("b"),
            route(&upstream, "a.test", "a", "ca_file = \"ca.pem\""),
            route(&upstream, "b.test", "b", "ca_file = \"ca.pem\""),
            route(&upstream, "wrong.test", "a", "ca_file = \"other.pem\""),
        );
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;
        for _ in 0..5 {
            assert_eq!(get_via(lanyard.address(), "http://a.test/").await.status, 200);
        }
        // The first one found out that the upstream speaks HTTP/1.1 alone.
        let expected = if alpn == ["h2"] { 1 } else { 2 };
        assert_eq!(upstream.seen.connections(), expected, "the same profile uses its connection again");
        let answer = get_via(lanyard.address(), "http://wrong.test/").await;
        assert_eq!(answer.refusal(), Some("upstream_tls"), "{}", answer.body);
        let connections = upstream.seen.connections();
        assert_eq!(get_via(lanyard.address(), "http://b.test/").await.status, 200);
        assert_eq!(upstream.seen.connections(), connections + 1);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_begin_is_504_on_either_version() {
    let (idp, ca) = (Idp::start().await, Authority::new());
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let upstream = Upstream::start_tls(ca.server(&["localhost"], alpn)).await;
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        let more = "ca_file = \"ca.pem\"\nresponse_timeout = \"500ms\"";
        let config = format!("{}{}", idp.profile("a"), route(&upstream, "a.test", "a", more));
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;
        let answer = get_via(lanyard.address(), "http://a.test/slow/5000").await;
        assert_eq!((answer.status, answer.refusal()), (504, Some("upstream_timeout")), "{}", answer.body);
        assert_eq!(get_via(lanyard.address(), "http://a.test/slow/50").await.status, 200);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_name_says_which_certificate_is_right_and_the_authority_stays_the_targets() {
    let (idp, ca) = (Idp::start().await, Authority::new());
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let upstream = Upstream::start_tls(ca.server(&["inner.test"], alpn)).await;
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        let config = format!(
            "{}{}{}",
            idp.profile("a"),
            route(&upstream, "named.test", "a", "ca_file = \"ca.pem\"\nserver_name = \"inner.test\""),
            route(&upstream, "plain.test", "a", "ca_file = \"ca.pem\""),
        );
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;
        let head = "GET http://named.test/x?y HTTP/1.1\r\nHost: other.test\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
                    Keep-Alive: timeout=1\r\nTE: trailers\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
        let answer = raw(lanyard.address(), head).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        let (seen, authority) = (upstream.seen.last(), format!("localhost:{}", upstream.address.port()));
        assert_eq!((&*seen.path, seen.all("authorization").len()), ("/x?y", 1));
        if seen.version == Version::HTTP_2 {
            assert_eq!((seen.authority, seen.headers.get("host")), (Some(authority), None));
        } else {
            assert_eq!(seen.headers["host"].to_str().unwrap(), authority);
        }
        for name in ["x-hop", "keep-alive", "connection"] {
            assert_eq!(seen.headers.get(name), None, "{name}");
        }
        let before = upstream.seen.requests().len();
        let answer = get_via(lanyard.address(), "http://plain.test/").await;
        assert_eq!(answer.refusal(), Some("upstream_tls"), "a connection for another name was used: {}", answer.body);
        assert_eq!(upstream.seen.requests().len(), before);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_good_system_roots_a_route_with_its_own_still_works() {
    let (idp, ca) = (Idp::start().await, Authority::new());
    let upstream = Upstream::start_tls(ca.server(&["localhost"], &["http/1.1"])).await;
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    for (name, content) in [("missing.pem", None), ("broken.pem", Some(broken)), ("empty.pem", Some(""))] {
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        if let Some(content) = content {
            folder.write(name, content);
        }
        let file = folder.path().join(name).to_str().unwrap().to_owned();
        let config = format!(
            "{}{}{}",
            idp.profile("a"),
            route(&upstream, "own.test", "a", "ca_file = \"ca.pem\""),
            route(&upstream, "system.test", "a", ""),
        );
        let lanyard =
            Lanyard::start_in(folder, &config, &[("SSL_CERT_FILE", &file), ("SSL_CERT_DIR", "/nonexistent")]).await;
        lanyard.ready().await;
        assert_eq!(get_via(lanyard.address(), "http://own.test/").await.status, 200, "{name}");
        assert_eq!(get_via(lanyard.address(), "http://system.test/").await.refusal(), Some("upstream_tls"), "{name}");
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_pooled_connection_costs_one_more_send_and_not_one_each() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answered, dropped) =
        (std::sync::Arc::new(tokio::sync::Barrier::new(3)), std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)));
    let silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_silent = silent.clone();
    let (all_here, counter) = (answered.clone(), dropped.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (all_here, counter) = (all_here.clone(), counter.clone());
            let answers = !is_silent.load(std::sync::atomic::Ordering::SeqCst);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                if answers {
                    drop(stream.read(&mut head).await);
                    // Three requests are answered together, so that there are three connections.
                    all_here.wait().await;
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
                }
                // Whatever comes next on it is read, and not answered.
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    let idp = Idp::start().await;
    for (method, sends) in [("GET", 2), ("POST", 1)] {
        let route = format!("[[routes]]\nhost = \"a.test\"\nprofile = \"p\"\nupstream = \"http://{address}\"\n");
        let lanyard = Lanyard::start(&format!("{}{route}", idp.profile("p"))).await;
        lanyard.ready().await;
        let client = client(Some(lanyard.address()));
        let warm = futures::future::join_all((0..3).map(|_| send(client.get("http://a.test/")))).await;
        assert!(warm.iter().all(|answer| answer.status == 200));
        dropped.store(0, std::sync::atomic::Ordering::SeqCst);
        silent.store(true, std::sync::atomic::Ordering::SeqCst);
        let answer = send(client.request(method.parse().unwrap(), "http://a.test/drop")).await;
        assert_eq!(answer.refusal(), Some("upstream_unreachable"), "{}", answer.body);
        assert_eq!(dropped.load(std::sync::atomic::Ordering::SeqCst), sends, "{method}");
        let line = lanyard.wait_for("the request", |event| event["path"] == "/drop").await;
        assert_eq!(line["sends"], sends);
        silent.store(false, std::sync::atomic::Ordering::SeqCst);
        lanyard.finish().await;
    }
}
