//! `[profiles.NAME]`.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use super::{Check, shown};
use crate::{
    config::{
        AuthMethod, CredentialKind, Existing, GrantType, OAuth2, OnUnavailable, Placement, Profile, RequestFormat,
        Scheme,
        file::ProfileTable,
        read::{At, SecretValue, dotted, nearest},
    },
    metrics::NO_PROFILE,
    route::pattern::Host,
    secret::SecretSource,
};

/// The profiles by name; `None` where a problem keeps one from being built, so that routes still find it.
pub(super) type Profiles = Vec<(String, At<Option<Profile>>)>;

impl Check<'_, '_> {
    pub(super) fn profiles(&mut self, tables: Vec<(String, At<ProfileTable>)>) -> Profiles {
        tables
            .into_iter()
            .map(|(name, table)| {
                let place = table.place();
                let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
                if name == NO_PROFILE {
                    let hint = "it stands for \"no credential\" in routes: choose another name";
                    self.reader.error(&place, "a profile called \"none\"", hint);
                } else if !legal || name.is_empty() || name.len() > 64 {
                    let hint = "use 1 to 64 letters, digits, '-', '_' and '.'";
                    self.reader.error(&place, "a profile's name that is no plain word", hint);
                }
                let profile = self.profile(&name, &place, table.value);
                (name, place.with(profile))
            })
            .collect()
    }

    fn profile(&mut self, name: &str, place: &At<()>, table: ProfileTable) -> Option<Profile> {
        let prefix = table.prefix.as_ref().map_or_else(|| "Bearer".to_owned(), |at| at.value.clone());
        if let Some(at) = &table.prefix
            && !at.value.bytes().all(|b| (0x21..0x7f).contains(&b))
        {
            self.reader.error(
                at,
                "a prefix with a space or a character that is not ASCII",
                "write one word, or \"\" for the bare token",
            );
        }
        let header = table.header.as_ref().map_or(Some(header::AUTHORIZATION), |at| self.credential_header(at));
        let existing = [("replace", Existing::Replace), ("keep", Existing::Keep), ("reject", Existing::Reject)];
        let on_unavailable = [("fail", OnUnavailable::Fail), ("pass", OnUnavailable::Pass)];
        // Every key is looked at before the first `?`: all problems are told at once.
        let profile = Profile {
            name: Arc::from(name),
            placement: Placement::Header { name: header.clone().unwrap_or(header::AUTHORIZATION), prefix },
            existing: self.choice(table.existing.clone(), &existing).unwrap_or(Existing::Replace),
            prefetch: table.prefetch.as_ref().is_none_or(|at| at.value),
            required: table.required.as_ref().is_none_or(|at| at.value),
            refresh_before: table.refresh_before.as_ref().map_or(Duration::from_secs(60), |at| at.value),
            default_token_lifetime: self.positive(table.default_token_lifetime.as_ref(), Duration::from_secs(300)),
            token_wait: self.positive(table.token_wait.as_ref(), Duration::from_secs(5)),
            idle_after: table.idle_after.as_ref().map(|at| self.positive_or(at, "never")),
            retry_statuses: self.retry_statuses(table.retry_statuses.as_ref()),
            replay_limit: table.replay_limit.as_ref().map_or(MAX_REPLAY, |at| {
                if at.value.0 > MAX_REPLAY {
                    let hint = "write at most \"64KiB\": pingora keeps no more of a body";
                    self.reader.error(at, format!("{} bytes", at.value.0), hint);
                }
                at.value.0
            }),
            reject_interval: self.positive(table.reject_interval.as_ref(), Duration::from_secs(10)),
            on_unavailable: self.choice(table.on_unavailable.clone(), &on_unavailable).unwrap_or(OnUnavailable::Fail),
            kind: self.kind(place, table)?,
        };
        header.map(|_| profile)
    }

