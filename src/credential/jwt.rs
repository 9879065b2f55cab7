//! A JWT that lanyard signs itself (`jwt`): App Store Connect, Zoom, a service mesh of one's own. Signed anew before it ends.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{
    Credential, FetchError, Fetched,
    signing::{sign, signing_key},
};
use crate::{
    config::SignedJwt,
    jose::{Algorithm, claims::Claims, new_jti},
    oauth::response::jwt_lifetime,
};

/// Signs the JWT of a profile with the key that is there now.
#[derive(Debug)]
pub struct SelfSigned {
    profile: Arc<str>,
    config: SignedJwt,
}

impl SelfSigned {
    /// The JWT of `profile`.
    pub fn new(profile: &Arc<str>, config: &SignedJwt) -> Self {
        Self { profile: Arc::clone(profile), config: config.clone() }
    }

    /// What it says at `now`.
    fn claims(&self, now: SystemTime) -> Claims {
        let mut claims = Claims::new(now, self.config.token_lifetime);
        let filler = Filler {
            now: claims.iat,
            exp: claims.exp,
            jti: claims.jti.get_or_insert_with(new_jti).clone(),
            profile: &self.profile,
        };
        claims.extra = filler.members(&self.config.claims);
        claims
    }
}

#[async_trait]
impl Credential for SelfSigned {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let symmetric = self.config.key.algorithm.is_some_and(Algorithm::is_symmetric);
        let name = if symmetric { "secret" } else { "private_key" };
        let key = signing_key(&self.config.key, name, &self.profile).await?;
        let now = SystemTime::now();
        let token = sign(&key, &self.config.key, None, &self.claims(now))?;
        // Its own `exp`, which a claim of the configuration may have set.
        let lifetime = jwt_lifetime(token.expose(), now).unwrap_or(self.config.token_lifetime);
        Ok(Fetched::token(token, Some(lifetime)))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.config.key.source.file().map(PathBuf::from).into_iter().collect()
    }
}

/// What the placeholders of claims stand for.
struct Filler<'a> {
    now: u64,
    exp: u64,
    jti: String,
    profile: &'a str,
}

impl Filler<'_> {
    fn members(&self, members: &Map<String, Value>) -> Map<String, Value> {
        members.iter().map(|(name, value)| (name.clone(), self.value(value))).collect()
    }

    /// A text that is a moment's placeholder and nothing else becomes a number (NumericDate, RFC 7519 2).
    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text == NOW => self.now.into(),
            Value::String(text) if text == EXP => self.exp.into(),
            Value::String(text) => self.text(text).into(),
            Value::Array(list) => list.iter().map(|value| self.value(value)).collect(),
            Value::Object(members) => self.members(members).into(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        text.replace(NOW, &self.now.to_string())
            .replace(EXP, &self.exp.to_string())
            .replace("{jti}", &self.jti)
            .replace("{profile}", self.profile)
    }
}

/// When it is signed.
const NOW: &str = "{now}";
/// When it ends.
const EXP: &str = "{exp}";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::json;

    use super::*;
    use crate::{
        config::SigningKeySource,
        credential::FetchErrorKind,
        secret::{Secret, SecretSource},
    };

    fn config(key: SecretSource, algorithm: Option<Algorithm>, claims: Value) -> SignedJwt {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let key = SigningKeySource { source: key, algorithm, key_id: Some("key-1".to_owned()) };
        SignedJwt { key, claims, token_lifetime: Duration::from_secs(300) }
    }

    fn hmac(claims: Value) -> SelfSigned {
        let secret = SecretSource::Literal(Secret::new("canary-of-thirty-two-bytes-or-more"));
        SelfSigned::new(&"p".into(), &config(secret, Some(Algorithm::Hs256), claims))
    }

    fn part(token: &str, number: usize) -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn the_claims_are_filled_in_and_the_signature_verifies() {
        let credential = hmac(json!({
            "iss": "team", "aud": ["a", "{profile}"], "nbf": "{now}", "until": "{exp}", "n": 7, "ok": true,
            "nested": { "id": "{profile}/{jti}", "at": "t{now}", "odd": "{other} {" },
        }));
        let fetched = credential.fetch().await.unwrap();
        let token = fetched.material.token().unwrap().expose();
        assert_eq!(part(token, 0), json!({ "typ": "JWT", "alg": "HS256", "kid": "key-1" }));
        let claims = part(token, 1);
        let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert_eq!(exp, iat + 300);
        let jti = claims["jti"].as_str().unwrap();
        let expected = json!({
            "iss": "team", "aud": ["a", "p"], "nbf": iat, "until": exp, "n": 7, "ok": true, "iat": iat, "exp": exp,
            "jti": jti, "nested": { "id": format!("p/{jti}"), "at": format!("t{iat}"), "odd": "{other} {" },
        });
        assert_eq!(claims, expected);
        let lifetime = fetched.lifetime.unwrap();
        assert!(lifetime > Duration::from_secs(298) && lifetime <= Duration::from_secs(300), "{lifetime:?}");

        let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
        validation.set_audience(&["p"]);
        let key = DecodingKey::from_secret(b"canary-of-thirty-two-bytes-or-more");
        jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
        let again = credential.fetch().await.unwrap();
        assert_ne!(part(again.material.token().unwrap().expose(), 1)["jti"], jti, "each has a jti of its own");
        assert!(!format!("{credential:?}").contains("canary"));
    }

    #[tokio::test]
    async fn a_claim_of_the_configuration_goes_before_ours() {
        let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1000;
        let fetched = hmac(json!({ "exp": end, "jti": "mine" })).fetch().await.unwrap();
        let claims = part(fetched.material.token().unwrap().expose(), 1);
        assert_eq!((claims["exp"].as_u64(), claims["jti"].as_str()), (Some(end), Some("mine")));
        assert!(fetched.lifetime.unwrap() > Duration::from_secs(990));
    }

    #[tokio::test]
    async fn the_key_is_read_at_each_signature() {
        let path = std::env::temp_dir().join(format!("lanyard-jwt-{}-{:x}", std::process::id(), fastrand::u64(..)));
        let credential =
            SelfSigned::new(&"p".into(), &config(SecretSource::File(path.clone()), None, json!({ "iss": "x" })));
        assert_eq!(credential.files(), std::slice::from_ref(&path));
        assert_eq!(credential.fetch().await.unwrap_err().kind, FetchErrorKind::Secret);
        for _ in 0..2 {
            let pair = rcgen::KeyPair::generate().unwrap();
            std::fs::write(&path, pair.serialize_pem()).unwrap();
            let fetched = credential.fetch().await.unwrap();
            let token = fetched.material.token().unwrap().expose();
            assert_eq!(part(token, 0)["alg"], "ES256");
            // An uncompressed point, as `from_ec_der` takes it.
            let key = DecodingKey::from_ec_der(pair.public_key_raw());
            jsonwebtoken::decode::<Value>(token, &key, &Validation::new(jsonwebtoken::Algorithm::ES256)).unwrap();
        }
        std::fs::write(&path, "canary, and no key").unwrap();
        let error = credential.fetch().await.unwrap_err();
        assert!(error.detail.contains("private_key of profile p cannot be used"), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
        std::fs::remove_file(path).unwrap();
    }
}
