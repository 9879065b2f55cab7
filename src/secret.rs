//! Secrets: a type that cannot be shown by accident, and where secrets come from.
//!
//! A [`Secret`] has no `Display` and no `Serialize`, its `Debug` is `[redacted]`, and its memory is
//! zeroed when it is dropped. The only way to its text is [`Secret::expose`], which is easy to find.

use std::{fmt, path::PathBuf};

use zeroize::Zeroizing;

/// A text that must never be logged, serialized or shown: a client secret, a token, a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text out of circulation.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Callers pass it to the wire, never to a formatter.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a secret comes from. Files and variables are read at each use, so that a rotated mount just works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `{ file = "PATH" }`: the file's content without a byte order mark and one trailing line end.
    File(PathBuf),
    /// `{ env = "NAME" }`: the variable's value.
    Env(String),
    /// The text itself stands in the configuration.
    Literal(Secret),
}

impl SecretSource {
    /// Reads the secret now.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_SECRET_SIZE`], is not UTF-8 or is empty; the variable is not
    /// set, is not UTF-8 or is empty. The error names the place, never the content.
    pub async fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => {
                let wrong = |problem: String| SecretError { place: format!("file {}", path.display()), problem };
                let size = tokio::fs::metadata(path).await.map_err(|e| wrong(e.to_string()))?;
                if !size.is_file() {
                    return Err(wrong("is not a regular file".to_owned()));
                }
                if size.len() > MAX_SECRET_SIZE {
                    return Err(wrong(format!("is {} bytes, more than {MAX_SECRET_SIZE}", size.len())));
                }
                let bytes = Zeroizing::new(tokio::fs::read(path).await.map_err(|e| wrong(e.to_string()))?);
                let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8 text".to_owned()))?;
                // Editors on Windows put a byte order mark there, which is no part of a secret.
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                let text = text.strip_suffix('\n').unwrap_or(text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                if text.is_empty() {
                    return Err(wrong("is empty".to_owned()));
                }
                Ok(Secret::new(text))
            }
            Self::Env(name) => {
                let wrong = |problem: &str| SecretError {
                    place: format!("environment variable {name}"),
                    problem: problem.to_owned(),
                };
                match std::env::var(name) {
                    Ok(text) if text.is_empty() => Err(wrong("is empty")),
                    Ok(text) => Ok(Secret::new(text)),
                    Err(std::env::VarError::NotPresent) => Err(wrong("is not set")),
                    Err(std::env::VarError::NotUnicode(_)) => Err(wrong("is not UTF-8 text")),
                }
            }
            Self::Literal(secret) => Ok(secret.clone()),
        }
    }

    /// The file that the secret is read from, if it is one: reload watches it.
    pub fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Env(_) | Self::Literal(_) => None,
        }
    }
}

/// A secret that cannot be had. Names the place and what is wrong with it, never its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct SecretError {
    /// `file PATH` or `environment variable NAME`.
    pub place: String,
    /// What is wrong: "is empty", "No such file or directory (os error 2)".
    pub problem: String,
}

/// The largest secret file that is read, in bytes.
pub const MAX_SECRET_SIZE: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
