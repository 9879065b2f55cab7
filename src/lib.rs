//! lanyard writes the right OAuth2 token on every request that leaves an application.

pub mod clock;
pub mod config;
pub mod credential;
pub mod issuer;
pub mod oauth;
pub mod route;
pub mod secret;
pub mod tls;
