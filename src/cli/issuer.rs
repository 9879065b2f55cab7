//! `lanyard issuer`: the embedded authorization server alone.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpListener, sync::watch};

use super::{Failed, asked_to_stop, runtime, say, say_error};
use crate::{
    config::{Log, LogFormat},
    issuer::{self, Algorithm, Client, Issuer as Server, NoncePolicy, Registrations, Settings, Transport},
    telemetry,
};

/// Run the embedded authorization server alone.
///
/// FOR DEVELOPMENT AND TESTS ONLY: its keys and tokens live in memory, and its secrets stand on the command line. It
/// issues JWTs and opaque tokens, and has JWKS, RFC 8414 metadata, introspection and revocation, all of it also below
/// /api/v1/tenant/{tenant}.
///
/// A --client authenticates by client_secret_basic or client_secret_post. A client in the --clients FILE may use
/// client_secret_jwt, private_key_jwt (or a projected Kubernetes service-account token), tls_client_auth,
/// self_signed_tls_client_auth or none as well, and ask for tokens by client_credentials, refresh_token, password,
/// urn:ietf:params:oauth:grant-type:jwt-bearer or urn:ietf:params:oauth:grant-type:token-exchange. Tokens are bound to
/// the key of a DPoP proof (RFC 9449) and to the certificate of a client that authenticates by it (RFC 8705).
#[derive(Debug, Args)]
pub(super) struct Issuer {
    /// Where it listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9100")]
    address: SocketAddr,
    /// A client, ID:SECRET (any scope) or ID:SECRET:SCOPE,SCOPE; may be repeated [default: demo:demo-secret:api:read,api:write]
    #[arg(long = "client", value_name = "CLIENT")]
    clients: Vec<Client>,
    /// More clients: a JSON list of RFC 7591 client metadata, or an object with the lists clients and trusted_issuers
    #[arg(long = "clients", value_name = "FILE")]
    clients_file: Option<PathBuf>,
    /// Give out refresh tokens, each good for one use
    #[arg(long)]
    refresh_tokens: bool,
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
    /// Ask for a nonce in each DPoP proof
    #[arg(long)]
    dpop_nonce: bool,
    /// For how many proofs a nonce is good
    #[arg(long, value_name = "COUNT", requires = "dpop_nonce", value_parser = clap::value_parser!(u32).range(1..))]
    dpop_nonce_uses: Option<u32>,
    /// How long a nonce is good, in seconds
    #[arg(long, value_name = "SECONDS", requires = "dpop_nonce")]
    dpop_nonce_lifetime: Option<u64>,
    /// Speak HTTPS, and ask clients for a certificate
    #[arg(long)]
    tls: bool,
    /// Speak HTTPS at another address, and HTTP at --address: metadata has mtls_endpoint_aliases then
    #[arg(long, value_name = "IP:PORT", conflicts_with = "tls")]
    tls_address: Option<SocketAddr>,
    /// The server's certificate and those above it, PEM [default: one of a CA made for this run]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where to write the certificate of the CA made for this run, for clients to trust
    #[arg(long, value_name = "FILE", conflicts_with = "tls_cert")]
    tls_ca_out: Option<PathBuf>,
    /// The CAs of client certificates, for tls_client_auth, PEM
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Listen on an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

impl Issuer {
    pub(super) fn run(self) -> Result<(), Failed> {
        let remote = |address: &&SocketAddr| !address.ip().is_loopback();
        if let Some(address) = [Some(&self.address), self.tls_address.as_ref()].into_iter().flatten().find(remote)
            && !self.allow_remote
        {
            say_error(&format!(
                "{address} can be reached from other machines, and this server is for development only\n    \
                 hint: listen on 127.0.0.1, or say --allow-remote"
            ));
            return Err(Failed::Usage);
        }
        if !self.tls && self.tls_address.is_none() {
            let named = [&self.tls_cert, &self.tls_ca_out, &self.tls_client_ca].into_iter().any(Option::is_some);
            if named {
                say_error("--tls-cert, --tls-ca-out and --tls-client-ca are for --tls or --tls-address");
                return Err(Failed::Usage);
            }
        }
        telemetry::init(&Log { format: None::<LogFormat>, level: None, access: true });
        runtime()?.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), Failed> {
        let failed = |what: String| {
            say_error(&what);
            Failed::AtRunTime
        };
        let usage = |what: String| {
            say_error(&what);
            Failed::Usage
        };
        let registrations = self.clients_file.as_deref().map(Registrations::read).transpose();
        let registrations = registrations.map_err(|error| usage(error.to_string()))?;
        let tls = self.tls_settings().map_err(usage)?;
        let client_ca = self.tls_client_ca.as_deref().map(certificates).transpose().map_err(usage)?;
        let (listener, address) = listen(self.address).await.map_err(failed)?;
        let alias = match self.tls_address {
            Some(address) => Some(listen(address).await.map_err(failed)?),
            None => None,
        };
        let mut settings = Settings::development();
        settings.issuer = self.issuer;
        settings.algorithm = self.algorithm;
        settings.lifetime = Duration::from_secs(self.lifetime);
        settings.send_expires_in = !self.no_expires_in;
        settings.send_refresh_token = self.refresh_tokens;
        settings.default_audience = self.audience;
        settings.dpop_nonce = self.dpop_nonce.then(|| {
            let usual = NoncePolicy::default();
            NoncePolicy {
                lifetime: self.dpop_nonce_lifetime.map_or(usual.lifetime, Duration::from_secs),
                uses: self.dpop_nonce_uses.unwrap_or(usual.uses),
            }
        });
        settings.client_ca = client_ca.unwrap_or_default();
        settings.transport = match &alias {
            Some((_, address)) => Transport::Both(*address),
            None if self.tls => Transport::Tls,
            None => Transport::Plain,
        };
        if !self.clients.is_empty() || registrations.is_some() {
            settings.clients = self.clients;
        }
        if let Some(registrations) = registrations {
            registrations.add_to(&mut settings);
        }
        let clients: Vec<String> = settings.clients.iter().map(|client| client.id.clone()).collect();
        let issuer = tokio::task::spawn_blocking(move || Server::new(settings, address));
        let issuer = issuer.await.map_err(|error| failed(error.to_string()))?;
        let issuer = Arc::new(issuer.map_err(|error| usage(error.to_string()))?);
        let scheme = if self.tls { "https" } else { "http" };
        say("lanyard issuer: FOR DEVELOPMENT AND TESTS ONLY. Keys and tokens live in memory.");
        say(&format!("token endpoint: {scheme}://{address}/oauth/token (or /api/v1/tenant/TENANT/oauth/token)"));
        if let Some((_, address)) = &alias {
            say(&format!("with TLS:       https://{address}/oauth/token"));
        }
        say(&format!("metadata:       {scheme}://{address}/.well-known/oauth-authorization-server"));
        say(&format!("clients:        {}", clients.join(", ")));
        if let Some(path) = &self.tls_ca_out {
            say(&format!("CA to trust:    {}", path.display()));
        }
        let (stop, stopping) = watch::channel(false);
        let stopped = || {
            let mut stopping = stopping.clone();
            // It ends too where the sender is gone.
            async move { drop(stopping.wait_for(|stop| *stop).await) }
        };
        let (plain, by_tls) = match (alias, self.tls) {
            (Some((by_tls, _)), _) => (Some(listener), Some(by_tls)),
            (None, true) => (None, Some(listener)),
            (None, false) => (Some(listener), None),
        };
        let plain = async {
            match plain {
                Some(listener) => issuer::serve(listener, issuer.router(), stopped()).await,
                None => Ok(()),
            }
        };
        let by_tls = async {
            match by_tls.zip(tls) {
                Some((listener, tls)) => issuer::tls::serve(listener, issuer.router(), tls, stopped()).await,
                None => Ok(()),
            }
        };
        let asked = async {
            asked_to_stop().await;
            stop.send_replace(true);
            Ok(())
        };
        match tokio::try_join!(plain, by_tls, asked) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(format!("the server ended: {error}"))),
        }
    }

    /// With the certificate that is given, or with that of a CA of its own.
    fn tls_settings(&self) -> Result<Option<Arc<ServerConfig>>, String> {
        let address = match self.tls_address {
            None if !self.tls => return Ok(None),
            None => self.address,
            Some(address) => address,
        };
        if let Some((cert, key)) = self.tls_cert.as_deref().zip(self.tls_key.as_deref()) {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
            let settings = issuer::tls::settings(certificates(cert)?, private);
            return settings.map(Some).map_err(|error| format!("{}: {error}", cert.display()));
        }
        // The name that its URLs have.
        let host = match address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            ip => ip.to_string(),
        };
        let (settings, pem) = issuer::tls::mint(&host).map_err(|error| error.to_string())?;
        match &self.tls_ca_out {
            Some(path) => std::fs::write(path, pem).map_err(|error| format!("{}: {error}", path.display()))?,
            None => say(&format!("Clients have to trust this CA (--tls-ca-out FILE writes it to a file):\n{pem}")),
        }
        Ok(Some(settings))
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

