//! The authorization servers, each a process of its own (`tests/interop`) that `scripts/interop.sh` made.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::{Notify, OnceCell},
};

use super::super::support::{Folder, repository, tools};

/// The folder of the programs, set up once a run: two minutes on a machine that has nothing, seconds where all is there.
pub async fn programs() -> &'static Path {
    static PROGRAMS: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAMS.get_or_init(set_up).await
}

async fn set_up() -> PathBuf {
    // The same script sets up the tools of other tests: not at the same time.
    let folder = tools().await.to_owned();
    let set_up = Command::new("bash")
        .arg(repository().join("scripts/interop.sh"))
        .arg(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let set_up = tokio::time::timeout(Duration::from_secs(30 * 60), set_up).await.expect("it ends").unwrap();
    assert!(set_up.success(), "scripts/interop.sh failed");
    folder
}

/// A process and what it printed. Ends with its standard input: when it is dropped, and if the test is killed.
pub struct Process {
    printed: Arc<(Mutex<Vec<String>>, Notify)>,
    _child: Child,
    /// Where its files are.
    _folder: Folder,
}

impl Process {
    pub fn start(command: &mut Command, folder: Folder) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = Arc::default();
        read(child.stdout.take().unwrap(), &printed);
        read(child.stderr.take().unwrap(), &printed);
        Self { printed, _child: child, _folder: folder }
    }

    /// Every line so far, of both outputs.
    pub fn lines(&self) -> Vec<String> {
        self.printed.0.lock().unwrap().clone()
    }

    /// Waits until what was printed has something to tell, at most 30 s.
    pub async fn wait_for<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let more = self.printed.1.notified();
                if let Some(found) = find(&self.lines()) {
                    return found;
                }
                more.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what}: not printed within 30 s:\n{}", self.lines().join("\n")))
    }
}

fn read(pipe: impl AsyncRead + Unpin + Send + 'static, printed: &Arc<(Mutex<Vec<String>>, Notify)>) {
    let printed = Arc::clone(printed);
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            printed.0.lock().unwrap().push(line);
            printed.1.notify_waiters();
        }
    });
}

/// A server that runs, and what it told of itself.
pub struct AuthorizationServer {
    _process: Process,
    /// `issuer`, `token_endpoint`, `introspection_endpoint`, and maybe `refresh_tokens` by client.
    told: Value,
}

impl AuthorizationServer {
    /// oidc-provider, behind TLS.
    pub async fn oidc_provider(registrations: &Value) -> Self {
        let folder = programs().await.join("oidc-provider");
        // Its own Node, which is a package of it; the system's where that package has none for this machine.
        let path = std::env::join_paths(
            std::iter::once(folder.join("node_modules/.bin"))
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut command = Command::new("env");
        command.arg("node").arg(folder.join("oidc_provider.mjs")).env("PATH", path.unwrap());
        Self::start(command, registrations).await
    }

    /// Authlib, in Flask.
    pub async fn authlib(registrations: &Value) -> Self {
        let mut command = Command::new(programs().await.join("authlib/bin/python"));
        command.arg(repository().join("tests/interop/authlib_server.py"));
        Self::start(command, registrations).await
    }

    /// ory/fosite.
    pub async fn fosite(registrations: &Value) -> Self {
        Self::start(Command::new(programs().await.join("fosite/fosite")), registrations).await
    }

    async fn start(mut command: Command, registrations: &Value) -> Self {
        let folder = Folder::new();
        command.arg(folder.write("registrations.json", registrations.to_string()));
        let process = Process::start(&mut command, folder);
        let ready = |lines: &[String]| {
            lines.iter().find_map(|line| Some(serde_json::from_str(line.strip_prefix("ready ")?).unwrap()))
        };
        let told = process.wait_for("ready", ready).await;
        Self { _process: process, told }
    }

    /// `issuer`, `token_endpoint` or `introspection_endpoint`.
    pub fn told(&self, name: &str) -> &str {
        self.told[name].as_str().unwrap()
    }

    /// A refresh token that the server has for a client from its start.
    pub fn refresh_token(&self, client: &str) -> Option<&str> {
        self.told["refresh_tokens"][client].as_str()
    }
}
