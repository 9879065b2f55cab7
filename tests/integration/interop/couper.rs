//! Couper: as the authorization server and the resource server of its own walk-through, with lanyard in the client's place.

use std::{net::TcpListener, path::Path, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::Instant};

use super::{
    super::support::*,
    servers::{Process, programs},
};

/// Couper with `tests/interop/couper/couper.hcl`. It listens on every address of the machine: it takes a port alone.
pub struct Couper {
    process: Process,
    /// `http://localhost:PORT` of the resource server.
    resource_server: String,
    /// `http://localhost:PORT` of the authorization server.
    authorization_server: String,
}

impl Couper {
    /// The walk-through's end: a protected resource.
    pub async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// The same with some other configuration.
    async fn start_with(change: impl Fn(String) -> String) -> Self {
        let config = std::fs::read_to_string(repository().join("tests/interop/couper/couper.hcl")).unwrap();
        for _ in 0..5 {
            // It cannot be asked for a free port; one that was free a moment ago may be taken by now.
            let ports = free_ports();
            let config = config.replace(":8081", &format!(":{}", ports[0])).replace(":8082", &format!(":{}", ports[1]));
            let process = start(programs().await, &change(config));
            let up = process.wait_for("Couper's listeners", |lines| {
                let serving = lines.iter().filter(|line| line.contains("couper is serving")).count();
                let failed = lines.iter().any(|line| line.contains("address already in use"));
                (failed || serving == ports.len()).then_some(!failed)
            });
            if up.await {
                let [resource_server, authorization_server] = ports.map(|port| format!("http://localhost:{port}"));
                return Self { process, resource_server, authorization_server };
            }
        }
        panic!("no two free ports in five tries");
    }

    /// An endpoint that looks at the client's credentials, as this method sends them.
    pub fn token_endpoint(&self, method: &str) -> String {
        format!("{}/{}", self.authorization_server, method.trim_start_matches("client_secret_"))
    }

    /// A route in TOML that leads a host to the resource server.
    pub fn route(&self, host: &str, profile: &str) -> String {
        let upstream = &self.resource_server;
        format!("[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"{upstream}\"\n")
    }

    /// Every request so far for a path, as Couper's access log has it.
    fn requests(&self, path: &str) -> Vec<Value> {
        let lines = self.process.lines();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["type"] == "couper_access" && event["request"]["path"] == path).collect()
    }
}

fn start(programs: &Path, config: &str) -> Process {
    let folder = Folder::new();
    // Couper does not mind the end of its input, so that a shell does.
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$@\" </dev/null & couper=$!; cat >/dev/null; kill $couper; wait", "sh"])
        .arg(programs.join("couper/couper"))
        .args(["run", "-log-format", "json", "-f"])
        .arg(folder.write("couper.hcl", config));
    Process::start(&mut command, folder)
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The walk-through's client: `/foo` is the resource server's `/resource`.
fn client(couper: &Couper, profile: &str) -> String {
    format!(
        "[[routes]]\nhost = \"localhost\"\npath_prefix = \"/foo\"\nprofile = \"{profile}\"\nupstream = \"{}/resource\"\n",
        couper.resource_server
    )
}

/// `curl localhost:8080/foo`, which the walk-through asks over and over.
async fn foo(lanyard: &Lanyard) -> Answer {
    get(&format!("http://localhost:{}/foo", lanyard.address().rsplit_once(':').unwrap().1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_through_with_lanyard_in_the_clients_place() {
    // An API that wants no token, and a client that has none.
    let couper = Couper::start_with(|config| config.replacen("access_control = [\"token\"]", "", 1)).await;
    let lanyard = Lanyard::start(&client(&couper, "none")).await;
    let answer = foo(&lanyard).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"foo\":1}"));
    assert_eq!(answer.header("server"), Some("couper.io"));
    lanyard.finish().await;

    // The API is protected: what Couper says of it reaches the caller (in the words of a newer Couper than the text's).
    let couper = Couper::start().await;
    let lanyard = Lanyard::start(&client(&couper, "none")).await;
    let answer = foo(&lanyard).await;
    assert_eq!((answer.status, answer.json()["error"]["status"].as_u64()), (401, Some(401)));
    assert_eq!(answer.header("couper-error"), Some("access control error"));
    lanyard.finish().await;

    // `oauth2 { ... }` becomes a profile.
    let profile = format!(
        "[profiles.couper]\ngrant_type = \"client_credentials\"\ntoken_endpoint = \"{}/token\"\nprefetch = false\n\
         client_id = \"my-client\"\nclient_secret = \"my-client-secret\"\n",
        couper.authorization_server
    );
    let lanyard = Lanyard::start(&format!("{profile}{}", client(&couper, "couper"))).await;
    assert_eq!(couper.requests("/token").len(), 0);
    let start = Instant::now();
    let answer = foo(&lanyard).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"foo\":1}"));
    couper.process.wait_for("a token request", |_| (!couper.requests("/token").is_empty()).then_some(())).await;
    assert_eq!(couper.requests("/token")[0]["auth_user"], "my-client");
    // Within the token's life no other is asked for.
    for _ in 0..5 {
        assert_eq!(foo(&lanyard).await.body, "{\"foo\":1}");
    }
    assert_eq!(couper.requests("/token").len(), 1);
    // Each token is good for 10 s: after the second new one the first has expired, and nobody met a refusal.
    let mut refused = 0;
    let deadline = start + Duration::from_secs(30);
    while couper.requests("/token").len() < 3 {
        assert!(Instant::now() < deadline, "{:#?}", couper.requests("/token"));
        refused += usize::from(foo(&lanyard).await.body != "{\"foo\":1}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!((refused, foo(&lanyard).await.status), (0, 200));
    lanyard.finish().await;

    // The walk-through's last two settings: the credentials as parameters, and a scope.
    let more = "token_endpoint_auth_method = \"client_secret_post\"\nscope = \"foo bar\"\n";
    let before = couper.requests("/token").len();
    let lanyard = Lanyard::start(&format!("{profile}{more}{}", client(&couper, "couper"))).await;
    assert_eq!(foo(&lanyard).await.body, "{\"foo\":1}");
    let asked = couper.process.wait_for("a token request", |_| couper.requests("/token").get(before).cloned()).await;
    assert_eq!(asked.get("auth_user"), None, "{asked}");
    lanyard.finish().await;
}
