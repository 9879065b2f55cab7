//! `lanyard exec`: one command with lanyard as its proxy, for as long as the command runs.

mod environment;
mod signals;
mod trust;

use std::{
    env,
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

use clap::Args;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use self::{environment::Surroundings, signals::Signals, trust::Trust};
use super::{ConfigFile, Failed, runtime, say_error};
use crate::{
    app::{App, Settings, StartError},
    ca::Files,
    config::{Ca, Config, ListenAddress, Listener, ListenerMode, Log},
    snapshot::Snapshot,
    telemetry,
};

/// Run a command with lanyard as its proxy, and exit with its status.
///
/// Starts a lanyard of its own on a free port, sets the proxy variables (and, where the configuration intercepts hosts,
/// every variable that makes a program trust its CA), runs the command, and ends with it: with its exit status, 128 and
/// the signal's number if a signal killed it, 127 if there is no such command, 126 if it cannot be run. Signals are
/// passed on to it. Nothing is left behind.
#[derive(Debug, Args)]
#[command(after_help = "For example: lanyard exec -- curl https://api.example.com/v1/x")]
pub(super) struct Exec {
    #[command(flatten)]
    file: ConfigFile,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Exec {
    /// The exit status to end with.
    pub(super) fn run(self) -> Result<u8, Failed> {
        let mut config = self.file.load_quietly()?.config;
        make_own(&mut config);
        let level = config.log.level.unwrap_or(tracing::Level::WARN);
        telemetry::init(&Log { level: Some(level), ..config.log.clone() });
        let runtime = runtime()?;
        let status = runtime.block_on(self.supervise(config));
        // A name that is still being looked up keeps nobody waiting.
        runtime.shutdown_timeout(Duration::from_millis(100));
        status
    }

    async fn supervise(&self, config: Config) -> Result<u8, Failed> {
        let failed = |what: String| {
            say_error(&what);
            Failed::AtRunTime
        };
        let mut signals = Signals::listen().map_err(|error| failed(format!("signals cannot be caught: {error}")))?;
        // No path: a reload would be a surprise, and SIGHUP is the command's.
        let app = App::build(config, Settings::default()).await;
        let app = app.map_err(|error| failed(format!("lanyard cannot start: {error}{}", hint(&error))))?;
        let current = app.current().load();
        let proxy = app.addresses().first().and_then(|address| address.parse::<SocketAddr>().ok());
        let proxy = proxy.ok_or_else(|| failed("lanyard cannot start: it has no forward listener".to_owned()))?;
        let variable = |name: &str| env::var_os(name);
        let trust = match &current.interception {
            Some(leaves) => Some(Trust::new(leaves.authority(), &variable).map_err(|error| {
                failed(format!("the CA cannot be given to the command: {}: {error}", env::temp_dir().display()))
            })?),
            None => None,
        };
        if current.config.egress_proxy.is_direct()
            && variable("HTTPS_PROXY").or_else(|| variable("https_proxy")).is_some()
        {
            let hint = "if lanyard has to go through it: environment = true in [egress_proxy]";
            tracing::info!(
                hint,
                "HTTPS_PROXY was set: the command has lanyard in its place, and lanyard goes directly"
            );
        }
        let surroundings = Surroundings { proxy, config: &current.config, trust: trust.as_ref() };
        let (changes, warnings) = surroundings.changes(&variable);
        for warning in warnings {
            tracing::warn!(variable = warning.variable, hint = warning.hint, "{}", warning.what);
        }

        let stop = app.stop();
        let serving = tokio::spawn(app.run());
        let asked_to_end = tokio::select! {
            () = warm_up(&current) => None,
            signal = signals.ending() => Some(signal),
        };
        let status = match asked_to_end {
            Some(signal) => killed_by(signal.as_raw()),
            None => self.run_command(changes, &mut signals).await,
        };
        stop.send_replace(true);
        // Whoever is still connected is none of the command's business, or was left behind by it.
        if timeout(STOP_LIMIT, serving).await.is_err() {
            tracing::debug!("not all connections ended in time");
        }
        Ok(status)
    }

    /// Runs it to its end, passing signals on.
    async fn run_command(&self, changes: environment::Changes, signals: &mut Signals) -> u8 {
        let [program, arguments @ ..] = self.command.as_slice() else { return NOT_FOUND };
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, value) in changes {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                say_error(&format!("lanyard: {}: {error}", program.display()));
                return if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            }
        };
        if let Err(error) = signals.listen_to_all() {
            tracing::warn!(%error, "signals that were ignored stay so");
        }
        loop {
            tokio::select! {
                biased;
                ended = child.wait() => return status_of(ended),
                signal = signals.next() => pass_on(&child, signal),
            }
        }
    }
}

/// From what `lanyard run` would be to what one command needs: one forward listener of its own, so that several run at
/// once and beside `lanyard run`. Other listeners are for other programs' settings and stay where those look for them.
fn make_own(config: &mut Config) {
    let is_forward = |listener: &Listener| matches!(listener.mode, ListenerMode::Forward);
    let first = config.listeners.iter().find(|listener| is_forward(listener));
    let forward = Listener {
        address: ListenAddress::Tcp(ANY_PORT),
        mode: ListenerMode::Forward,
        allowed_hosts: Vec::new(),
        allow_browsers: first.is_some_and(|listener| listener.allow_browsers),
    };
    config.listeners.retain(|listener| !is_forward(listener));
    config.listeners.insert(0, forward);
    config.admin.address = ANY_PORT;
    // The command is given whatever CA there is: where there is none, it needs none that stays.
    if Files::at(config.ca.directory.as_deref()).map_or(true, |files| files.are_absent()) {
        config.ca = Ca { directory: None, ephemeral: true };
    }
    config.limits.drain_timeout = config.limits.drain_timeout.min(DRAIN_LIMIT);
}

/// Waits for the first answer of every profile that is required, at most as long as a request would. A failure is
/// logged where it happens, and the command starts all the same.
async fn warm_up(snapshot: &Snapshot) {
    let mut waits = JoinSet::new();
    for profile in snapshot.profiles.values() {
        if profile.config.required && profile.config.prefetch {
            let profile = std::sync::Arc::clone(profile);
            waits.spawn(async move {
                if timeout(profile.config.token_wait, profile.slot.first_answer()).await.is_err() {
                    tracing::warn!(profile = &*profile.config.name, "no token yet: the command starts all the same");
                }
            });
        }
    }
    waits.join_all().await;
}

fn pass_on(child: &Child, signal: rustix::process::Signal) {
    // It has a pid until it was waited for.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, signal)
    {
        tracing::warn!(signal = signal.as_raw(), %error, "a signal could not be passed on");
    }
}

fn status_of(ended: io::Result<ExitStatus>) -> u8 {
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(1),
            (None, signal) => killed_by(signal.unwrap_or(0)),
        },
        Err(error) => {
            say_error(&format!("lanyard: the command's status is not known: {error}"));
            1
        }
    }
}

/// As shells have it.
fn killed_by(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn hint(error: &StartError) -> &'static str {
    match error {
        StartError::Bind { .. } => {
            "\n    hint: under `exec` a listener with an `upstream` keeps its address: end the lanyard that has it, or use \
             a configuration without that listener"
        }
        StartError::Resolver(_) | StartError::Snapshot(_) => "",
    }
}

/// Shells' own for a command that does not exist.
const NOT_FOUND: u8 = 127;
/// And for one that cannot be run.
const NOT_EXECUTABLE: u8 = 126;
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// What is in flight when the command has ended is nobody's.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// The same and what stopping takes besides.
const STOP_LIMIT: Duration = Duration::from_secs(2);
