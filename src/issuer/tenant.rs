//! Which tenant a request is for: the `{tenant}` of its path, or none.
//!
//! Every name is a tenant, all with the same clients and keys. Their tokens differ in `iss`, and a tenant's
//! introspection and revocation know its own tokens only.

use axum::{
    RequestPartsExt,
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::error::OAuthError;

/// A tenant's name, or none for the endpoints outside of `/api/v1/tenant`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenant(Option<String>);

impl Tenant {
    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = OAuthError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, OAuthError> {
        match parts.extract::<Option<Path<String>>>().await {
            Ok(None) => Ok(Self(None)),
            Ok(Some(Path(name))) if is_name(&name) => Ok(Self(Some(name))),
            Ok(Some(_)) | Err(_) => Err(OAuthError::no_such_tenant()),
        }
    }
}

/// Whether the text can name a tenant: it stands in URLs as it is.
pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// What stands before a tenant's name, in the path of its endpoints and in its issuer identifier.
pub(super) const PREFIX: &str = "/api/v1/tenant/";
