//! Credentials that need no provider: they are there, or lanyard makes them.

use std::{fmt, path::PathBuf, time::Duration};

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

/// A JWT that lanyard signs itself, anew before it expires. `Debug` shows the claims' names alone.
#[derive(Clone, PartialEq)]
pub struct SignedJwt {
    /// `private_key`, or `secret` for HMAC.
    pub key: SigningKeySource,
    /// `claims`: what it says besides `iat`, `exp` and `jti`, which it can say itself too.
    pub claims: Map<String, Value>,
    /// `token_lifetime` (5 min).
    pub token_lifetime: Duration,
}

impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, claims, token_lifetime } = self;
        f.debug_struct("SignedJwt")
            .field("key", key)
            .field("claims", &claims.keys().collect::<Vec<_>>())
            .field("token_lifetime", token_lifetime)
            .finish()
    }
}

/// A token that something else keeps fresh. Its lifetime is that of a JWT, or `default_token_lifetime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileToken {
    /// `path`, read at each use and watched.
    pub path: PathBuf,
}

/// A command whose output is the credential. `Debug` shows the program and the variables' names alone: arguments and values
/// may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Exec {
    /// `command`: the program and its arguments; no shell.
    pub command: Vec<String>,
    /// `environment`: all that the command has in its environment, but for `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
    /// `timeout` (10 s).
    pub timeout: Duration,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All fields by name: a new one has to be thought about.
        let Self { command, environment, timeout } = self;
        f.debug_struct("Exec")
            .field("program", &command.first())
            .field("arguments", &command.len().saturating_sub(1))
            .field("environment", &environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("timeout", timeout)
            .finish()
    }
}
