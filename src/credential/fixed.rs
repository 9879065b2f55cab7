//! Secrets as they are: `bearer`, `header`, `query` and `basic`. They do not expire; a changed file takes their place.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Credential, FetchError, FetchErrorKind, Fetched, document};
use crate::{
    config::{Placement, Static},
    secret::{Secret, SecretSource},
};

/// A secret of a profile, read at each fetch.
#[derive(Debug)]
pub struct Fixed {
    profile: Arc<str>,
    config: Static,
    /// Whether it has to be ASCII: a query is percent-encoded.
    in_header: bool,
}

impl Fixed {
    /// The secret of `profile`.
    pub fn new(profile: &Arc<str>, config: &Static, placement: &Placement) -> Self {
        let in_header = !matches!(placement, Placement::Query { .. });
        Self { profile: Arc::clone(profile), config: config.clone(), in_header }
    }

    const fn source(&self) -> &SecretSource {
        match &self.config {
            Static::Secret { secret, .. } => secret,
            Static::Basic { password, .. } => password,
        }
    }

    /// The key of the profile that has it, for errors.
    const fn key(&self) -> &'static str {
        match &self.config {
            Static::Secret { .. } => "token or secret",
            Static::Basic { .. } => "password",
        }
    }

    fn failed(&self, detail: String, hint: String) -> FetchError {
        FetchError { kind: FetchErrorKind::Secret, detail, hint, retry_after: None }
    }

    /// What stands in requests, but for a prefix.
    fn written(&self, secret: &Secret) -> Result<Secret, FetchError> {
        let text = secret.expose();
        // RFC 7617 2: neither may have control characters; what base64 hides of a header would still be a mistake.
        let ascii = self.in_header && matches!(self.config, Static::Secret { .. });
        let illegal = |byte: u8| byte.is_ascii_control() || (ascii && byte >= 0x80);
        if let Some((at, byte)) = text.bytes().enumerate().find(|(_, byte)| illegal(*byte)) {
            let (what, key) = (document::name_of(byte), self.key());
            let detail = format!("the secret of profile {} has {what} at byte {at}", self.profile);
            return Err(self.failed(detail, format!("leave nothing but the secret where {key} says, in ASCII")));
        }
        Ok(match &self.config {
            Static::Secret { template, .. } => {
                let (before, after) = template.split_once(PLACEHOLDER).unwrap_or(("", ""));
                Secret::new([before, text, after].concat())
            }
            Static::Basic { username, .. } => {
                let pair = Secret::new([username, ":", text].concat());
                Secret::new(BASE64_STANDARD.encode(pair.expose()))
            }
        })
    }
}

#[async_trait]
impl Credential for Fixed {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let secret = self.source().read().await.map_err(|error| {
            let hint = format!("check {} of profile {}", self.key(), self.profile);
            self.failed(format!("the secret cannot be read: {error}"), hint)
        })?;
        Ok(Fetched::token(self.written(&secret)?, Some(Fetched::FOREVER)))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.source().file().map(PathBuf::from).into_iter().collect()
    }
}

/// Where a template has the secret.
const PLACEHOLDER: &str = "{secret}";

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    fn fixed(config: Static, query: bool) -> Fixed {
        let placement = if query {
            Placement::Query { parameter: "key".to_owned() }
        } else {
            Placement::Header { name: AUTHORIZATION, prefix: String::new() }
        };
        Fixed::new(&"p".into(), &config, &placement)
    }

    fn templated(secret: &str, template: &str) -> Static {
        Static::Secret { secret: SecretSource::Literal(Secret::new(secret)), template: template.to_owned() }
    }

    fn basic(username: &str, password: &str) -> Static {
        Static::Basic { username: username.to_owned(), password: SecretSource::Literal(Secret::new(password)) }
    }

    #[tokio::test]
    async fn a_secret_is_written_as_its_kind_says() {
        for (config, query, expected) in [
            (templated("canary", "{secret}"), false, "canary"),
            (templated("canary", "Token token={secret}, v=1"), false, "Token token=canary, v=1"),
            // What stands in the secret is no template.
            (templated("a{secret}b", "<{secret}>"), false, "<a{secret}b>"),
            (templated("two words", "{secret}"), false, "two words"),
            (templated("ключ", "{secret}"), true, "ключ"),
            // RFC 7617 2 and 2.1.
            (basic("Aladdin", "open sesame"), false, "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            (basic("test", "123£"), false, "dGVzdDoxMjPCow=="),
            (basic("", "a:b"), false, "OmE6Yg=="),
        ] {
            let credential = fixed(config, query);
            let fetched = credential.fetch().await.unwrap();
            assert_eq!(fetched.material.token().unwrap().expose(), expected);
            assert_eq!(fetched.lifetime, Some(Fetched::FOREVER));
            assert!(!format!("{credential:?} {fetched:?}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn an_illegal_byte_is_told_with_its_place() {
        for (config, query, problem) in [
            (templated("canary\n", "{secret}"), false, "a line end at byte 6"),
            (templated("canary\0", "{secret}"), false, "a control character at byte 6"),
            (templated("canary\n", "{secret}"), true, "a line end at byte 6"),
            (templated("canäry", "{secret}"), false, "a character beyond ASCII at byte 3"),
            (basic("u", "canary\r"), false, "a line end at byte 6"),
        ] {
            let error = fixed(config, query).fetch().await.unwrap_err();
            assert!(error.detail.contains(problem) && error.hint.contains("nothing but the secret"), "{error:?}");
            assert!(error.is_transient() && !format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_at_each_fetch_and_watched() {
        let path = std::env::temp_dir().join(format!("lanyard-fixed-{}-{:x}", std::process::id(), fastrand::u64(..)));
        let source = SecretSource::File(path.clone());
        let credential = fixed(Static::Secret { secret: source, template: "{secret}".to_owned() }, false);
        assert_eq!(credential.files(), std::slice::from_ref(&path));
        let error = credential.fetch().await.unwrap_err();
        assert!(error.detail.contains("cannot be read") && error.hint.contains("token or secret of profile p"));
        for secret in ["one", "two"] {
            std::fs::write(&path, format!("{secret}\n")).unwrap();
            assert_eq!(credential.fetch().await.unwrap().material.token().unwrap().expose(), secret);
        }
        std::fs::remove_file(path).unwrap();
    }
}
