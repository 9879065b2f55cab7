//! `lanyard doctor`: each profile's credential is got once, as `run` gets it.

use clap::Args;

use super::{ConfigFile, Failed, runtime, say, say_error};
use crate::{
    config::{Config, CredentialKind, ListenAddress},
    credential::Fetched,
    dns::Resolver,
    egress::connect::Dialer,
    snapshot::credential,
};

/// Get each profile's credential once: a real token request, a signature, a command, a file.
///
/// Tells what the identity provider answers (its own error, word for word) and what to do about it. Nothing is sent
/// to any upstream, and no token is shown. Exits with 1 if a profile got none.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Only this profile
    profile: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failed> {
        let loaded = self.file.load()?;
        if let Some(name) = &self.profile
            && !loaded.config.profiles.contains_key(name.as_str())
        {
            let known: Vec<&str> = loaded.config.profiles.keys().map(|name| &**name).collect();
            say_error(&format!("there is no profile {name:?}; there is: {}", known.join(", ")));
            return Err(Failed::Usage);
        }
        runtime()?.block_on(examine(&loaded.config, self.profile.as_deref()))
    }
}

async fn examine(config: &Config, only: Option<&str>) -> Result<(), Failed> {
    let resolver = Resolver::system().map_err(|error| {
        say_error(&format!("the resolver cannot be set up: {error}"));
        Failed::AtRunTime
    })?;
    let own = config.listeners.iter().filter_map(|listener| match listener.address {
        ListenAddress::Tcp(address) => Some(address),
        ListenAddress::Unix(_) => None,
    });
    let dialer = Dialer { resolver, own: own.collect() };
    let mut healthy = true;
    for (name, profile) in config.profiles.iter().filter(|(name, _)| only.is_none_or(|only| only == &***name)) {
        let began = tokio::time::Instant::now();
        let fetched = match credential(profile, &dialer) {
            Ok(credential) => credential.fetch().await,
            Err(problem) => {
                say(&format!("{name}: FAILED: {problem}"));
                healthy = false;
                continue;
            }
        };
        let took = began.elapsed().as_millis();
        match fetched {
            Ok(token) => {
                let lifetime = match token.lifetime {
                    Some(Fetched::FOREVER) => "does not expire".to_owned(),
                    Some(lifetime) => format!("lives {} s", lifetime.as_secs()),
                    None => format!(
                        "does not tell how long it lives: default_token_lifetime ({:?}) is taken",
                        profile.default_token_lifetime
                    ),
                };
                let through = profile.kind.proxy().map(|proxy| format!(" through egress proxy {}", proxy.name()));
                let through = through.unwrap_or_default();
                let did = did(&profile.kind);
                say(&format!("{name}: ok: {did} in {took} ms{through}, which {lifetime}"));
                if let Some(warning) = token.warning {
                    say(&format!("    note: {warning}"));
                }
            }
            Err(error) => {
                healthy = false;
                say(&format!("{name}: FAILED ({}) after {took} ms: {}", error.kind.as_str(), error.detail));
                say(&format!("    fix: {}", error.hint));
            }
        }
    }
    if config.profiles.is_empty() {
        say("there are no profiles: nothing to examine");
    }
    if healthy { Ok(()) } else { Err(Failed::AtRunTime) }
}

/// What a profile's credential is.
const fn did(kind: &CredentialKind) -> &'static str {
    match kind {
        CredentialKind::OAuth2(_) => "a token",
        CredentialKind::Static(_) => "the secret",
        CredentialKind::Jwt(_) => "a signed JWT",
        CredentialKind::File(_) => "the file's token",
        CredentialKind::Exec(_) => "the token that the command printed",
        CredentialKind::GitHubApp(_) => "an installation token",
        CredentialKind::GoogleMetadata(_) => "a token of Google's metadata server",
        CredentialKind::AzureManagedIdentity(_) => "a token of Azure's identity service",
        CredentialKind::AwsSigV4(_) => "credentials for signing",
    }
}
