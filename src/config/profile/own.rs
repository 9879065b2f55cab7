//! Credentials that need no provider: they are there, or lanyard makes them.

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::SigningKeySource;
use crate::secret::SecretSource;

/// A secret as it is. It never expires; a changed file takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Static {
    /// `bearer`, `header` and `query`: one secret.
    Secret {
        /// `token`, or `secret`.
        secret: SecretSource,
        /// `template`: what is written, with `{secret}` where the secret stands.
        template: String,
    },
    /// `basic` (RFC 7617).
    Basic {
        /// `username`: without a colon.
        username: String,
        /// `password`.
        password: SecretSource,
    },
}

/// A JWT that lanyard signs itself, anew before it expires.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedJwt {
    /// `private_key`, or `secret` for HMAC.
    pub key: SigningKeySource,
    /// `claims`: what it says besides `iat`, `exp` and `jti`, which it can say itself too.
    pub claims: Map<String, Value>,
    /// `token_lifetime` (5 min).
    pub token_lifetime: Duration,
}

/// A token that something else keeps fresh. Its lifetime is that of a JWT, or `default_token_lifetime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileToken {
    /// `path`, read at each use and watched.
    pub path: PathBuf,
}

/// A command whose output is the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// `command`: the program and its arguments; no shell.
    pub command: Vec<String>,
    /// `environment`: all that the command has in its environment, but for `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
    /// `timeout` (10 s).
    pub timeout: Duration,
}
