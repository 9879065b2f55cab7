//! Instructions that an operation and a whole request take, compared with `benches/counts/baseline.txt`:
//! `make bench-counts`; `make bench-counts WRITE=1` writes the file anew. It needs valgrind, and so Linux.
//!
//! Seconds differ from run to run; instructions, counted by callgrind, hardly do. Everything is done in two processes, in
//! one of them three times as often, and the difference is divided: starting and ending fall out. Where more than 3 % have
//! been added it fails. All but one stay within 1 % from run to run; the rewrite with a token was seen 10 % apart.
//!
//! The whole request is that of the binary as it is shipped (`target/release/lanyard run`, access log on, one worker),
//! user space alone: GET through a reverse listener to an `http://` upstream, both connections kept alive.
//!
//! Other compilers make other code. Where the compiler or the target is not that of the baseline, the counts are shown and
//! nothing fails: whoever changes the compiler writes the baseline anew, from a commit that changes nothing else.
#![allow(
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a program for people, which ends at the first thing that goes wrong"
)]

#[allow(dead_code, reason = "the part of `micro` that has threads")]
#[path = "../micro/operations.rs"]
mod operations;
#[path = "../micro/wire.rs"]
mod wire;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
};

use self::wire::Client;

/// More than so much more, and it fails.
const TOLERANCE: f64 = 0.03;
/// Where 3 % is less than an instruction.
const SLACK: f64 = 2.0;
const REQUESTS: usize = 1000;
const WHOLE: &str = "whole request: GET, reverse listener";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["repeat", name, times] => repeat(name, times.parse().unwrap()),
        ["write"] => write(),
        // To see how well counts can be repeated.
        ["show", times] => show(times.parse().unwrap()),
        [] => return compare(),
        _ => panic!("usage: cargo bench --profile counts --bench counts [-- write | show TIMES]"),
    }
    ExitCode::SUCCESS
}

/// What runs under callgrind.
fn repeat(name: &str, times: usize) {
    let operation = operations::ALL.iter().find(|operation| operation.name == name).unwrap();
    let mut once = operation.prepare();
    for _ in 0..times {
        once();
    }
}

/// Those that are steady. A copied header map lies now at one address and now at another, and what that does to copying and
/// growing it makes up to 15 % between two runs of the same binary.
fn names() -> impl Iterator<Item = &'static str> {
    let all = operations::ALL.iter().map(|operation| operation.name).chain([WHOLE]);
    all.filter(|name| !name.starts_with("head clone"))
}

/// Instructions an operation, or a request. Where things lie in memory depends on how much environment and how long a path
/// a process has, and copying and searching cost 1 or 2 % more at one address than at another: `padding` moves the stack.
fn count(name: &str, padding: usize) -> f64 {
    let scratch = Scratch::new(padding);
    if name == WHOLE {
        let (once, thrice) = (scratch.requests(REQUESTS), scratch.requests(3 * REQUESTS));
        return (thrice - once) as f64 / (2 * REQUESTS) as f64;
    }
    let times = operations::ALL.iter().find(|operation| operation.name == name).unwrap().times;
    let run = |times: usize| {
        let mut callgrind = scratch.callgrind(&std::env::current_exe().unwrap());
        assert!(callgrind.args(["repeat", name, &times.to_string()]).status().unwrap().success());
        scratch.collected()
    };
    (run(3 * times) - run(times)) as f64 / (2 * times) as f64
}

fn show(times: usize) {
    for name in names() {
        let counts: Vec<f64> = (0..times).map(|n| count(name, n * 16)).collect();
        let (least, most) = counts.iter().fold((f64::MAX, 0_f64), |(least, most), n| (least.min(*n), most.max(*n)));
        println!("{least:>10.1} to {most:>10.1}, {:>5.2} % apart  {name}", (most / least - 1.0) * 100.0);
    }
}

fn write() {
    let mut text = format!("# Instructions, by `make bench-counts WRITE=1`. Made with:\n{}\n", compiler());
    for name in names() {
        let line = format!("{:>10.0}  {name}\n", count(name, 0));
        print!("{line}");
        text += &line;
    }
    std::fs::write(baseline_file(), text).unwrap();
    println!("written to {}", baseline_file().display());
}

