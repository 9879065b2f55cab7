//! What is of one kind of profile, without its secrets.

use serde_json::{Map, Value, json};
use url::Url;

use super::{REDACTED, duration, egress, secret};
use crate::config::{
    Assertion, AssertionAudience, Authentication, AwsCredentials, AwsSigV4, AzureManagedIdentity, CaBundle,
    CredentialKind, GitHubApp, GoogleMetadata, Grant, OAuth2, Payload, Placement, RequestFormat, SignedJwt,
    SigningKeySource, Static, Subject,
};

/// The keys of a profile that its kind has.
pub(super) fn of(kind: &CredentialKind, placement: &Placement) -> Map<String, Value> {
    let value = match kind {
        CredentialKind::OAuth2(keys) => return oauth2(keys),
        CredentialKind::Static(Static::Secret { secret: source, template }) => match placement {
            // Behind a prefix it is what `bearer` says in fewer words.
            Placement::Header { prefix, .. } if !prefix.is_empty() && template == PLACEHOLDER => {
                json!({ "type": "bearer", "token": secret(source) })
            }
            Placement::Query { .. } => json!({ "type": "query", "secret": secret(source), "template": template }),
            Placement::Header { .. } | Placement::Signature { .. } => {
                json!({ "type": "header", "secret": secret(source), "template": template })
            }
        },
        CredentialKind::Static(Static::Basic { username, password }) => {
            json!({ "type": "basic", "username": username, "password": secret(password) })
        }
        CredentialKind::Jwt(keys) => jwt(keys),
        CredentialKind::File(file) => json!({ "type": "file", "path": file.path.display().to_string() }),
        CredentialKind::Exec(exec) => json!({
            "type": "exec",
            // Arguments may be secrets; the program is enough to find it.
            "command": exec.command.iter().take(1).collect::<Vec<_>>(),
            "arguments": exec.command.len().saturating_sub(1),
            "environment": names(exec.environment.iter().map(|(name, _)| name.as_str())),
            "timeout": duration(exec.timeout),
        }),
        CredentialKind::GitHubApp(keys) => github_app(keys),
        CredentialKind::GoogleMetadata(keys) => google_metadata(keys),
        CredentialKind::AzureManagedIdentity(keys) => azure(keys),
        CredentialKind::AwsSigV4(keys) => aws(keys),
    };
    map(value)
}

fn oauth2(keys: &OAuth2) -> Map<String, Value> {
    let mut all = map(json!({
        "grant_type": keys.grant.as_str(),
        "issuer": keys.endpoint.issuer.as_ref().map(|issuer| issuer.text.as_str()),
        "token_endpoint": keys.endpoint.token_endpoint.as_ref().map(url),
        "token_endpoint_auth_method": keys.authentication.as_str(),
        "client_id": keys.client_id,
        "scope": keys.scope,
        "audience": keys.audience,
        "resource": keys.resource,
        // Free parameters and header fields can be credentials of their own: their names are enough.
        "params": names(keys.params.iter().map(|(name, _)| name.as_str())),
        "headers": names(keys.headers.iter().map(|(name, _)| name.as_str())),
        "request_format": match keys.request_format { RequestFormat::Form => "form", RequestFormat::Json => "json" },
        "dpop": keys.dpop.is_some(),
        "ca_file": bundle(keys.ca_file.as_ref()),
        "timeout": duration(keys.timeout),
        "egress_proxy": egress(&keys.egress_proxy),
    }));
    if let Some(source) = keys.dpop.as_ref().and_then(|dpop| dpop.key.as_ref()) {
        all.insert("dpop_key".to_owned(), secret(source));
    }
    all.extend(authentication(&keys.authentication));
    all.extend(grant(&keys.grant));
    all
}

fn authentication(authentication: &Authentication) -> Map<String, Value> {
    match authentication {
        Authentication::None => Map::new(),
        Authentication::ClientSecretBasic(source) | Authentication::ClientSecretPost(source) => {
            map(json!({ "client_secret": secret(source) }))
        }
        Authentication::Assertion(source) => map(json!({ "client_assertion": secret(source) })),
        Authentication::SignedJwt { key, certificate_file, audience, lifetime } => {
            let name =
                if key.algorithm.is_some_and(|one| one.is_symmetric()) { "client_secret" } else { "private_key" };
            let mut all = signing(key, name, "token_endpoint_auth_signing_alg");
            all.extend(map(json!({
                "client_certificate_file": certificate_file.as_ref().map(|path| path.display().to_string()),
                "client_assertion_audience": match audience {
                    AssertionAudience::Issuer => "issuer",
                    AssertionAudience::TokenEndpoint => "token_endpoint",
                    AssertionAudience::Text(text) => text,
                },
                "assertion_lifetime": duration(*lifetime),
            })));
            all
        }
        Authentication::Tls { certificate_file, key_file, .. } => map(json!({
            "client_certificate_file": certificate_file.display().to_string(),
            "client_key_file": key_file.display().to_string(),
        })),
    }
}

