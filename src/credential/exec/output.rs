//! What a command printed: a bare token, an ExecCredential, or JSON with a token. Pure.

use std::time::SystemTime;

use crate::{
    credential::document::{self, Document, Found},
    secret::Secret,
};

/// Why what was printed is no credential, in words that quote nothing of it.
#[derive(Debug)]
pub(super) struct Wrong {
    /// What it is instead.
    pub(super) problem: String,
    /// What to do about it.
    pub(super) hint: &'static str,
}

/// Understands what was printed.
pub(super) fn read(stdout: &[u8], now: SystemTime) -> Result<Found, Wrong> {
    let wrong = |problem: String| Wrong { problem, hint: FORMS };
    let text = std::str::from_utf8(stdout).map_err(|_| wrong("something that is no text".to_owned()))?;
    let text = document::trimmed(text);
    let document = if text.starts_with('{') { Some(Document::parse(text.as_bytes()).map_err(wrong)?) } else { None };
    let found = match document {
        Some(document) if is_exec_credential(&document) => exec_credential(&document, now)?,
        Some(document) => document.found(&document::TOKENS, now, now).map_err(wrong)?,
        None => document::read(text, now, now).map_err(wrong)?,
    };
    if found.lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
        let hint = "see why the command gives old ones, and look at this machine's clock";
        return Err(Wrong { problem: "a token that has expired".to_owned(), hint });
    }
    Ok(found)
}

/// Everything that was printed and may be a secret.
pub(super) fn secrets(stdout: &str) -> Vec<Secret> {
    let long = |secret: &Secret| secret.expose().len() >= MIN_SECRET;
    match Document::parse(stdout.as_bytes()) {
        Ok(document) => document.texts().into_iter().filter(long).collect(),
        // Its words too: a trace of the command may hold each on its own.
        Err(_) => {
            std::iter::once(stdout.trim()).chain(stdout.split_whitespace()).map(Secret::new).filter(long).collect()
        }
    }
}

/// Whether it says so, or is of that form.
fn is_exec_credential(document: &Document) -> bool {
    document.text("kind") == Some("ExecCredential")
        || document.text("apiVersion").is_some_and(|version| version.starts_with(GROUP))
}

/// `client.authentication.k8s.io`, `v1` and `v1beta1`.
fn exec_credential(document: &Document, now: SystemTime) -> Result<Found, Wrong> {
    let wrong = |problem: &str, hint: &'static str| Wrong { problem: format!("an ExecCredential {problem}"), hint };
    let version = document.text("apiVersion").and_then(|version| version.strip_prefix(GROUP));
    if document.text("kind") != Some("ExecCredential") || !matches!(version, Some("v1" | "v1beta1")) {
        let hint = "it has to be of kind ExecCredential and of client.authentication.k8s.io/v1 or v1beta1";
        return Err(wrong("of a version that is not known", hint));
    }
    let status = document.object("status").ok_or_else(|| {
        wrong("without `status`", "the command has to be logged in already: nobody can answer its questions here")
    })?;
    if status.text("token").is_none() && status.text("clientCertificateData").is_some() {
        let hint = "a certificate cannot be written into a request: let the command give a token";
        return Err(wrong("with a client certificate and no token", hint));
    }
    status.found(&["token"], now, now).map_err(|problem| wrong(&format!("whose `status` is {problem}"), FORMS))
}

const GROUP: &str = "client.authentication.k8s.io/";
const FORMS: &str =
    "it has to print a token and nothing else, an ExecCredential, or {\"access_token\": ..., \"expires_in\": ...}";
/// The shortest text that is looked for in what a command complains about, bytes.
const MIN_SECRET: usize = 4;
