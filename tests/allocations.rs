//! How often the heap is asked for memory to serve one request, to the exact number: `cargo test --test allocations`.
//!
//! The whole application runs on a runtime of its own. Client, upstream and token endpoint are threads that allocate
//! nothing while it is counted, and a request counts as over when the runtime has nothing left to do. So the count is
//! that of lanyard, pingora and tokio for one request on connections that are warm, with the access log on. It is that of
//! an unoptimised build: an optimiser may leave an allocation out.
//!
//! A binary of its own, with one test, because the allocator that counts is that of the whole process.
//!
//! `make allocations` shows where they come from: each call site outside the standard library, with its callers and its
//! count a request. What it leaves in `target/tmp/allocations-*.json` has whole stacks, for DHAT's viewer
//! (`dh_view.html` of valgrind).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, its helpers too; nothing here is an interface"
)]

#[path = "../benches/micro/wire.rs"]
mod wire;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, Thread},
};

use lanyard::{
    app::{App, Settings},
    config,
};
use tokio::{runtime::Runtime, sync::Notify};
use tracing_subscriber::{filter::LevelFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use self::wire::{Client, serve};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What a request costs: the numbers to change when it costs less.
const GET_REVERSE: u64 = 6;
const GET_WITHOUT_ACCESS_LOG: u64 = 3;
const GET_ABSOLUTE: u64 = 8;
const GET_NO_PROFILE: u64 = 6;
const POST_1_KIB: u64 = 7;
/// Absolute form too, and signed. What can be cached costs the same, whatever yielded it and wherever it is carried.
const GET_SIGNED: u64 = 26;

const WARM_UP: usize = 100;
const COUNTED: usize = 101;

#[test]
fn a_request_costs_exactly_so_many_allocations() {
    // Where a pipe or a file is written to makes no difference, and a test's output would drown in it.
    let (level, log_level) = reload::Layer::new(LevelFilter::INFO);
    let log = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(level).with(log.with_target(false).with_writer(std::io::sink)).init();

    let (api, bare) = (serve(), serve());
    let lanyard = Lanyard::start(api, bare);
    let [reverse, reverse_bare, forward] = &lanyard.addresses[..] else { panic!("{:?}", lanyard.addresses) };
    let fields = "User-Agent: curl/8.14.1\r\nAccept: */*\r\nX-Request-Id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\r\n";
    let get = |host: &str, target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let path = "/api/v1/protected-resource?page=2";
    let post = format!(
        "POST {path} HTTP/1.1\r\nHost: {reverse}\r\n{fields}Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    let of_kind = |kind: &str| get(&format!("{kind}.test"), &format!("http://{kind}.test{path}"));
    let cases = [
        ("GET, reverse listener", GET_REVERSE, reverse, get(reverse, path), true),
        ("GET, reverse listener, no access log", GET_WITHOUT_ACCESS_LOG, reverse, get(reverse, path), false),
        ("GET, absolute form", GET_ABSOLUTE, forward, get(&api.to_string(), &format!("http://{api}{path}")), true),
        ("GET, reverse listener, profile none", GET_NO_PROFILE, reverse_bare, get(reverse_bare, path), true),
        ("POST of 1 KiB, reverse listener", POST_1_KIB, reverse, post, true),
        ("bearer", GET_ABSOLUTE, forward, of_kind("bearer"), true),
        ("basic", GET_ABSOLUTE, forward, of_kind("basic"), true),
        ("jwt", GET_ABSOLUTE, forward, of_kind("jwt"), true),
        ("query", GET_ABSOLUTE, forward, of_kind("query"), true),
        ("aws_sigv4", GET_SIGNED, forward, of_kind("aws"), true),
    ];

    let show_sites = std::env::var_os("ALLOCATION_SITES").is_some();
    let mut wrong = String::new();
    for (name, expected, address, request, access_log) in cases {
        log_level.reload(if access_log { LevelFilter::INFO } else { LevelFilter::WARN }).unwrap();
        let mut client = Client::connect(address);
        for _ in 0..WARM_UP {
            client.ask(&request);
        }
        lanyard.idle();
        let counted = count(&lanyard, &mut client, &request);
        println!("{name}: {counted}, expected {expected}");
        if counted.median != expected {
            writeln!(wrong, "{name}: {counted}, expected {expected}").unwrap();
        }
        if show_sites || counted.median > expected {
            println!("{}", sites(name, &lanyard, &mut client, &request));
        }
    }
    assert!(
        wrong.is_empty(),
        "\n{wrong}\nIf it is meant to be so, change the numbers at the top of {}. Above is where they come from; \
         `make allocations` has the lines of dependencies too.",
        file!()
    );
}

/// What some requests cost, each.
struct Counted {
    /// What nearly all of them cost: the file watch, once a second, may fall into one.
    median: u64,
    least: u64,
    mean: f64,
    bytes: u64,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, least, mean, bytes } = self;
        write!(f, "{median} allocations a request, {bytes} bytes (least {least}, mean {mean:.2})")
    }
}

fn count(lanyard: &Lanyard, client: &mut Client, request: &str) -> Counted {
    let (mut blocks, mut bytes) = ([0; COUNTED], [0; COUNTED]);
    let _profiler = dhat::Profiler::builder().testing().build();
    for (blocks, bytes) in blocks.iter_mut().zip(&mut bytes) {
        let before = dhat::HeapStats::get();
        client.ask(request);
        lanyard.idle();
        let after = dhat::HeapStats::get();
        *blocks = after.total_blocks - before.total_blocks;
        *bytes = after.total_bytes - before.total_bytes;
    }
    blocks.sort_unstable();
    bytes.sort_unstable();
    let mean = blocks.iter().sum::<u64>() as f64 / COUNTED as f64;
    Counted { median: blocks[COUNTED / 2], least: blocks[0], mean, bytes: bytes[COUNTED / 2] }
}