fn compare() -> ExitCode {
    let text = std::fs::read_to_string(baseline_file()).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let made_with = lines.next().unwrap();
    let mut baseline: BTreeMap<&str, f64> = lines
        .map(|line| line.trim().split_once("  ").unwrap())
        .map(|(count, name)| (name, count.parse().unwrap()))
        .collect();
    let same_compiler = made_with == compiler();
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    println!("instructions, and by how much they differ from the baseline");
    for name in names() {
        let mut now = count(name, 0);
        let Some(before) = baseline.remove(name) else {
            println!("{now:>10.0}      new  {name}");
            better.push(name);
            continue;
        };
        let margin = (before * TOLERANCE).max(SLACK);
        // Before it is called worse, it is looked at elsewhere in memory.
        for padding in [16, 32, 48] {
            if now > before + margin {
                now = now.min(count(name, padding));
            }
        }
        println!("{now:>10.0} {:>+6.1} %  {name}", (now / before - 1.0) * 100.0);
        if now > before + margin {
            worse.push(name);
        } else if now < before - margin {
            better.push(name);
        }
    }
    better.extend(baseline.keys());
    if !same_compiler {
        println!("\nNOT COMPARED: the baseline was made with {made_with},\nand this is            {}", compiler());
        println!("If the compiler was changed, write the baseline anew: make bench-counts WRITE=1");
        return ExitCode::SUCCESS;
    }
    if !better.is_empty() {
        println!("\nbetter by over 3 %, new or gone: {}", better.join("; "));
        println!("so that it stays so, write the baseline anew: make bench-counts WRITE=1");
    }
    if !worse.is_empty() {
        println!("\nWORSE by over 3 %: {}", worse.join("; "));
        println!("If it is worth it, say so in the commit that writes the baseline anew: make bench-counts WRITE=1");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The compiler and what it compiles for. It is that of the machine: the benches were just built with it.
fn compiler() -> String {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    format!("{}, {host}", text.lines().next().unwrap())
}

fn baseline_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/counts/baseline.txt")
}

/// A folder for one process under callgrind.
struct Scratch(PathBuf, usize);

impl Scratch {
    fn new(padding: usize) -> Self {
        let path =
            std::env::temp_dir().join(format!("lanyard-counts-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&path).unwrap();
        Self(path, padding)
    }

    fn callgrind(&self, program: &Path) -> Command {
        let mut command = Command::new("valgrind");
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("PADDING", "x".repeat(self.1));
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.arg(format!("--log-file={}", self.0.join("valgrind").display())).arg(program);
        command
    }

    /// Instructions of the process that ended.
    fn collected(&self) -> u64 {
        let log = std::fs::read_to_string(self.0.join("valgrind")).unwrap();
        let total = log.lines().find_map(|line| line.split_once("Collected : ")).expect(&log).1;
        total.trim().parse().unwrap()
    }

    /// Instructions of a `lanyard run` that serves so many requests.
    fn requests(&self, requests: usize) -> u64 {
        let api = wire::serve();
        let config = format!(
            r#"
admin = {{ address = "127.0.0.1:0" }}
listeners = [{{ address = "127.0.0.1:0", upstream = "http://{api}" }}]
routes = [{{ host = "{api}", upstream = "http://{api}", profile = "api" }}]
log = {{ format = "json" }}
[profiles.api]
token_endpoint = "http://{api}/token"
client_id = "demo"
client_secret = "demo-secret"
"#
        );
        let file = self.0.join("proxy.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = self.callgrind(&shipped_binary());
        command.args(["run", "--config"]).arg(&file).env("TOKIO_WORKER_THREADS", "1").stderr(Stdio::piped());
        let mut lanyard = command.spawn().unwrap();
        let mut log = BufReader::new(lanyard.stderr.take().unwrap()).lines();
        let listening = log.find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
            (event["message"] == "listening").then(|| event["address"].as_str().unwrap().to_owned())
        });
        let address = listening.expect("a listener");
        let rest = thread::spawn(move || log.map_while(Result::ok).fold(String::new(), |all, line| all + &line + "\n"));
        let request = format!(
            "GET /api/v1/orders/17?page=2 HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\
             X-Request-Id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\r\n\r\n"
        );
        let mut client = Client::connect(&address);
        for _ in 0..requests {
            client.ask(&request);
        }
        let told = Command::new("kill").args(["-TERM", &lanyard.id().to_string()]).status().unwrap();
        assert!(told.success());
        let ended = lanyard.wait().unwrap();
        assert!(ended.success(), "{ended}: {}", rest.join().unwrap());
        self.collected()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// `target/release/lanyard`: what is built with benches has features of the tests in it.
fn shipped_binary() -> PathBuf {
    let bench = std::env::current_exe().unwrap();
    let path = bench.ancestors().nth(3).unwrap().join("release/lanyard");
    assert!(path.exists(), "{} is missing: make release", path.display());
    path
}
