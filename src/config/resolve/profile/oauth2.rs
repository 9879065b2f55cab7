//! The keys of OAuth2 profiles.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::Map;
use url::Url;

use super::super::{Check, shown};
use crate::{
    config::{
        Assertion, AssertionAudience, Authentication, Dpop, Endpoint, Grant, Issuer, OAuth2, RequestFormat, Scheme,
        SigningKeySource, Subject,
        file::ProfileTable,
        read::{At, StringOrList, StringTable, SubjectValue},
    },
    jose::Algorithm,
    route::pattern::Host,
    secret::SecretSource,
};

impl Check<'_, '_> {
    pub(super) fn oauth2(&mut self, place: &At<()>, mut table: ProfileTable) -> Option<OAuth2> {
        let is_google = table.service_account.is_some();
        // Before it is taken: an assertion is for it.
        let has_issuer = table.issuer.is_some();
        let endpoint = self.endpoint(place, &mut table, is_google);
        let grant_type = self.grant_type(table.grant_type.take());
        // What a grant does not have is told once the grant is known.
        let grant = grant_type.and_then(|grant_type| self.grant(grant_type, place, &mut table));
        let authentication =
            self.authentication(grant_type.unwrap_or(GrantType::ClientCredentials), has_issuer, place, &mut table);
        let client_id = match (table.client_id, &authentication) {
            (Some(at), _) => self.not_empty(&at).map(Some),
            (None, Some(authentication)) if !needs_client_id(authentication, grant_type) => Some(None),
            (None, _) => {
                self.missing(place, "client_id", "write client_id = \"...\"");
                None
            }
        };
        let scope = table.scope.and_then(|at| self.scope(&at));
        let audience = table.audience.and_then(|at| self.not_empty(&at));
        let resource = table.resource.map(|at| self.resources(&at)).unwrap_or_default();
        let params = table.params.map(|at| self.params(at)).unwrap_or_default();
        let headers = table.headers.map(|at| self.headers(&at)).unwrap_or_default();
        let formats = [("form", RequestFormat::Form), ("json", RequestFormat::Json)];
        let request_format = self.choice(table.request_format, &formats).unwrap_or(RequestFormat::Form);
        let dpop = match (table.dpop, table.dpop_key) {
            (Some(off), Some(key)) if !off.value => {
                self.reader.error(&key, "`dpop_key` and `dpop = false`", "remove one of them");
                None
            }
            (_, Some(key)) => self.secret(key).map(|key| Dpop { key: Some(key) }),
            (Some(on), None) if on.value => Some(Dpop { key: None }),
            (_, None) => None,
        };
        let ca_file = table.ca_file.and_then(|at| self.ca_bundle(&at));
        let place_of_proxy = table.egress_proxy.as_ref().map_or_else(|| place.place(), At::place);
        let egress_proxy = self.egress(table.egress_proxy);
        if let Some(url) = endpoint.as_ref().and_then(Endpoint::first) {
            let scheme = if url.scheme() == "http" { Scheme::Http } else { Scheme::Https };
            self.loopback_goes_directly(&place_of_proxy, &egress_proxy, scheme, url.host_str().unwrap_or_default());
        }
        let timeout = self.positive(table.timeout.as_ref(), Duration::from_secs(10));
        Some(OAuth2 {
            grant: grant?,
            endpoint: endpoint?,
            client_id: client_id?,
            authentication: authentication?,
            scope,
            audience,
            resource,
            params,
            headers,
            request_format,
            dpop,
            ca_file,
            timeout,
            egress_proxy,
        })
    }

    fn grant_type(&mut self, at: Option<At<String>>) -> Option<GrantType> {
        let Some(at) = at else { return Some(GrantType::ClientCredentials) };
        if at.value == "authorization_code" {
            let hint =
                "it needs a person and a browser: log in once by other means, and use grant_type = \"refresh_token\"";
            self.reader.error(&at, "\"authorization_code\"", hint);
            return None;
        }
        let choices = [
            ("client_credentials", GrantType::ClientCredentials),
            ("refresh_token", GrantType::RefreshToken),
            ("password", GrantType::Password),
            ("urn:ietf:params:oauth:grant-type:jwt-bearer", GrantType::JwtBearer),
            ("urn:ietf:params:oauth:grant-type:token-exchange", GrantType::TokenExchange),
        ];
        self.choice(Some(at), &choices)
    }

