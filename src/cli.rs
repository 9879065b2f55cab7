//! The commands, one file each.

mod ca;
mod check;
mod completions;
mod demo;
mod doctor;
mod exec;
mod explain;
mod issuer;
mod run;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Loaded};

/// Writes the right OAuth2 token on every request that leaves an application.
///
/// lanyard runs beside a program that must call an API but knows nothing of OAuth. Point the program's HTTP_PROXY, or
/// its base URL, at lanyard; `proxy.toml` says which hosts get which credential. Tokens are fetched ahead of time and
/// renewed in the background, so that no request waits for one.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    long_about,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed at run time, 64 bad configuration or usage; of `exec`: the command's own."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Run(run::Run),
    /// Show the whole story on this machine: an authorization server, a protected API, and lanyard between
    Demo(demo::Demo),
    /// Run a command with lanyard as its proxy, and exit with its status
    Exec(exec::Exec),
    /// Validate a configuration: every problem with file, line, key and what to write instead
    Check(check::Check),
    /// Tell which route and profile a request would take, what would change in it, or why it would be refused
    Explain(explain::Explain),
    /// Do one real token request per profile and tell what the identity provider says, and the fix
    Doctor(doctor::Doctor),
    /// Make, show and install the local CA that interception signs with
    Ca(ca::Ca),
    /// Run the embedded authorization server alone (development and tests only)
    Issuer(Box<issuer::Issuer>),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "proxy.toml")]
    config: PathBuf,
}

impl ConfigFile {
    /// Loads it, printing every problem and warning to standard error.
    fn load(&self) -> Result<Loaded, Failed> {
        let loaded = self.load_quietly()?;
        for warning in &loaded.warnings {
            say_error(&warning.to_string());
        }
        Ok(loaded)
    }

    /// Loads it, printing every problem, and no warning: those are what `lanyard check` is for.
    fn load_quietly(&self) -> Result<Loaded, Failed> {
        config::load(&self.config).map_err(|problems| {
            say_error(&problems.to_string());
            Failed::Usage
        })
    }

    fn path(&self) -> &Path {
        &self.config
    }
}

/// How a command failed; what it was is printed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    /// At run time.
    AtRunTime,
    /// Bad configuration or usage.
    Usage,
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        crate::tls::install_provider();
        let ended = match self.command {
            Command::Run(command) => command.run(),
            Command::Exec(command) => match command.run() {
                Ok(status) => return ExitCode::from(status),
                Err(failed) => Err(failed),
            },
            Command::Demo(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Ca(command) => command.run(),
            Command::Issuer(command) => command.run(),
            Command::Completions(command) => command.run(),
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failed::AtRunTime) => ExitCode::FAILURE,
            Err(Failed::Usage) => ExitCode::from(EXIT_USAGE),
        }
    }
}

/// Bad configuration or usage (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// A line to standard output. A reader that left (`| head`) ends nothing of ours.
fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// A line to standard error.
fn say_error(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// The runtime of a command.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().global_queue_interval(GLOBAL_QUEUE_INTERVAL);
    runtime.build().map_err(|error| {
        say_error(&format!("the async runtime cannot start: {error}"));
        Failed::AtRunTime
    })
}

/// How many tasks a worker runs before it looks at the queue that all workers share. What a worker's own queue of 256 has no
/// room for goes there: with 1,000 busy connections, one in 31 as tokio has it starves the others for tenths of a second.
const GLOBAL_QUEUE_INTERVAL: u32 = 3;

/// Ends at SIGINT or SIGTERM.
async fn asked_to_stop() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        },
        Err(_) => {
            drop(tokio::signal::ctrl_c().await);
            "SIGINT"
        }
    }
}
