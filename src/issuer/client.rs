//! A registered client, and its form on the command line, `ID:SECRET[:SCOPE,SCOPE]`.

mod certificate;
pub(super) mod file;

use std::str::FromStr;

pub use self::certificate::CertificateName;
use super::jwk::KeySet;
use crate::secret::Secret;

/// A program that may ask for tokens: what RFC 7591 section 2 calls client metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client_id`, which becomes `sub` of its own tokens.
    pub id: String,
    /// `client_secret`.
    pub secret: Option<Secret>,
    /// `token_endpoint_auth_method`: the ways in which it may say who it is. One of them in each request.
    pub methods: Vec<AuthMethod>,
    /// `token_endpoint_auth_signing_alg`: the only algorithm of its assertions (`ES256`). None: any that its keys suit.
    pub signing_algorithm: Option<String>,
    /// `grant_types`: what it may ask for.
    pub grant_types: Vec<GrantType>,
    /// The scopes that it may have; a request that asks for none gets all of them. Empty: whatever it asks for.
    pub scopes: Vec<String>,
    /// The audiences that it may name by `audience` or `resource`. Empty: any.
    pub audiences: Vec<String>,
    /// `jwks`: the public keys of its assertions, and its self-signed certificates.
    pub keys: KeySet,
    /// What its certificate says, for `tls_client_auth`.
    pub certificate: Option<CertificateName>,
    /// `tls_client_certificate_bound_access_tokens`: its tokens are good only together with its certificate
    /// (RFC 8705 section 3). They are so anyway where the certificate is how it says who it is.
    pub certificate_bound: bool,
    /// `dpop_bound_access_tokens`: each of its token requests must have a DPoP proof (RFC 9449 section 5.2).
    pub dpop_bound: bool,
    /// The users that it may ask for by `password`.
    pub users: Vec<User>,
}

/// Somebody with a password, for the grant `password`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `username`, which becomes `sub` of the tokens.
    pub name: String,
    /// `password`.
    pub password: Secret,
}

impl Client {
    /// A client with a secret, sent by HTTP Basic or in the body, that may have any scope.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            secret: Some(Secret::new(secret)),
            methods: vec![AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost],
            ..Self::public(id)
        }
    }

    /// A client that cannot prove who it is: `none`.
    pub fn public(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: None,
            methods: vec![AuthMethod::None],
            signing_algorithm: None,
            grant_types: vec![GrantType::ClientCredentials, GrantType::RefreshToken],
            scopes: Vec::new(),
            audiences: Vec::new(),
            keys: KeySet::default(),
            certificate: None,
            certificate_bound: false,
            dpop_bound: false,
            users: Vec::new(),
        }
    }

    /// A client that signs assertions with one of these keys: `private_key_jwt`.
    pub fn with_keys(id: impl Into<String>, keys: KeySet) -> Self {
        Self { methods: vec![AuthMethod::PrivateKeyJwt], keys, ..Self::public(id) }
    }

    /// Whether it only says who it is.
    pub(super) fn is_public(&self) -> bool {
        self.methods.contains(&AuthMethod::None)
    }

    /// What it may do, for an error message.
    pub(super) fn method_names(&self) -> String {
        self.methods.iter().map(|method| method.name()).collect::<Vec<_>>().join(" or ")
    }

    /// `federated`: a trusted issuer vouches for this client, which needs no key of its own then.
    pub(super) fn check(&self, federated: bool) -> Result<(), ClientProblem> {
        if self.id.is_empty() {
            return Err(ClientProblem::NoId);
        }
        if self.id.chars().any(char::is_control) {
            return Err(ClientProblem::ControlInId);
        }
        for method in &self.methods {
            match method {
                AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost | AuthMethod::ClientSecretJwt
                    if self.secret.as_ref().is_none_or(|secret| secret.expose().is_empty()) =>
                {
                    return Err(ClientProblem::NoSecret);
                }
                AuthMethod::PrivateKeyJwt if self.keys.is_empty() && !federated => return Err(ClientProblem::NoKeys),
                AuthMethod::TlsClientAuth if self.certificate.is_none() => {
                    return Err(ClientProblem::NoCertificateName);
                }
                AuthMethod::SelfSignedTlsClientAuth if self.keys.iter().all(|key| key.x5t.is_none()) => {
                    return Err(ClientProblem::NoCertificate);
                }
                _ => {}
            }
        }
        if self.methods.is_empty() {
            return Err(ClientProblem::NoMethod);
        }
        if self.grant_types.is_empty() {
            return Err(ClientProblem::NoGrant);
        }
        if self.grant_types.contains(&GrantType::Password) && self.users.is_empty() {
            return Err(ClientProblem::NoUsers);
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
        let mut client = Self::new(id, secret);
        client.scopes = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        client.check(false).map_err(ClientFormatError)?;
        Ok(client)
    }
}

