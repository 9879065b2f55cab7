//! Everything that is shown with real processes and sockets: one binary, one harness (`support`), a file a subject.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, its helpers too; nothing here is an interface"
)]

mod support;

mod admin;
mod aws;
mod basics;
mod ca;
mod clients;
mod commands;
mod egress;
mod embedded;
mod exec;
mod http2;
mod in_the_clear;
mod interception;
mod interop;
mod kinds;
mod limits;
mod on_behalf;
mod plain;
mod provider_faults;
mod providers;
mod rejection;
mod reload;
mod rotation;
mod seeds;
mod streaming;
mod targets;
mod token_endpoint;
mod token_life;
#[cfg(target_os = "linux")]
mod transparent;
mod upstreams;
