//! What a process costs, read from /proc: processor time, memory, system calls. And which core a thread runs on.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The cores of a run: those of the proxy, and the one of everything else.
#[derive(Clone)]
pub(crate) struct Cores {
    pub(crate) proxy: Vec<usize>,
    pub(crate) load: usize,
}

impl Cores {
    /// The first core that we may use is the proxy's, the second the load's. `None`: there is only one.
    pub(crate) fn choose() -> Option<Self> {
        let allowed = allowed();
        Some(Self { proxy: vec![*allowed.first()?], load: *allowed.get(1)? })
    }

    /// The calling thread, and every process that it starts from now on, runs on these.
    pub(crate) fn pin(cores: &[usize]) {
        let mut set = CpuSet::new();
        for core in cores {
            set.set(*core);
        }
        sched_setaffinity(None, &set).expect("the system lets a thread choose its core");
    }
}

pub(crate) fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("the system tells a thread's cores");
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// A process that we started, and its descendants.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        for task in entries(&format!("/proc/{pid}/task")) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// Processor time so far.
pub(crate) struct Cpu {
    /// Nanoseconds of each thread.
    threads: HashMap<(u32, String), u64>,
    /// Ticks in user and in system mode.
    ticks: (u64, u64),
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Self {
        let mut cpu = Self { threads: HashMap::new(), ticks: (0, 0) };
        for pid in tree(pid) {
            for task in entries(&format!("/proc/{pid}/task")) {
                let told = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).unwrap_or_default();
                if let Some(time) = told.split_whitespace().next().and_then(|time| time.parse().ok()) {
                    cpu.threads.insert((pid, task), time);
                }
            }
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<u64> = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(|field| field.parse().unwrap_or(0))
                .collect();
            cpu.ticks.0 += fields.get(11).unwrap_or(&0);
            cpu.ticks.1 += fields.get(12).unwrap_or(&0);
        }
        cpu
    }

    /// Seconds since an earlier look, and the part of them in user mode.
    pub(crate) fn since(&self, earlier: &Self) -> (f64, f64) {
        let time: u64 = self
            .threads
            .iter()
            .map(|(thread, time)| time.saturating_sub(earlier.threads.get(thread).copied().unwrap_or(0)))
            .sum();
        let user = self.ticks.0.saturating_sub(earlier.ticks.0);
        let system = self.ticks.1.saturating_sub(earlier.ticks.1);
        (time as f64 / 1e9, if user + system == 0 { 0.0 } else { user as f64 / (user + system) as f64 })
    }
}

/// Resident and proportional set size of a process tree, MiB.
pub(crate) fn memory(pid: u32) -> (f64, Option<f64>) {
    let (mut resident, mut proportional) = (0.0, Some(0.0));
    for pid in tree(pid) {
        resident += kib(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0.0) / 1024.0;
        let part = kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
        proportional = proportional.zip(part).map(|(sum, part)| sum + part / 1024.0);
    }
    (resident, proportional)
}

fn kib(file: &str, field: &str) -> Option<f64> {
    let told = fs::read_to_string(file).ok()?;
    told.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

fn entries(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// strace beside a running process: how many system calls it made until told to stop.
pub(crate) struct Strace {
    process: tokio::process::Child,
    output: std::path::PathBuf,
}

impl Strace {
    /// `None`: there is no strace, or it may not attach.
    pub(crate) async fn attach(pid: u32, folder: &Path) -> Option<Self> {
        let output = folder.join("strace");
        let mut command = tokio::process::Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&output).kill_on_drop(true).stderr(Stdio::piped());
        let all = tree(pid);
        for pid in &all {
            command.args(["-p", &pid.to_string()]);
        }
        let mut process = command.spawn().ok()?;
        let mut lines = BufReader::new(process.stderr.take()?).lines();
        for _ in &all {
            let line = lines.next_line().await.ok()??;
            if !line.contains("attached") {
                return None;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { process, output })
    }

    pub(crate) async fn calls(mut self) -> Option<f64> {
        let pid = rustix::process::Pid::from_raw(self.process.id()?.cast_signed())?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
        self.process.wait().await.ok()?;
        let table = fs::read_to_string(&self.output).ok()?;
        let total = table.lines().rev().find(|line| line.ends_with("total"))?;
        total.split_whitespace().nth(3)?.parse().ok()
    }
}

/// Waits until something is so; whether it came to be within the time.
pub(crate) async fn eventually(within: Duration, mut done: impl AsyncFnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done().await {
        if began.elapsed() > within {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}

/// Least, median and most.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    Some([least, f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]), most])
}

pub(crate) fn percentile(sorted: &[u64], part: f64) -> f64 {
    let at = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(0) as f64
}
