//! A registered client, and its form on the command line, `ID:SECRET[:SCOPE,SCOPE]`.

use std::str::FromStr;

use crate::secret::Secret;

/// A program that may ask for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client_id`, which becomes `sub` of its tokens.
    pub id: String,
    /// `client_secret`.
    pub secret: Secret,
    /// The scopes that it may have; a request that asks for none gets all of them. Empty: whatever it asks for.
    pub scopes: Vec<String>,
    /// The audiences that it may name by `audience` or `resource`. Empty: any.
    pub audiences: Vec<String>,
}

impl Client {
    pub(super) fn check(&self) -> Result<(), ClientProblem> {
        if self.id.is_empty() {
            return Err(ClientProblem::NoId);
        }
        if self.id.chars().any(char::is_control) {
            return Err(ClientProblem::ControlInId);
        }
        if self.secret.expose().is_empty() {
            return Err(ClientProblem::NoSecret);
        }
        if !self.scopes.iter().all(|scope| is_scope_token(scope)) {
            return Err(ClientProblem::BadScope);
        }
        Ok(())
    }
}

impl FromStr for Client {
    type Err = ClientFormatError;

    /// Reads `ID:SECRET[:SCOPE,SCOPE]`. A scope may have colons (`api:read`), a secret in this form may not.
    fn from_str(text: &str) -> Result<Self, ClientFormatError> {
        let (id, rest) = text.split_once(':').ok_or(ClientFormatError(ClientProblem::NoSecret))?;
        let (secret, scopes) = rest.split_once(':').unwrap_or((rest, ""));
        let client = Self {
            id: id.to_owned(),
            secret: Secret::new(secret),
            scopes: scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            audiences: Vec::new(),
        };
        client.check().map_err(ClientFormatError)?;
        Ok(client)
    }
}

/// A text that describes no client. It holds no part of that text, since any part may be the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected ID:SECRET or ID:SECRET:SCOPE,SCOPE, but {0}")]
pub struct ClientFormatError(ClientProblem);

/// What can be wrong with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientProblem {
    /// An empty id.
    #[error("the id is empty")]
    NoId,
    /// An id that cannot be sent.
    #[error("the id has a control character")]
    ControlInId,
    /// An empty secret, or none.
    #[error("the secret is empty")]
    NoSecret,
    /// A scope that RFC 6749 section 3.3 does not allow.
    #[error("a scope is empty or has a character other than printable ASCII without space, quote and backslash")]
    BadScope,
}

/// Whether the text is one `scope-token` of RFC 6749 section 3.3.
pub(super) fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
