//! lanyard writes the right OAuth2 token on every request that leaves an application.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod dns;
pub mod issuer;
pub mod listen;
pub mod metrics;
pub mod oauth;
pub mod proxy;
pub mod reload;
pub mod route;
pub mod secret;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod token;