    /// The grant with what it needs; keys of other grants are reported.
    fn grant(&mut self, grant_type: GrantType, place: &At<()>, table: &mut ProfileTable) -> Option<Grant> {
        use GrantType as G;
        fn of<T>(at: Option<&At<T>>) -> Option<At<()>> {
            at.map(At::place)
        }
        if grant_type != G::RefreshToken {
            let keys = [of(table.refresh_token.as_ref()), of(table.refresh_token_state_file.as_ref())];
            self.only_with(keys, "grant_type = \"refresh_token\"");
        }
        if grant_type != G::Password {
            self.only_with(
                [of(table.username.as_ref()), of(table.password.as_ref())],
                "grant_type = \"password\", and type = \"basic\"",
            );
        }
        if grant_type != G::JwtBearer {
            let keys = [of(table.assertion.as_ref()), of(table.claims.as_ref()), of(table.service_account.as_ref())];
            self.only_with(keys, "grant_type = \"urn:ietf:params:oauth:grant-type:jwt-bearer\"");
        }
        if grant_type != G::TokenExchange {
            let keys = [
                of(table.subject_token.as_ref()),
                of(table.subject_token_type.as_ref()),
                of(table.actor_token.as_ref()),
                of(table.actor_token_type.as_ref()),
                of(table.requested_token_type.as_ref()),
            ];
            self.only_with(keys, "grant_type = \"urn:ietf:params:oauth:grant-type:token-exchange\"");
        }
        // Where there may be a caller, that is looked at with what names it.
        if grant_type != G::TokenExchange && table.assertion.is_none() {
            self.only_with([of(table.max_subjects.as_ref())], OF_CALLER);
        }
        match grant_type {
            G::ClientCredentials => Some(Grant::ClientCredentials),
            G::RefreshToken => {
                let at =
                    self.required(place, table.refresh_token.take(), "refresh_token = { file = \"/run/secrets/...\" }");
                let token = at.and_then(|at| self.secret(at));
                let state_file = table.refresh_token_state_file.take().and_then(|at| {
                    let path = self.folder.join(self.not_empty(&at)?);
                    if token.as_ref().and_then(SecretSource::file) == Some(&*path) {
                        let hint = "write another one: lanyard would overwrite the token that you wrote";
                        self.reader.error(&at, "the file of `refresh_token` itself", hint);
                    }
                    Some(path)
                });
                Some(Grant::RefreshToken { token: token?, state_file })
            }
            G::Password => {
                let username = self.required(place, table.username.take(), "username = \"...\"");
                let username = username.and_then(|at| self.not_empty(&at));
                let at = self.required(place, table.password.take(), "password = { file = \"/run/secrets/...\" }");
                if let Some(at) = &at {
                    let hint = "use client_credentials, a service account or token-exchange where the server has them";
                    let what = "a person's password (grant_type \"password\" is deprecated: RFC 9700 2.4)";
                    self.reader.warning(at, what, hint);
                }
                let password = at.and_then(|at| self.secret(at));
                Some(Grant::Password { username: username?, password: password? })
            }
            G::JwtBearer => self.assertion(place, table).map(Grant::JwtBearer),
            G::TokenExchange => self.exchange(place, table),
        }
    }