fn grant(grant: &Grant) -> Map<String, Value> {
    match grant {
        Grant::ClientCredentials => Map::new(),
        Grant::RefreshToken { token, state_file } => map(json!({
            "refresh_token": secret(token),
            "refresh_token_state_file": state_file.as_ref().map(|path| path.display().to_string()),
        })),
        Grant::Password { username, password } => map(json!({ "username": username, "password": secret(password) })),
        Grant::JwtBearer(Assertion::Given(source)) => map(json!({ "assertion": secret(source) })),
        Grant::JwtBearer(Assertion::Caller { header, max_subjects }) => {
            map(json!({ "assertion": { "header": header.as_str() }, "max_subjects": max_subjects }))
        }
        Grant::JwtBearer(Assertion::Signed { key, claims, lifetime }) => {
            let mut all = signing(key, "private_key", "token_endpoint_auth_signing_alg");
            all.insert("claims".to_owned(), claim_names(claims));
            all.insert("assertion_lifetime".to_owned(), duration(*lifetime));
            all
        }
        Grant::JwtBearer(Assertion::ServiceAccount { file, claims, lifetime }) => map(json!({
            "service_account": secret(file),
            "claims": claim_names(claims),
            "assertion_lifetime": duration(*lifetime),
        })),
        Grant::TokenExchange { subject, subject_token_type, actor, requested_token_type } => {
            let (subject, max_subjects) = match subject {
                Subject::Source(source) => (secret(source), None),
                Subject::Caller { header, max_subjects } => (json!({ "header": header.as_str() }), Some(max_subjects)),
            };
            map(json!({
                "subject_token": subject,
                "subject_token_type": subject_token_type,
                "max_subjects": max_subjects,
                "actor_token": actor.as_ref().map(|(source, _)| secret(source)),
                "actor_token_type": actor.as_ref().map(|(_, kind)| kind),
                "requested_token_type": requested_token_type,
            }))
        }
    }
}

fn jwt(keys: &SignedJwt) -> Value {
    let name = if keys.key.algorithm.is_some_and(|one| one.is_symmetric()) { "secret" } else { "private_key" };
    let mut all = signing(&keys.key, name, "signing_alg");
    all.insert("type".to_owned(), json!("jwt"));
    all.insert("claims".to_owned(), claim_names(&keys.claims));
    all.insert("token_lifetime".to_owned(), duration(keys.token_lifetime));
    Value::Object(all)
}

fn github_app(keys: &GitHubApp) -> Value {
    json!({
        "type": "github_app",
        "client_id": keys.client_id,
        "installation_id": keys.installation_id,
        "private_key": secret(&keys.key.source),
        "repositories": keys.repositories,
        "permissions": keys.permissions.iter().map(|(name, level)| (name.clone(), json!(level))).collect::<Map<_, _>>(),
        "api": url(&keys.api),
        "ca_file": bundle(keys.ca_file.as_ref()),
        "timeout": duration(keys.timeout),
        "egress_proxy": egress(&keys.egress_proxy),
    })
}

fn google_metadata(keys: &GoogleMetadata) -> Value {
    json!({
        "type": "google_metadata",
        "account": keys.account,
        "scope": keys.scope,
        "audience": keys.audience,
        "metadata_endpoint": keys.metadata_endpoint.as_ref().map(url),
        "timeout": duration(keys.timeout),
    })
}

fn azure(keys: &AzureManagedIdentity) -> Value {
    json!({
        "type": "azure_managed_identity",
        "resource": keys.resource,
        "client_id": keys.client_id,
        "metadata_endpoint": keys.metadata_endpoint.as_ref().map(url),
        "timeout": duration(keys.timeout),
    })
}

fn aws(keys: &AwsSigV4) -> Value {
    let mut all = map(json!({
        "type": "aws_sigv4",
        "region": keys.region,
        "service": keys.service,
        "payload": match keys.payload { Payload::Auto => "auto", Payload::Unsigned => "unsigned" },
        "timeout": duration(keys.timeout),
    }));
    all.extend(map(match &keys.credentials {
        AwsCredentials::Keys { access_key_id, secret_access_key, session_token } => json!({
            "access_key_id": access_key_id,
            "secret_access_key": secret(secret_access_key),
            "session_token": session_token.as_ref().map(secret),
        }),
        AwsCredentials::Environment => json!({ "credentials": "environment" }),
        AwsCredentials::File { path, profile } => json!({
            "credentials": "file",
            "credentials_file": path.display().to_string(),
            "credentials_profile": profile,
        }),
        AwsCredentials::Container(endpoint) => {
            json!({ "credentials": "container", "metadata_endpoint": endpoint.as_ref().map(url) })
        }
        AwsCredentials::Imds(endpoint) => {
            json!({ "credentials": "imds", "metadata_endpoint": endpoint.as_ref().map(url) })
        }
    }));
    Value::Object(all)
}

/// A key that signs, by the names that it has in this profile.
fn signing(key: &SigningKeySource, name: &str, algorithm: &str) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert(name.to_owned(), secret(&key.source));
    all.insert(algorithm.to_owned(), json!(key.algorithm.map(crate::jose::Algorithm::as_str)));
    all.insert("key_id".to_owned(), json!(key.key_id));
    all
}

/// Names whose values are nobody's business.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    Value::Object(names.map(|name| (name.to_owned(), json!(REDACTED))).collect())
}

/// Claims that name people and keys are shown by name alone.
fn claim_names(claims: &Map<String, Value>) -> Value {
    names(claims.keys().map(String::as_str))
}

/// A URL whose query, which may hold a key, is not shown.
fn url(url: &Url) -> String {
    let mut url = url.clone();
    if url.query().is_some() {
        url.set_query(Some("redacted"));
    }
    url.into()
}

fn bundle(bundle: Option<&CaBundle>) -> Option<String> {
    bundle.map(|bundle| bundle.path.display().to_string())
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The template of a secret that stands alone.
const PLACEHOLDER: &str = "{secret}";
