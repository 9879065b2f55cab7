//! What is measured: scenarios, their cases (one row of a table each), and the goals that were set before measuring.

use std::time::Duration;

use crate::{
    load::Ask,
    proxies::{Inbound, Outbound, Site, Who},
};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case>,
    pub(crate) goals: Vec<Goal>,
    /// The chart of a sweep: what it asks, what its x axis is, which figure is y, and whether x grows by factors.
    pub(crate) chart: Option<Chart>,
}

pub(crate) struct Chart {
    pub(crate) question: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) logarithmic: bool,
}

#[derive(Clone)]
pub(crate) struct Case {
    /// What tells the row from others of the same proxy.
    pub(crate) label: String,
    pub(crate) x: f64,
    pub(crate) who: Who,
    pub(crate) site: Site,
    pub(crate) job: Job,
}

#[derive(Clone)]
pub(crate) enum Job {
    /// As fast as it is answered.
    Closed {
        ask: Ask,
        connections: usize,
    },
    /// Requests per second over 32 connections.
    Fixed {
        ask: Ask,
        rate: f64,
    },
    Memory,
    Start,
    Syscalls,
}

/// A figure of one case, alone or divided by that of another in the same round.
pub(crate) struct Goal {
    pub(crate) figure: &'static str,
    /// Rows, by `Case::label` and whose they are.
    pub(crate) of: (Who, &'static str),
    pub(crate) to: Option<(Who, &'static str)>,
    pub(crate) at_most: f64,
    /// Whether more is better, so that the bound is a least one.
    pub(crate) at_least: bool,
}

const LANYARD: Who = Who::Lanyard(0);
pub(crate) const CPU: &str = "CPU us/request";
pub(crate) const P99: &str = "p99 us";

/// How much of everything.
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) measure: Duration,
    pub(crate) warm_up: Duration,
    /// Requests per second of the scenarios at a fixed rate.
    pub(crate) rate: f64,
    /// Builds of lanyard.
    pub(crate) lanyards: usize,
    pub(crate) cores: usize,
}