    /// What a jwt-bearer grant presents: one of three.
    fn assertion(&mut self, place: &At<()>, table: &mut ProfileTable) -> Option<Assertion> {
        let lifetime = self.positive(table.assertion_lifetime.as_ref(), ASSERTION_LIFETIME);
        match (table.assertion.take(), table.service_account.take()) {
            (Some(_), Some(at)) => {
                self.reader.error(&at, "`assertion` and `service_account`", "remove one of them");
                None
            }
            (Some(at), None) => {
                self.only_with([table.claims.as_ref().map(At::place)], "an assertion that lanyard signs");
                Some(match self.subject(at, table)? {
                    Subject::Source(source) => Assertion::Given(source),
                    Subject::Caller { header, max_subjects } => Assertion::Caller { header, max_subjects },
                })
            }
            (None, Some(at)) => {
                let claims = table.claims.take().map(|at| at.value.0).unwrap_or_default();
                self.secret(at).map(|file| Assertion::ServiceAccount { file, claims, lifetime })
            }
            (None, None) if table.private_key.is_none() => {
                let hint = "write private_key = { file = ... } with claims = { iss = ..., sub = ... }, \
                            service_account = { file = ... } (Google), or assertion = { file = ... }";
                self.missing(place, "private_key", hint);
                None
            }
            (None, None) => {
                let claims = table.claims.take();
                if let Some(at) =
                    claims.as_ref().filter(|at| !at.value.0.contains_key("iss") && table.client_id.is_none())
                {
                    self.reader.error(
                        at,
                        "claims without `iss`",
                        "write iss = \"...\": who signs, often the client's id",
                    );
                }
                let key = self.signing_key(table)?;
                Some(Assertion::Signed { key, claims: claims.map_or_else(Map::new, |at| at.value.0), lifetime })
            }
        }
    }

    fn exchange(&mut self, place: &At<()>, table: &mut ProfileTable) -> Option<Grant> {
        let at = self.required(
            place,
            table.subject_token.take(),
            "subject_token = { header = \"Authorization\" }, or { file = \"/var/run/secrets/...\" }",
        );
        let subject = at.and_then(|at| self.subject(at, table));
        let of_caller = matches!(subject, Some(Subject::Caller { .. }));
        let default = if of_caller { "access_token" } else { "jwt" };
        let subject_token_type =
            table.subject_token_type.take().map_or_else(|| Some(token_type(default)), |at| self.token_type(&at));
        let requested_token_type = table.requested_token_type.take().map(|at| self.token_type(&at));
        let actor_type = table.actor_token_type.take().map(|at| self.token_type(&at));
        let actor = match (table.actor_token.take(), actor_type) {
            (Some(at), kind) => Some(self.secret(at).zip(kind.unwrap_or_else(|| Some(token_type("jwt"))))),
            (None, Some(_)) => {
                self.missing(place, "actor_token", "write actor_token = { file = ... }, or remove actor_token_type");
                None
            }
            (None, None) => None,
        };
        Some(Grant::TokenExchange {
            subject: subject?,
            subject_token_type: subject_token_type?,
            actor: match actor {
                Some(actor) => Some(actor?),
                None => None,
            },
            requested_token_type: match requested_token_type {
                Some(kind) => Some(kind?),
                None => None,
            },
        })
    }

    fn subject(&mut self, at: At<SubjectValue>, table: &ProfileTable) -> Option<Subject> {
        let place = at.place();
        match at.value {
            SubjectValue::Source(source) => {
                self.only_with([table.max_subjects.as_ref().map(At::place)], OF_CALLER);
                self.secret(place.with(source)).map(Subject::Source)
            }
            SubjectValue::Header(name) => {
                let header = self.credential_header(&place.with(name))?;
                if let Some(existing) = table.existing.as_ref().filter(|at| at.value != "replace") {
                    let what = format!("existing = {:?} where the client's own {header} is exchanged", existing.value);
                    self.reader.error(existing, what, "remove it: what the client sends is replaced");
                }
                Some(Subject::Caller { header, max_subjects: self.number(table.max_subjects.as_ref(), 1000, 100_000) })
            }
        }
    }

    /// A token type by its URI, or by the last word of a registered one (RFC 8693 3).
    fn token_type(&mut self, at: &At<String>) -> Option<String> {
        if TOKEN_TYPES.contains(&at.value.as_str()) {
            return Some(token_type(&at.value));
        }
        if Url::parse(&at.value).is_ok() {
            return Some(at.value.clone());
        }
        let hint = format!("write a URI, or one of: \"{}\"", TOKEN_TYPES.join("\", \""));
        self.reader.error(at, format!("{:?} is no token type", at.value), hint);
        None
    }

