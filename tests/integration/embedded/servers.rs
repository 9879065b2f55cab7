//! `lanyard issuer` as a process of its own, in the ways in which the table needs it.

use tokio::process::Command;

use super::super::interop::servers::Process;
use crate::support::{Folder, lanyard::BINARY};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// HTTPS alone.
    Tls,
    /// HTTP, and HTTPS for those with certificates.
    Both,
    /// HTTPS, with nonces in DPoP proofs.
    Nonces,
}

/// A running `lanyard issuer`. Ends when it is dropped.
pub struct Issuer {
    _process: Process,
    /// Its identifier.
    pub url: String,
    /// The CA of its certificate; empty where it has none.
    pub ca: String,
}

impl Issuer {
    /// Starts one with the clients in `clients.json` of the folder.
    pub async fn start(server: Server, folder: &Folder) -> Self {
        let own = Folder::new();
        let ca = own.path().join("ca.pem");
        let path = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
        let mut command = Command::new(BINARY);
        command.args(["issuer", "--address", "127.0.0.1:0", "--refresh-tokens", "--algorithm", "ES256"]);
        command.args(["--clients", &path("clients.json"), "--tls-client-ca", &path("client-ca.pem")]);
        command.arg("--tls-ca-out").arg(&ca);
        match server {
            Server::Tls => command.arg("--tls"),
            Server::Both => command.args(["--tls-address", "127.0.0.1:0"]),
            Server::Nonces => command.args(["--tls", "--dpop-nonce", "--dpop-nonce-uses", "3"]),
        };
        let process = Process::start(command.kill_on_drop(true), own);
        let told = |lines: &[String]| {
            let line = lines.iter().find_map(|line| line.strip_prefix("token endpoint: "))?;
            let last_told = lines.iter().any(|line| line.starts_with("CA to trust:"));
            last_told.then(|| line.split("/oauth/token").next().unwrap().to_owned())
        };
        let url = process.wait_for("the token endpoint", told).await;
        Self { _process: process, url, ca: std::fs::read_to_string(ca).unwrap() }
    }
}
