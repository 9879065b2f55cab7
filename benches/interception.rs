//! What interception costs: `cargo bench --bench interception`.
//!
//! Times are those of the server's half of a TLS 1.3 handshake, both ends in this process and no socket between them, in
//! rounds that take turns; ratios are to a server with one certificate that never changes, in the same round.
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for people, which ends at the first thing that goes wrong"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lanyard::{
    ca::{Authority, Leaves},
    route::pattern::Host,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};

const ROUNDS: usize = 7;
const PER_ROUND: usize = 200;
const HOSTS: usize = 10_000;

fn main() {
    lanyard::tls::install_provider();
    let leaves = Leaves::new(Authority::new(&[]).unwrap().0).unwrap();
    let ca = leaves.authority().pem().to_owned();
    let known = host("known.example.com");
    let fixed = fixed_server();

    let mut results: Vec<(&str, Vec<f64>)> =
        ["certificate that never changes", "host met before", "host met for the first time", "resumed by its ticket"]
            .map(|name| (name, Vec::new()))
            .into();
    let (client, fixed_client) = (client(&ca), client(&fixed.0));
    for round in 0..=ROUNDS {
        let costs = [
            handshakes(|_| (Arc::clone(&fixed.1), "known.example.com".to_owned()), || fresh(&fixed_client)),
            handshakes(|_| (leaves.settings(&known).unwrap(), "known.example.com".to_owned()), || fresh(&client)),
            handshakes(
                |n| {
                    let name = format!("h{n}.r{round}.example.com");
                    (leaves.settings(&host(&name)).unwrap(), name)
                },
                || fresh(&client),
            ),
            handshakes(|_| (leaves.settings(&known).unwrap(), "known.example.com".to_owned()), || Arc::clone(&client)),
        ];
        // The first round warms up.
        if round > 0 {
            for ((_, times), cost) in results.iter_mut().zip(costs) {
                times.push(cost.as_secs_f64());
            }
        }
    }
    let base = results[0].1.clone();
    println!("server's half of a TLS 1.3 handshake, {ROUNDS} rounds of {PER_ROUND}: median (least to most)");
    println!("| | us | handshakes/s of one core | ratio |\n|---|---|---|---|");
    for (name, times) in &results {
        let ratios = spread(times.iter().zip(&base).map(|(time, base)| time / base));
        let micros = spread(times.iter().map(|time| time * 1e6));
        println!(
            "| {name} | {:.0} ({:.0} to {:.0}) | {:.0} | {:.2} ({:.2} to {:.2}) |",
            micros[1],
            micros[0],
            micros[2],
            1e6 / micros[1],
            ratios[1],
            ratios[0],
            ratios[2]
        );
    }

    let full = Leaves::new(Authority::new(&[]).unwrap().0).unwrap();
    let before = resident();
    let began = Instant::now();
    for n in 0..HOSTS {
        drop(full.settings(&host(&format!("api-{n}.example.com"))).unwrap());
    }
    let took = began.elapsed();
    println!("\n{HOSTS} hosts minted in {took:.2?}, {:.0} us each", took.as_secs_f64() * 1e6 / HOSTS as f64);
    match before.zip(resident()) {
        Some((before, after)) => {
            println!("memory: {:.1} KiB a cached host", (after - before) as f64 / HOSTS as f64 / 1024.0);
        }
        None => println!("memory: not told by this system"),
    }
}

/// The mean cost to the server of a round of handshakes: making its settings and its half of the messages.
fn handshakes(
    server: impl Fn(usize) -> (Arc<ServerConfig>, String),
    client: impl Fn() -> Arc<ClientConfig>,
) -> Duration {
    let mut cost = Duration::ZERO;
    for n in 0..PER_ROUND {
        let began = Instant::now();
        let (settings, name) = server(n);
        let mut server = ServerConnection::new(settings).unwrap();
        cost += began.elapsed();
        let mut client = ClientConnection::new(client(), ServerName::try_from(name).unwrap()).unwrap();
        let mut wire = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            client.write_tls(&mut wire).unwrap();
            let began = Instant::now();
            read_all(&wire, |bytes| server.read_tls(bytes).map(drop));
            server.process_new_packets().unwrap();
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            cost += began.elapsed();
            read_all(&wire, |bytes| client.read_tls(bytes).map(drop));
            client.process_new_packets().unwrap();
            wire.clear();
        }
    }
    cost / u32::try_from(PER_ROUND).unwrap()
}

fn read_all(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<()>) {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
}

/// A server whose certificate is made once, and what its clients trust.
fn fixed_server() -> (String, Arc<ServerConfig>) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "bench");
    let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let names = vec!["known.example.com".to_owned()];
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![leaf.der().clone(), ca.der().clone()];
    let settings = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private).unwrap();
    (ca.pem(), Arc::new(settings))
}

fn client(ca: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The same without a memory of sessions.
fn fresh(client: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut fresh = ClientConfig::clone(client);
    fresh.resumption = rustls::client::Resumption::disabled();
    Arc::new(fresh)
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

/// Least, median and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// Memory of this process, bytes.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
