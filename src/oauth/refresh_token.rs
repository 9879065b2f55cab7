//! The latest refresh token: its rotation is followed (RFC 6749 6, RFC 9700 2.2.2), and kept in a file if that is wanted.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::{MAX_SECRET_SIZE, Secret};

/// A refresh token that servers replace.
#[derive(Debug)]
pub(super) struct Rotation {
    state_file: Option<PathBuf>,
    latest: Mutex<Option<Latest>>,
}

/// The latest token.
#[derive(Debug)]
struct Latest {
    /// The configured one that it came from.
    from: Fingerprint,
    token: Secret,
    /// Whether it could not be written into the state file.
    unsaved: bool,
}

/// SHA-256 of the configured token: a new one, after another login, takes the place of all that came before it.
type Fingerprint = [u8; 32];

impl Rotation {
    pub(super) const fn new(state_file: Option<PathBuf>) -> Self {
        Self { state_file, latest: Mutex::new(None) }
    }

    /// The token to use: the latest that came from the configured one, else that.
    ///
    /// # Errors
    /// There is a state file, and it cannot be read or is none.
    pub(super) fn current(&self, configured: &Secret) -> Result<Secret, String> {
        let fingerprint = fingerprint(configured);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest.as_ref().filter(|latest| latest.from == fingerprint);
        // What is kept is read each time: `lanyard doctor` and a profile that a reload replaces write it, too.
        let kept = match (&self.state_file, known) {
            (None, _) | (_, Some(Latest { unsaved: true, .. })) => Ok(None),
            (Some(path), _) => read(path, &fingerprint).map_err(|problem| format!("{} {problem}", path.display())),
        };
        let token = match (kept, known) {
            (Ok(Some(kept)), _) => kept,
            (Ok(None) | Err(_), Some(known)) => return Ok(known.token.clone()),
            (Ok(None), None) => configured.clone(),
            (Err(problem), None) => return Err(problem),
        };
        *latest = Some(Latest { from: fingerprint, token: token.clone(), unsaved: false });
        Ok(token)
    }

    /// Whether there is a file that outlives the process.
    pub(super) const fn is_kept(&self) -> bool {
        self.state_file.is_some()
    }

    /// A server gave another one.
    ///
    /// # Errors
    /// It is used from now on, but could not be kept for the next start.
    pub(super) fn replace(&self, configured: &Secret, token: Secret) -> Result<(), String> {
        let fingerprint = fingerprint(configured);
        let kept = match &self.state_file {
            None => Ok(()),
            Some(path) => write(path, &fingerprint, &token)
                .map_err(|error| format!("the new refresh token could not be kept in {}: {error}", path.display())),
        };
        let latest = Latest { from: fingerprint, token, unsaved: kept.is_err() };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
        kept
    }
}

fn fingerprint(configured: &Secret) -> Fingerprint {
    Sha256::digest(configured.expose()).into()
}

/// The token in a state file; none where there is no file, or one from another login.
fn read(path: &Path, fingerprint: &Fingerprint) -> Result<Option<Secret>, String> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if !metadata.is_file() || metadata.len() > MAX_SECRET_SIZE {
        return Err("is no regular file of lanyard's".to_owned());
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?);
    let state: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| "is no state of lanyard's".to_owned())?;
    let text = |name: &str| state.get(name).and_then(serde_json::Value::as_str);
    let (Some(from), Some(token)) = (text("from"), text("refresh_token")) else {
        return Err("is no state of lanyard's".to_owned());
    };
    Ok((from == URL_SAFE_NO_PAD.encode(fingerprint)).then(|| Secret::new(token)))
}

/// Writes it beside and moves it into place: whoever reads sees the old one or the new one, whole.
fn write(path: &Path, fingerprint: &Fingerprint, token: &Secret) -> std::io::Result<()> {
    let state = json!({ "from": URL_SAFE_NO_PAD.encode(fingerprint), "refresh_token": token.expose() });
    let text = Zeroizing::new(state.to_string());
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // What a crash left there may have other permissions.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
