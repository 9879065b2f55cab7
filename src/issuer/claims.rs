//! What an access token says, whether it is a JWT or opaque, and whether it is still true.

use serde::{Deserialize, Serialize};

use super::{Issuer, certificate_auth, tenant, tls::Peer};

/// The claims of an access token (RFC 9068 section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) client_id: String,
    pub(super) aud: Audience,
    pub(super) exp: u64,
    pub(super) iat: u64,
    pub(super) jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<String>,
    /// Who acts for `sub` (RFC 8693 section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) act: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cnf: Option<Confirmation>,
}

/// What a request must prove beside having the token (RFC 7800 section 3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmation {
    /// That it comes by a connection with this certificate (RFC 8705 section 3.1).
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub(super) x5t: Option<String>,
    /// That it is signed with this key (RFC 9449 section 6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jkt: Option<String>,
}

impl Claims {
    /// The thumbprint of the key that requests with the token have to be signed with.
    pub(super) fn jkt(&self) -> Option<&str> {
        self.cnf.as_ref()?.jkt.as_deref()
    }

    /// How the token is to be presented (`token_type`, RFC 6749 section 7.1).
    pub(super) fn token_type(&self) -> &'static str {
        if self.jkt().is_some() { "DPoP" } else { "Bearer" }
    }

    pub(super) fn has_scope(&self, wanted: &str) -> bool {
        self.scope.as_deref().unwrap_or_default().split(' ').any(|scope| scope == wanted)
    }
}

/// RFC 7519 section 4.1.3: a single audience may be a plain string, which more verifiers understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }

    /// All of them, for people.
    pub(super) fn list(&self) -> String {
        match self {
            Self::One(one) => one.clone(),
            Self::Many(many) => many.join(", "),
        }
    }
}

impl From<Vec<String>> for Audience {
    fn from(mut audiences: Vec<String>) -> Self {
        match audiences.pop() {
            Some(only) if audiences.is_empty() => Self::One(only),
            last => Self::Many(audiences.into_iter().chain(last).collect()),
        }
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenProblem {
    #[error("Token is malformed")]
    Malformed,
    #[error("Token signature is not valid")]
    BadSignature,
    #[error("Token is unknown")]
    Unknown,
    #[error("Token is from another issuer")]
    OtherIssuer,
    #[error("Token has been revoked")]
    Revoked,
    #[error("Token has expired")]
    Expired,
    #[error("Token is bound to a client certificate, and the connection has none or another")]
    OtherCertificate,
    #[error("Token is bound to a key: the Authorization scheme must be DPoP, with a proof in the DPoP header")]
    NoProof,
    #[error("Token is bound to no key: the Authorization scheme must be Bearer")]
    NotBound,
    #[error("Token is bound to another key than that of the DPoP proof")]
    OtherKey,
}

impl Issuer {
    /// What the token says, if it is one of this server's and still good.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, TokenProblem> {
        let now = self.now();
        let claims = match self.keys.verify(token) {
            Some(claims) => claims?,
            None => self.ledger().opaque(token).ok_or(TokenProblem::Unknown)?,
        };
        if !self.is_own(&claims.iss) {
            return Err(TokenProblem::OtherIssuer);
        }
        if self.ledger().is_revoked(&claims.jti) {
            return Err(TokenProblem::Revoked);
        }
        if now >= claims.exp {
            return Err(TokenProblem::Expired);
        }
        Ok(claims)
    }

    /// Checks that the connection is one that the token is bound to, if it is bound to any.
    pub(super) fn check_binding(claims: &Claims, peer: &Peer) -> Result<(), TokenProblem> {
        let bound = claims.cnf.as_ref().and_then(|cnf| cnf.x5t.as_ref());
        match bound.is_none_or(|x5t| certificate_auth::thumbprint(peer).as_ref() == Some(x5t)) {
            true => Ok(()),
            false => Err(TokenProblem::OtherCertificate),
        }
    }

    /// Whether the identifier is this server's, or that of one of its tenants.
    pub(super) fn is_own(&self, iss: &str) -> bool {
        let tenant = |rest: &str| rest.strip_prefix(tenant::PREFIX).is_some_and(tenant::is_name);
        iss == self.identifier || iss.strip_prefix(self.base()).is_some_and(tenant)
    }
}
