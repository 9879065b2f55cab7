//! `lanyard exec` with real commands: what they get through, what they find, and what is left of it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use super::{
    clients::{CLIENTS, Needs},
    support::{
        idp::Reply,
        lanyard::{self, BINARY},
        *,
    },
};

/// A folder with a configuration, and one for temporary files that has to be empty in the end.
struct Place {
    folder: Folder,
    temporary: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new(config: &str) -> Self {
        let folder = Folder::new();
        folder.write("proxy.toml", config);
        let temporary = folder.path().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        Self { folder, temporary }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["exec", "--config"]).arg(self.folder.path().join("proxy.toml")).arg("--").args(arguments);
        command.env("TMPDIR", &self.temporary).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "JAVA_TOOL_OPTIONS"] {
            command.env_remove(name);
        }
        command.kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.ended(self.command(arguments)).await
    }

    async fn ended(&self, mut command: Command) -> Ended {
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it ends").unwrap();
        self.left_nothing();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ended = Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ended.err.contains(CANARY), "{ended:?}");
        ended
    }

    fn left_nothing(&self) {
        let left: Vec<_> = std::fs::read_dir(&self.temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// The same route for `http://` and `https://`.
fn intercepted(idp: &Idp, upstream: &Upstream) -> String {
    let route = upstream.route("api.test", "billing");
    format!("{}{route}intercept = true\n[ca]\nephemeral = true\n", idp.profile("billing"))
}

/// Waits for the command's first line of output.
async fn ready(child: &mut Child) -> BufReader<tokio::process::ChildStdout> {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let read = tokio::time::timeout(Duration::from_secs(30), out.read_line(&mut line)).await;
    read.expect("a line in time").unwrap();
    assert_eq!(line, "ready\n");
    out
}

fn kill(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
}

async fn bound() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn code_of(child: &mut Child) -> Option<i32> {
    tokio::time::timeout(Duration::from_secs(20), child.wait()).await.expect("it ends").unwrap().code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_its_token_by_http_and_by_https() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let place = Place::new(&intercepted(&idp, &upstream));
    for url in ["http://api.test/a", "https://api.test/a"] {
        let ended = place.run(&["curl", "-sS", url]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{url}: {ended:?}");
        let echoed: serde_json::Value = serde_json::from_str(&ended.out).expect("nothing but what curl wrote");
        assert_eq!(echoed["path"], "/a");
        assert_eq!(upstream.seen.last().all("authorization"), [format!("Bearer {}", idp.last_token())]);
    }
    // No route: through lanyard without a token; and this machine is asked directly.
    let url = upstream.url();
    for (command, vias) in [
        (&["env", "no_proxy=", "NO_PROXY=", "curl", "-sS", url.as_str()][..], 1),
        (&["curl", "-sS", url.as_str()][..], 0),
    ] {
        assert_eq!(place.run(command).await.code, Some(0));
        let seen = upstream.seen.last();
        assert_eq!((seen.all("via").len(), seen.all("authorization").len()), (vias, 0), "{command:?}");
    }
}

/// Each by its own way to a proxy and its own way to roots, and nothing set but by `exec`.
#[tokio::test(flavor = "multi_thread")]
async fn every_client_trusts_what_it_is_given() {
    let (tools, idp, upstream) = (tools().await, Idp::start().await, Upstream::start().await);
    let place = Place::new(&intercepted(&idp, &upstream));
    for client in CLIENTS.iter().filter(|client| client.needs == Needs::Nothing) {
        let path = format!("/{}", client.name.replace(' ', "-"));
        let mut arguments = client.command(tools);
        arguments.push(format!("https://api.test{path}"));
        let mut command = place.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.env_clear().env("TMPDIR", &place.temporary);
        command
            .envs(["PATH", "HOME", "JAVA_HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let ended = place.ended(command).await;
        assert_eq!(ended.code, Some(0), "{}: {ended:?}", client.name);
        let seen: Vec<_> = upstream.seen.requests().into_iter().filter(|request| request.path == path).collect();
        assert_eq!(seen.len(), 2, "{}: {ended:?}", client.name);
        for request in seen {
            assert_eq!(request.all("authorization"), [format!("Bearer {}", idp.last_token())], "{}", client.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_is_the_commands() {
    let place =
        Place::new("[[routes]]\nhost = \"api.test\"\nprofile = \"none\"\nintercept = true\n[ca]\nephemeral = true\n");
    place.folder.write("no-program", "");
    let no_program = place.folder.path().join("no-program").display().to_string();
    for (command, status) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["no-such-command-anywhere"], 127),
        (&[&no_program], 126),
    ] {
        let ended = place.run(command).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(status), ""), "{command:?}: {ended:?}");
        assert_eq!(ended.err.is_empty(), !(126..=127).contains(&status), "{command:?}: {ended:?}");
    }
    // Everything after the command is the command's, and no shell reads it.
    let ended = place.run(&["printf", "%s|", "--config", "$HOME", "a b", "--"]).await;
    assert_eq!(ended.out, "--config|$HOME|a b|--|");
    let bad = Place::new("[nothing]\n").run(&["echo", "started"]).await;
    assert!(bad.code == Some(64) && bad.out.is_empty() && bad.err.contains("unknown key"), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_the_commands() {
    let place =
        Place::new("[[routes]]\nhost = \"api.test\"\nprofile = \"none\"\nintercept = true\n[ca]\nephemeral = true\n");
    // Under nohup a shell cannot trap it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0").trim().to_owned();
    let hangup = if u64::from_str_radix(&ignored, 16).unwrap() & 1 == 0 { "HUP" } else { "TERM" };
    for signal in ["TERM", "USR1", "USR2", hangup] {
        let script = format!("trap 'echo caught; exit 7' {signal}; echo ready; while :; do sleep 0.02; done");
        let mut child = place.command(&["sh", "-c", &script]).spawn().unwrap();
        let mut out = ready(&mut child).await;
        kill(&child, signal);
        assert_eq!(code_of(&mut child).await, Some(7), "{signal}");
        let mut rest = String::new();
        out.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "caught\n", "{signal} came once");
        place.left_nothing();
    }
    // One that does nothing about it dies of it.
    let mut child = place.command(&["sh", "-c", "echo ready; exec sleep 60"]).spawn().unwrap();
    ready(&mut child).await;
    kill(&child, "TERM");
    assert_eq!(code_of(&mut child).await, Some(143));
    place.left_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_output_are_the_commands() {
    let place = Place::new("");
    let mut child = place.command(&["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = "line\n".repeat(100_000);
    let written = text.clone();
    tokio::spawn(async move { stdin.write_all(written.as_bytes()).await.unwrap() });
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), text.len()));
    assert!(output.stdout == text.as_bytes() && output.stderr.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_it_was_and_what_lanyard_needs() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let secret = format!("client_secret = \"{SECRET}\"");
    let config = intercepted(&idp, &upstream).replace(&secret, "client_secret = { env = \"BILLING_SECRET\" }");
    let proxy = "egress_proxy = { url = \"http://127.0.0.1:1\", username = \"u\", password = { env = \"EGRESS_SECRET\" }, no_proxy = \"*\" }\n";
    let config = format!("{proxy}{config}");
    let place = Place::new(&config);
    let (system, pinned) = (Authority::new(), Authority::new());
    let mut command =
        place.command(&["sh", "-c", "env; echo ===; cat \"$SSL_CERT_FILE\"; echo ===; cat \"$CURL_CA_BUNDLE\""]);
    command
        .env("BILLING_SECRET", SECRET)
        .env("EGRESS_SECRET", SECRET)
        .env("OTHER", "stays")
        .env("NO_PROXY", "internal.test,.corp.test")
        .env("JAVA_TOOL_OPTIONS", "-Xmx64m")
        .env("ALL_PROXY", "socks5://127.0.0.1:1")
        .env("SSL_CERT_FILE", place.folder.write("system.pem", system.pem()))
        .env("CURL_CA_BUNDLE", place.folder.write("pinned.pem", pinned.pem()));
    let ended = place.ended(command).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    let mut parts = ended.out.split("===\n");
    let (environment, roots, curls) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let value = |name: &str| {
        let found = environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in:\n{environment}")).to_owned()
    };
    assert_eq!(value("OTHER"), "stays");
    assert_eq!(value("ALL_PROXY"), "socks5://127.0.0.1:1");
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(value(name), "internal.test,.corp.test,localhost,127.0.0.1,::1");
    }
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "grpc_proxy"] {
        assert_eq!(value(name), value("HTTP_PROXY"));
        assert!(value(name).starts_with("http://127.0.0.1:"));
    }
    let java = value("JAVA_TOOL_OPTIONS");
    assert!(
        java.starts_with("-Xmx64m -Dhttp.proxyHost=127.0.0.1 ") && java.contains("javax.net.ssl.trustStore="),
        "{java}"
    );
    for name in
        ["REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "DENO_CERT"]
    {
        assert!(Path::new(&value(name)).starts_with(&place.temporary), "{name}={}", value(name));
    }
    assert!(!environment.contains("_SECRET") && !environment.contains(CANARY), "{environment}");

    let held = |pem: &str| pem.split_whitespace().collect::<String>();
    let (roots, curls) = (held(roots), held(curls));
    assert_eq!((roots.matches("-----BEGIN").count(), curls.matches("-----BEGIN").count()), (2, 2));
    assert!(roots.starts_with(&held(system.pem())) && curls.starts_with(&held(pinned.pem())));
    assert_eq!(roots.replace(&held(system.pem()), ""), curls.replace(&held(pinned.pem()), ""), "the same CA in both");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_there_is_used_and_none_is_kept_for_a_command() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let place = Place::new(&intercepted(&idp, &upstream).replace("ephemeral = true", "directory = \"ca\""));
    let command = ["sh", "-c", "curl -sS -o /dev/null https://api.test/ && cat \"$DENO_CERT\""];
    let ended = place.run(&command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let directory = place.folder.path().join("ca");
    assert!(!directory.exists());
    let config = place.folder.path().join("proxy.toml");
    let made = lanyard::command(&["ca", "create", "--config", config.to_str().unwrap()], &[]).await;
    assert_eq!(made.0, Some(0), "{made:?}");
    let held = |pem: &str| pem.split_whitespace().collect::<String>();
    let kept = std::fs::read_to_string(directory.join("ca.crt")).unwrap();
    let again = place.run(&command).await;
    assert_eq!((again.code, held(&again.out)), (Some(0), held(&kept)));
    assert_ne!(held(&ended.out), held(&kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_run_at_once_and_beside_a_lanyard() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    // The addresses of `lanyard run` are none of theirs, whoever has them.
    let taken = [bound().await, bound().await];
    let [address, admin] = taken.each_ref().map(|listener| listener.local_addr().unwrap());
    let listeners = format!(
        "[[listeners]]\naddress = \"{address}\"\n[[listeners]]\naddress = \"unix:lanyard.sock\"\n[admin]\naddress = \"{admin}\"\n"
    );
    let place = Place::new(&format!("{listeners}{}", intercepted(&idp, &upstream)));
    let script = "echo ready; read line; exec curl -sS -o /dev/null https://api.test/first";
    let mut first = place.command(&["sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    ready(&mut first).await;
    let other = Place::new(&format!("{listeners}{}", intercepted(&idp, &upstream)));
    assert_eq!(other.run(&["curl", "-sS", "https://api.test/second"]).await.code, Some(0));
    first.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    assert_eq!(code_of(&mut first).await, Some(0));
    place.left_nothing();
    let paths: Vec<_> = upstream.seen.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/second", "/first"]);

    // A reverse listener's address is what the command's settings say: it cannot move.
    let reverse = format!("[[listeners]]\naddress = \"{address}\"\nupstream = \"{}\"\n", upstream.url());
    let ended = Place::new(&reverse).run(&["echo", "started"]).await;
    assert!(ended.code == Some(1) && ended.out.is_empty(), "{ended:?}");
    assert!(ended.err.contains(&format!("cannot listen on {address}")) && ended.err.contains("hint: "), "{ended:?}");
    drop(taken);
    let ended = Place::new(&reverse).run(&["curl", "-sS", &format!("http://{address}/reverse")]).await;
    assert!(ended.code == Some(0) && ended.out.contains("/reverse"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_starts_whatever_the_provider_does() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let config =
        |wait: &str| format!("{}token_wait = \"{wait}\"\n{}", idp.profile("p"), upstream.route("api.test", "p"));
    idp.accept_secret(Some("canary-other"));
    let ended = Place::new(&config("20s")).run(&["echo", "started"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "started\n"));
    assert!(
        ended.err.contains("token request failed") && ended.err.contains("Client authentication failed"),
        "{ended:?}"
    );
    idp.accept_secret(None);
    idp.always(Reply::Hang);
    let ended = Place::new(&config("300ms")).run(&["echo", "started"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "started\n"));
    assert!(ended.err.contains("no token yet"), "{ended:?}");
    // While it waits nobody has to wait for it.
    let place = Place::new(&config("60s"));
    let calls = idp.calls();
    let mut child = place.command(&["echo", "started"]).spawn().unwrap();
    eventually("the provider is asked", async || idp.calls() > calls).await;
    kill(&child, "TERM");
    assert_eq!(code_of(&mut child).await, Some(143));
    place.left_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_leaves_running_keeps_nobody() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let place = Place::new(&intercepted(&idp, &upstream));
    let script = "curl -sS http://api.test/slow/50000 >/dev/null 2>&1 & echo ready; read line; exit 5";
    let mut child = place.command(&["sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    ready(&mut child).await;
    eventually("the request is under way", async || !upstream.seen.requests().is_empty()).await;
    let began = tokio::time::Instant::now();
    child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    assert_eq!(code_of(&mut child).await, Some(5));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    place.left_nothing();
}
