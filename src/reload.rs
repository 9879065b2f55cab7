//! Notice a change, load, build the next snapshot, keep what did not change, swap.
//!
//! A file that changed, SIGHUP and `POST /reload` all end in [`Reloader::reload`]. Any problem keeps the running
//! snapshot. Files are watched by looking at them once a second: what a path leads to (device, inode, size, time of
//! change) tells a rewritten file, a rename and the `..data` symlink swap of a ConfigMap alike, on every file system.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Mutex, task::JoinSet};

use crate::{
    config::{self, Config},
    snapshot::{Current, Parts, Snapshot},
    telemetry::LevelHandle,
};

/// Reloads the configuration of a running process.
#[derive(Debug)]
pub struct Reloader {
    /// The file; `None`: the configuration was made by the process itself and cannot change.
    path: Option<PathBuf>,
    /// What the process was started with: sockets and the log's format stay as it says.
    started: Arc<Config>,
    current: Current,
    parts: Parts,
    log_level: Option<LevelHandle>,
    /// One reload at a time.
    turn: Mutex<()>,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The generation that runs now.
    pub generation: u64,
    /// What changed in the file but takes a restart.
    pub needs_restart: Vec<&'static str>,
    /// What `lanyard check` would warn of.
    pub warnings: Vec<String>,
}

impl Reloader {
    /// Reloads from this file into this snapshot.
    pub fn new(path: Option<PathBuf>, current: Current, parts: Parts, log_level: Option<LevelHandle>) -> Self {
        let started = Arc::clone(&current.load().config);
        Self { path, started, current, parts, log_level, turn: Mutex::new(()) }
    }

    /// Loads the file and swaps, or reports every problem and changes nothing.
    ///
    /// # Errors
    /// The problems, as `lanyard check` shows them.
    pub async fn reload(&self) -> Result<Report, String> {
        let result = self.load_and_swap().await;
        self.parts.metrics.reloaded(result.is_ok());
        match &result {
            Ok(report) => {
                tracing::info!(generation = report.generation, "configuration reloaded");
                for what in &report.needs_restart {
                    tracing::warn!(what, "changed in the file, but takes a restart");
                }
                for warning in &report.warnings {
                    tracing::warn!(warning, "configuration");
                }
            }
            Err(problems) => tracing::error!(problems, "configuration not reloaded: the running one stays"),
        }
        result
    }

    async fn load_and_swap(&self) -> Result<Report, String> {
        let _turn = self.turn.lock().await;
        let Some(path) = &self.path else { return Err("the configuration is not from a file".to_owned()) };
        let loaded = config::load(path).map_err(|problems| problems.to_string())?;
        let running = self.current.load();
        let config = Arc::new(loaded.config);
        let next = Snapshot::build(Arc::clone(&config), Some(&running), &self.parts).map_err(|p| p.join("\n"))?;
        warm_up(&running, &next).await;
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.parts.metrics.config_generation(generation);
        if let Some(handle) = &self.log_level
            && config.log.level() != running.config.log.level()
        {
            handle.set(config.log.level());
        }
        Ok(Report {
            generation,
            needs_restart: needs_restart(&self.started, &config),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    /// Looks at the files once a second, for as long as the process runs: the configuration and its CA files make a
    /// reload, a profile's secret files a token request, the resolver's files a new resolver.
    pub async fn watch(&self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = self.look();
        loop {
            ticks.tick().await;
            let now = self.look();
            let changed = |group: Group| {
                now.iter().any(|((g, path), mark)| {
                    *g == group && seen.get(&(group.clone(), path.clone())).is_some_and(|old| old != mark)
                })
            };
            if changed(Group::Resolver) {
                match self.parts.dialer.resolver.reload() {
                    Ok(()) => tracing::info!("resolver settings read anew"),
                    Err(error) => tracing::warn!(error, "resolver settings not read: the old ones stay"),
                }
            }
            let snapshot = self.current.load();
            for (name, profile) in &snapshot.profiles {
                if changed(Group::Profile(Arc::clone(name))) {
                    tracing::info!(profile = &**name, "secret file changed");
                    profile.slot.source_changed();
                }
            }
            if changed(Group::Config) {
                // Both outcomes are logged there.
                drop(self.reload().await);
            }
            seen = now;
        }
    }

    /// A mark of each file that matters now.
    fn look(&self) -> BTreeMap<(Group, PathBuf), Mark> {
        let snapshot = self.current.load();
        let mut files = Vec::new();
        if let Some(path) = &self.path {
            files.push((Group::Config, path.clone()));
            files.extend(ca_files(&snapshot.config).map(|path| (Group::Config, path.to_owned())));
        }
        for (name, profile) in &snapshot.profiles {
            files.extend(profile.slot.files().iter().map(|path| (Group::Profile(Arc::clone(name)), path.clone())));
        }
        files.extend(RESOLVER_FILES.iter().map(|path| (Group::Resolver, PathBuf::from(path))));
        files
            .into_iter()
            .map(|key| {
                let mark = mark(&key.1);
                (key, mark)
            })
            .collect()
    }
}

/// What a changed file is a reason for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Config,
    Profile(Arc<str>),
    Resolver,
}

/// What a path leads to: device, inode, size, time of change; `None`: nothing.
type Mark = Option<(u64, u64, u64, i64, i64)>;

fn mark(path: &Path) -> Mark {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

fn ca_files(config: &Config) -> impl Iterator<Item = &Path> {
    let routes = config.routes.iter().filter_map(|route| route.ca_file.as_ref());
    let profiles = config.profiles.values().filter_map(|profile| profile.kind.ca_file());
    routes.chain(profiles).map(|bundle| bundle.path.as_path())
}

/// Waits until the profiles that are new in a snapshot have their first answer, so that no request has to: at most
/// as long as a request would wait.
async fn warm_up(running: &Snapshot, next: &Snapshot) {
    let mut waits = JoinSet::new();
    for (name, profile) in &next.profiles {
        let kept = running.profiles.get(name).is_some_and(|old| Arc::ptr_eq(old, profile));
        if !kept && profile.config.prefetch {
            let profile = Arc::clone(profile);
            waits.spawn(
                async move { tokio::time::timeout(profile.config.token_wait, profile.slot.first_answer()).await },
            );
        }
    }
    waits.join_all().await;
}

/// What is fixed at start.
fn needs_restart(started: &Config, next: &Config) -> Vec<&'static str> {
    let mut changed = Vec::new();
    if started.listeners != next.listeners {
        changed.push("listeners");
    }
    if started.admin != next.admin {
        changed.push("admin");
    }
    let token_address = |config: &Config| config.token_endpoint.as_ref().map(|endpoint| endpoint.address);
    if token_address(started) != token_address(next) {
        changed.push("token_endpoint");
    }
    if started.log.format != next.log.format {
        changed.push("log.format");
    }
    changed
}

/// The kubelet itself takes up to a minute to bring a changed ConfigMap.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
