//! Who is asking? Client authentication by HTTP Basic, by body parameters, by an assertion or by certificate (RFC 6749
//! section 2.3, RFC 7523 section 2.2, RFC 8705 section 2), and never by two of them.

use std::collections::HashMap;

use axum::http::{HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    Issuer,
    assertion::{Expected, LONGEST, LONGEST_FEDERATED, Single},
    client::{AuthMethod, Client},
    error::OAuthError,
    incoming::Incoming,
    jwk::short,
    jws::{Jwt, Problem},
    settings::TrustedIssuer,
};
use crate::secret::Secret;

/// The registered clients.
pub(super) struct Clients(HashMap<String, Client>);

impl Clients {
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self(clients.into_iter().map(|client| (client.id.clone(), client)).collect())
    }

    pub(super) fn get(&self, id: &str) -> Option<&Client> {
        self.0.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.0.values()
    }

    /// Every scope that some client may have, sorted.
    pub(super) fn scopes(&self) -> Vec<&str> {
        let mut scopes: Vec<&str> = self.0.values().flat_map(|client| &client.scopes).map(String::as_str).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}

/// What a client presented. Without a check, nothing in it is true.
pub(super) struct Credentials<'a> {
    pub(super) id: String,
    proof: Proof<'a>,
}

enum Proof<'a> {
    Secret {
        method: AuthMethod,
        secret: Secret,
        /// Id and secret of HTTP Basic before form-decoding.
        raw: Option<(String, Secret)>,
    },
    /// The client's own assertion.
    Assertion(Jwt<'a>),
    /// An assertion of somebody who vouches for it.
    Federated(Jwt<'a>, &'a TrustedIssuer),
    /// Only its id: by certificate, or a public client.
    Nothing,
}

impl Credentials<'_> {
    /// Whether there is an id alone.
    pub(super) const fn is_bare(&self) -> bool {
        matches!(self.proof, Proof::Nothing)
    }
}

impl Issuer {
    /// What the request says about who sends it. None: nothing at all.
    pub(super) fn credentials<'a>(&'a self, incoming: &'a Incoming) -> Result<Option<Credentials<'a>>, OAuthError> {
        let parameters = &incoming.parameters;
        let mut values = incoming.headers.get_all(header::AUTHORIZATION).iter();
        let authorization = values.next();
        if values.next().is_some() {
            return Err(OAuthError::invalid_request("More than one Authorization header"));
        }
        let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
        let assertion = parameters.get("client_assertion");
        if [authorization.is_some(), secret.is_some(), assertion.is_some()].into_iter().filter(|it| *it).count() > 1 {
            return Err(OAuthError::invalid_request(MORE_THAN_ONE));
        }
        if let Some(assertion) = assertion {
            return self.read_assertion(assertion, parameters.get("client_assertion_type"), id).map(Some);
        }
        if parameters.get("client_assertion_type").is_some() {
            return Err(OAuthError::invalid_request("client_assertion_type without a client_assertion"));
        }
        if let Some(authorization) = authorization {
            let credentials = from_basic(authorization)?;
            if id.is_some_and(|id| id != credentials.id) {
                return Err(OAuthError::invalid_request("client_id is another than that of the Authorization header"));
            }
            return Ok(Some(credentials));
        }
        match (id, secret) {
            (Some(id), Some(secret)) => {
                let method = AuthMethod::ClientSecretPost;
                let proof = Proof::Secret { method, secret: Secret::new(secret), raw: None };
                Ok(Some(Credentials { id: id.to_owned(), proof }))
            }
            (Some(id), None) => Ok(Some(Credentials { id: id.to_owned(), proof: Proof::Nothing })),
            (None, Some(_)) => Err(OAuthError::invalid_client("Missing client_id parameter")),
            (None, None) => Ok(None),
        }
    }