pub(crate) fn all(effort: &Effort) -> Vec<Scenario> {
    let get = || Ask::Get("/bytes/1024".into());
    let peers = [Who::Nginx, Who::Haproxy, Who::Envoy];
    let lanyards = || (0..effort.lanyards).map(Who::Lanyard);
    let site = |inbound, outbound| Site::new(inbound, outbound);
    let reverse = || site(Inbound::Reverse, Outbound::Http);
    let closed = |ask: &Ask, connections| Job::Closed { ask: ask.clone(), connections };
    let case = |who, label: &str, site: Site, job| Case { label: label.into(), x: 0.0, who, site, job };
    let every = |without: &[Who], site: &Site, job: &Job| -> Vec<Case> {
        let who = lanyards().chain(peers.iter().filter(|who| !without.contains(who)).cloned());
        who.map(|who| case(who, "", site.clone(), job.clone())).collect()
    };
    let to = |figure, peer, at_most| Goal { figure, of: (LANYARD, ""), to: Some((peer, "")), at_most, at_least: false };
    let alone = |figure, at_most| Goal { figure, of: (LANYARD, ""), to: None, at_most, at_least: false };
    let against = || vec![to(CPU, Who::Nginx, 1.0), to(CPU, Who::Envoy, 0.3)];
    let plain = |name, title, cases, goals| Scenario { name, title, cases, goals, chart: None };
    let mut scenarios = Vec::new();

    for (name, title, connections) in [
        ("keepalive-reverse", "GET of 1 KiB, keep-alive, reverse listener, 32 connections", 32),
        ("keepalive-reverse-1", "the same, 1 connection", 1),
        ("keepalive-reverse-1000", "the same, 1,000 connections", 1000),
    ] {
        let mut cases = every(&[], &reverse(), &closed(&get(), connections));
        if connections == 32 {
            let logged = Site { log: true, ..reverse() };
            for who in [LANYARD, Who::Nginx] {
                cases.push(case(who, "access log on", logged.clone(), closed(&get(), connections)));
            }
        }
        scenarios.push(plain(name, title, cases, against()));
    }
    for (name, title, inbound, outbound, without) in [
        ("keepalive-forward", "GET of 1 KiB, absolute form, forward listener", Inbound::Forward, Outbound::Http, None),
        (
            "tls-in",
            "GET of 1 KiB, TLS to the proxy (lanyard: CONNECT, intercepted)",
            Inbound::Tls,
            Outbound::Http,
            None,
        ),
        ("tls-out", "GET of 1 KiB, TLS with HTTP/1.1 to the upstream", Inbound::Reverse, Outbound::Https, None),
        ("h2-out", "GET of 1 KiB, TLS with HTTP/2 to the upstream", Inbound::Reverse, Outbound::H2, Some(Who::Nginx)),
    ] {
        let without: Vec<Who> = without.into_iter().collect();
        let goals = against().into_iter().filter(|goal| goal.to.iter().all(|to| !without.contains(&to.0))).collect();
        scenarios.push(plain(name, title, every(&without, &site(inbound, outbound), &closed(&get(), 32)), goals));
    }
    for (name, title, ask, connections) in [
        ("new-connections", "GET of 1 KiB, a new connection per request", Ask::Fresh("/bytes/1024".into()), 32),
        ("download-64k", "GET of 64 KiB", Ask::Get("/bytes/65536".into()), 32),
        ("upload-64k", "POST of 64 KiB", Ask::Upload(64 << 10), 32),
        ("download-10m", "GET of 10 MiB", Ask::Get("/bytes/10485760".into()), 4),
        ("upload-10m", "POST of 10 MiB", Ask::Upload(10 << 20), 4),
    ] {
        scenarios.push(plain(name, title, every(&[], &reverse(), &closed(&ask, connections)), against()));
    }
    let grpc = site(Inbound::H2c, Outbound::H2c);
    let cases = every(&[], &grpc, &closed(&Ask::Grpc, 32));
    scenarios.push(plain(
        "grpc",
        "gRPC, one call at a time on each of 32 connections, h2c on both sides",
        cases,
        against(),
    ));
    let socket = Site { upgrades: true, ..reverse() };
    let cases = every(&[], &socket, &closed(&Ask::Message, 32));
    scenarios.push(plain(
        "websocket",
        "WebSocket, 32 echoes of 64 bytes at a time: a request is a message",
        cases,
        against(),
    ));
    let tunnel = site(Inbound::Tunnel, Outbound::Raw);
    let cases = every(&[Who::Nginx, Who::Envoy], &tunnel, &closed(&Ask::Bytes, 1));
    let goal = Goal { at_least: true, ..to("GiB/s", Who::Haproxy, 0.95) };
    scenarios.push(plain("tunnel", "CONNECT tunnel, bytes to the client (HAProxy: TCP mode)", cases, vec![goal]));

    let fixed = |ask: &Ask, rate| Job::Fixed { ask: ask.clone(), rate };
    let cases = every(&[], &reverse(), &fixed(&get(), effort.rate));
    scenarios.push(plain("fixed-rate", "GET of 1 KiB at a fixed rate", cases, vec![to(P99, Who::Nginx, 1.0)]));

    let restless = Site { restless: 1, ..reverse() };
    let reloading = Site { reloads: true, ..reverse() };
    let within = |figure, label, at_most| Goal {
        figure,
        of: (LANYARD, label),
        to: Some((LANYARD, "")),
        at_most,
        at_least: false,
    };
    let mut cases = Vec::new();
    for who in lanyards() {
        for (label, site) in
            [("", reverse()), ("a refresh a second", restless.clone()), ("a reload a second", reloading.clone())]
        {
            cases.push(case(who.clone(), label, site, fixed(&get(), effort.rate)));
        }
    }
    let goals = vec![within(P99, "a refresh a second", 1.05), within(P99, "a reload a second", 1.05)];
    scenarios.push(plain("churn", "a token refresh and a reload each second, at a fixed rate", cases, goals));

    let rejecting = Site { rejects: true, ..reverse() };
    let mut cases = Vec::new();
    for who in lanyards() {
        cases.push(case(who.clone(), "", rejecting.clone(), closed(&get(), 1)));
        cases.push(case(who, "one in ten rejected", rejecting.clone(), closed(&Ask::Get("/worn".into()), 1)));
    }
    scenarios.push(plain(
        "retry",
        "401: a token is rejected from its tenth request on, fetched anew, and the request sent again",
        cases,
        Vec::new(),
    ));

    let mut cases = Vec::new();
    for who in lanyards() {
        cases.push(case(who.clone(), "", reverse(), closed(&get(), 32)));
        let many = Site { routes: 10_000, profiles: PROFILES, ..reverse() };
        cases.push(case(who, "10,000 routes", many, closed(&get(), 32)));
    }
    let goals = vec![within(CPU, "10,000 routes", 1.05)];
    scenarios.push(plain(
        "routes",
        "10,000 routes, and as many profiles as a file of 1 MiB has room for, to one",
        cases,
        goals,
    ));

    let goals =
        vec![alone("idle MiB", 12.0), alone("1,000 connections MiB", 40.0), alone("after a request each MiB", 40.0)];
    scenarios.push(plain("memory", "resident memory", every(&[], &reverse(), &Job::Memory), goals));
    let goals = vec![alone("exec to served ms", 50.0)];
    scenarios.push(plain(
        "start",
        "from exec to the first request that is served; size of the program",
        every(&[], &reverse(), &Job::Start),
        goals,
    ));
    let cases = every(&[], &reverse(), &Job::Syscalls);
    scenarios.push(plain("syscalls", "system calls per request (strace, in a run of its own)", cases, Vec::new()));
    scenarios.extend(sweeps(effort));
    scenarios
}

