//! A token that something else keeps fresh in a file (`file`): a Vault agent, a sidecar, the kubelet. Read at each fetch
//! and watched.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use async_trait::async_trait;

use super::{Credential, FetchError, FetchErrorKind, Fetched, Material, document, signing::secret};
use crate::{config::FileToken, secret::SecretSource};

/// Reads the token of a profile.
#[derive(Debug)]
pub struct TokenFile {
    profile: Arc<str>,
    path: PathBuf,
}

impl TokenFile {
    /// The file of `profile`.
    pub fn new(profile: &Arc<str>, config: &FileToken) -> Self {
        Self { profile: Arc::clone(profile), path: config.path.clone() }
    }

    fn wrong(&self, problem: &str, hint: String) -> FetchError {
        let detail = format!("file {} {problem}", self.path.display());
        FetchError { kind: FetchErrorKind::Secret, detail, hint, retry_after: None }
    }
}

#[async_trait]
impl Credential for TokenFile {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let text = secret(&SecretSource::File(self.path.clone()), "path", &self.profile).await?;
        let now = SystemTime::now();
        let written = tokio::fs::metadata(&self.path).await.and_then(|file| file.modified()).unwrap_or(now);
        let found = document::read(text.expose(), written, now).map_err(|problem| {
            let hint = "it has to hold a token and nothing else, or JSON: {\"access_token\": ..., \"expires_in\": ...}";
            self.wrong(&format!("holds {problem}"), hint.to_owned())
        })?;
        if found.lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            let hint = format!("see why nothing renews the token at path of profile {}", self.profile);
            return Err(self.wrong("holds a token that has expired", hint));
        }
        Ok(Fetched { material: Material::Token(found.token), lifetime: found.lifetime, warning: found.warning })
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_at_each_fetch() {
        let path = std::env::temp_dir().join(format!("lanyard-file-{}-{:x}", std::process::id(), fastrand::u64(..)));
        let credential = TokenFile::new(&"p".into(), &FileToken { path: path.clone() });
        assert_eq!(credential.files(), std::slice::from_ref(&path));
        let missing = credential.fetch().await.unwrap_err();
        assert!(missing.detail.contains("path cannot be read") && missing.is_transient(), "{missing:?}");

        std::fs::write(&path, "canary-one\n").unwrap();
        let fetched = credential.fetch().await.unwrap();
        assert_eq!(fetched.material.token().unwrap().expose(), "canary-one");
        assert_eq!(fetched.lifetime, None, "nobody tells");

        // `expires_in` counts from when it was written.
        std::fs::write(&path, r#"{"access_token": "canary-two", "expires_in": 3600}"#).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1800)).unwrap();
        let fetched = credential.fetch().await.unwrap();
        assert_eq!(fetched.material.token().unwrap().expose(), "canary-two");
        let lifetime = fetched.lifetime.unwrap().as_secs();
        assert!((1750..=1800).contains(&lifetime), "{lifetime}");

        for (content, problem) in [
            (r#"{"token":"canary","expiry":"2001-01-01T00:00:00Z"}"#, "holds a token that has expired"),
            ("canary canary", "holds a text with a space at byte 6"),
            ("{\"canary\":1}", "holds JSON without `access_token`"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = credential.fetch().await.unwrap_err();
            assert!(error.detail.contains(problem), "{content}: {error:?}");
            assert!(!error.detail.contains("canary") && error.kind == FetchErrorKind::Secret, "{error:?}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
