//! Which keys a kind of profile has: one that is not among them is an error that says so.

use super::super::Check;
use crate::config::{
    file::ProfileTable,
    read::{At, nearest},
};

/// A kind of profile, by the word that `type` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The word; empty for OAuth2, which has none.
    pub(super) name: &'static str,
    /// Its own keys.
    keys: &'static [&'static str],
    /// Whether a token of it goes into a field that `header` and `prefix` name.
    placed: bool,
}

/// OAuth2: profiles without `type`.
pub(super) const OAUTH2: Kind = Kind {
    name: "",
    keys: &[
        "grant_type",
        "issuer",
        "token_endpoint",
        "allow_plaintext_token_endpoint",
        "token_endpoint_auth_method",
        "token_endpoint_auth_signing_alg",
        "client_id",
        "client_secret",
        "private_key",
        "key_id",
        "client_certificate_file",
        "client_key_file",
        "client_assertion",
        "client_assertion_audience",
        "assertion_lifetime",
        "refresh_token",
        "refresh_token_state_file",
        "username",
        "password",
        "assertion",
        "claims",
        "service_account",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "requested_token_type",
        "max_subjects",
        "dpop",
        "dpop_key",
        "scope",
        "audience",
        "resource",
        "params",
        "headers",
        "request_format",
        "ca_file",
        "timeout",
        "egress_proxy",
    ],
    placed: true,
};

/// What `type` can be.
pub(super) const KINDS: [Kind; 11] = [
    Kind { name: "bearer", keys: &["token"], placed: true },
    Kind { name: "header", keys: &["secret", "template"], placed: true },
    Kind { name: "query", keys: &["secret", "parameter"], placed: false },
    Kind { name: "basic", keys: &["username", "password"], placed: false },
    Kind {
        name: "jwt",
        keys: &["private_key", "secret", "key_id", "signing_alg", "claims", "token_lifetime"],
        placed: true,
    },
    Kind { name: "file", keys: &["path"], placed: true },
    Kind { name: "exec", keys: &["command", "environment", "timeout"], placed: true },
    Kind {
        name: "github_app",
        keys: &[
            "client_id",
            "installation_id",
            "private_key",
            "repositories",
            "permissions",
            "api",
            "ca_file",
            "timeout",
            "egress_proxy",
        ],
        placed: true,
    },
    Kind {
        name: "google_metadata",
        keys: &["account", "scope", "audience", "metadata_endpoint", "timeout"],
        placed: true,
    },
    Kind {
        name: "azure_managed_identity",
        keys: &["resource", "client_id", "metadata_endpoint", "timeout"],
        placed: true,
    },
    Kind {
        name: "aws_sigv4",
        keys: &[
            "region",
            "service",
            "credentials",
            "credentials_file",
            "credentials_profile",
            "access_key_id",
            "secret_access_key",
            "session_token",
            "metadata_endpoint",
            "payload",
            "timeout",
        ],
        placed: false,
    },
];

/// The keys of every kind.
const COMMON: [&str; 12] = [
    "type",
    "existing",
    "prefetch",
    "required",
    "refresh_before",
    "default_token_lifetime",
    "token_wait",
    "idle_after",
    "retry_statuses",
    "replay_limit",
    "reject_interval",
    "on_unavailable",
];
/// Those of kinds whose token goes into a field.
const PLACED: [&str; 2] = ["header", "prefix"];

impl Kind {
    fn has(&self, key: &str) -> bool {
        self.keys.contains(&key) || COMMON.contains(&key) || (self.placed && PLACED.contains(&key))
    }

    /// In a sentence: `type = "bearer"`.
    fn told(&self) -> String {
        if self.name.is_empty() { "OAuth2".to_owned() } else { format!("type = \"{}\"", self.name) }
    }
}

impl Check<'_, '_> {
    /// The kind that a profile says it is; `None` where it says something else, which is reported.
    pub(super) fn kind_of(&mut self, table: &ProfileTable) -> Option<Kind> {
        let Some(at) = &table.r#type else { return Some(OAUTH2) };
        if table.grant_type.is_some() {
            let hint = "a profile is of one kind: remove `type`, grant_type says that it is OAuth2";
            self.reader.error(at, "`type` and `grant_type` in one profile", hint);
            return None;
        }
        let found = KINDS.into_iter().find(|kind| kind.name == at.value);
        if found.is_none() {
            let names = KINDS.map(|kind| kind.name);
            let hint = match nearest(&at.value, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of: \"{}\"; leave it out for OAuth2", names.join("\", \"")),
            };
            self.reader.error(at, format!("{} is no kind of profile", super::shown(&at.value)), hint);
        }
        found
    }

    /// Reports the keys that a profile of this kind does not have.
    pub(super) fn keys_of(&mut self, kind: Kind, table: &ProfileTable) {
        for (key, place) in table.written() {
            if kind.has(key) {
                continue;
            }
            let of: Vec<String> =
                [OAUTH2].iter().chain(&KINDS).filter(|other| other.has(key)).map(Kind::told).collect();
            let what = format!("`{key}` in a profile of {}", kind.told());
            let hint = match OTHER_NAMES.iter().find(|(name, other)| *name == key && kind.has(other)) {
                Some((_, other)) => format!("write {other}, as it is called here"),
                None => format!("remove it: it is a key of {}", of.join(", ")),
            };
            self.reader.error(&place, what, hint);
        }
    }

    /// Reports keys that go with something else than what this profile says. `with`: what they go with.
    pub(super) fn only_with<const N: usize>(&mut self, places: [Option<At<()>>; N], with: &str) {
        for place in places.into_iter().flatten() {
            let key = place.key.rsplit('.').next().unwrap_or_default().to_owned();
            self.reader.error(
                &place,
                format!("`{key}` has no meaning here"),
                format!("remove it, or write what it goes with: {with}"),
            );
        }
    }
}

/// Keys that have another name in profiles of another kind.
const OTHER_NAMES: [(&str, &str); 6] = [
    ("signing_alg", "token_endpoint_auth_signing_alg"),
    ("token_endpoint_auth_signing_alg", "signing_alg"),
    ("token_lifetime", "assertion_lifetime"),
    ("assertion_lifetime", "token_lifetime"),
    ("secret", "client_secret"),
    ("client_secret", "secret"),
];
