//! Transparent mode, in a network namespace that the test makes itself: the redirect of docs/recipes.md, real programs.
//!
//! The test runs itself again inside the namespace ([`inside`]). Where namespaces are not permitted it says so and
//! passes. As root lanyard is a user of its own there, as documented; where there is only one user, the redirect is told
//! apart by the address of the clients instead.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    process::Command,
    time::Instant,
};

use super::support::*;

/// Set inside: how lanyard's own traffic is left out of the redirect.
const INSIDE: &str = "LANYARD_TEST_NAMESPACE";
/// The clients' own address; every other process has another.
const CLIENT: &str = "10.99.0.200";
const CLIENT_V6: &str = "fd99::200";
/// lanyard's user, as in the documentation.
const USER: u32 = 15001;

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_kernel_redirects() {
    if let Ok(how) = std::env::var(INSIDE) {
        return inside(&how).await;
    }
    let (how, unshare) = match namespaces().await {
        Ok(found) => found,
        Err(reason) => return println!("skipped: network namespaces are not permitted here: {reason}"),
    };
    let set_up = Command::new("bash").arg(repository().join("scripts/namespaces.sh")).stdin(Stdio::null()).status();
    let set_up = tokio::time::timeout(Duration::from_secs(600), set_up).await.expect("it ends").unwrap();
    assert!(set_up.success(), "scripts/namespaces.sh failed");
    // Everything in it ends with it: `--kill-child` and a process namespace.
    let run = Command::new("unshare")
        .args(unshare)
        .arg("--kill-child")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "transparent::connections_that_the_kernel_redirects", "--nocapture"])
        .env(INSIDE, how)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.expect("it ends").unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Which namespaces there can be, or why none.
