use super::*;
use crate::{
    config::{AuthMethod, GrantType, RequestFormat},
    secret::{Secret, SecretSource},
};

/// The settings of a profile that says only what it must.
pub(crate) fn oauth2(endpoint: &str) -> OAuth2 {
    OAuth2 {
        grant_type: GrantType::ClientCredentials,
        token_endpoint: Url::parse(endpoint).unwrap(),
        token_endpoint_auth_method: AuthMethod::ClientSecretBasic,
        client_id: "client".to_owned(),
        client_secret: SecretSource::Literal(Secret::new("canary-secret")),
        scope: None,
        audience: None,
        resource: Vec::new(),
        params: Vec::new(),
        headers: Vec::new(),
        request_format: RequestFormat::Form,
        ca_file: None,
        timeout: Duration::from_secs(5),
        egress_proxy: None,
    }
}
