//! The proxies: how each is configured for a site, started, and stopped. `configs.rs` has their files.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use crate::{
    configs,
    load::{Ask, Way, exactly},
    measure::{Cores, tree},
    net::{self, Certificates, Stream},
    upstream::{Ports, Upstream},
};

/// What proxies that know nothing of tokens write.
pub(crate) const STATIC_TOKEN: &str = "a-token-that-never-changes-0123456789abcdef";
pub(crate) const CLIENT: &str = "bench:bench-secret";

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Who {
    /// The build that is measured; the number counts those of `--lanyard`.
    Lanyard(usize),
    Nginx,
    Haproxy,
    Envoy,
}

/// How clients come in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Inbound {
    Reverse,
    Forward,
    /// lanyard: CONNECT and TLS that it ends itself. The others: a listener with TLS.
    Tls,
    H2c,
    /// lanyard: CONNECT that it does not look into. HAProxy: TCP mode.
    Tunnel,
}

/// What the upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outbound {
    Http,
    Https,
    H2,
    H2c,
    Raw,
}

/// What a proxy has to do.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    pub(crate) log: bool,
    pub(crate) upgrades: bool,
    pub(crate) cores: usize,
    /// Of lanyard alone, from here on.
    pub(crate) routes: usize,
    /// Profiles that nobody uses, without a token.
    pub(crate) profiles: usize,
    /// Profiles with tokens so short-lived that each is renewed once a second.
    pub(crate) restless: usize,
    pub(crate) reloads: bool,
    pub(crate) rejects: bool,
}

impl Site {
    pub(crate) fn new(inbound: Inbound, outbound: Outbound) -> Self {
        Self {
            inbound,
            outbound,
            log: false,
            upgrades: false,
            cores: 1,
            routes: 1,
            profiles: 1,
            restless: 0,
            reloads: false,
            rejects: false,
        }
    }
}

/// What all proxies of a run share.
pub(crate) struct Yard {
    pub(crate) folder: PathBuf,
    pub(crate) cores: Cores,
    pub(crate) ports: Ports,
    pub(crate) far: Arc<Upstream>,
    pub(crate) certificates: Certificates,
    /// Name and path of each build of lanyard.
    pub(crate) lanyards: Vec<(String, PathBuf)>,
    pub(crate) nginx: PathBuf,
    pub(crate) haproxy: PathBuf,
    pub(crate) envoy: PathBuf,
    pub(crate) issuer: SocketAddr,
    /// Whose tokens live for two seconds.
    pub(crate) short_issuer: SocketAddr,
}

impl Yard {
    pub(crate) fn name(&self, who: &Who) -> String {
        match who {
            Who::Lanyard(at) => self.lanyards[*at].0.clone(),
            Who::Nginx => "nginx".into(),
            Who::Haproxy => "HAProxy".into(),
            Who::Envoy => "Envoy".into(),
        }
    }

    pub(crate) fn binary(&self, who: &Who) -> &Path {
        match who {
            Who::Lanyard(at) => &self.lanyards[*at].1,
            Who::Nginx => &self.nginx,
            Who::Haproxy => &self.haproxy,
            Who::Envoy => &self.envoy,
        }
    }

    pub(crate) fn upstream(&self, outbound: Outbound) -> u16 {
        match outbound {
            Outbound::Http => self.ports.plain,
            Outbound::Https => self.ports.tls,
            Outbound::H2 => self.ports.tls_h2,
            Outbound::H2c => self.ports.h2c,
            Outbound::Raw => self.ports.raw,
        }
    }
}

/// A proxy that runs. It and its children are killed when this is dropped.
pub(crate) struct Proxy {
    pub(crate) pid: u32,
    pub(crate) way: Way,
    /// From exec to the first request that was served.
    pub(crate) took: Duration,
    pub(crate) admin: SocketAddr,
    pub(crate) config: PathBuf,
    _child: Child,
}

