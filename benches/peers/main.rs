//! lanyard beside Envoy, nginx and HAProxy: `make bench`, or `cargo bench --bench peers -- --help`.
//!
//! One proxy at a time runs on one core; this program, which is both the clients and the upstream, on another. Rounds
//! take turns over the proxies. A request that fails, or comes without the right credential, ends the run.
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a program for people, which ends at the first thing that goes wrong"
)]

mod chart;
mod configs;
mod load;
mod measure;
mod net;
mod page;
mod proxies;
mod report;
mod run;
mod scenarios;
mod upstream;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

use crate::{
    measure::Cores,
    net::Certificates,
    proxies::{Issuer, Yard},
    report::Measured,
    scenarios::{Effort, Scenario},
    upstream::Upstream,
};

/// lanyard beside Envoy, nginx and HAProxy.
#[derive(Parser)]
struct Arguments {
    /// The scenarios to run: those whose name begins so [default: all]
    scenarios: Vec<String>,
    /// How often each case is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement, milliseconds (three times as long at a fixed rate)
    #[arg(long, default_value_t = 1000)]
    measure: u64,
    /// Requests per second of what runs at a fixed rate
    #[arg(long, default_value_t = 3000.0)]
    rate: f64,
    /// A look at everything in three minutes: two short rounds without the charts
    #[arg(long)]
    quick: bool,
    /// A build of lanyard, PATH or NAME=PATH; may be repeated, to compare builds
    #[arg(long)]
    lanyard: Vec<String>,
    /// The envoy program; --peers has one otherwise
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Where scripts/peers.sh put things
    #[arg(long, default_value = "target/peers")]
    peers: PathBuf,
    /// Write docs/performance.md and its charts, from a full run
    #[arg(long)]
    write: bool,
    /// Names and titles of all scenarios
    #[arg(long)]
    list: bool,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    lanyard::tls::install_provider();
    // The first look at the cores: from here on this thread may use one of them.
    let available = measure::allowed();
    let Some(cores) = Cores::choose() else {
        eprintln!("a benchmark needs two cores: one for the proxy, one for the load");
        return ExitCode::FAILURE;
    };
    Cores::pin(&[cores.load]);
    // Tasks are many and short here, and none may wait long for its socket.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(13).build().unwrap();
    let result = runtime.block_on(async {
        tokio::select! {
            result = bench(&arguments, cores, available) => result,
            () = interrupted() => Err("interrupted".into()),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminate.recv() => (),
    }
}

async fn bench(arguments: &Arguments, cores: Cores, available: Vec<usize>) -> Result<(), String> {
    let lanyards = lanyards(&arguments.lanyard);
    let quick = |full: u64, quick: u64| Duration::from_millis(if arguments.quick { quick } else { full });
    let effort = Effort {
        rounds: if arguments.quick { 2 } else { arguments.rounds },
        measure: quick(arguments.measure, 300),
        warm_up: quick(300, 150),
        rate: arguments.rate,
        lanyards: lanyards.len(),
        cores: available.len(),
    };
    let chosen = |name: &str| {
        arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|wanted| name.starts_with(wanted.as_str()))
    };
    let mut scenarios = scenarios::all(&effort);
    scenarios.retain(|scenario| chosen(scenario.name) && (scenario.chart.is_none() || !arguments.quick));
    if arguments.list {
        for scenario in &scenarios {
            println!("{:24} {}", scenario.name, scenario.title);
        }
        return Ok(());
    }
    if scenarios.is_empty() {
        return Err("no scenario has such a name: --list has them all".into());
    }
    if arguments.write && (arguments.quick || arguments.rounds < 5 || !arguments.scenarios.is_empty()) {
        return Err("docs/performance.md is written from a full run: all scenarios, at least five rounds".into());
    }
    lift_limit_of_files()?;

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let certificates = Certificates::new();
    let (upstream, ports) = Upstream::start(&certificates).await;
    let issuer = Issuer::start(&lanyards[0].1, 86_400).await?;
    let short = Issuer::start(&lanyards[0].1, 2).await?;
    upstream.trust(issuer.address);
    upstream.trust(short.address);
    let (mut cores, third) = (cores, available.get(2).copied());
    // For the sweep over cores: the proxy's second core is the one of the load, or a third where there is one.
    cores.proxy.push(third.unwrap_or(cores.load));
    let yard = Yard {
        folder: folder.clone(),
        cores,
        ports,
        far: upstream,
        certificates,
        lanyards,
        nginx: program("nginx")?,
        haproxy: program("haproxy")?,
        envoy: envoy(arguments)?,
        issuer: issuer.address,
        short_issuer: short.address,
    };

    let began = std::time::Instant::now();
    let mut all = Vec::new();
    for scenario in scenarios {
        let measured = measure(&yard, scenario, &effort).await?;
        println!("{}", measured.markdown(&yard));
        all.push(measured);
        let figures: Vec<_> = all.iter().map(|measured| measured.json(&yard)).collect();
        let json = serde_json::to_string_pretty(&figures).unwrap();
        fs::write(folder.join("figures.json"), json).map_err(|error| error.to_string())?;
    }
    eprintln!("{:.0?}; all figures: {}", began.elapsed(), folder.join("figures.json").display());
    if arguments.write {
        page::write(&yard, &all, &effort)?;
    }
    Ok(())
}

async fn measure(yard: &Yard, scenario: Scenario, effort: &Effort) -> Result<Measured, String> {
    let mut rounds = vec![Vec::new(); scenario.cases.len()];
    for round in 0..effort.rounds {
        eprintln!("{}: round {} of {}", scenario.name, round + 1, effort.rounds);
        for step in 0..scenario.cases.len() {
            // Another begins each round.
            let at = (step + round) % scenario.cases.len();
            let case = &scenario.cases[at];
            let figures = run::once(yard, case, effort).await;
            rounds[at].push(
                figures
                    .map_err(|error| format!("{}, {} {}: {error}", scenario.name, yard.name(&case.who), case.label))?,
            );
        }
    }
    Ok(Measured { scenario, rounds })
}

fn lanyards(given: &[String]) -> Vec<(String, PathBuf)> {
    if given.is_empty() {
        // `make bench` names the release build. What cargo builds beside a bench has the features of tests in it, such
        // as a clock that can be paused, and is not what anybody runs.
        return vec![("lanyard (test features)".into(), PathBuf::from(env!("CARGO_BIN_EXE_lanyard")))];
    }
    let named = |text: &String| match text.split_once('=') {
        Some((name, path)) => (name.to_owned(), path.into()),
        None => ("lanyard".to_owned(), text.into()),
    };
    given.iter().map(named).collect()
}

fn lift_limit_of_files() -> Result<(), String> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 8192) {
        return Err("1,000 connections need 8,192 open files: raise `ulimit -Hn`".into());
    }
    limit.current = limit.maximum.map(|most| most.min(65_536)).or(Some(65_536));
    setrlimit(Resource::Nofile, limit).map_err(|error| error.to_string())
}

fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{name} is missing: `bash scripts/peers.sh` installs it, or says what to type"))
}

fn envoy(arguments: &Arguments) -> Result<PathBuf, String> {
    let path = arguments.envoy.clone().unwrap_or_else(|| arguments.peers.join("envoy"));
    let path = fs::canonicalize(&path);
    path.map_err(|_| "envoy is missing: `bash scripts/peers.sh` installs it, or name one with --envoy".into())
}
