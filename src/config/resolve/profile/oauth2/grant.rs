//! `grant_type`, and what each grant needs.

use std::time::Duration;

use serde_json::Map;
use url::Url;

use super::super::super::Check;
use crate::{
    config::{
        Assertion, Grant, Subject,
        file::ProfileTable,
        read::{At, SubjectValue},
    },
    secret::SecretSource,
};

impl Check<'_, '_> {
    pub(super) fn grant_type(&mut self, at: Option<At<String>>) -> Option<GrantType> {
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
    pub(super) fn grant(&mut self, grant_type: GrantType, place: &At<()>, table: &mut ProfileTable) -> Option<Grant> {
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
}

/// A registered token type by its last word.
fn token_type(word: &str) -> String {
    format!("urn:ietf:params:oauth:token-type:{word}")
}

/// `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantType {
    ClientCredentials,
    RefreshToken,
    Password,
    JwtBearer,
    TokenExchange,
}

/// How long an assertion is good for: a clock may be wrong by a minute, and Salesforce takes three minutes at most.
pub(super) const ASSERTION_LIFETIME: Duration = Duration::from_secs(120);
/// RFC 8693 3.
const TOKEN_TYPES: [&str; 6] = ["access_token", "refresh_token", "id_token", "saml1", "saml2", "jwt"];
const OF_CALLER: &str = "subject_token = { header = ... }, and assertion = { header = ... } of the jwt-bearer grant";
