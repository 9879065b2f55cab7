//! What a token request asks for: its parameters, in order, without the client's credentials. Pure.

use crate::config::{GrantType, OAuth2};

/// The parameters of the token request (RFC 6749 4.4.2, RFC 8707 2), in the order in which they are sent.
///
/// `resource` stands as often as there are resources. `params` come last, and one that has the name of a parameter that
/// is there already is left out: a token request repeats no parameter (RFC 6749 3.2), and `scope` means `scope`.
pub fn parameters(config: &OAuth2) -> Vec<(&str, &str)> {
    let grant_type = match config.grant_type {
        GrantType::ClientCredentials => "client_credentials",
    };
    let mut parameters = vec![("grant_type", grant_type)];
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
const CREDENTIALS: [&str; 2] = ["client_id", "client_secret"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::tests::oauth2;

    #[test]
    fn the_least_is_the_grant_type() {
        assert_eq!(parameters(&oauth2("https://auth.test/token")), [("grant_type", "client_credentials")]);
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
            parameters(&config),
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
}
