//! What a token request asks for: its parameters, in order, without the client's credentials. Pure.

use crate::config::{Grant, OAuth2};

use super::secrets::Secrets;

/// The parameters of the token request (RFC 6749 4 and 6, RFC 7523 2.1, RFC 8693 2.1, RFC 8707 2), in the order in which
/// they are sent.
///
/// `resource` stands as often as there are resources. `params` come last, and one that has the name of a parameter that
/// is there already is left out: a token request repeats no parameter (RFC 6749 3.2), and `scope` means `scope`.
pub fn parameters<'a>(config: &'a OAuth2, secrets: &'a Secrets) -> Vec<(&'a str, &'a str)> {
    let mut parameters = vec![("grant_type", config.grant.as_str())];
    match &config.grant {
        Grant::Password { username, .. } => parameters.push(("username", username)),
        Grant::TokenExchange { subject_token_type, actor, requested_token_type, .. } => {
            parameters.push(("subject_token_type", subject_token_type));
            parameters.extend(actor.iter().map(|(_, kind)| ("actor_token_type", kind.as_str())));
            parameters.extend(requested_token_type.iter().map(|kind| ("requested_token_type", kind.as_str())));
        }
        Grant::ClientCredentials | Grant::RefreshToken { .. } | Grant::JwtBearer(_) => {}
    }
    parameters.extend(secrets.grant.iter().map(|(name, secret)| (*name, secret.expose())));
    parameters.extend(config.scope.as_deref().map(|scope| ("scope", scope)));
    parameters.extend(config.audience.as_deref().map(|audience| ("audience", audience)));
    parameters.extend(config.resource.iter().map(|resource| ("resource", resource.as_str())));
    for (name, value) in &config.params {
        let ours = CREDENTIALS.contains(&name.as_str());
        if !ours && parameters.iter().all(|(taken, _)| taken != name) {
            parameters.push((name, value));
        }
    }
    parameters
}

/// The names that [`super::authenticate`] writes.
const CREDENTIALS: [&str; 4] = ["client_id", "client_secret", "client_assertion", "client_assertion_type"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Subject,
        oauth::tests::oauth2,
        secret::{Secret, SecretSource},
    };

    #[test]
    fn the_least_is_the_grant_type() {
        let config = oauth2("https://auth.test/token");
        assert_eq!(parameters(&config, &Secrets::default()), [("grant_type", "client_credentials")]);
    }

    #[test]
    fn everything_comes_in_order_and_nothing_twice() {
        let mut config = oauth2("https://auth.test/token");
        config.scope = Some("api:read api:write".to_owned());
        config.audience = Some("https://api.test".to_owned());
        config.resource = vec!["https://a.test/".to_owned(), "https://b.test/".to_owned()];
        config.params =
            [("audience", "other"), ("client_secret", "other"), ("grant_type", "password"), ("tenant", "acme")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
        assert_eq!(
            parameters(&config, &Secrets::default()),
            [
                ("grant_type", "client_credentials"),
                ("scope", "api:read api:write"),
                ("audience", "https://api.test"),
                ("resource", "https://a.test/"),
                ("resource", "https://b.test/"),
                ("tenant", "acme"),
            ]
        );
    }

    #[test]
    fn every_grant_has_its_own_parameters() {
        let source = || SecretSource::Env("X".to_owned());
        let secrets = |name| Secrets { grant: vec![(name, Secret::new("canary"))], ..Secrets::default() };
        let mut config = oauth2("https://auth.test/token");
        config.grant = Grant::RefreshToken { token: source(), state_file: None };
        assert_eq!(
            parameters(&config, &secrets("refresh_token")),
            [("grant_type", "refresh_token"), ("refresh_token", "canary")]
        );
        config.grant = Grant::Password { username: "u".to_owned(), password: source() };
        assert_eq!(
            parameters(&config, &secrets("password")),
            [("grant_type", "password"), ("username", "u"), ("password", "canary")]
        );
        // The example of RFC 8693 2.3, but for its values.
        config.grant = Grant::TokenExchange {
            subject: Subject::Source(source()),
            subject_token_type: "urn:ietf:params:oauth:token-type:access_token".to_owned(),
            actor: Some((source(), "urn:ietf:params:oauth:token-type:jwt".to_owned())),
            requested_token_type: Some("urn:ietf:params:oauth:token-type:access_token".to_owned()),
        };
        config.resource = vec!["https://backend.example.com/api".to_owned()];
        let secrets = Secrets {
            grant: vec![("subject_token", Secret::new("accVkj")), ("actor_token", Secret::new("act"))],
            ..Secrets::default()
        };
        assert_eq!(
            parameters(&config, &secrets),
            [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("actor_token_type", "urn:ietf:params:oauth:token-type:jwt"),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("subject_token", "accVkj"),
                ("actor_token", "act"),
                ("resource", "https://backend.example.com/api"),
            ]
        );
    }
}