async fn namespaces() -> Result<(&'static str, Vec<&'static str>), String> {
    let own = vec!["--net", "--mount", "--pid", "--fork"];
    let mapped = [&["--user", "--map-root-user"], &own[..]].concat();
    let mut reason = String::new();
    for (how, unshare) in [("user", own), ("address", mapped)] {
        let tried = Command::new("unshare").args(&unshare).arg("true").stdin(Stdio::null()).output();
        let output = match tried.await {
            Ok(output) => output,
            Err(error) => return Err(format!("unshare (of util-linux): {error}")),
        };
        if output.status.success() {
            return Ok((how, unshare));
        }
        reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    Err(reason)
}

/// The test itself, in its namespace.
async fn inside(how: &str) {
    let scene = Scene::new(how == "user").await;
    scene.http().await;
    scene.tls().await;
    scene.other_protocols().await;
    scene.what_is_refused().await;
    let folder = scene.folder().await;
    loops(folder, how == "user").await;
}

/// A namespace with servers at addresses of their own, and lanyard behind the redirect.
struct Scene {
    lanyard: Lanyard,
    idp: Idp,
    authority: Authority,
    /// `api.test` and `seen.test` (which is intercepted), at 10.99.0.1.
    api: Upstream,
    /// What no route is for, at 10.99.0.2 and fd99::2.
    other: Upstream,
    other_tls: Upstream,
    other_v6: Upstream,
    /// Speaks first, at 10.99.0.3.
    greeter: ByHand,
    /// Takes connections at 10.99.0.66 and would love to see a token; and at 10.99.0.1:80, where nothing is served.
    attackers: Vec<ByHand>,
    _quiet: ByHand,
}

impl Scene {
    async fn new(own_user: bool) -> Self {
        let authority = Authority::new();
        let folder = Folder::new();
        let hosts = folder.write("hosts", "127.0.0.1 localhost\n10.99.0.1 api.test seen.test\n");
        let addresses = ["10.99.0.1", "10.99.0.2", "10.99.0.3", "10.99.0.66", CLIENT, "100.100.100.200"];
        let mut commands = format!("mount --bind {} /etc/hosts\nip link set lo up\n", hosts.display());
        for address in addresses {
            commands += &format!("ip addr add {address}/32 dev lo\n");
        }
        for address in ["fd99::2", CLIENT_V6] {
            commands += &format!("ip addr add {address}/128 dev lo nodad\n");
        }
        sh(&commands).await;
        redirect(&folder, if own_user { Exclusion::User } else { Exclusion::Address }).await;

        let idp = Idp::start().await;
        let api =
            Upstream::start_at("10.99.0.1:443", Some(authority.server(&["api.test", "seen.test"], &["http/1.1"])))
                .await;
        let hold = |mut stream: tokio::net::TcpStream| async move {
            drop(stream.read_to_end(&mut Vec::new()).await);
        };
        let scene = Self {
            lanyard: start(folder, &idp, &authority, own_user).await,
            api,
            other: Upstream::start_at("10.99.0.2:80", None).await,
            other_tls: Upstream::start_at("10.99.0.2:443", Some(authority.server(&["other.test"], &["h2"]))).await,
            other_v6: Upstream::start_at("[fd99::2]:80", None).await,
            greeter: ByHand::start_at("10.99.0.3:443", |mut stream| async move {
                stream.write_all(b"220 ready\r\n").await.unwrap();
                let mut line = [0; 6];
                stream.read_exact(&mut line).await.unwrap();
                stream.write_all(&line).await.unwrap();
            })
            .await,
            attackers: vec![
                ByHand::start_at("10.99.0.66:80", hold).await,
                ByHand::start_at("10.99.0.66:443", hold).await,
            ],
            _quiet: ByHand::start_at("10.99.0.1:80", hold).await,
            idp,
            authority,
        };
        scene.lanyard.ready().await;
        scene
    }

    fn bearer(&self) -> Vec<String> {
        vec![format!("Bearer {}", self.idp.last_token())]
    }

    /// The log line of the request with this path.
    async fn line(&self, path: &str) -> serde_json::Value {
        self.lanyard.wait_for(path, |event| event["message"] == "request" && event["path"] == path).await
    }

    async fn bypassed(&self) -> f64 {
        self.lanyard.metric("lanyard_requests_total{outcome=\"bypassed\",profile=\"none\"}").await
    }

    async fn http(&self) {
        // A route: the token, and TLS.
        let got = curl(&["http://api.test/matched"]).await;
        assert_eq!(got.status, 200, "{got:?}");
        assert_eq!(self.api.seen.last().all("authorization"), self.bearer());
        let line = self.line("/matched").await;
        assert_eq!((&line["original"], &line["target"]), (&"10.99.0.1:80".into(), &"api.test:80".into()), "{line}");
        assert_eq!((&line["outcome"], &line["upstream"]), (&"injected".into(), &"api.test:443".into()), "{line}");
        assert!(line["client"].as_str().unwrap().starts_with(CLIENT), "{line}");

        // None: to where it was meant to go, as it came; the name is nobody's to look up.
        for (host, path) in [("oTHer.test:80", "/bare"), ("10.99.0.2", "/address")] {
            let url = format!("http://10.99.0.2{path}?q=1");
            let got = curl(&[&url, "-H", &format!("Host: {host}"), "-H", "Authorization: Basic own"]).await;
            assert_eq!(got.status, 200, "{got:?}");
            let seen = self.other.seen.last();
            assert_eq!((seen.path.clone(), seen.all("host").concat()), (format!("{path}?q=1"), host.to_owned()));
            assert_eq!(seen.headers["authorization"], "Basic own");
            let line = self.line(path).await;
            assert_eq!((&line["outcome"], &line["original"]), (&"passed".into(), &"10.99.0.2:80".into()), "{line}");
        }
        let got = curl(&["http://10.99.0.2/h2c", "--http2-prior-knowledge"]).await;
        assert_eq!((got.status, self.other.seen.last().version), (200, reqwest::Version::HTTP_2), "{got:?}");
        let got = curl(&["http://[fd99::2]/six", "--interface", CLIENT_V6]).await;
        assert_eq!((got.status, self.other_v6.seen.last().path.as_str()), (200, "/six"), "{got:?}");
        assert_eq!(self.line("/six").await["original"], "[fd99::2]:80");

        // A Host that lies: the token goes by name.
        let got = curl(&["http://api.test/lie", "--resolve", "api.test:80:10.99.0.66"]).await;
        assert_eq!((got.status, self.api.seen.last().path.as_str()), (200, "/lie"), "{got:?}");

        // A connection that was opened early.
        let mut wire = connect("10.99.0.1:80").await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        wire.send("GET /late HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status_of(&wire.closed().await), 200);
        assert_eq!(self.api.seen.last().all("authorization"), self.bearer());
    }

    async fn tls(&self) {
        let roots = self.lanyard.folder.path().join("upstreams.pem");
        let roots = roots.to_str().unwrap();
        // Not intercepted: untouched, with its own certificate.
        let got =
            curl(&["https://other.test/tls", "--resolve", "other.test:443:10.99.0.2", "--cacert", roots, "--http2"])
                .await;
        assert_eq!((got.status, self.other_tls.seen.last().path.as_str()), (200, "/tls"), "{got:?}");
        assert_eq!(self.other_tls.seen.last().all("via"), [""; 0]);
        let line = self.lanyard.wait_for("a tunnel", |event| event["target"] == "other.test:443").await;
        assert_eq!((&line["outcome"], &line["original"]), (&"bypassed".into(), &"10.99.0.2:443".into()), "{line}");
        // A route without intercept: the same, and the log says what could be done.
        let got = curl(&["https://api.test/tls", "--cacert", roots]).await;
        assert_eq!((got.status, self.api.seen.last().all("authorization")), (200, vec![]), "{got:?}");
        let line = self.lanyard.wait_for("a tunnel", |event| event["target"] == "api.test:443").await;
        assert!(line["hint"].as_str().unwrap().contains("intercept = true"), "{line}");
        assert_eq!(self.bypassed().await, 2.0);

        // Intercepted: with a certificate of lanyard's, and the token; by name here too.
        let ca = self.lanyard.folder.path().join("ca/ca.crt");
        let ca = ca.to_str().unwrap();
        for resolve in ["seen.test:443:10.99.0.1", "seen.test:443:10.99.0.66"] {
            let got = curl(&["https://seen.test/intercepted", "--resolve", resolve, "--cacert", ca]).await;
            assert_eq!(got.status, 200, "{got:?}");
            assert_eq!(self.api.seen.last().all("authorization"), self.bearer());
        }
        assert_eq!(self.line("/intercepted").await["original"], "10.99.0.1:443");
        assert_eq!(self.bypassed().await, 2.0);
        for attacker in &self.attackers {
            assert_eq!(attacker.connections(), 0);
        }
    }

    async fn other_protocols(&self) {
        let mut wire = connect("10.99.0.3:443").await;
        assert_eq!(wire.until("\n").await, "220 ready\r\n");
        wire.send("EHLO\r\n").await;
        assert_eq!(wire.closed().await, "EHLO\r\n");
        // The client speaks first, and it is no protocol that is known here.
        let mut wire = connect("10.99.0.3:443").await;
        wire.send("PING\r\n").await;
        assert_eq!(wire.closed().await, "220 ready\r\nPING\r\n");
        assert_eq!(self.greeter.connections(), 2);
        eventually("counted", async || self.bypassed().await == 4.0).await;
    }

    async fn what_is_refused(&self) {
        let log = |detail: &'static str| {
            self.lanyard.wait_for(detail, move |event| {
                event["detail"].as_str().is_some_and(|text| text.contains(detail)) && event["outcome"] == "refused"
            })
        };
        // Straight to the listener.
        let got = curl(&["http://127.0.0.1:15001/", "--interface", "127.0.0.1"]).await;
        assert_eq!(got.refusal(), (508, "loop_detected"), "{got:?}");
        assert_eq!(raw("127.0.0.1:15001", "SSH-2.0-x\r\n").await, "");
        assert_eq!(log("was not redirected").await["status"], 508);
        // Cloud metadata outside 169.254.0.0/16; a proxy that is somebody else's.
        let got = curl(&["http://100.100.100.200/latest"]).await;
        assert_eq!(got.refusal(), (403, "route_denied"), "{got:?}");
        let mut wire = connect("10.99.0.2:80").await;
        wire.send("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n").await;
        assert_eq!(verdict(&wire.closed().await), (403, "connect_denied"));

        // Only what has a route.
        let open = std::fs::read_to_string(self.lanyard.config_path()).unwrap();
        self.lanyard.write_config(&format!("{open}\n[forward]\nunmatched = \"deny\"\n"));
        assert_eq!(self.lanyard.reload().await.status, 200);
        let before = (self.other.seen.connections(), self.other_tls.seen.connections(), self.greeter.connections());
        assert_eq!(curl(&["http://10.99.0.2/"]).await.refusal(), (403, "route_denied"));
        assert_ne!(curl(&["https://other.test/", "--resolve", "other.test:443:10.99.0.2", "-k"]).await.exit, 0);
        assert_ne!(curl(&["https://10.99.0.2/", "-k"]).await.exit, 0);
        log("no route is for other.test:443").await;
        log("a connection to 10.99.0.2:443 that names no host").await;
        let after = (self.other.seen.connections(), self.other_tls.seen.connections(), self.greeter.connections());
        assert_eq!(before, after);
        // A silent client still gets to say what it wants.
        let mut wire = connect("10.99.0.1:80").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.send("GET / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status_of(&wire.closed().await), 200);

        // No tunnels.
        self.lanyard.write_config(&format!("{open}\n[forward]\nconnect = \"deny\"\n"));
        assert_eq!(self.lanyard.reload().await.status, 200);
        assert_ne!(curl(&["https://api.test/", "-k"]).await.exit, 0);
        log("neither plain HTTP nor intercepted").await;
        assert_eq!(curl(&["http://10.99.0.2/"]).await.status, 200);
        self.lanyard.write_config(&open);
        assert_eq!(self.lanyard.reload().await.status, 200);
        let shown = get(&format!("http://{}/config", self.lanyard.admin)).await.json();
        assert_eq!(shown["listeners"][0]["transparent"], true);
    }

    /// Ends it, and leaves what the next lanyard needs.
    async fn folder(self) -> (Authority, Idp) {
        self.lanyard.finish().await;
        (self.authority, self.idp)
    }
}

/// The operator forgot to leave lanyard's own traffic out of the redirect.
async fn loops((authority, idp): (Authority, Idp), own_user: bool) {
    let folder = Folder::new();
    redirect(&folder, Exclusion::Forgotten).await;
    let other = Upstream::start_at("10.99.0.2:80", None).await;
    let other_tls = Upstream::start_at("10.99.0.2:443", Some(authority.server(&["other.test"], &[]))).await;
    let lanyard = start(folder, &idp, &authority, own_user).await;
    lanyard.ready().await;
    let began = Instant::now();
    let got = curl(&["http://10.99.0.2/"]).await;
    assert_eq!(got.refusal(), (508, "loop_detected"), "{got:?}");
    assert!(got.body.contains("--uid-owner"), "{got:?}");
    assert_ne!(curl(&["https://other.test/", "--resolve", "other.test:443:10.99.0.2", "-k"]).await.exit, 0);
    assert_ne!(connect("10.99.0.3:443").await.closed().await, "220 ready\r\n");
    let got = curl(&["http://api.test/"]).await;
    assert_eq!(got.status, 502, "{got:?}");
    let ca = lanyard.folder.path().join("ca/ca.crt");
    let got = curl(&["https://seen.test/", "--cacert", ca.to_str().unwrap()]).await;
    assert_eq!(got.status, 502, "{got:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let told = |event: &serde_json::Value| event["message"] == "lanyard's own traffic is redirected to it";
    let line = lanyard.wait_for("the loop", told).await;
    assert_eq!((&line["level"], &line["original"]), (&"ERROR".into(), &"10.99.0.2:80".into()), "{line}");
    assert!(line["hint"].as_str().unwrap().contains("-m owner --uid-owner"), "{line}");
    // One for each connection that lanyard opened, and no more.
    assert_eq!(lanyard.log().iter().filter(|event| told(event)).count(), 5);
    let open = "lanyard_connections{listener=\"127.0.0.1:15001\"}";
    eventually("nothing goes round", async || lanyard.metric(open).await == 0.0).await;
    assert_eq!((other.seen.connections(), other_tls.seen.connections()), (0, 0));
    lanyard.finish().await;
}

/// lanyard on the documented port, as a user of its own if it can be.
async fn start(folder: Folder, idp: &Idp, authority: &Authority, own_user: bool) -> Lanyard {
    folder.write("upstreams.pem", authority.pem());
    let ca = folder.path().join("ca");
    std::fs::create_dir(&ca).unwrap();
    if own_user {
        std::os::unix::fs::chown(&ca, Some(USER), Some(USER)).unwrap();
    }
    let route = |host: &str, more: &str| {
        format!("[[routes]]\nhost = \"{host}\"\nprofile = \"p\"\nca_file = \"upstreams.pem\"\n{more}\n")
    };
    let config = format!(
        "[[listeners]]\naddress = \"127.0.0.1:15001\"\ntransparent = true\n\
         [[listeners]]\naddress = \"[::1]:15001\"\ntransparent = true\n\
         [ca]\ndirectory = \"ca\"\n{}{}{}",
        idp.profile("p"),
        route("api.test", ""),
        route("seen.test", "intercept = true"),
    );
    Lanyard::start_as(folder, &config, &[], own_user.then_some(USER)).await
}

#[derive(Clone, Copy, PartialEq)]
enum Exclusion {
    /// By lanyard's user, as documented.
    User,
    /// By the clients' address.
    Address,
    Forgotten,
}

/// Loads the rules of the documentation.
async fn redirect(folder: &Folder, exclusion: Exclusion) {
    let recipes = std::fs::read_to_string(repository().join("docs/recipes.md")).unwrap();
    let rules = recipes.split("```nft\n").nth(1).and_then(|rest| rest.split("```").next()).expect("rules");
    let documented = "meta skuid 15001 return\n";
    assert_eq!(rules.matches(documented).count(), 1, "{rules}");
    let rules = match exclusion {
        Exclusion::User => rules.to_owned(),
        Exclusion::Address => {
            let others = format!("ip saddr != {CLIENT} return\nip6 saddr != {CLIENT_V6} return\n");
            rules.replace(documented, &others)
        }
        Exclusion::Forgotten => rules.replace(documented, ""),
    };
    let file = folder.write("redirect.nft", format!("flush ruleset\n{rules}"));
    sh(&format!("nft -f {}", file.display())).await;
}

async fn sh(commands: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let run = Command::new("sh").args(["-ec", commands]).env("PATH", path).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(Duration::from_secs(10), run).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A client's connection, by hand.
async fn connect(address: &str) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(CLIENT.parse().unwrap(), 0)).unwrap();
    let stream = tokio::time::timeout(Duration::from_secs(5), socket.connect(address.parse().unwrap())).await;
    Wire::over(stream.expect("it connects").unwrap())
}

/// What curl got.
#[derive(Debug)]
struct Got {
    exit: i32,
    status: u16,
    body: String,
    #[expect(dead_code, reason = "shown where a test fails")]
    told: String,
}

impl Got {
    fn refusal(&self) -> (u16, &str) {
        (self.status, self.body.split("\"error\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or(""))
    }
}

async fn curl(arguments: &[&str]) -> Got {
    let run = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "5", "--interface", CLIENT, "--write-out", "\n%{http_code}"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), run).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    Got {
        exit: output.status.code().unwrap(),
        status: status.parse().unwrap(),
        body: body.to_owned(),
        told: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
