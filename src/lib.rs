//! lanyard writes the right OAuth2 token on every request that leaves an application.
//!
//! # The walk of one request
//! 1. [`listen`] accepts a connection, reads one request head whole (one deadline, one size cap, one meaning) and hands
//!    it on with the connection's facts; a CONNECT becomes a blind tunnel.
//! 2. [`proxy`] decides the target from one source of truth ([`proxy::target`]), finds the route ([`route::Table`]) in
//!    the [`snapshot`] it loaded once, and takes the token from the profile's slot ([`token::Slot`]), lock-free.
//! 3. The upstream's name is resolved and its addresses are vetted ([`dns`]), or a proxy is asked for a tunnel to it
//!    ([`egress`]); the credential is written into the header
//!    ([`proxy::inject`], the only place that does); pingora sends it.
//! 4. A 401 rejects the token with that serial: one shared fetch, and the request goes out once more
//!    ([`proxy::retry`]). Every reason not to forward is a [`proxy::refusal`].
//!
//! # A token's life
//! Each profile has one slot and one task ([`token`]); the task asks the profile's [`credential`] ([`oauth`]) when the
//! token is due, wanted or refused, and everyone who waits shares the result, also a failure; what it asks for by HTTP
//! goes by [`provider`].
//!
//! # The map
//! [`app`] builds everything and stops it in the reverse; [`reload`] makes the next snapshot from a changed [`config`]
//! and keeps the slots that did not change; [`admin`] tells how things stand, [`token_endpoint`] gives tokens to applications that ask for them, [`metrics`] counts, [`telemetry`] logs;
//! [`jose`] holds private keys and signs assertions and proofs with them; [`aws`] signs requests for AWS;
//! [`cli`] has the commands; [`issuer`] is the embedded authorization server of the demo and the tests.
//! `docs/architecture.md` has the longer story.

pub mod admin;
pub mod app;
pub mod aws;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod dns;
pub mod egress;
mod guard;
pub mod issuer;
pub mod jose;
pub mod listen;
pub mod metrics;
pub mod oauth;
pub mod provider;
pub mod proxy;
pub mod reload;
pub mod route;
pub mod secret;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod token_endpoint;
