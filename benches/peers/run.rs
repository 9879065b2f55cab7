//! Runs one case once, and gives its figures.

use std::{collections::BTreeMap, fs, sync::atomic::Ordering, time::Duration};

use crate::{
    load::{Ask, Crowd, Load, exactly},
    measure::{self, Cpu, Strace, percentile},
    proxies::{Inbound, Proxy, Who, Yard, get},
    scenarios::{CPU, Case, Effort, Job, P99},
};

/// Figures by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

const STRACED: usize = 3200;

pub(crate) async fn once(yard: &Yard, case: &Case, effort: &Effort) -> Result<Figures, String> {
    let proxy = Proxy::start(yard, &case.who, &case.site).await?;
    let mut figures = Figures::new();
    match &case.job {
        Job::Closed { ask, connections } => {
            let load = Load::closed(&proxy.way, ask, *connections).await?;
            steady(yard, &proxy, case, &load, effort, &mut figures).await?;
        }
        Job::Fixed { ask, rate } => {
            let load = Load::open(&proxy.way, ask, 32, *rate).await?;
            steady(yard, &proxy, case, &load, effort, &mut figures).await?;
            if figures["requests/s"] < rate * 0.97 {
                eprintln!("note: {} served {:.0} of {rate} requests/s", yard.name(&case.who), figures["requests/s"]);
            }
        }
        Job::Memory => {
            tokio::time::sleep(effort.measure / 2).await;
            let note = |figures: &mut Figures, resident, proportional| {
                let (all, shared) = measure::memory(proxy.pid);
                figures.insert(resident, all);
                if let Some(shared) = shared {
                    figures.insert(proportional, shared);
                }
            };
            note(&mut figures, "idle MiB", "idle PSS MiB");
            let mut crowd = Crowd::gather(&proxy.way, &Ask::Get("/bytes/1024".into()), 1000).await?;
            tokio::time::sleep(effort.warm_up).await;
            note(&mut figures, "1,000 connections MiB", "1,000 connections PSS MiB");
            crowd.ask_each().await?;
            tokio::time::sleep(effort.warm_up).await;
            note(&mut figures, "after a request each MiB", "after a request each PSS MiB");
        }
        Job::Start => {
            figures.insert("exec to served ms", proxy.took.as_secs_f64() * 1e3);
            let size = fs::metadata(yard.binary(&case.who)).map_err(|error| error.to_string())?.len();
            figures.insert("program MiB", size as f64 / 1048576.0);
        }
        Job::Syscalls => {
            let ask = Ask::Get("/bytes/1024".into());
            exactly(&proxy.way, &ask, 32, STRACED).await?;
            if let Some(strace) = Strace::attach(proxy.pid, &yard.folder).await {
                exactly(&proxy.way, &ask, 32, STRACED).await?;
                if let Some(calls) = strace.calls().await {
                    figures.insert("system calls/request", calls / STRACED as f64);
                }
            }
        }
    }
    Ok(figures)
}

async fn steady(
    yard: &Yard,
    proxy: &Proxy,
    case: &Case,
    load: &Load,
    effort: &Effort,
    figures: &mut Figures,
) -> Result<(), String> {
    tokio::time::sleep(effort.warm_up).await;
    load.check()?;
    let churns = case.site.reloads || case.site.restless > 0;
    let before = if churns { churned(proxy).await? } else { (0.0, 0.0) };
    load.record();
    let rejected = yard.far.rejected.load(Ordering::Relaxed);
    let (cpu, done, bytes) = (Cpu::of(proxy.pid), load.done(), load.bytes());
    let began = std::time::Instant::now();
    // At a fixed rate the slowest thousandth needs some requests more.
    let length = if matches!(case.job, Job::Fixed { .. }) { effort.measure * 3 } else { effort.measure };
    if case.site.reloads {
        let mut generation = 0;
        while began.elapsed() < length {
            generation += 1;
            change(proxy, generation)?;
            tokio::time::sleep(Duration::from_secs(1).min(length.saturating_sub(began.elapsed()))).await;
        }
    } else {
        tokio::time::sleep(length).await;
    }
    let (spent, user) = Cpu::of(proxy.pid).since(&cpu);
    let (done, bytes, took) = (load.done() - done, load.bytes() - bytes, began.elapsed().as_secs_f64());
    let mut latencies = load.latencies();
    load.check()?;
    if done == 0 {
        return Err(format!("{}: no request was served", yard.name(&case.who)));
    }
    if case.site.rejects {
        let rejected = yard.far.rejected.load(Ordering::Relaxed) - rejected;
        figures.insert("rejected %", rejected as f64 * 100.0 / done as f64);
    }
    if churns {
        let after = churned(proxy).await?;
        figures.insert("reloads/s", (after.0 - before.0) / took);
        figures.insert("refreshes/s", (after.1 - before.1) / took);
    }
    if case.site.inbound == Inbound::Tunnel {
        let gib = bytes as f64 / f64::from(1 << 30);
        figures.insert("CPU ms/GiB", spent * 1e3 / gib);
        figures.insert("GiB/s", gib / took);
        return Ok(());
    }
    figures.insert(CPU, spent * 1e6 / done as f64);
    figures.insert("of it user %", user * 100.0);
    figures.insert("requests/s", done as f64 / took);
    latencies.sort_unstable();
    for (name, part) in [("p50 us", 0.5), (P99, 0.99), ("p999 us", 0.999)] {
        figures.insert(name, percentile(&latencies, part) / 1e3);
    }
    Ok(())
}

/// A route more, or less: lanyard looks at its file once a second.
fn change(proxy: &Proxy, generation: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut text = fs::read_to_string(&proxy.config).map_err(failed)?;
    if let Some(at) = text.find("# changed\n") {
        text.replace_range(..at + "# changed\n".len(), "");
        text.insert_str(0, "routes=[");
    }
    text =
        text.replacen("routes=[", &format!("routes=[{{host=\"g{generation}.test\",profile=\"used\"}},# changed\n"), 1);
    let new = proxy.config.with_extension("new");
    fs::write(&new, text).map_err(failed)?;
    fs::rename(new, &proxy.config).map_err(failed)
}

/// Reloads and token requests so far, as lanyard counts them.
async fn churned(proxy: &Proxy) -> Result<(f64, f64), String> {
    let metrics = get(proxy.admin, "/metrics").await.map_err(|error| error.to_string())?;
    let sum = |name: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains("success"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Ok((sum("lanyard_config_reloads_total"), sum("lanyard_token_requests_total")))
}

/// Whether a peer can be compared at all.
pub(crate) fn is_peer(who: &Who) -> bool {
    !matches!(who, Who::Lanyard(_))
}