/// The certificates in a PEM file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let all = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if all.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        issuer: Issuer,
    }

    fn parse(arguments: &[&str]) -> Result<Issuer, clap::Error> {
        Line::try_parse_from(["issuer"].iter().chain(arguments)).map(|line| line.issuer)
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for arguments in [
            &["--tls", "--tls-address", "127.0.0.1:0"][..],
            &["--tls", "--tls-cert", "x"],
            &["--tls", "--tls-key", "x"],
            &["--tls", "--tls-cert", "x", "--tls-key", "y", "--tls-ca-out", "z"],
            &["--dpop-nonce-uses", "1"],
            &["--dpop-nonce", "--dpop-nonce-uses", "0"],
        ] {
            parse(arguments).unwrap_err();
        }
        assert_eq!(parse(&["--tls-ca-out", "x"]).unwrap().run(), Err(Failed::Usage));
        assert_eq!(parse(&["--tls-address", "0.0.0.0:0"]).unwrap().run(), Err(Failed::Usage));
        assert!(parse(&[]).unwrap().tls_settings().unwrap().is_none());
    }

    #[test]
    fn the_certificate_is_minted_or_read() {
        crate::tls::install_provider();
        let folder = std::env::temp_dir().join(format!("lanyard-issuer-{}", telemetry::new_id()));
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).into_os_string().into_string().unwrap();
        let (out, cert, key) = (path("out.pem"), path("cert.pem"), path("key.pem"));
        assert!(parse(&["--tls", "--tls-ca-out", &out]).unwrap().tls_settings().unwrap().is_some());
        assert_eq!(certificates(Path::new(&out)).unwrap().len(), 1);
        let pair = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        let read = || parse(&["--tls", "--tls-cert", &cert, "--tls-key", &key]).unwrap().tls_settings();
        assert!(read().unwrap_err().contains("key.pem"));
        std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(read().unwrap_err().contains("cert.pem"));
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        assert!(read().unwrap().is_some());
        assert!(certificates(Path::new(&key)).unwrap_err().contains("there is no certificate in it"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
