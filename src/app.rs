//! The composition root: builds everything in order, starts it, and stops it in the reverse.
//!
//! Start: configuration, metrics, slots and their tasks, sockets, request side, admin, listeners. Stop: no more
//! connections, what is in flight ends (at most `drain_timeout`), admin last. Tests and `demo` call it as `run` does.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use pingora::{proxy::http_proxy, server::configuration::ServerConf};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

use crate::{
    admin::Admin,
    clock::Clock,
    config::{Config, ListenerMode},
    dns::Resolver,
    egress::connect::Dialer,
    listen::{Bound, Front, Open},
    metrics::Metrics,
    proxy::{
        Injector, Via,
        dialled::Dialled,
        direct::{Direct, Origins},
        refusal::Code,
    },
    reload::Reloader,
    snapshot::{Current, Parts, Snapshot, trusted},
    telemetry::LevelHandle,
    tls, token_endpoint,
};

/// Everything, built and bound, and not yet accepting.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Bound>,
    admin_listener: TcpListener,
    admin: Admin,
    token_listener: Option<TcpListener>,
    front: Arc<Front>,
    reloader: Arc<Reloader>,
    stop: watch::Sender<bool>,
}

/// What an application is built from.
#[derive(Debug, Default)]
pub struct Settings {
    /// The file that the configuration came from, to be watched and reloaded.
    pub path: Option<PathBuf>,
    /// Changes the log level on reload.
    pub log_level: Option<LevelHandle>,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system's resolver settings.
    #[error("the resolver cannot be set up: {0}")]
    Resolver(String),
    /// A profile or route that cannot be run.
    #[error("{}", .0.join("\n"))]
    Snapshot(Vec<String>),
    /// A socket.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
}

impl App {
    /// Builds and binds everything; tokens begin to be fetched.
    ///
    /// # Errors
    /// A socket cannot be bound, a client cannot be built.
    pub async fn build(config: Config, settings: Settings) -> Result<Self, StartError> {
        tls::install_provider();
        let metrics = Metrics::new();
        metrics.declare_refusals(Code::ALL.iter().map(|code| code.as_str()));
        let resolver = Resolver::system().map_err(StartError::Resolver)?;

        let mut listeners = Vec::new();
        for definition in &config.listeners {
            let bound = Bound::bind(definition).await;
            let address = definition.address.to_string();
            listeners.push(bound.map_err(|source| StartError::Bind { address, source })?);
        }
        let address = config.admin.address;
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            std::io::Result::Ok((listener, address))
        };
        let (admin_listener, admin_address) =
            bound.await.map_err(|source| StartError::Bind { address: address.to_string(), source })?;

        let token_listener = match &config.token_endpoint {
            None => None,
            Some(endpoint) => {
                let address = endpoint.address;
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| StartError::Bind { address: address.to_string(), source })?)
            }
        };
        let token_address = token_listener.as_ref().and_then(|listener| listener.local_addr().ok());

        let own = listeners.iter().filter_map(Bound::tcp_address).chain([admin_address]).chain(token_address);
        let own = own.collect();
        let dialer = Dialer { resolver, own };
        let parts = Parts { clock: Clock::boot(), metrics: metrics.clone(), dialer: dialer.clone() };
        let snapshot = Snapshot::build(Arc::new(config), None, &parts).map_err(StartError::Snapshot)?;
        metrics.config_generation(snapshot.generation);
        let current = Current::new(snapshot);

        let dialled = Dialled::default();
        let redirected = current.load().config.listeners.iter().any(|l| l.mode == ListenerMode::Transparent);
        let injector = Injector {
            current: current.clone(),
            dialer: dialer.clone(),
            metrics: metrics.clone(),
            roots: (!tls::system_roots_are_plain()).then(|| trusted(None)),
            dialled: redirected.then(|| dialled.clone()),
            origins: Origins::default(),
            via: Via::new(),
        };
        let front = Front {
            direct: Direct::new(injector.clone()),
            proxy: Arc::new(http_proxy(&Arc::new(pingora_settings()), injector)),
            current: current.clone(),
            dialer,
            metrics: metrics.clone(),
            dialled,
            open: Open::default(),
        };
        let reloader = Arc::new(Reloader::new(settings.path, current.clone(), parts, settings.log_level));
        let stop = watch::Sender::new(false);
        let admin = Admin { current, metrics, reloader: Arc::clone(&reloader), stop: stop.clone() };
        Ok(Self { listeners, admin_listener, admin, token_listener, front: Arc::new(front), reloader, stop })
    }

    /// The listeners' addresses, in the order of the configuration.
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(|bound| bound.name().to_owned()).collect()
    }

    /// The admin listener's address.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_listener.local_addr().ok()
    }

    /// The address of the token endpoint, if there is one.
    pub fn token_address(&self) -> Option<SocketAddr> {
        self.token_listener.as_ref()?.local_addr().ok()
    }

    /// The running configuration.
    pub fn current(&self) -> Current {
        self.front.current.clone()
    }

    /// Reloads the configuration.
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// Set to true to stop the application.
    pub fn stop(&self) -> watch::Sender<bool> {
        self.stop.clone()
    }

    /// Serves until it is told to stop, and until what is in flight then has ended.
    pub async fn run(self) {
        let Self { listeners, admin_listener, admin, token_listener, front, reloader, stop } = self;
        let mut tasks = JoinSet::new();
        let watching = tokio::spawn(async move { reloader.watch().await });
        let (drained, mut is_drained) = watch::channel(false);
        if let Some(listener) = token_listener {
            let endpoint = token_endpoint::Listener { current: front.current.clone() };
            let mut is_drained = is_drained.clone();
            tasks.spawn(endpoint.serve(listener, async move {
                drop(is_drained.wait_for(|done| *done).await);
            }));
        }
        tasks.spawn(admin.serve(admin_listener, async move {
            // An error says that the sender is gone: that is the end too.
            drop(is_drained.wait_for(|done| *done).await);
        }));
        let sweeper = Arc::clone(&front);
        let sweeping = tokio::spawn(async move { sweeper.direct.sweep().await });
        for bound in listeners {
            tracing::info!(address = bound.name(), "listening");
            tasks.spawn(bound.serve(Arc::clone(&front), stop.subscribe()));
        }
        drop(stop.subscribe().wait_for(|stop| *stop).await);

        let limit = front.current.load().config.limits.drain_timeout;
        tracing::info!(connections = front.open.count(), "draining");
        pingora::apps::HttpServerApp::http_cleanup(&*front.proxy).await;
        if timeout(limit, front.open.none()).await.is_err() {
            tracing::warn!(connections = front.open.count(), "drain_timeout is over: connections are cut");
        }
        drained.send_replace(true);
        watching.abort();
        sweeping.abort();
        // The admin listener may have a client that does not let go.
        if timeout(ADMIN_GRACE, tasks.join_all()).await.is_err() {
            tracing::debug!("a listener did not end in time");
        }
        tracing::info!("stopped");
    }
}

/// pingora reads little of it here: we accept connections and stop by ourselves. Of the system's roots it takes all or
/// panics: where one of them is odd it gets an empty file, and every peer the list of those that are good.
fn pingora_settings() -> ServerConf {
    let ca_file = (!tls::system_roots_are_plain()).then(|| "/dev/null".to_owned());
    ServerConf { max_retries: MAX_TRIES, ca_file, ..ServerConf::default() }
}

/// A request is sent to at most three addresses, once again with a new token, and once on a fresh connection.
const MAX_TRIES: usize = 5;
/// For the last answer of the admin listener.
const ADMIN_GRACE: std::time::Duration = std::time::Duration::from_millis(500);