    /// A profile says what it is by `grant_type` or by `type`, and this version has grants alone. Under a `type` the
    /// keys of a grant are not asked for.
    fn kind(&mut self, place: &At<()>, table: ProfileTable) -> Option<CredentialKind> {
        let Some(kind) = table.r#type.as_ref() else {
            return self.oauth2(place, table).map(|oauth2| CredentialKind::OAuth2(Box::new(oauth2)));
        };
        if table.grant_type.is_some() {
            let hint = "a profile is of one kind: remove `type`, grant_type says that it is OAuth2";
            self.reader.error(kind, "`type` and `grant_type` in one profile", hint);
        } else if KINDS.contains(&kind.value.as_str()) {
            let hint = "available: OAuth2 profiles, by grant_type = \"client_credentials\"";
            self.reader.error(kind, format!("type {:?} is not available in this version", kind.value), hint);
        } else {
            let hint = match nearest(&kind.value, &KINDS) {
                Some(near) => format!("\"{near}\" is not available in this version either: use grant_type"),
                None => "write grant_type = \"client_credentials\" for an OAuth2 profile".to_owned(),
            };
            self.reader.error(kind, format!("{} is no kind of profile", shown(&kind.value)), hint);
        }
        None
    }

    fn oauth2(&mut self, place: &At<()>, table: ProfileTable) -> Option<OAuth2> {
        let grant_type = self.grant_type(table.grant_type);
        let auth_method = self.auth_method(table.token_endpoint_auth_method);
        let allow_plaintext = table.allow_plaintext_token_endpoint.is_some_and(|at| at.value);
        let token_endpoint =
            self.required(place, table.token_endpoint, "token_endpoint = \"https://auth.example.com/oauth/token\"");
        let token_endpoint = token_endpoint.and_then(|at| self.token_endpoint(&at, allow_plaintext));
        let client_id = self.required(place, table.client_id, "client_id = \"...\"").and_then(|at| self.not_empty(&at));
        let client_secret =
            self.required(place, table.client_secret, "client_secret = { file = \"/run/secrets/...\" }");
        let client_secret = client_secret.and_then(|at| self.secret(at));
        let scope = table.scope.and_then(|at| {
            let words: Vec<&str> =
                at.value.0.iter().flat_map(|text| text.split(' ')).filter(|w| !w.is_empty()).collect();
            // RFC 6749 3.3: visible ASCII without '"' and '\'.
            let legal = |word: &&str| word.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'"' && b != b'\\');
            if words.is_empty() {
                self.reader.error(&at, "no scope at all", "name the scopes, or leave the key out");
            } else if let Some(word) = words.iter().find(|word| !legal(word)) {
                self.reader.error(
                    &at,
                    format!("{word:?} is no scope"),
                    "scopes are visible ASCII without '\"' and '\\' (RFC 6749 3.3)",
                );
            }
            (!words.is_empty()).then(|| words.join(" "))
        });
        let audience = table.audience.and_then(|at| self.not_empty(&at));
        let resource = table.resource.map(|at| self.resources(&at)).unwrap_or_default();
        let params = table.params.map(|at| self.params(at)).unwrap_or_default();
        let headers = table.headers.map(|at| self.headers(&at)).unwrap_or_default();
        let formats = [("form", RequestFormat::Form), ("json", RequestFormat::Json)];
        let request_format = self.choice(table.request_format, &formats).unwrap_or(RequestFormat::Form);
        let ca_file = table.ca_file.and_then(|at| self.ca_bundle(&at));
        let place_of_proxy = table.egress_proxy.as_ref().map_or_else(|| place.place(), At::place);
        let egress_proxy = self.egress(table.egress_proxy);
        if let Some(url) = &token_endpoint {
            let scheme = if url.scheme() == "http" { Scheme::Http } else { Scheme::Https };
            self.loopback_goes_directly(&place_of_proxy, &egress_proxy, scheme, url.host_str().unwrap_or_default());
        }
        let timeout = self.positive(table.timeout.as_ref(), Duration::from_secs(10));
        Some(OAuth2 {
            grant_type: grant_type?,
            token_endpoint: token_endpoint?,
            token_endpoint_auth_method: auth_method?,
            client_id: client_id?,
            client_secret: client_secret?,
            scope,
            audience,
            resource,
            params,
            headers,
            request_format,
            ca_file,
            timeout,
            egress_proxy,
        })
    }

    fn grant_type(&mut self, at: Option<At<String>>) -> Option<GrantType> {
        let Some(at) = at else { return Some(GrantType::ClientCredentials) };
        let available = [("client_credentials", GrantType::ClientCredentials)];
        self.available(
            at,
            &available,
            &["refresh_token", "password", "authorization_code"],
            "urn:ietf:params:oauth:grant-type:",
        )
    }

    fn auth_method(&mut self, at: Option<At<String>>) -> Option<AuthMethod> {
        let Some(at) = at else { return Some(AuthMethod::ClientSecretBasic) };
        let available = [
            ("client_secret_basic", AuthMethod::ClientSecretBasic),
            ("client_secret_post", AuthMethod::ClientSecretPost),
        ];
        let registered =
            ["client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "none"];
        self.available(at, &available, &registered, "urn:")
    }

    /// A word that this version has, or one that it will have.
    fn available<T: Copy>(
        &mut self,
        at: At<String>,
        have: &[(&'static str, T)],
        registered: &[&str],
        urn: &str,
    ) -> Option<T> {
        if registered.contains(&at.value.as_str()) || at.value.starts_with(urn) {
            let words: Vec<&str> = have.iter().map(|(word, _)| *word).collect();
            let hint = format!("available: \"{}\"", words.join("\", \""));
            self.reader.error(&at, format!("{:?} is not available in this version", at.value), hint);
            return None;
        }
        self.choice(Some(at), have)
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

    pub(super) fn secret(&mut self, at: At<SecretValue>) -> Option<SecretSource> {
        let place = at.place();
        let source = match at.value {
            SecretValue::File(path) => SecretSource::File(self.folder.join(path)),
            SecretValue::Env(name) => SecretSource::Env(name),
            SecretValue::Literal(secret) => SecretSource::Literal(secret),
        };
        match &source {
            SecretSource::Literal(secret) if secret.expose().is_empty() => {
                self.reader.error(&place, "an empty secret", "write { file = \"/run/secrets/...\" }");
                return None;
            }
            SecretSource::Literal(_) => {
                let hint =
                    "write { file = \"/run/secrets/...\" } or { env = \"NAME\" }, and keep the secret out of this file";
                self.reader.warning(&place, "a secret in the configuration itself", hint);
            }
            SecretSource::File(path) => match self.environment.read(path) {
                Err(e) => {
                    let what = format!("{} cannot be read now: {e}", path.display());
                    self.reader.warning(&place, what, "it is read at each use: put it there by then");
                }
                Ok(content) if content.iter().all(u8::is_ascii_whitespace) => {
                    self.reader.warning(&place, format!("{} is empty", path.display()), "write the secret into it");
                }
                Ok(_) if self.environment.is_world_readable(path) => {
                    let what = format!("everybody on this machine may read {}", path.display());
                    self.reader.warning(&place, what, "chmod 600, or 640 with lanyard's group");
                }
                Ok(_) => {}
            },
            SecretSource::Env(name) if !self.environment.has_variable(name) => {
                let what = format!("the environment variable {name} is not set here, or empty");
                self.reader.warning(&place, what, "set it where `lanyard run` is started");
            }
            SecretSource::Env(_) => {}
        }
        Some(source)
    }

    fn resources(&mut self, at: &At<crate::config::read::StringOrList>) -> Vec<String> {
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

    fn params(&mut self, at: At<crate::config::read::StringTable>) -> Vec<(String, String)> {
        let own = ["grant_type", "client_id", "client_secret", "scope", "audience", "resource"];
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

    fn headers(&mut self, at: &At<crate::config::read::StringTable>) -> Vec<(HeaderName, HeaderValue)> {
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

    /// A header field that a credential may stand in.
    fn credential_header(&mut self, at: &At<String>) -> Option<HeaderName> {
        match HeaderName::try_from(at.value.as_str()) {
            Ok(name) if !NEVER_CREDENTIALS.contains(&name.as_str()) => Some(name),
            Ok(name) => {
                self.reader.error(
                    at,
                    format!("{name} cannot carry a credential"),
                    "write \"Authorization\", \"X-Api-Key\" or the like",
                );
                None
            }
            Err(_) => {
                self.reader.error(
                    at,
                    format!("{:?} is no name of a header field", at.value),
                    "write \"Authorization\" or the like",
                );
                None
            }
        }
    }

    fn retry_statuses(&mut self, at: Option<&At<Vec<usize>>>) -> Vec<StatusCode> {
        let Some(at) = at else { return vec![StatusCode::UNAUTHORIZED] };
        let mut statuses = Vec::new();
        for code in &at.value {
            match u16::try_from(*code)
                .ok()
                .filter(|c| (400..600).contains(c))
                .and_then(|c| StatusCode::from_u16(c).ok())
            {
                Some(status) => statuses.push(status),
                None => self.reader.error(at, format!("the status {code}"), "write statuses from 400 to 599: [401]"),
            }
        }
        statuses
    }

    fn required<T>(&mut self, place: &At<()>, at: Option<At<T>>, write: &str) -> Option<At<T>> {
        if at.is_none() {
            let key = write.split(' ').next().unwrap_or_default();
            self.missing(place, key, &format!("write {write}"));
        }
        at
    }

    fn not_empty(&mut self, at: &At<String>) -> Option<String> {
        if at.value.trim().is_empty() {
            self.reader.error(at, "an empty string", "write its value");
            return None;
        }
        Some(at.value.clone())
    }

    /// Whether a name is that of a profile, and which one was probably meant.
    pub(super) fn profile_exists(&mut self, at: &At<String>, profiles: &Profiles) -> bool {
        let names: Vec<&str> = profiles.iter().map(|(name, _)| name.as_str()).chain([NO_PROFILE]).collect();
        if names.contains(&at.value.as_str()) {
            return true;
        }
        let hint = match nearest(&at.value, &names) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                format!("define [{}], or write one of: \"{}\"", dotted("profiles", &at.value), names.join("\", \""))
            }
        };
        self.reader.error(at, format!("there is no profile {:?}", at.value), hint);
        false
    }
}

/// The most that pingora keeps of a body, bytes.
const MAX_REPLAY: usize = 64 * 1024;
/// What a token request has from us.
const OWN_TOKEN_HEADERS: [&str; 6] =
    ["authorization", "content-type", "content-length", "host", "connection", "transfer-encoding"];
/// What `type` can be one day.
const KINDS: [&str; 6] = ["bearer", "basic", "header", "jwt", "file", "exec"];
/// Fields that frame or route a request, or that end at the next hop (RFC 9110 7.6.1): no upstream would see them.
const NEVER_CREDENTIALS: [&str; 16] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "expect",
    "http2-settings",
    "max-forwards",
    "via",
];
