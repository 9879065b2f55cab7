//! `lanyard issuer`: the embedded authorization server alone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use tokio::net::TcpListener;

use super::{Failed, asked_to_stop, runtime, say, say_error};
use crate::{
    config::{Log, LogFormat},
    issuer::{self, Algorithm, Client, Issuer as Server, Settings},
    telemetry,
};

/// Run the embedded authorization server alone.
///
/// FOR DEVELOPMENT AND TESTS ONLY: its keys and tokens live in memory, and its secrets stand on the command line. It
/// knows client credentials with client_secret_basic, client_secret_post and JSON bodies, JWTs and opaque tokens, JWKS,
/// RFC 8414 metadata, introspection and revocation, all of it also below /api/v1/tenant/{tenant}.
#[derive(Debug, Args)]
pub(super) struct Issuer {
    /// Where it listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9100")]
    address: SocketAddr,
    /// A client, ID:SECRET (any scope) or ID:SECRET:SCOPE,SCOPE; may be repeated [default: demo:demo-secret:api:read,api:write]
    #[arg(long = "client", value_name = "CLIENT")]
    clients: Vec<Client>,
    /// How access tokens are made: RS256, ES256, HS256 or opaque
    #[arg(long, value_name = "ALG", default_value = "RS256")]
    algorithm: Algorithm,
    /// How long access tokens live, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    lifetime: u64,
    /// Leave expires_in out of the response, as some servers do
    #[arg(long)]
    no_expires_in: bool,
    /// The aud claim where a request names no audience
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// The iss claim [default: http://ADDRESS]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Listen on an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

impl Issuer {
    pub(super) fn run(self) -> Result<(), Failed> {
        if !self.address.ip().is_loopback() && !self.allow_remote {
            say_error(&format!(
                "{} can be reached from other machines, and this server is for development only\n    \
                 hint: listen on 127.0.0.1, or say --allow-remote",
                self.address
            ));
            return Err(Failed::Usage);
        }
        telemetry::init(&Log { format: None::<LogFormat>, level: None, access: true });
        runtime()?.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), Failed> {
        let failed = |what: String| {
            say_error(&what);
            Failed::AtRunTime
        };
        let listener = TcpListener::bind(self.address)
            .await
            .map_err(|error| failed(format!("cannot listen on {}: {error}", self.address)))?;
        let address = listener.local_addr().unwrap_or(self.address);
        let mut settings = Settings::development();
        settings.issuer = self.issuer;
        settings.algorithm = self.algorithm;
        settings.lifetime = Duration::from_secs(self.lifetime);
        settings.send_expires_in = !self.no_expires_in;
        settings.default_audience = self.audience;
        if !self.clients.is_empty() {
            settings.clients = self.clients;
        }
        let clients: Vec<&str> = settings.clients.iter().map(|client| client.id.as_str()).collect();
        say("lanyard issuer: FOR DEVELOPMENT AND TESTS ONLY. Keys and tokens live in memory.");
        say(&format!("token endpoint: http://{address}/oauth/token (or /api/v1/tenant/TENANT/oauth/token)"));
        say(&format!("metadata:       http://{address}/.well-known/oauth-authorization-server"));
        say(&format!("clients:        {}", clients.join(", ")));
        let issuer = tokio::task::spawn_blocking(move || Server::new(settings, address));
        let issuer = issuer.await.map_err(|error| failed(error.to_string()))?;
        let issuer = Arc::new(issuer.map_err(|error| failed(error.to_string()))?);
        let stop = async {
            asked_to_stop().await;
        };
        issuer::serve(listener, issuer.router(), stop)
            .await
            .map_err(|error| failed(format!("the server ended: {error}")))
    }
}
