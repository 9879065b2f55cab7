//! `[profiles.NAME]`: what every kind has. `kinds` knows the keys of each, `oauth2`, `own` and `cloud` read them.

mod cloud;
mod kinds;
mod oauth2;
mod own;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, StatusCode, header};

use self::kinds::Kind;
use super::{Check, shown};
use crate::{
    config::{
        CredentialKind, Existing, OnUnavailable, Placement, Profile,
        file::ProfileTable,
        read::{At, SecretValue, SubjectValue, dotted, nearest},
    },
    metrics::NO_PROFILE,
    route::query,
    secret::{MAX_SECRET_SIZE, SecretSource},
};

/// The profiles by name; `None` where a problem keeps one from being built, so that routes still find it.
pub(super) type Profiles = Vec<(String, At<Option<Profile>>)>;

impl Check<'_, '_> {
    pub(super) fn profiles(&mut self, tables: Vec<(String, At<ProfileTable>)>) -> Profiles {
        let mut state_files = Vec::new();
        tables
            .into_iter()
            .map(|(name, table)| {
                let place = table.place();
                if let Some(at) = &table.value.refresh_token_state_file {
                    let path = self.folder.join(&at.value);
                    if state_files.contains(&path) {
                        let hint = "write another one: each would overwrite the refresh token of the other";
                        self.reader.error(at, "a refresh_token_state_file that another profile has", hint);
                    }
                    state_files.push(path);
                }
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

    fn profile(&mut self, name: &str, place: &At<()>, mut table: ProfileTable) -> Option<Profile> {
        let kind = self.kind_of(&table);
        if let Some(kind) = kind {
            self.keys_of(kind, &table);
        }
        let placement = self.placement(kind, place, &mut table);
        let existing = [("replace", Existing::Replace), ("keep", Existing::Keep), ("reject", Existing::Reject)];
        let on_unavailable = [("fail", OnUnavailable::Fail), ("pass", OnUnavailable::Pass)];
        let of_caller = matches!(table.subject_token.as_ref().map(|at| &at.value), Some(SubjectValue::Header(_)));
        // Every key is looked at before the first `?`: all problems are told at once.
        let profile = Profile {
            name: Arc::from(name),
            placement: placement.clone().unwrap_or(Placement::Signature { fields: Vec::new() }),
            existing: self.choice(table.existing.clone(), &existing).unwrap_or(Existing::Replace),
            // There is nothing to fetch before there is a caller.
            prefetch: !of_caller && table.prefetch.as_ref().is_none_or(|at| at.value),
            required: !of_caller && table.required.as_ref().is_none_or(|at| at.value),
            refresh_before: table.refresh_before.as_ref().map_or(Duration::from_secs(60), |at| at.value),
            default_token_lifetime: self.positive(table.default_token_lifetime.as_ref(), Duration::from_secs(300)),
            token_wait: self.positive(table.token_wait.as_ref(), Duration::from_secs(5)),
            idle_after: table.idle_after.as_ref().map(|at| self.positive_or(at, "never")),
            retry_statuses: self.retry_statuses(kind, table.retry_statuses.as_ref()),
            replay_limit: table.replay_limit.as_ref().map_or(MAX_REPLAY, |at| {
                if at.value.0 > MAX_REPLAY {
                    let hint = "write at most \"64KiB\": pingora keeps no more of a body";
                    self.reader.error(at, format!("{} bytes", at.value.0), hint);
                }
                at.value.0
            }),
            reject_interval: self.positive(table.reject_interval.as_ref(), Duration::from_secs(10)),
            on_unavailable: self.choice(table.on_unavailable.clone(), &on_unavailable).unwrap_or(OnUnavailable::Fail),
            kind: self.kind(kind?, place, table)?,
        };
        placement.map(|_| profile)
    }

    /// What yields the credential.
    fn kind(&mut self, kind: Kind, place: &At<()>, table: ProfileTable) -> Option<CredentialKind> {
        match kind.name {
            "" => self.oauth2(place, table).map(|oauth2| CredentialKind::OAuth2(Box::new(oauth2))),
            "bearer" => self.bearer(place, table).map(CredentialKind::Static),
            "header" | "query" => self.templated(place, table).map(CredentialKind::Static),
            "basic" => self.basic(place, table).map(CredentialKind::Static),
            "jwt" => self.jwt(place, table).map(|jwt| CredentialKind::Jwt(Box::new(jwt))),
            "file" => self.file_token(place, table).map(CredentialKind::File),
            "exec" => self.exec(place, table).map(|exec| CredentialKind::Exec(Box::new(exec))),
            "github_app" => self.github_app(place, table).map(|app| CredentialKind::GitHubApp(Box::new(app))),
            "google_metadata" => Some(CredentialKind::GoogleMetadata(Box::new(self.google_metadata(table)))),
            "azure_managed_identity" => {
                self.azure(place, table).map(|azure| CredentialKind::AzureManagedIdentity(Box::new(azure)))
            }
            "aws_sigv4" => self.aws(place, table).map(|aws| CredentialKind::AwsSigV4(Box::new(aws))),
            _ => None,
        }
    }

    /// Where requests carry it. `None` where that is reported, or cannot be told.
    fn placement(&mut self, kind: Option<Kind>, place: &At<()>, table: &mut ProfileTable) -> Option<Placement> {
        let kind = kind?;
        if let Some(at) = &table.prefix
            && !at.value.bytes().all(|b| (0x21..0x7f).contains(&b))
        {
            self.reader.error(
                at,
                "a prefix with a space or a character that is not ASCII",
                "write one word, or \"\" for the bare token",
            );
        }
        let prefix = table.prefix.as_ref().map(|at| at.value.clone());
        let name = match (&table.header, kind.name) {
            (Some(at), _) => self.credential_header(at),
            (None, "header") => {
                self.missing(place, "header", "write header = \"X-Api-Key\"");
                None
            }
            (None, _) => Some(header::AUTHORIZATION),
        };
        match kind.name {
            "basic" => Some(Placement::Header { name: header::AUTHORIZATION, prefix: "Basic".to_owned() }),
            "header" => Some(Placement::Header { name: name?, prefix: prefix.unwrap_or_default() }),
            "query" => {
                let at = self.required(place, table.parameter.take(), "parameter = \"api_key\"")?;
                let parameter = self.not_empty(&at)?;
                if parameter.contains(['?', '&', '=', '#']) {
                    let hint = "write the name alone: parameter = \"api_key\"";
                    self.reader.error(&at, "a parameter that is more than a name", hint);
                    return None;
                }
                Some(Placement::Query { parameter: query::encoded(&parameter) })
            }
            "aws_sigv4" => Some(Placement::Signature { fields: AWS_FIELDS.map(HeaderName::from_static).to_vec() }),
            "" if table.dpop_key.is_some() || table.dpop.as_ref().is_some_and(|at| at.value) => {
                let places = [table.header.as_ref().map(At::place), table.prefix.as_ref().map(At::place)];
                self.only_with(places, "tokens that are not bound to a key (dpop)");
                let fields = [header::AUTHORIZATION, HeaderName::from_static("dpop")];
                Some(Placement::Signature { fields: fields.to_vec() })
            }
            _ => Some(Placement::Header { name: name?, prefix: prefix.unwrap_or_else(|| "Bearer".to_owned()) }),
        }
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
                Ok(content) if content.len() as u64 > MAX_SECRET_SIZE => {
                    let what = format!("{} is {} bytes, more than {MAX_SECRET_SIZE}", path.display(), content.len());
                    self.reader.warning(&place, what, "leave nothing but the secret in it");
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

    fn retry_statuses(&mut self, kind: Option<Kind>, at: Option<&At<Vec<usize>>>) -> Vec<StatusCode> {
        let Some(at) = at else {
            // AWS says 403 of credentials that ended, too.
            let forbidden = kind.is_some_and(|kind| kind.name == "aws_sigv4").then_some(StatusCode::FORBIDDEN);
            return std::iter::once(StatusCode::UNAUTHORIZED).chain(forbidden).collect();
        };
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
/// What a signature of AWS writes, its `Authorization` first.
/// What is written anew. A client's own `x-amz-content-sha256` stays: it is true of the body, whoever signs.
const AWS_FIELDS: [&str; 3] = ["authorization", "x-amz-date", "x-amz-security-token"];

/// Whether a host of a URL is loopback.
fn is_local(host: &str) -> bool {
    crate::route::pattern::Host::parse(host).is_ok_and(|host| host.is_loopback())
}