/// A way of client authentication (`token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// `client_secret_basic`: HTTP Basic (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// `client_secret_post`: in the body (RFC 6749 section 2.3.1).
    ClientSecretPost,
    /// `client_secret_jwt`: an assertion, authenticated with the secret (RFC 7523 section 2.2).
    ClientSecretJwt,
    /// `private_key_jwt`: an assertion, signed by the client or by an issuer that vouches for it (RFC 7523 section 2.2).
    PrivateKeyJwt,
    /// `tls_client_auth`: a certificate of a CA (RFC 8705 section 2.1).
    TlsClientAuth,
    /// `self_signed_tls_client_auth`: a registered certificate (RFC 8705 section 2.2).
    SelfSignedTlsClientAuth,
    /// `none`: a public client (RFC 7591 section 2).
    None,
}

impl AuthMethod {
    /// All of them, in the order of the metadata.
    pub const ALL: [Self; 7] = [
        Self::ClientSecretBasic,
        Self::ClientSecretPost,
        Self::ClientSecretJwt,
        Self::PrivateKeyJwt,
        Self::TlsClientAuth,
        Self::SelfSignedTlsClientAuth,
        Self::None,
    ];

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            Self::None => "none",
        }
    }
}

/// What a token can be asked for with (`grant_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// `client_credentials` (RFC 6749 section 4.4).
    ClientCredentials,
    /// `refresh_token` (RFC 6749 section 6).
    RefreshToken,
    /// `password` (RFC 6749 section 4.3).
    Password,
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523 section 2.1).
    JwtBearer,
    /// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693).
    TokenExchange,
}

impl GrantType {
    /// All of them, in the order of the metadata.
    pub const ALL: [Self; 5] =
        [Self::ClientCredentials, Self::RefreshToken, Self::Password, Self::JwtBearer, Self::TokenExchange];

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::Password => "password",
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.name() == name)
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
    /// An empty secret, or none, and a method that needs one.
    #[error("the secret is empty")]
    NoSecret,
    /// No key, and a method that needs one.
    #[error("private_key_jwt needs jwks, jwks_file, public_key_file or a trusted issuer that vouches for it")]
    NoKeys,
    /// Any certificate of the CA would do.
    #[error("tls_client_auth needs one of tls_client_auth_subject_dn, _san_dns, _san_uri, _san_ip and _san_email")]
    NoCertificateName,
    /// No certificate to compare with.
    #[error("self_signed_tls_client_auth needs certificate_file, or jwks with x5c")]
    NoCertificate,
    /// No way in.
    #[error("there is no authentication method")]
    NoMethod,
    /// Nothing to ask for.
    #[error("there is no grant type")]
    NoGrant,
    /// Nobody to ask for.
    #[error("the grant password needs users")]
    NoUsers,
    /// A scope that RFC 6749 section 3.3 does not allow.
    #[error("a scope is empty or has a character other than printable ASCII without space, quote and backslash")]
    BadScope,
}

/// Whether the text is one `scope-token` of RFC 6749 section 3.3.
pub(super) fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