/// Where a request's allocations come from, most first.
fn sites(name: &str, lanyard: &Lanyard, client: &mut Client, request: &str) -> String {
    let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("allocations-{file}.json"));
    let profiler = dhat::Profiler::builder().file_name(&file).trim_backtraces(None).build();
    for _ in 0..COUNTED {
        client.ask(request);
        lanyard.idle();
    }
    drop(profiler);
    let profile: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let frame = |index: &serde_json::Value| {
        let frame = profile["ftbl"][usize::try_from(index.as_u64().unwrap()).unwrap()].as_str().unwrap();
        frame.split_once(": ").map_or(frame, |(_, frame)| frame)
    };
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for point in profile["pps"].as_array().unwrap() {
        let stack: Vec<&str> = point["fs"].as_array().unwrap().iter().map(frame).collect();
        let allocator = stack.iter().rposition(|frame| frame.contains("::__rust_")).map_or(0, |at| at + 1);
        let callers: Vec<&str> = stack[allocator..].iter().copied().filter(|frame| !is_std(frame)).take(4).collect();
        let count = counts.entry(callers.join("\n                 < ")).or_default();
        count.0 += point["tbk"].as_u64().unwrap();
        count.1 += point["tb"].as_u64().unwrap();
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (blocks, _))| std::cmp::Reverse(*blocks));
    let mut told = format!("{name}: allocations and bytes a request, by call site and callers");
    for (site, (blocks, bytes)) in counts {
        let each = |count: u64| count as f64 / COUNTED as f64;
        write!(told, "\n{:>6.2} {:>9.0}  {site}", each(blocks), each(bytes)).unwrap();
    }
    told
}

/// Functions of the standard library and of `bytes`, which do as their callers say. What was inlined has its file alone.
fn is_std(frame: &str) -> bool {
    let (name, file) = frame.rsplit_once(" (").unwrap_or((frame, ""));
    let name = name.trim_start_matches(['<', '&']).trim_start_matches("mut W as ");
    let names = "alloc:: core:: std:: hashbrown:: bytes::";
    let files = "alloc/src/ core/src/ std/src/ bytes- iter/traits/ iter/adapters/ src/alloc/ src/boxed src/collections/ \
        src/convert/ src/fmt/ src/future/ src/hash/ src/io/ src/iter/ src/macros/ src/mem/ src/ops/ src/option.rs src/ptr/ \
        src/raw/ src/raw_vec/ src/result.rs src/slice/ src/str/ src/string src/sync/ src/vec/ ???";
    names.split(' ').any(|start| name.starts_with(start)) || files.split(' ').any(|start| file.starts_with(start))
}

/// The application on a runtime of its own, which has one thread: what it does after an answer has one order.
struct Lanyard {
    addresses: Vec<String>,
    bell: Arc<Notify>,
    rung: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Lanyard {
    fn start(api: SocketAddr, bare: SocketAddr) -> Self {
        let toml = format!(
            r#"
admin = {{ address = "127.0.0.1:0" }}
listeners = [
    {{ address = "127.0.0.1:0", upstream = "http://{api}" }},
    {{ address = "127.0.0.1:0", upstream = "http://{bare}" }},
    {{ address = "127.0.0.1:0" }},
]
routes = [
    {{ host = "{api}", upstream = "http://{api}", profile = "api" }},
    {{ host = "{bare}", upstream = "http://{bare}", profile = "none" }},
    {{ host = "bearer.test", upstream = "http://{api}", profile = "bearer" }},
    {{ host = "basic.test", upstream = "http://{api}", profile = "basic" }},
    {{ host = "jwt.test", upstream = "http://{api}", profile = "jwt" }},
    {{ host = "query.test", upstream = "http://{api}", profile = "query" }},
    {{ host = "aws.test", upstream = "http://{api}", profile = "aws" }},
]
[profiles]
api = {{ token_endpoint = "http://{api}/token", client_id = "demo", client_secret = "demo-secret" }}
bearer = {{ type = "bearer", token = "demo-token" }}
basic = {{ type = "basic", username = "demo", password = "demo-password" }}
jwt = {{ type = "jwt", secret = "demo-secret-of-more-than-32-bytes", token_lifetime = "1h" }}
query = {{ type = "query", parameter = "key", secret = "demo-key" }}
aws = {{ type = "aws_sigv4", region = "eu-central-1", service = "execute-api", access_key_id = "AKIADEMO", secret_access_key = "demo-key" }}
"#
        );
        let loaded = config::parse(&toml, "proxy.toml", Path::new("."), &config::System);
        let config = loaded.unwrap_or_else(|problems| panic!("{problems}")).config;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = runtime.block_on(App::build(config, Settings::default())).unwrap();
        let addresses = app.addresses();
        runtime.spawn(app.run());

        let (bell, rung, caller) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)), thread::current());
        runtime.spawn(answer_the_bell(Arc::clone(&bell), Arc::clone(&rung), caller));
        Self { addresses, bell, rung, _runtime: runtime }
    }

    /// Waits until the runtime has nothing to do: what was ready before the bell rang comes before the answer to it, and
    /// what that made ready before the answer to the next.
    fn idle(&self) {
        for _ in 0..8 {
            let before = self.rung.load(Ordering::Acquire);
            self.bell.notify_one();
            while self.rung.load(Ordering::Acquire) == before {
                thread::park();
            }
        }
    }
}

async fn answer_the_bell(bell: Arc<Notify>, rung: Arc<AtomicU64>, caller: Thread) {
    loop {
        bell.notified().await;
        rung.fetch_add(1, Ordering::Release);
        caller.unpark();
    }
}
