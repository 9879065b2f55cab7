//! What a token request is made from, read or signed anew for each: keys rotate, and an assertion is good for once.

use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::{
    config::{Assertion, AssertionAudience, Authentication, Grant, OAuth2, SigningKeySource, Subject},
    credential::{
        FetchError, FetchErrorKind,
        signing::{secret, sign, signing_key, unusable},
    },
    jose::{self, SigningKey, claims::Claims},
    secret::{Secret, SecretSource},
};

/// Everything secret in one token request.
#[derive(Debug, Default)]
pub struct Secrets {
    /// What the client proves itself by.
    pub proof: Proof,
    /// The secret parameters of the grant, in order.
    pub grant: Vec<(&'static str, Secret)>,
}

/// What the client proves itself by, beside its certificate.
#[derive(Debug, Default)]
pub enum Proof {
    /// Nothing.
    #[default]
    None,
    /// A secret, in the header or in the body as the method says.
    Secret(Secret),
    /// An assertion (RFC 7521 4.2).
    Assertion(Secret),
}

impl Secrets {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        let proof = match &self.proof {
            Proof::None => None,
            Proof::Secret(secret) | Proof::Assertion(secret) => Some(secret),
        };
        proof.into_iter().chain(self.grant.iter().map(|(_, secret)| secret))
    }

    /// The client secret, if it is sent as such.
    pub const fn client_secret(&self) -> Option<&Secret> {
        match &self.proof {
            Proof::Secret(secret) => Some(secret),
            Proof::None | Proof::Assertion(_) => None,
        }
    }
}

/// What a token request says of itself besides its secrets.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The token endpoint, whole.
    pub token_endpoint: &'a str,
    /// The issuer, where it is known.
    pub issuer: Option<&'a str>,
    /// What stands in for `refresh_token` or `subject_token`: the latest of the one, the caller's other.
    pub instead: Option<&'a Secret>,
    /// Wall-clock time.
    pub now: SystemTime,
}

/// Reads and signs what a token request needs.
///
/// # Errors
/// A secret cannot be read, a key cannot be used.
pub async fn read(config: &OAuth2, about: About<'_>) -> Result<Secrets, FetchError> {
    Ok(Secrets { proof: proof(config, about).await?, grant: grant(config, about).await? })
}

async fn proof(config: &OAuth2, about: About<'_>) -> Result<Proof, FetchError> {
    let profile = about.profile;
    match &config.authentication {
        Authentication::None | Authentication::Tls { .. } => Ok(Proof::None),
        Authentication::ClientSecretBasic(source) | Authentication::ClientSecretPost(source) => {
            secret(source, "client_secret", profile).await.map(Proof::Secret)
        }
        Authentication::Assertion(source) => one_line(source, "client_assertion", profile).await.map(Proof::Assertion),
        Authentication::SignedJwt { key, certificate_file, audience, lifetime } => {
            let name =
                if key.algorithm.is_some_and(jose::Algorithm::is_symmetric) { "client_secret" } else { "private_key" };
            let signing = signing_key(key, name, profile).await?;
            let x5t_s256 = match certificate_file {
                None => None,
                Some(path) => {
                    let pem = secret(&SecretSource::File(path.clone()), "client_certificate_file", profile).await?;
                    let thumbprint = jose::certificate_belongs_to(pem.expose(), &signing)
                        .and_then(|()| jose::certificate_thumbprint(pem.expose()));
                    Some(thumbprint.map_err(|error| unusable(&error, "client_certificate_file", profile))?)
                }
            };
            // RFC 7523 3: who asks is who signs, and the assertion is for this server alone.
            let mut claims = Claims::new(about.now, *lifetime);
            claims.iss.clone_from(&config.client_id);
            claims.sub.clone_from(&config.client_id);
            claims.aud = Some(match audience {
                AssertionAudience::Issuer => about.issuer.unwrap_or(about.token_endpoint).to_owned(),
                AssertionAudience::TokenEndpoint => about.token_endpoint.to_owned(),
                AssertionAudience::Text(text) => text.clone(),
            });
            sign(&signing, key, x5t_s256, &claims).map(Proof::Assertion)
        }
    }
}