    /// Who asks. Where `token_endpoint_auth_method` is not written, it follows from what is.
    fn authentication(
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
    pub(super) fn signing_key(&mut self, table: &ProfileTable) -> Option<SigningKeySource> {
        let algorithm = self.algorithm(table, false);
        let source = self.secret(table.private_key.clone()?)?;
        let key_id = table.key_id.as_ref().and_then(|at| self.not_empty(at));
        Some(SigningKeySource { source, algorithm, key_id })
    }

    /// The algorithm that is written, by either of its keys.
    pub(super) fn algorithm(&mut self, table: &ProfileTable, symmetric: bool) -> Option<Algorithm> {
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

    fn endpoint(&mut self, place: &At<()>, table: &mut ProfileTable, is_google: bool) -> Option<Endpoint> {
        let allow_plaintext = table.allow_plaintext_token_endpoint.as_ref().is_some_and(|at| at.value);
        // It is looked at again for the audience of assertions.
        let issuer = table.issuer.clone();
        let has_issuer = issuer.is_some() || self.reader.is_wrong(&place.key, "issuer");
        let issuer = issuer.map(|at| self.issuer(&at, allow_plaintext));
        let token_endpoint = match table.token_endpoint.take() {
            Some(at) => Some(self.token_endpoint(&at, allow_plaintext)),
            None if has_issuer => None,
            // It stands in the file, too; where it is not Google's, it is written.
            None if is_google => Url::parse(GOOGLE_TOKEN_ENDPOINT).ok().map(Some),
            None => {
                let hint = "write token_endpoint = \"https://auth.example.com/oauth/token\", or issuer = \"https://auth.example.com\"";
                self.missing(place, "token_endpoint", hint);
                return None;
            }
        };
        Some(Endpoint {
            token_endpoint: match token_endpoint {
                Some(url) => Some(url?),
                None => None,
            },
            issuer: match issuer {
                Some(url) => Some(url?),
                None => None,
            },
            allow_plaintext,
        })
    }

    fn issuer(&mut self, at: &At<String>, allow_plaintext: bool) -> Option<Issuer> {
        let url = self.token_endpoint(at, allow_plaintext)?;
        if url.query().is_some() {
            let hint = "write it as the server's metadata has it: \"https://auth.example.com\" (RFC 8414 2)";
            self.reader.error(at, "an issuer with a query", hint);
            return None;
        }
        if let Some((issuer, _)) = at.value.split_once("/.well-known/") {
            let hint = format!("write issuer = {issuer:?}: lanyard looks for its metadata itself");
            self.reader.error(at, "the address of an issuer's metadata", hint);
            return None;
        }
        Some(Issuer { text: at.value.clone(), url })
    }

    fn token_endpoint(&mut self, at: &At<String>, allow_plaintext: bool) -> Option<Url> {
        let url = self.url(at, "https://auth.example.com/oauth/token")?;
        if !url.username().is_empty() || url.password().is_some() {
            self.reader.error(at, "a URL with userinfo", "write the credentials as client_id and client_secret");
            return None;
        }
        let host = url.host_str().unwrap_or_default();
        let local = Host::parse(host).is_ok_and(|host| host.is_loopback());
        let cluster = host.ends_with(".svc") || host.ends_with(".svc.cluster.local");
        if url.scheme() == "http" && !local && !cluster && !allow_plaintext {
            let hint = "write https://, or set allow_plaintext_token_endpoint = true if the network is trusted";
            self.reader.error(at, "the client secret would be sent in clear text", hint);
            return None;
        }
        Some(url)
    }

    /// Scopes as one list, joined by spaces.
    pub(in crate::config::resolve) fn scope(&mut self, at: &At<StringOrList>) -> Option<String> {
        let words: Vec<&str> = at.value.0.iter().flat_map(|text| text.split(' ')).filter(|w| !w.is_empty()).collect();
        // RFC 6749 3.3: visible ASCII without '"' and '\'.
        let legal = |word: &&str| word.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'"' && b != b'\\');
        if words.is_empty() {
            self.reader.error(at, "no scope at all", "name the scopes, or leave the key out");
        } else if let Some(word) = words.iter().find(|word| !legal(word)) {
            self.reader.error(
                at,
                format!("{word:?} is no scope"),
                "scopes are visible ASCII without '\"' and '\\' (RFC 6749 3.3)",
            );
        }
        (!words.is_empty()).then(|| words.join(" "))
    }

    pub(in crate::config::resolve) fn resources(&mut self, at: &At<StringOrList>) -> Vec<String> {
        if at.value.0.is_empty() {
            self.reader.error(at, "no resource at all", "name the resources, or leave the key out");
        }
        for resource in &at.value.0 {
            let has_userinfo = |url: &Url| !url.username().is_empty() || url.password().is_some();
            let good = Url::parse(resource).is_ok_and(|url| url.fragment().is_none() && !has_userinfo(&url));
            if !good {
                let hint =
                    "write absolute URIs without fragment and userinfo: \"https://api.example.com\" (RFC 8707 2)";
                self.reader.error(at, format!("{} is no absolute URI of a resource", shown(resource)), hint);
            }
        }
        at.value.0.clone()
    }

    fn params(&mut self, at: At<StringTable>) -> Vec<(String, String)> {
        let own = [
            "grant_type",
            "client_id",
            "client_secret",
            "client_assertion",
            "scope",
            "audience",
            "resource",
            "refresh_token",
            "username",
            "password",
            "assertion",
            "subject_token",
            "subject_token_type",
            "actor_token",
            "actor_token_type",
            "requested_token_type",
        ];
        for (name, _) in &at.value.0 {
            if name.is_empty() {
                self.reader.error(&at, "a parameter without a name", "write { name = \"value\" }");
            }
            if own.contains(&name.as_str()) {
                self.reader.error(
                    &at,
                    format!("`{name}` in params"),
                    format!("{name} is a key of the profile: write it there"),
                );
            }
        }
        at.value.0
    }

    fn headers(&mut self, at: &At<StringTable>) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in &at.value.0 {
            let parsed = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value.as_str()).ok());
            match parsed {
                Some((name, _)) if OWN_TOKEN_HEADERS.contains(&name.as_str()) => {
                    self.reader.error(at, format!("`{name}` in headers"), "lanyard writes it itself: remove it");
                }
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                None => self.reader.error(
                    at,
                    format!("{name:?} is no header field, or its value is none"),
                    "write { \"x-name\" = \"value\" }",
                ),
            }
        }
        headers
    }
}

