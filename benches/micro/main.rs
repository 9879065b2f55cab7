//! What the steps of one request cost, in time and in allocations: `cargo bench --profile counts --bench micro`, or with a
//! part of a name behind `--`. Not compared with anything: seconds differ from run to run.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a program for people, which ends at the first thing that goes wrong"
)]

#[allow(dead_code, reason = "shared with what counts instructions")]
mod operations;

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use divan::{AllocProfiler, Bencher};
use lanyard::token::Slot;

use self::operations::{ALL, Operation, SIGNING};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// One after another on one thread.
#[divan::bench(args = ALL)]
fn step(bencher: Bencher<'_, '_>, operation: Operation) {
    bencher.bench_local(operation.prepare());
}

/// What kinds that cannot be cached cost on each request.
#[divan::bench(args = SIGNING)]
fn signing(bencher: Bencher<'_, '_>, operation: Operation) {
    bencher.bench_local(operation.prepare());
}

/// `slot usable` on several threads.
#[divan::bench(threads = [1, 2, 4, 8])]
fn slot_usable(bencher: Bencher<'_, '_>) {
    let (_runtime, slot) = operations::slot();
    bencher.bench(|| black_box(slot.usable()).is_some());
}

/// The same while another thread stores new tokens as fast as the slot's task takes them.
#[divan::bench(threads = [1, 2, 4, 8])]
fn slot_usable_while_written(bencher: Bencher<'_, '_>) {
    let writer = Writer::start();
    bencher.bench(|| black_box(writer.slot.usable()).is_some());
    assert!(writer.stop() > 1, "no token was stored");
}

struct Writer {
    slot: Arc<Slot>,
    stop: Arc<AtomicBool>,
    stored: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    fn start() -> Self {
        let (stop, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (send, receive) = std::sync::mpsc::channel();
        let (stopping, storing) = (Arc::clone(&stop), Arc::clone(&stored));
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let slot = Arc::new(operations::start_slot());
                slot.first_answer().await;
                send.send(Arc::clone(&slot)).unwrap();
                while !stopping.load(Ordering::Relaxed) {
                    slot.source_changed();
                    tokio::task::yield_now().await;
                    storing.store(slot.usable().unwrap().serial, Ordering::Relaxed);
                }
            });
        });
        let slot = receive.recv().unwrap();
        // What is measured may be over sooner than a thread begins.
        while stored.load(Ordering::Relaxed) < 2 {
            thread::yield_now();
        }
        Self { slot, stop, stored, thread }
    }

    /// How many tokens were stored.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.stored.load(Ordering::Relaxed)
    }
}