/// As many as fit, besides 10,000 routes, into 1 MiB: the most that a configuration file may have.
const PROFILES: usize = 8_000;

/// How the cost grows: one chart each.
fn sweeps(effort: &Effort) -> Vec<Scenario> {
    let reverse = || Site::new(Inbound::Reverse, Outbound::Http);
    let get = || Ask::Get("/bytes/1024".into());
    let closed = |connections| Job::Closed { ask: get(), connections };
    let fixed = |rate| Job::Fixed { ask: get(), rate };
    let sweep = |name, title, chart, points: Vec<(f64, Site, Job)>, peers: &[Who]| {
        let who = (0..effort.lanyards).map(Who::Lanyard).chain(peers.iter().cloned());
        let cases = who.flat_map(|who| {
            points.clone().into_iter().map(move |(x, site, job)| Case {
                label: x.to_string(),
                x,
                who: who.clone(),
                site,
                job,
            })
        });
        Scenario { name, title, cases: cases.collect(), goals: Vec::new(), chart: Some(chart) }
    };
    let chart = |question, x, y, logarithmic| Chart { question, x, y, logarithmic };
    let points = |values: &[usize], site: &dyn Fn(usize) -> Site| {
        values.iter().map(|value| (*value as f64, site(*value), closed(32))).collect::<Vec<_>>()
    };
    let routes = points(&[1, 10, 100, 1000, 10_000], &|routes| Site { routes, ..reverse() });
    let profiles = points(&[1, 10, 100, 1000, 8000], &|profiles| Site { routes: profiles, profiles, ..reverse() });
    let connections = [1, 10, 100, 1000].map(|n| (n as f64, reverse(), closed(n))).to_vec();
    let rates = [500.0, 1000.0, 2000.0, 4000.0, 6000.0].map(|rate| (rate, reverse(), fixed(rate))).to_vec();
    let churn =
        [0, 1, 10, 100].map(|restless| (restless as f64, Site { restless, ..reverse() }, fixed(effort.rate))).to_vec();
    let cores =
        (1..=effort.cores.min(2)).map(|cores| (cores as f64, Site { cores, ..reverse() }, closed(64))).collect();
    vec![
        sweep(
            "by-routes",
            "cost by routes",
            chart("Does a request cost more with more routes?", "routes", CPU, true),
            routes,
            &[],
        ),
        sweep(
            "by-profiles",
            "cost by profiles",
            chart("Does a request cost more with more profiles?", "profiles", CPU, true),
            profiles,
            &[],
        ),
        sweep(
            "by-connections",
            "cost by connections",
            chart("What does a request cost with more connections?", "connections", CPU, true),
            connections,
            &[Who::Nginx],
        ),
        sweep(
            "by-rate",
            "latency by request rate",
            chart("How long does a request take at a higher rate?", "requests per second", P99, false),
            rates,
            &[Who::Nginx],
        ),
        sweep(
            "by-churn",
            "cost by token refreshes",
            chart("What do token refreshes cost the requests beside them?", "refreshes per second", CPU, false),
            churn,
            &[],
        ),
        sweep(
            "by-cores",
            "requests per second by worker cores",
            chart("Does a second core help?", "worker cores (the second one is the load's own)", "requests/s", false),
            cores,
            &[Who::Nginx],
        ),
    ]
}
