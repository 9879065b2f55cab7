//! Credentials, and the texts that they come in: endpoints' JSON, the shared credentials file, the environment.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::secret::Secret;

/// The name of the environment variable with the access key ID.
pub const ACCESS_KEY_ID_VARIABLE: &str = "AWS_ACCESS_KEY_ID";
/// The name of the environment variable with the secret access key.
pub const SECRET_ACCESS_KEY_VARIABLE: &str = "AWS_SECRET_ACCESS_KEY";
/// The name of the environment variable with the session token.
pub const SESSION_TOKEN_VARIABLE: &str = "AWS_SESSION_TOKEN";

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Says which key it is; no secret.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// Goes with temporary keys.
    pub session_token: Option<Secret>,
    /// When they end, by the wall clock; none: not known, or never.
    pub expiration: Option<SystemTime>,
}

/// Why there are no credentials. Names the member, profile or variable, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The answer is no JSON object of this form.
    #[error("the credentials are not JSON of the expected form: mistake at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// The endpoint says that it has none.
    #[error("the endpoint has no credentials: its answer's `Code` is not `Success`")]
    Refused,
    /// A part is missing, or empty.
    #[error("there is no {name}")]
    Missing {
        /// The member, key or variable.
        name: &'static str,
    },
    /// The time at which they end is none.
    #[error("Expiration is not a time of RFC 3339")]
    Expiration,
    /// The file has no such section.
    #[error("the credentials file has no profile [{profile}]")]
    NoProfile {
        /// The profile's name.
        profile: String,
    },
}

impl CredentialsError {
    /// What to do about it, in one line.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Json { .. } => {
                "the answer of an AWS credentials endpoint has AccessKeyId, SecretAccessKey, Token, Expiration"
            }
            Self::Refused => "check the role that the instance or the task was given",
            Self::Missing { .. } => "access key ID and secret access key always go together",
            Self::Expiration => "it should look like 2026-01-31T12:00:00Z",
            Self::NoProfile { .. } => "a profile in the credentials file begins with [name], without the word profile",
        }
    }
}

impl Credentials {
    /// Reads the answer of the container endpoint or of the instance metadata service (`AccessKeyId`, `SecretAccessKey`,
    /// `Token`, `Expiration`), or the output of a `credential_process` (`SessionToken`).
    ///
    /// # Errors
    /// It is of another form, or says that there are none.
    pub fn from_json(text: &Secret) -> Result<Self, CredentialsError> {
        let answer: Answer = serde_json::from_str(text.expose())
            .map_err(|e| CredentialsError::Json { line: e.line(), column: e.column() })?;
        if answer.code.is_some_and(|code| code != "Success") {
            return Err(CredentialsError::Refused);
        }
        let expiration = answer.expiration.filter(|text| !text.is_empty()).map(|text| time_of(&text)).transpose()?;
        Ok(Self {
            access_key_id: present(answer.access_key_id, "AccessKeyId")?,
            secret_access_key: present_secret(answer.secret_access_key, "SecretAccessKey")?,
            session_token: answer.token.filter(|token| !token.expose().is_empty()),
            expiration,
        })
    }

    /// Reads one profile of a shared credentials file (`~/.aws/credentials`): `aws_access_key_id`,
    /// `aws_secret_access_key`, `aws_session_token`. Of a key that is there twice, the last one counts.
    ///
    /// # Errors
    /// There is no such profile, or it lacks a key.
    pub fn from_ini(text: &Secret, profile: &str) -> Result<Self, CredentialsError> {
        let (mut id, mut secret, mut token) = (None, None, None);
        let (mut found, mut inside) = (false, false);
        for line in text.expose().lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                inside = section.trim() == profile;
                found |= inside;
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| inside) else { continue };
            let value = without_comment(value.trim());
            match name.trim() {
                name if name.eq_ignore_ascii_case("aws_access_key_id") => id = Some(value.to_owned()),
                name if name.eq_ignore_ascii_case("aws_secret_access_key") => secret = Some(Secret::new(value)),
                name if name.eq_ignore_ascii_case("aws_session_token") => token = Some(Secret::new(value)),
                _ => {}
            }
        }
        if !found {
            return Err(CredentialsError::NoProfile { profile: profile.to_owned() });
        }
        Ok(Self {
            access_key_id: present(id, "aws_access_key_id")?,
            secret_access_key: present_secret(secret, "aws_secret_access_key")?,
            session_token: token.filter(|token| !token.expose().is_empty()),
            expiration: None,
        })
    }

    /// Reads the environment, through a function that yields the value of a variable.
    ///
    /// # Errors
    /// The access key ID or the secret access key is not there.
    pub fn from_environment(variable: impl Fn(&str) -> Option<Secret>) -> Result<Self, CredentialsError> {
        let id = variable(ACCESS_KEY_ID_VARIABLE).map(|id| id.expose().to_owned());
        Ok(Self {
            access_key_id: present(id, ACCESS_KEY_ID_VARIABLE)?,
            secret_access_key: present_secret(variable(SECRET_ACCESS_KEY_VARIABLE), SECRET_ACCESS_KEY_VARIABLE)?,
            session_token: variable(SESSION_TOKEN_VARIABLE).filter(|token| !token.expose().is_empty()),
            expiration: None,
        })
    }
}

/// What an endpoint answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    code: Option<String>,
    access_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    secret_access_key: Option<Secret>,
    #[serde(default, alias = "SessionToken", deserialize_with = "secret")]
    token: Option<Secret>,
    expiration: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

fn present(text: Option<String>, name: &'static str) -> Result<String, CredentialsError> {
    text.filter(|text| !text.is_empty()).ok_or(CredentialsError::Missing { name })
}

fn present_secret(secret: Option<Secret>, name: &'static str) -> Result<Secret, CredentialsError> {
    secret.filter(|secret| !secret.expose().is_empty()).ok_or(CredentialsError::Missing { name })
}

/// A value up to a comment, which begins with white space: a secret may have the sign in it.
fn without_comment(value: &str) -> &str {
    let comment = value
        .char_indices()
        .zip(value.chars().skip(1))
        .find(|((_, first), second)| first.is_whitespace() && matches!(second, '#' | ';'));
    comment.and_then(|((at, _), _)| value.get(..at)).unwrap_or(value).trim_end()
}

/// RFC 3339, which is what AWS writes.
fn time_of(text: &str) -> Result<SystemTime, CredentialsError> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| CredentialsError::Expiration)?;
    Ok(SystemTime::from(at))
}
