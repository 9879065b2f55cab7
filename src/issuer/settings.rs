//! What an [`Issuer`](super::Issuer) is made from, and what can be wrong with it.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use rustls::pki_types::CertificateDer;

use super::{Client, client::ClientProblem, dpop::NoncePolicy, jwk::KeySet};
use crate::secret::Secret;

/// What the authorization server issues, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The issuer identifier, an http(s) URL. None: derived from the listening address.
    pub issuer: Option<String>,
    /// The form of the access tokens.
    pub algorithm: Algorithm,
    /// The shared key of [`Algorithm::Hs256`]. None: a random one, so that only this server can check its tokens.
    pub hs256_key: Option<Secret>,
    /// How long an access token is valid, in whole seconds.
    pub lifetime: Duration,
    /// Whether the answer tells the lifetime. RFC 6749 only recommends it, and some servers leave it out.
    pub send_expires_in: bool,
    /// Whether the answer has a refresh token, good for one use. RFC 6749 section 4.4.3 advises against it for client
    /// credentials; some servers do it anyway.
    pub send_refresh_token: bool,
    /// Who may ask.
    pub clients: Vec<Client>,
    /// Who else may vouch for clients and users.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// `aud` of tokens whose request names none. None: the issuer identifier.
    pub default_audience: Option<String>,
    /// Which of its listeners speak TLS. The server itself has none: it only tells clients of them.
    pub transport: Transport,
    /// Whether DPoP proofs must have a nonce of the server's, and how long such a one is good (RFC 9449 section 8).
    pub dpop_nonce: Option<NoncePolicy>,
    /// The CAs of the certificates for `tls_client_auth`.
    pub client_ca: Vec<CertificateDer<'static>>,
}

/// By what means the server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// HTTP only: the issuer identifier begins with `http://` if none is given.
    #[default]
    Plain,
    /// HTTPS only.
    Tls,
    /// HTTP, and HTTPS at this address for clients with certificates (`mtls_endpoint_aliases`, RFC 8705 section 5).
    Both(SocketAddr),
}

/// An issuer of JWTs that this server believes, a Kubernetes cluster for one.
///
/// Its JWTs are client assertions of the clients that `subjects` names, assertions of the grant
/// `urn:ietf:params:oauth:grant-type:jwt-bearer`, and subject and actor tokens of token exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// `iss`.
    pub issuer: String,
    /// The keys that it signs with.
    pub keys: KeySet,
    /// For which registered client it vouches by which `sub`: `system:serviceaccount:NAMESPACE:NAME` to a `client_id`.
    pub subjects: HashMap<String, String>,
    /// What `aud` may be beside this server's issuer identifier and token endpoint.
    pub audiences: Vec<String>,
}

impl Settings {
    /// A server to start with: RS256, one hour, and the client `demo` with the secret `demo-secret`, which may have the
    /// scopes `api:read` and `api:write`.
    pub fn development() -> Self {
        Self {
            issuer: None,
            algorithm: Algorithm::Rs256,
            hs256_key: None,
            lifetime: Duration::from_secs(3600),
            send_expires_in: true,
            send_refresh_token: false,
            clients: vec![Client {
                scopes: vec!["api:read".to_owned(), "api:write".to_owned()],
                ..Client::new("demo", "demo-secret")
            }],
            trusted_issuers: Vec::new(),
            default_audience: None,
            transport: Transport::Plain,
            dpop_nonce: None,
            client_ca: Vec::new(),
        }
    }

    pub(super) fn check(&self) -> Result<(), IssuerError> {
        if let Some(issuer) = &self.issuer {
            let url = url::Url::parse(issuer).map_err(|_| IssuerError::NotAUrl(issuer.clone()))?;
            let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
            if !matches!(url.scheme(), "http" | "https") || !plain || url.password().is_some() {
                return Err(IssuerError::NotAUrl(issuer.clone()));
            }
        }
        match (&self.hs256_key, self.algorithm) {
            (Some(_), Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Opaque) => return Err(IssuerError::UnusedKey),
            (Some(key), Algorithm::Hs256) if key.expose().is_empty() => return Err(IssuerError::EmptyKey),
            (Some(_) | None, _) => {}
        }
        if self.clients.is_empty() {
            return Err(IssuerError::NoClients);
        }
        let mut ids = HashSet::new();
        for client in &self.clients {
            let federated = self.trusted_issuers.iter().any(|it| it.subjects.values().any(|id| *id == client.id));
            client.check(federated).map_err(|problem| IssuerError::BadClient { id: client.id.clone(), problem })?;
            if !ids.insert(&client.id) {
                return Err(IssuerError::SameClientTwice(client.id.clone()));
            }
        }
        for trusted in &self.trusted_issuers {
            if let Some(unknown) = trusted.subjects.values().find(|id| !ids.contains(id)) {
                return Err(IssuerError::NoSuchClient(unknown.clone()));
            }
        }
        Ok(())
    }
}

/// The form of access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A JWT signed with RSA and SHA-256; the public key is in the JWK set.
    Rs256,
    /// A JWT signed with ECDSA on P-256; the public key is in the JWK set.
    Es256,
    /// A JWT authenticated with a shared key.
    Hs256,
    /// Random text that means something to this server only: check it by introspection.
    Opaque,
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        match text.to_ascii_lowercase().as_str() {
            "rs256" => Ok(Self::Rs256),
            "es256" => Ok(Self::Es256),
            "hs256" => Ok(Self::Hs256),
            "opaque" => Ok(Self::Opaque),
            _ => Err(UnknownAlgorithm),
        }
    }
}

/// A text that names no [`Algorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected rs256, es256, hs256 or opaque")]
pub struct UnknownAlgorithm;

/// Why there can be no such server.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The issuer identifier is not usable as one.
    #[error("issuer {0:?}: expected an http(s) URL without user, query and fragment")]
    NotAUrl(String),
    /// A key for HS256, but another algorithm.
    #[error("a key for hs256 is given, but the algorithm is another")]
    UnusedKey,
    /// A key for HS256 without a single byte.
    #[error("the key for hs256 is empty")]
    EmptyKey,
    /// Nobody could ask for a token.
    #[error("no clients")]
    NoClients,
    /// Which of the two is meant?
    #[error("client {0:?} is there twice")]
    SameClientTwice(String),
    /// A client that could never be used.
    #[error("client {id:?}: {problem}")]
    BadClient {
        /// The client's id.
        id: String,
        /// What is wrong with it, without its secret.
        problem: ClientProblem,
    },
    /// A trusted issuer vouches for nobody.
    #[error("a trusted issuer vouches for client {0:?}, which is not registered")]
    NoSuchClient(String),
    /// The CA for client certificates cannot be one.
    #[error("the CA for client certificates is not usable: {0}")]
    BadClientCa(String),
    /// The key pair cannot be generated.
    #[error("cannot make the signing key: {0}")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
}