async fn grant(config: &OAuth2, about: About<'_>) -> Result<Vec<(&'static str, Secret)>, FetchError> {
    let profile = about.profile;
    Ok(match &config.grant {
        Grant::ClientCredentials => Vec::new(),
        Grant::RefreshToken { token, .. } => {
            let token = match about.instead {
                Some(latest) => latest.clone(),
                None => one_line(token, "refresh_token", profile).await?,
            };
            vec![("refresh_token", token)]
        }
        Grant::Password { password, .. } => vec![("password", secret(password, "password", profile).await?)],
        Grant::JwtBearer(assertion) => vec![("assertion", presented(config, assertion, about).await?)],
        Grant::TokenExchange { subject, actor, .. } => {
            let subject = match (subject, about.instead) {
                (_, Some(of_caller)) => of_caller.clone(),
                (Subject::Source(source), None) => one_line(source, "subject_token", profile).await?,
                (Subject::Caller { header, .. }, None) => return Err(nobody(header, profile)),
            };
            let mut secrets = vec![("subject_token", subject)];
            if let Some((source, _)) = actor {
                secrets.push(("actor_token", one_line(source, "actor_token", profile).await?));
            }
            secrets
        }
    })
}

/// The assertion of a jwt-bearer grant.
async fn presented(config: &OAuth2, assertion: &Assertion, about: About<'_>) -> Result<Secret, FetchError> {
    let profile = about.profile;
    match assertion {
        Assertion::Given(source) => one_line(source, "assertion", profile).await,
        Assertion::Signed { key, claims: written, lifetime } => {
            let signing = signing_key(key, "private_key", profile).await?;
            let mut claims = Claims::new(about.now, *lifetime);
            claims.iss.clone_from(&config.client_id);
            claims.aud = Some(about.token_endpoint.to_owned());
            claims.extra.clone_from(written);
            sign(&signing, key, None, &claims)
        }
        Assertion::ServiceAccount { file, claims: written, lifetime } => {
            let text = secret(file, "service_account", profile).await?;
            let account = ServiceAccount::parse(&text).map_err(|problem| FetchError {
                kind: FetchErrorKind::Secret,
                detail: format!("service_account of profile {profile} is no key file of Google's: {problem}"),
                hint: "create a JSON key for the service account, and put the whole file there".to_owned(),
                retry_after: None,
            })?;
            let signing = SigningKey::parse(&account.private_key, None, None)
                .map_err(|error| unusable(&error, "service_account", profile))?;
            let mut claims = Claims::new(about.now, *lifetime);
            claims.iss = Some(account.client_email);
            claims.aud = Some(account.token_uri.unwrap_or_else(|| about.token_endpoint.to_owned()));
            claims.extra.clone_from(written);
            // Google reads the scope in the assertion, and nowhere else.
            if let Some(scope) = config.scope.as_deref() {
                claims.extra.entry("scope").or_insert_with(|| scope.into());
            }
            let key = SigningKeySource { source: file.clone(), algorithm: None, key_id: account.private_key_id };
            sign(&signing, &key, None, &claims)
        }
    }
}

/// What of a service account's file is needed.
struct ServiceAccount {
    client_email: String,
    private_key: Secret,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    fn parse(text: &Secret) -> Result<Self, String> {
        let members: Map<String, Value> = serde_json::from_str(text.expose())
            .map_err(|error| format!("no JSON object (line {}, column {})", error.line(), error.column()))?;
        let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let needed = |name: &str| text(name).ok_or_else(|| format!("it has no `{name}`"));
        Ok(Self {
            client_email: needed("client_email")?.to_owned(),
            private_key: Secret::new(needed("private_key")?),
            private_key_id: text("private_key_id").map(str::to_owned),
            token_uri: text("token_uri").map(str::to_owned),
        })
    }
}

/// A token in a file, where an editor may have put spaces and line ends around it.
async fn one_line(source: &SecretSource, key: &str, profile: &str) -> Result<Secret, FetchError> {
    Ok(Secret::new(secret(source, key, profile).await?.expose().trim()))
}

fn nobody(header: &http::HeaderName, profile: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Secret,
        detail: format!("profile {profile} exchanges the token in {header} of a request, and there is no request"),
        hint: "send a request with such a token".to_owned(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests;
