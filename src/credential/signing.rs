//! Secrets and keys of a profile, read for one fetch; what cannot be read or used is told with the key that names it.

use crate::{
    config::SigningKeySource,
    credential::{FetchError, FetchErrorKind},
    jose::{Header, KeyError, SignError, SigningKey, claims::Claims},
    secret::{Secret, SecretSource},
};

/// Reads a secret. `key`: its key in the profile, for the error.
///
/// # Errors
/// It cannot be read now.
pub async fn secret(source: &SecretSource, key: &str, profile: &str) -> Result<Secret, FetchError> {
    source.read().await.map_err(|error| FetchError {
        kind: FetchErrorKind::Secret,
        detail: format!("{key} cannot be read: {error}"),
        hint: format!("check {key} of profile {profile}"),
        retry_after: None,
    })
}

/// Reads a key that signs.
///
/// # Errors
/// It cannot be read now, or is no such key.
pub async fn signing_key(source: &SigningKeySource, key: &str, profile: &str) -> Result<SigningKey, FetchError> {
    let text = secret(&source.source, key, profile).await?;
    let parsed = match source.algorithm.filter(|algorithm| algorithm.is_symmetric()) {
        Some(algorithm) => SigningKey::from_secret(&text, algorithm),
        // Whoever names a key of a PEM file names it to the server alone.
        None => {
            let of_set = source.key_id.as_deref().filter(|_| text.expose().trim_start().starts_with('{'));
            SigningKey::parse(&text, source.algorithm, of_set)
        }
    };
    parsed.map_err(|error| unusable(&error, key, profile))
}

/// Signs claims as a JWT. `key_id` goes before the key's own.
///
/// # Errors
/// It cannot be signed.
pub fn sign(
    signing_key: &SigningKey,
    source: &SigningKeySource,
    x5t_s256: Option<String>,
    claims: &Claims,
) -> Result<Secret, FetchError> {
    let header = Header { typ: Some("JWT".to_owned()), kid: source.key_id.clone(), x5t_s256, ..Header::default() };
    signing_key.sign(&header, claims).map_err(unsigned)
}

/// A key that cannot be used, as the failure of a fetch.
pub fn unusable(error: &KeyError, key: &str, profile: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Secret,
        detail: format!("{key} of profile {profile} cannot be used: {error}"),
        hint: error.hint().to_owned(),
        retry_after: None,
    }
}

/// A signature that failed, as the failure of a fetch.
pub fn unsigned(error: SignError) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Secret,
        detail: error.to_string(),
        hint: "look at the claims, and at the machine's random numbers".to_owned(),
        retry_after: None,
    }
}
