//! The real binary as a process of its own, with its log read line by line.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::Notify,
};

use super::{CANARY, Folder};

/// A running lanyard. Call [`Lanyard::finish`] at the end of a test: it stops the process and looks for canaries.
pub struct Lanyard {
    pub folder: Folder,
    child: Child,
    log: Log,
    /// The listeners' addresses in the order of the configuration.
    pub addresses: Vec<String>,
    /// The admin listener's `HOST:PORT`.
    pub admin: String,
}

#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Vec<String>>, Notify)>);

pub const BINARY: &str = env!("CARGO_BIN_EXE_lanyard");

impl Lanyard {
    /// Runs it with this configuration. Listeners may have port 0; `[admin]` is added with port 0 if it is not there.
    pub async fn start(config: &str) -> Self {
        Self::start_in(Folder::new(), config, &[]).await
    }

    /// The same in a folder that has files already (relative paths in the configuration are taken from it).
    pub async fn start_in(folder: Folder, config: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_as(folder, config, environment, None).await
    }

    /// The same as another user.
    pub async fn start_as(folder: Folder, config: &str, environment: &[(&str, &str)], user: Option<u32>) -> Self {
        let path = folder.write("proxy.toml", complete(config));
        let mut command = Command::new(BINARY);
        if let Some(user) = user {
            // Where it was built may be somebody's home.
            let copy = folder.path().join("lanyard");
            std::fs::copy(BINARY, &copy).unwrap();
            command = Command::new(copy);
            command.uid(user).gid(user);
        }
        let mut child = command
            .args(["run", "--config"])
            .arg(&path)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Log::default();
        log.read(child.stderr.take().unwrap());
        log.read(child.stdout.take().unwrap());
        let mut lanyard = Self { folder, child, log, addresses: Vec::new(), admin: String::new() };
        let started = lanyard.wait_for("started", |event| event["message"] == "started").await;
        lanyard.admin = started["admin"].as_str().unwrap().to_owned();
        let listeners = config.matches("[[listeners]]").count().max(1);
        lanyard
            .wait_until("every listener", |log| log.iter().filter(|e| e["message"] == "listening").count() == listeners)
            .await;
        let log = lanyard.log();
        let listening = log.iter().filter(|event| event["message"] == "listening");
        lanyard.addresses = listening.map(|event| event["address"].as_str().unwrap().to_owned()).collect();
        lanyard
    }

    /// The first listener's `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    /// Writes a new configuration in the place of the running one.
    pub fn write_config(&self, config: &str) {
        self.folder.write("proxy.toml.next", complete(config));
        std::fs::rename(self.folder.path().join("proxy.toml.next"), self.config_path()).unwrap();
    }

    /// `POST /reload`.
    pub async fn reload(&self) -> super::Answer {
        super::post(&format!("http://{}/reload", self.admin), "").await
    }

    /// `/status`.
    pub async fn status(&self) -> Value {
        serde_json::from_str(&super::get(&format!("http://{}/status", self.admin)).await.body).unwrap()
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> String {
        super::get(&format!("http://{}/metrics", self.admin)).await.body
    }

    /// The value of one series; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until `/readyz` is 200.
    pub async fn ready(&self) {
        super::eventually("ready", async || super::get(&format!("http://{}/readyz", self.admin)).await.status == 200)
            .await;
    }

    /// The log so far, an event a value.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an event of the log.
    pub async fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_until(what, |log| log.iter().any(&is_it)).await;
        self.log().into_iter().find(|event| is_it(event)).unwrap()
    }

    async fn wait_until(&self, what: &str, done: impl Fn(&[Value]) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let more = self.log.0.1.notified();
                if done(&self.log()) {
                    return;
                }
                more.await;
            }
        });
        if waited.await.is_err() {
            panic!("{what}: not in the log within 20 s:\n{}", self.log.lines().join("\n"));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Memory in use, KiB (`VmRSS`); 0 where there is no /proc.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Stops the process and returns its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> Option<i32> {
        tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await.expect("it stops").unwrap().code()
    }

    /// Looks at every byte it gave for canaries, stops it, and expects a clean end.
    pub async fn finish(mut self) {
        let mut output = String::new();
        for path in ["status", "metrics", "config", "readyz", "startupz"] {
            output += &super::get(&format!("http://{}/{path}", self.admin)).await.body;
        }
        assert_eq!(self.stop().await, Some(0), "log:\n{}", self.log.lines().join("\n"));
        output += &self.log.lines().join("\n");
        let leak = output.lines().find(|line| line.contains(CANARY));
        assert_eq!(leak, None, "a secret or a token leaked");
        assert!(!output.contains("a task panicked"), "{output}");
    }
}

impl Log {
    fn read(&self, pipe: impl tokio::io::AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.0.0.lock().unwrap().push(line);
                log.0.1.notify_waiters();
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }
}

fn complete(config: &str) -> String {
    let mut whole = String::new();
    if !config.contains("[[listeners]]") {
        whole += "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    }
    if !config.contains("[admin]") {
        whole += "[admin]\naddress = \"127.0.0.1:0\"\n";
    }
    whole + config
}

/// Runs a command of lanyard's to its end: exit code, standard output, standard error.
pub async fn command(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let run = Command::new(BINARY).args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