    fn read_assertion<'a>(
        &'a self,
        assertion: &'a str,
        kind: Option<&str>,
        id: Option<&str>,
    ) -> Result<Credentials<'a>, OAuthError> {
        match kind {
            None => return Err(OAuthError::invalid_request("Missing client_assertion_type parameter")),
            Some(JWT_BEARER) => {}
            Some(other) => {
                let text = format!("client_assertion_type is {}, expected {JWT_BEARER}", short(other));
                return Err(OAuthError::invalid_client(text));
            }
        }
        let refused = |problem: String| OAuthError::invalid_client(format!("client_assertion: {problem}"));
        let jwt = Jwt::parse(assertion).map_err(|problem| refused(problem.0))?;
        let claim = |name: &str| match jwt.text(name) {
            Some(text) => Ok(text.to_owned()),
            None => Err(refused(format!("{name} is missing, or no string"))),
        };
        let (iss, sub) = (claim("iss")?, claim("sub")?);
        let other = |client_id: &str| id.is_some_and(|id| id != client_id);
        if let Some(trusted) = self.trusted(&iss) {
            let Some(client_id) = trusted.subjects.get(&sub) else {
                return Err(refused(format!("sub {} of {iss} stands for no registered client", short(&sub))));
            };
            if other(client_id) {
                return Err(refused(format!("sub {} stands for another client than client_id", short(&sub))));
            }
            return Ok(Credentials { id: client_id.clone(), proof: Proof::Federated(jwt, trusted) });
        }
        if iss != sub {
            let (iss, sub) = (short(&iss), short(&sub));
            return Err(refused(format!("iss is {iss} and sub is {sub}; both must be the client_id")));
        }
        if other(&sub) {
            return Err(refused(format!("it is that of client {}, and client_id is another", short(&sub))));
        }
        Ok(Credentials { id: sub, proof: Proof::Assertion(jwt) })
    }

    /// The client that the request is of, and how it proved that.
    pub(super) fn authenticate(
        &self,
        incoming: &Incoming,
        credentials: Option<Credentials<'_>>,
    ) -> Result<(&Client, AuthMethod), OAuthError> {
        let Some(Credentials { id, proof }) = credentials else {
            return Err(OAuthError::invalid_client(
                "No client authentication: send HTTP Basic, or client_id and client_secret in the body, or a \
                 client_assertion, or client_id and a certificate",
            ));
        };
        let client = self.clients.get(&id);
        match proof {
            Proof::Secret { method, secret, raw } => self.by_secret(client, method, &secret, raw.as_ref()),
            Proof::Assertion(jwt) => {
                let known = client.ok_or_else(|| {
                    refused(format!("iss {} is neither a registered client nor a trusted issuer", short(&id)))
                })?;
                self.by_assertion(known, &jwt, incoming).map_err(|problem| refused(problem.0))
            }
            Proof::Federated(jwt, trusted) => {
                let known =
                    client.ok_or_else(|| refused("it stands for a client that is not registered".to_owned()))?;
                self.by_federation(known, &jwt, trusted, incoming).map_err(|problem| refused(problem.0))
            }
            Proof::Nothing => self.by_id(client, incoming),
        }
    }

    fn by_secret<'a>(
        &'a self,
        client: Option<&'a Client>,
        method: AuthMethod,
        presented: &Secret,
        raw: Option<&(String, Secret)>,
    ) -> Result<(&'a Client, AuthMethod), OAuthError> {
        // An unknown client costs the same comparison as a known one.
        let registered = client.and_then(|client| client.secret.as_ref()).map_or("", Secret::expose);
        let matches = same(registered, presented.expose()) && !registered.is_empty();
        match client {
            Some(client) if !client.methods.contains(&method) && (matches || client.secret.is_none()) => {
                let (name, registered) = (method.name(), client.method_names());
                let text = format!("This is {name}, but the client is registered for {registered}");
                Err(OAuthError::invalid_client(text))
            }
            Some(client) if matches => Ok((client, method)),
            Some(_) | None if self.meant_raw(raw) => Err(OAuthError::invalid_client(
                "Client authentication failed: id and secret were not form-encoded before base64 (RFC 6749 2.3.1)",
            )),
            Some(_) | None => Err(OAuthError::invalid_client("Client authentication failed")),
        }
    }

    /// Whether Basic credentials are right, but were sent without the encoding that RFC 6749 asks for.
    fn meant_raw(&self, raw: Option<&(String, Secret)>) -> bool {
        let Some((id, presented)) = raw else { return false };
        let registered = self.clients.get(id).and_then(|client| client.secret.as_ref());
        registered.is_some_and(|secret| same(secret.expose(), presented.expose()))
    }

    fn by_assertion<'a>(
        &self,
        client: &'a Client,
        jwt: &Jwt<'_>,
        incoming: &Incoming,
    ) -> Result<(&'a Client, AuthMethod), Problem> {
        let method = if jwt.alg.is_symmetric() { AuthMethod::ClientSecretJwt } else { AuthMethod::PrivateKeyJwt };
        let alg = jwt.alg.as_str();
        if !client.methods.contains(&method) {
            let (name, registered) = (method.name(), client.method_names());
            return Err(Problem(format!("alg {alg} is {name}, but the client is registered for {registered}")));
        }
        if let Some(only) = client.signing_algorithm.as_ref().filter(|only| *only != alg) {
            return Err(Problem(format!("alg is {alg}, and the client is registered for {only}")));
        }
        match &client.secret {
            Some(secret) if method == AuthMethod::ClientSecretJwt => jwt.verify_shared(secret)?,
            _ if client.keys.is_empty() => {
                return Err(Problem(
                    "the client has no keys of its own: a trusted issuer has to vouch for it".to_owned(),
                ));
            }
            _ => jwt.verify(&client.keys)?,
        }
        let audiences = self.audiences(incoming);
        self.check_claims(jwt, &Expected { audiences: &audiences, longest: LONGEST, jti: Single::Required })?;
        Ok((client, method))
    }

    fn by_federation<'a>(
        &self,
        client: &'a Client,
        jwt: &Jwt<'_>,
        trusted: &TrustedIssuer,
        incoming: &Incoming,
    ) -> Result<(&'a Client, AuthMethod), Problem> {
        if !client.methods.contains(&AuthMethod::PrivateKeyJwt) {
            let registered = client.method_names();
            return Err(Problem(format!("it stands for a client that is registered for {registered}")));
        }
        jwt.verify(&trusted.keys)?;
        let mut audiences = self.audiences(incoming);
        audiences.extend(trusted.audiences.iter().cloned());
        self.check_claims(jwt, &Expected { audiences: &audiences, longest: LONGEST_FEDERATED, jti: Single::Never })?;
        Ok((client, AuthMethod::PrivateKeyJwt))
    }

    /// A client that sends its id alone: public, or with a certificate.
    fn by_id<'a>(
        &self,
        client: Option<&'a Client>,
        incoming: &Incoming,
    ) -> Result<(&'a Client, AuthMethod), OAuthError> {
        let missing = || OAuthError::invalid_client("Missing client_secret parameter");
        let client = client.ok_or_else(missing)?;
        if client.is_public() {
            return Ok((client, AuthMethod::None));
        }
        let by_certificate = [AuthMethod::TlsClientAuth, AuthMethod::SelfSignedTlsClientAuth];
        match by_certificate.into_iter().find(|method| client.methods.contains(method)) {
            Some(method) => match self.check_certificate(client, method, &incoming.peer) {
                Ok(()) => Ok((client, method)),
                Err(what) => Err(OAuthError::invalid_client(format!("{}: {what}", method.name()))),
            },
            None if client.methods.contains(&AuthMethod::ClientSecretPost) => Err(missing()),
            None => {
                let registered = client.method_names();
                Err(OAuthError::invalid_client(format!(
                    "Only a client_id, but the client is registered for {registered}"
                )))
            }
        }
    }

    /// What `aud` of an assertion may be: the issuer first, then the token endpoint and the endpoint itself.
    pub(super) fn audiences(&self, incoming: &Incoming) -> Vec<String> {
        let bases = self.bases_of(&incoming.tenant);
        let token_endpoints = bases.iter().map(|base| format!("{base}/oauth/token"));
        let mut audiences = vec![self.identifier_of(&incoming.tenant)];
        for url in token_endpoints.chain(incoming.urls.iter().cloned()) {
            if !audiences.contains(&url) {
                audiences.push(url);
            }
        }
        audiences
    }

    pub(super) fn trusted(&self, iss: &str) -> Option<&TrustedIssuer> {
        self.trusted_issuers.iter().find(|trusted| trusted.issuer == iss)
    }
}

