//! docs/performance.md and its charts, from a run.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::{
    chart,
    proxies::{Who, Yard},
    report::Measured,
    scenarios::Effort,
};

const INTRODUCTION: &str = "# Performance
What lanyard costs, beside three proxies that many people know. **This page is written by `make bench WRITE=1`**, figures, charts and verdicts alike; run it on your own machine, which is the
one that counts. `make bench ARGS=\"keepalive --rounds 9\"` runs the scenarios whose names begin so, `ARGS=--list` names them, `ARGS=--quick` takes three minutes, and
`ARGS=\"--lanyard before=PATH --lanyard after=PATH\"` compares two builds.

## How it is measured
* One proxy at a time, with one worker on one core. The clients and the upstream are one program of one thread on another core, so a proxy competes with nobody for its own. All is on loopback.
* Rounds take turns over the proxies, and each measurement starts a process of its own. A cell is the median of the rounds (least to most). A ratio is taken within each round.
* The upstream verifies the credential of every request: it asks the issuer about each token that it has not seen. A request that fails, or is answered with anything but success, ends the run.
* lanyard and Envoy (`credential_injector` with `oauth2`) fetch a token from `lanyard issuer`. **nginx and HAProxy write a header that never changes**: they are the floor, for they do no token work.
* Logs are off, but in the rows that say otherwise. Upstream connections are kept, without a limit of requests.

## What the figures mean
* **CPU us/request**: processor time of the proxy's processes, user and system, by request. The figure to trust: it hardly depends on what else the machine does, as far as caches and clock go.
* **requests/s**: what one core gives, unless the load's core is the bottleneck: it is where CPU x requests is well below 1.
* **p50, p99, p999**: without a fixed rate they belong to a saturated proxy, and tell little. At a fixed rate a request's time counts from when it was *due*, so a proxy that stalls is charged for all that waited.
* **MiB**: resident memory of all processes of a proxy (nginx: master and worker). PSS divides pages among those that share them.
* **exec to served ms**: from starting the program to the end of the first request that was served, tried without a pause; with a token from a local provider, where the proxy fetches one.
* **system calls/request**: counted by strace in a run of its own.
* `-`: the proxy cannot do it, or has not been configured for it (nginx 1.22 has no HTTP/2 to an upstream but gRPC's). TLS to the proxy is CONNECT and interception for lanyard, a TLS listener for the others.
* **Goals** were set before measuring. A missed one is shown, and fails nothing.
";

/// Written by hand: what the figures do not say by themselves.
const NOTES: &str = include_str!("notes.md");

pub(crate) fn write(yard: &Yard, all: &[Measured], effort: &Effort) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::create_dir_all(docs.join("performance")).map_err(failed)?;
    let mut text = INTRODUCTION.to_owned();
    write!(text, "\n## The run\n{}\n", circumstances(yard, effort)).unwrap();
    let verdicts: Vec<_> = all.iter().flat_map(|measured| measured.verdicts(yard)).collect();
    let count = |word: &str| verdicts.iter().filter(|verdict| verdict.ends_with(word)).count();
    write!(text, "\n## In short\n{} goals held, {} missed.\n\n", count("**held**."), count("**missed**.")).unwrap();
    for verdict in &verdicts {
        writeln!(text, "* {verdict}").unwrap();
    }
    write!(text, "\n{NOTES}").unwrap();
    text += "\n## How the cost grows\n";
    for measured in all {
        if let Some(of) = &measured.scenario.chart
            && let Some(svg) = chart::draw(yard, measured, of)
        {
            let name = format!("{}.svg", measured.scenario.name);
            fs::write(docs.join("performance").join(&name), svg).map_err(failed)?;
            writeln!(text, "\n![{}](performance/{name})", of.question).unwrap();
        }
    }
    text += "\n## All tables\n";
    for measured in all {
        write!(text, "\n{}", measured.markdown(yard)).unwrap();
    }
    fs::write(docs.join("performance.md"), text).map_err(failed)?;
    eprintln!("written: docs/performance.md");
    Ok(())
}

fn circumstances(yard: &Yard, effort: &Effort) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let processor = processor.trim_start_matches([' ', '\t', ':']);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1048576.0;
    let mut text = format!(
        "* Machine: {processor}, {} cores of it, {memory:.0} GiB; {}.\n* {} rounds of {:.1} s (three times as long at a fixed rate of {:.0} requests/s), after {:.1} s to warm up.\n",
        effort.cores,
        said("uname", &["-sr"]),
        effort.rounds,
        effort.measure.as_secs_f64(),
        effort.rate,
        effort.warm_up.as_secs_f64()
    );
    let version = |who: &Who, flag| said(&yard.binary(who).to_string_lossy(), &[flag]);
    for (at, (name, _)) in yard.lanyards.iter().enumerate() {
        writeln!(text, "* {name}: {}", version(&Who::Lanyard(at), "--version")).unwrap();
    }
    let commit = said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "log", "-1", "--format=%h"]);
    writeln!(text, "* The benchmark's own commit: {commit}").unwrap();
    writeln!(text, "* {}", version(&Who::Nginx, "-v")).unwrap();
    writeln!(text, "* {}", version(&Who::Haproxy, "-v")).unwrap();
    let envoy = version(&Who::Envoy, "--version");
    writeln!(text, "* Envoy {}", envoy.rsplit("version: ").next().unwrap_or(&envoy)).unwrap();
    text
}

/// The first line that a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return "unknown".into() };
    let all = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let all = String::from_utf8_lossy(&all);
    all.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim().to_owned()
}
