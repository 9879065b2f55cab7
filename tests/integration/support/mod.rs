//! The harness. Secrets and tokens in tests begin with [`CANARY`], and no output of lanyard may hold one.

pub mod certs;
pub mod forward_proxy;
pub mod h2;
pub mod http;
pub mod idp;
pub mod lanyard;
pub mod tools;
pub mod tunnel;
pub mod upstream;

pub use self::{
    certs::Authority,
    forward_proxy::ForwardProxy,
    http::*,
    idp::Idp,
    lanyard::Lanyard,
    tools::{repository, tools},
    tunnel::{tls, tunnel},
    upstream::{ByHand, Upstream, read_head},
};

/// What every secret and token in a test begins with.
pub const CANARY: &str = "canary-";
/// The client secret of every profile in a test.
pub const SECRET: &str = "canary-client-secret";

/// An empty folder of this test's own, removed with the value.
pub struct Folder(std::path::PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("lanyard-test-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Waits until `done`, looking every few milliseconds, for at most 10 s.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