impl Proxy {
    pub(crate) async fn start(yard: &Yard, who: &Who, site: &Site) -> Result<Self, String> {
        let (address, admin) = (free(), free());
        let folder = yard.folder.join("site");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let config = configs::write(yard, who, site, &folder, address, admin)?;
        let log = folder.join("proxy.log");
        let output = || Stdio::from(fs::File::create(&log).expect("the folder is ours"));
        let mut command = Command::new(yard.binary(who));
        configs::arguments(&mut command, who, &config, &folder, site);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output()).kill_on_drop(true);
        Cores::pin(&yard.cores.proxy[..site.cores.min(yard.cores.proxy.len())]);
        let began = Instant::now();
        let child = command.spawn();
        Cores::pin(&[yard.cores.load]);
        let child = child.map_err(|error| format!("{}: {error}", yard.binary(who).display()))?;
        let pid = child.id().ok_or("it ended at once")?;
        let lanyard = matches!(who, Who::Lanyard(_));
        let mut way = Way { proxy: address, connect: None, tls: None, prefix: String::new(), host: "api.test".into() };
        if site.inbound == Inbound::Forward {
            way.prefix = "http://api.test".into();
        } else if lanyard && matches!(site.inbound, Inbound::Reverse | Inbound::H2c) {
            way.host = address.to_string();
        }
        let mut proxy = Self { pid, way, took: Duration::ZERO, admin, config, _child: child };
        proxy.ready(yard, lanyard, site, began).await.map_err(|error| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("{}: {error}\n{}", yard.name(who), lines[lines.len().saturating_sub(15)..].join("\n"))
        })?;
        Ok(proxy)
    }

    async fn ready(&mut self, yard: &Yard, lanyard: bool, site: &Site, began: Instant) -> Result<(), String> {
        let limit = Duration::from_secs(30);
        match (lanyard, site.inbound) {
            (true, Inbound::Tls) => {
                let pem = loop {
                    match get(self.admin, "/ca.pem").await {
                        Ok(answer) => break answer,
                        Err(error) if began.elapsed() > limit => return Err(error.to_string()),
                        Err(_) => tokio::task::yield_now().await,
                    }
                };
                self.way.connect = Some("api.test:443".into());
                self.way.tls = Some(net::client(&pem));
            }
            (true, Inbound::Tunnel) => self.way.connect = Some(format!("127.0.0.1:{}", yard.ports.raw)),
            (false, Inbound::Tls) => self.way.tls = Some(net::client(&yard.certificates.ca)),
            _ => {}
        }
        let ask = match site.inbound {
            Inbound::H2c => Ask::Grpc,
            Inbound::Tunnel => Ask::Bytes,
            _ => Ask::Fresh("/bytes/1024".into()),
        };
        loop {
            match exactly(&self.way, &ask, 1, 1).await {
                Ok(()) => break,
                Err(error) if began.elapsed() > limit => return Err(format!("it serves no request: {error}")),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        self.took = began.elapsed();
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        stop(self.pid);
    }
}

/// Ends a process that we started, and its children.
fn stop(pid: u32) {
    for pid in tree(pid).into_iter().rev() {
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            // It may have ended by itself.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// `lanyard issuer`, on the core of the load.
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Issuer {
    pub(crate) async fn start(lanyard: &Path, lifetime: u64) -> Result<Self, String> {
        let address = free();
        let child = Command::new(lanyard)
            .args(["issuer", "--algorithm", "opaque", "--client", CLIENT])
            .args(["--address", &address.to_string(), "--lifetime", &lifetime.to_string()])
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", lanyard.display()))?;
        let up = crate::measure::eventually(Duration::from_secs(20), async || {
            get(address, "/.well-known/oauth-authorization-server").await.is_ok()
        });
        if up.await { Ok(Self { address, _child: child }) } else { Err("lanyard issuer does not start".into()) }
    }
}

/// The body of an answer of 200.
pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = Stream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other("no answer of 200")),
    }
}

/// An address that nobody listens on.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