/// Whether who asks cannot be told without a `client_id`.
fn needs_client_id(authentication: &Authentication, grant_type: Option<GrantType>) -> bool {
    match authentication {
        Authentication::None => !matches!(grant_type, Some(GrantType::JwtBearer | GrantType::TokenExchange)),
        Authentication::Assertion(_) => false,
        Authentication::ClientSecretBasic(_)
        | Authentication::ClientSecretPost(_)
        | Authentication::SignedJwt { .. }
        | Authentication::Tls { .. } => true,
    }
}

/// A registered token type by its last word.
fn token_type(word: &str) -> String {
    format!("urn:ietf:params:oauth:token-type:{word}")
}

/// `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrantType {
    ClientCredentials,
    RefreshToken,
    Password,
    JwtBearer,
    TokenExchange,
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

/// How long an assertion is good for: a clock may be wrong by a minute, and Salesforce takes three minutes at most.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(120);
/// RFC 8693 3.
const TOKEN_TYPES: [&str; 6] = ["access_token", "refresh_token", "id_token", "saml1", "saml2", "jwt"];
const OF_CALLER: &str = "subject_token = { header = ... }, and assertion = { header = ... } of the jwt-bearer grant";
const GOOGLE_TOKEN_ENDPOINT: &str = "https://oauth2.googleapis.com/token";
/// What a token request has from us.
const OWN_TOKEN_HEADERS: [&str; 6] =
    ["authorization", "content-type", "content-length", "host", "connection", "transfer-encoding"];
