//! `token_endpoint_auth_method`: who asks, and what it proves itself by.

use super::{
    super::super::Check,
    grant::{ASSERTION_LIFETIME, GrantType},
};
use crate::{
    config::{AssertionAudience, Authentication, SigningKeySource, file::ProfileTable, read::At},
    jose::Algorithm,
    secret::SecretSource,
};

impl Check<'_, '_> {
    /// Who asks. Where `token_endpoint_auth_method` is not written, it follows from what is.
    pub(super) fn authentication(
        &mut self,
        grant_type: GrantType,
        has_issuer: bool,
        place: &At<()>,
        table: &mut ProfileTable,
    ) -> Option<Authentication> {
        use AuthMethod as M;
        let by_assertion = matches!(grant_type, GrantType::JwtBearer | GrantType::TokenExchange);
        let method = match table.token_endpoint_auth_method.take() {
            Some(at) => self.auth_method(at)?,
            None if table.client_assertion.is_some() => M::PrivateKeyJwt,
            None if table.private_key.is_some() && grant_type != GrantType::JwtBearer => M::PrivateKeyJwt,
            None if table.client_secret.is_none() && by_assertion => M::None,
            None => M::ClientSecretBasic,
        };
        let by_secret = matches!(method, M::ClientSecretBasic | M::ClientSecretPost | M::ClientSecretJwt);
        let by_key = method == M::PrivateKeyJwt;
        let by_tls = matches!(method, M::Tls | M::SelfSignedTls);
        if !by_secret {
            self.only_with([table.client_secret.as_ref().map(At::place)], "client_secret_basic, _post and _jwt");
        }
        if !by_key {
            let keys = [table.client_assertion.as_ref().map(At::place)];
            self.only_with(keys, "token_endpoint_auth_method = \"private_key_jwt\"");
        }
        if !by_key && grant_type != GrantType::JwtBearer {
            let keys = [table.private_key.as_ref().map(At::place), table.key_id.as_ref().map(At::place)];
            self.only_with(keys, "token_endpoint_auth_method = \"private_key_jwt\", and the jwt-bearer grant");
        }
        if !by_key && !by_tls {
            let keys = [table.client_certificate_file.as_ref().map(At::place)];
            self.only_with(keys, "private_key_jwt, tls_client_auth and self_signed_tls_client_auth");
        }
        if !by_tls {
            let keys = [table.client_key_file.as_ref().map(At::place)];
            self.only_with(keys, "tls_client_auth and self_signed_tls_client_auth");
        }
        if !by_key && method != M::ClientSecretJwt {
            let keys = [table.client_assertion_audience.as_ref().map(At::place)];
            self.only_with(keys, "private_key_jwt and client_secret_jwt");
        }
        match method {
            M::None => Some(Authentication::None),
            M::ClientSecretBasic => self.client_secret(place, table).map(Authentication::ClientSecretBasic),
            M::ClientSecretPost => self.client_secret(place, table).map(Authentication::ClientSecretPost),
            M::ClientSecretJwt => {
                let algorithm = self.algorithm(table, true).unwrap_or(Algorithm::Hs256);
                let source = self.client_secret(place, table)?;
                let key = SigningKeySource { source, algorithm: Some(algorithm), key_id: None };
                Some(self.signed_jwt(key, has_issuer, table))
            }
            M::PrivateKeyJwt => match table.client_assertion.take() {
                Some(at) => {
                    let keys = [
                        table.private_key.as_ref().filter(|_| grant_type != GrantType::JwtBearer).map(At::place),
                        table.client_certificate_file.as_ref().map(At::place),
                        table.client_assertion_audience.as_ref().map(At::place),
                    ];
                    self.only_with(keys, "an assertion that lanyard signs, and client_assertion is one that is there");
                    self.secret(at).map(Authentication::Assertion)
                }
                None if table.private_key.is_none() => {
                    let hint = "write private_key = { file = \"/run/secrets/...\" }, \
                                or client_assertion = { file = ... } for one that is made elsewhere";
                    self.missing(place, "private_key", hint);
                    None
                }
                None => {
                    let key = self.signing_key(table)?;
                    Some(self.signed_jwt(key, has_issuer, table))
                }
            },
            M::Tls | M::SelfSignedTls => {
                let certificate = "client_certificate_file = \"/run/secrets/tls/tls.crt\"";
                let certificate = self.required(place, table.client_certificate_file.take(), certificate);
                let key = self.required(
                    place,
                    table.client_key_file.take(),
                    "client_key_file = \"/run/secrets/tls/tls.key\"",
                );
                let certificate = certificate.and_then(|at| self.readable_file(&at));
                let key = key.and_then(|at| self.readable_file(&at));
                let self_signed = method == M::SelfSignedTls;
                Some(Authentication::Tls { self_signed, certificate_file: certificate?, key_file: key? })
            }
        }
    }

