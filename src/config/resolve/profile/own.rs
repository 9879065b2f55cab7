//! The keys of credentials that need no provider.

use std::{path::PathBuf, time::Duration};

use super::super::Check;
use crate::{
    config::{Exec, FileToken, SignedJwt, SigningKeySource, Static, file::ProfileTable, read::At},
    egress::is_username,
    jose::Algorithm,
};

impl Check<'_, '_> {
    pub(super) fn bearer(&mut self, place: &At<()>, table: ProfileTable) -> Option<Static> {
        let at = self.required(place, table.token, "token = { file = \"/run/secrets/...\" }")?;
        self.secret(at).map(|secret| Static::Secret { secret, template: PLACEHOLDER.to_owned() })
    }

    /// `header` and `query`.
    pub(super) fn templated(&mut self, place: &At<()>, table: ProfileTable) -> Option<Static> {
        let template = table.template.map_or_else(
            || Some(PLACEHOLDER.to_owned()),
            |at| {
                let legal = at.value.bytes().all(|b| (0x20..0x7f).contains(&b));
                if at.value.matches(PLACEHOLDER).count() == 1 && legal {
                    return Some(at.value);
                }
                let hint = "write visible ASCII with {secret} in it, once: \"Token token={secret}\"";
                self.reader.error(&at, "a template that the secret cannot be put into", hint);
                None
            },
        );
        let at = self.required(place, table.secret, "secret = { file = \"/run/secrets/...\" }")?;
        self.secret(at).zip(template).map(|(secret, template)| Static::Secret { secret, template })
    }

    pub(super) fn basic(&mut self, place: &At<()>, table: ProfileTable) -> Option<Static> {
        let username = self.required(place, table.username, "username = \"...\"");
        let username = username.and_then(|at| {
            if is_username(&at.value) {
                return Some(at.value);
            }
            let hint = "write it without a colon and control characters (RFC 7617 2)";
            self.reader.error(&at, "a username that HTTP Basic cannot carry", hint);
            None
        });
        let password = self.required(place, table.password, "password = { file = \"/run/secrets/...\" }");
        let password = password.and_then(|at| self.secret(at));
        Some(Static::Basic { username: username?, password: password? })
    }

    pub(super) fn jwt(&mut self, place: &At<()>, mut table: ProfileTable) -> Option<SignedJwt> {
        let claims = table.claims.take().map(|at| at.value.0).unwrap_or_default();
        let token_lifetime = self.positive(table.token_lifetime.as_ref(), Duration::from_secs(300));
        let key = match (&table.private_key, table.secret.take()) {
            (Some(_), Some(at)) => {
                self.reader.error(&at, "`secret` and `private_key`", "remove one of them: it is signed once");
                None
            }
            (Some(_), None) => self.signing_key(&table),
            (None, Some(at)) => {
                let algorithm = self.algorithm(&table, true).unwrap_or(Algorithm::Hs256);
                let key_id = table.key_id.as_ref().and_then(|at| self.not_empty(at));
                self.secret(at).map(|source| SigningKeySource { source, algorithm: Some(algorithm), key_id })
            }
            (None, None) => {
                let hint = "write private_key = { file = ... }, or secret = { file = ... } for HS256";
                self.missing(place, "private_key", hint);
                None
            }
        };
        Some(SignedJwt { key: key?, claims, token_lifetime })
    }

    pub(super) fn file_token(&mut self, place: &At<()>, table: ProfileTable) -> Option<FileToken> {
        let at = self.required(place, table.path, "path = \"/var/run/secrets/tokens/api\"")?;
        self.readable_file(&at).map(|path| FileToken { path })
    }

    pub(super) fn exec(&mut self, place: &At<()>, table: ProfileTable) -> Option<Exec> {
        let at = self.required(place, table.command, "command = [\"/usr/local/bin/get-token\", \"--json\"]");
        let command = at.and_then(|at| self.command(at));
        let environment = table.environment.and_then(|at| {
            let legal = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
            if at.value.0.iter().all(|(name, value)| legal(name) && !value.contains('\0')) {
                return Some(at.value.0);
            }
            self.reader.error(&at, "a variable that no environment can hold", "write { NAME = \"value\" }");
            None
        });
        let timeout = self.positive(table.timeout.as_ref(), Duration::from_secs(10));
        Some(Exec { command: command?, environment: environment.unwrap_or_default(), timeout })
    }

    /// The program and its arguments. A path is taken from the configuration's folder; a bare name is looked up in `PATH`.
    fn command(&mut self, at: At<Vec<String>>) -> Option<Vec<String>> {
        let mut command = at.value.clone();
        let Some(program) = command.first_mut().filter(|program| !program.is_empty()) else {
            self.reader.error(&at, "no command", "write [\"/usr/local/bin/get-token\", \"--json\"]");
            return None;
        };
        if program.contains(char::is_whitespace) && at.value.len() == 1 {
            let hint = "there is no shell: write each argument as a text of its own";
            self.reader.warning(&at, "a command with a space in it", hint);
        }
        if program.contains('/') {
            *program = self.folder.join(&*program).display().to_string();
        }
        if command.iter().any(|argument| argument.contains('\0')) {
            self.reader.error(&at, "an argument with a NUL", "remove it");
            return None;
        }
        Some(command)
    }

    /// A file that is read at each use. One that is not there now is a warning.
    pub(super) fn readable_file(&mut self, at: &At<String>) -> Option<PathBuf> {
        let path = self.folder.join(self.not_empty(at)?);
        if let Err(error) = self.environment.read(&path) {
            let what = format!("{} cannot be read now: {error}", path.display());
            self.reader.warning(at, what, "it is read at each use: put it there by then");
        }
        Some(path)
    }
}

/// Where a template has the secret.
const PLACEHOLDER: &str = "{secret}";