fn refused(problem: String) -> OAuthError {
    OAuthError::invalid_client(format!("client_assertion: {problem}"))
}

fn from_basic<'a>(authorization: &HeaderValue) -> Result<Credentials<'a>, OAuthError> {
    let malformed = || OAuthError::invalid_client("Malformed Authorization header: no base64 of ID:SECRET");
    let text = authorization.to_str().map_err(|_| malformed())?;
    let (scheme, encoded) = text.trim().split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(OAuthError::invalid_client("The Authorization scheme must be Basic"));
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| malformed())?;
    let decoded = Secret::new(String::from_utf8(decoded).map_err(|_| malformed())?);
    let (id, secret) = decoded.expose().split_once(':').ok_or_else(malformed)?;
    let proof = Proof::Secret {
        method: AuthMethod::ClientSecretBasic,
        secret: Secret::new(form_decode(secret)),
        raw: Some((id.to_owned(), Secret::new(secret))),
    };
    Ok(Credentials { id: form_decode(id), proof })
}

/// Decodes one value of `application/x-www-form-urlencoded`. The separators of a whole form mean nothing in it.
fn form_decode(value: &str) -> String {
    let value = value.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(value.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// Compares in a time that depends neither on where two texts differ nor on their lengths.
pub(super) fn same(left: &str, right: &str) -> bool {
    Sha256::digest(left).ct_eq(&Sha256::digest(right)).into()
}

const MORE_THAN_ONE: &str = "More than one way of client authentication in one request";

/// RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