    fn auth_method(&mut self, at: At<String>) -> Option<AuthMethod> {
        let choices = [
            ("client_secret_basic", AuthMethod::ClientSecretBasic),
            ("client_secret_post", AuthMethod::ClientSecretPost),
            ("client_secret_jwt", AuthMethod::ClientSecretJwt),
            ("private_key_jwt", AuthMethod::PrivateKeyJwt),
            ("tls_client_auth", AuthMethod::Tls),
            ("self_signed_tls_client_auth", AuthMethod::SelfSignedTls),
            ("none", AuthMethod::None),
        ];
        self.choice(Some(at), &choices)
    }

    fn client_secret(&mut self, place: &At<()>, table: &mut ProfileTable) -> Option<SecretSource> {
        let hint = "client_secret = { file = \"/run/secrets/...\" }, or token_endpoint_auth_method for a client that proves \
                    itself by something else (\"none\": by nothing)";
        let at = self.required(place, table.client_secret.take(), hint)?;
        self.secret(at)
    }

    fn signed_jwt(&mut self, key: SigningKeySource, has_issuer: bool, table: &mut ProfileTable) -> Authentication {
        let audience = match table.client_assertion_audience.take() {
            None if has_issuer => AssertionAudience::Issuer,
            None => AssertionAudience::TokenEndpoint,
            Some(at) => match at.value.as_str() {
                "issuer" => {
                    if !has_issuer {
                        self.reader.error(
                            &at,
                            "the issuer is not known",
                            "write issuer = \"https://...\" too, or the text itself",
                        );
                    }
                    AssertionAudience::Issuer
                }
                "token_endpoint" => AssertionAudience::TokenEndpoint,
                _ => AssertionAudience::Text(self.not_empty(&at).unwrap_or_default()),
            },
        };
        let certificate_file = table.client_certificate_file.take().and_then(|at| self.readable_file(&at));
        let lifetime = self.positive(table.assertion_lifetime.as_ref(), ASSERTION_LIFETIME);
        Authentication::SignedJwt { key, certificate_file, audience, lifetime }
    }

    /// `private_key`, which is there, with what says how it signs.
    pub(in crate::config::resolve::profile) fn signing_key(
        &mut self,
        table: &ProfileTable,
    ) -> Option<SigningKeySource> {
        let algorithm = self.algorithm(table, false);
        let source = self.secret(table.private_key.clone()?)?;
        let key_id = table.key_id.as_ref().and_then(|at| self.not_empty(at));
        Some(SigningKeySource { source, algorithm, key_id })
    }

    /// The algorithm that is written, by either of its keys.
    pub(in crate::config::resolve::profile) fn algorithm(
        &mut self,
        table: &ProfileTable,
        symmetric: bool,
    ) -> Option<Algorithm> {
        let at = table.token_endpoint_auth_signing_alg.as_ref().or(table.signing_alg.as_ref())?;
        let names: Vec<&'static str> =
            Algorithm::ALL.into_iter().filter(|one| one.is_symmetric() == symmetric).map(Algorithm::as_str).collect();
        let found = Algorithm::ALL.into_iter().find(|one| one.as_str() == at.value && one.is_symmetric() == symmetric);
        if found.is_none() {
            let hint = format!("write one of: \"{}\"", names.join("\", \""));
            self.reader.error(at, format!("{:?} does not sign with such a key", at.value), hint);
        }
        found
    }
}

/// Whether who asks cannot be told without a `client_id`.
pub(super) fn needs_client_id(authentication: &Authentication, grant_type: Option<GrantType>) -> bool {
    match authentication {
        Authentication::None => !matches!(grant_type, Some(GrantType::JwtBearer | GrantType::TokenExchange)),
        Authentication::Assertion(_) => false,
        Authentication::ClientSecretBasic(_)
        | Authentication::ClientSecretPost(_)
        | Authentication::SignedJwt { .. }
        | Authentication::Tls { .. } => true,
    }
}

/// `token_endpoint_auth_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthMethod {
    None,
    ClientSecretBasic,
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
    Tls,
    SelfSignedTls,
}
