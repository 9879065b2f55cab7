//! `lanyard demo`: authorization server, protected API and proxy in one process, and the same request without and with
//! lanyard.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use clap::Args;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Failed, asked_to_stop, runtime, say, say_error};
use crate::{
    app::{App, Settings as AppSettings},
    config::{self, Log, LogFormat},
    issuer::{
        Issuer, Settings,
        resource::{self, Requirements},
    },
    telemetry, tls,
};

/// Show the whole story on this machine.
///
/// Starts an authorization server, an API that wants a bearer token, and lanyard; sends one request to the API without
/// lanyard and one through it, prints both, and leaves everything up to try with curl.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Exit after the two requests: 0 if they were answered as they should be
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failed> {
        telemetry::init(&Log { format: None::<LogFormat>, level: Some(tracing::Level::WARN), access: true });
        runtime()?.block_on(self.show()).map_err(|problem| {
            say_error(&format!("the demo failed: {problem}"));
            Failed::AtRunTime
        })
    }

    async fn show(self) -> Result<(), String> {
        let (idp, idp_address) = listen(IDP_PORT).await?;
        let (api, api_address) = listen(API_PORT).await?;
        let issuer = tokio::task::spawn_blocking(move || Issuer::new(Settings::development(), idp_address));
        let issuer = issuer.await.map_err(|e| e.to_string())?;
        let issuer = Arc::new(issuer.map_err(|e| e.to_string())?);
        let mut servers = JoinSet::new();
        let api_router = resource::router(Arc::clone(&issuer), Requirements::development());
        servers.spawn(axum::serve(idp, issuer.router()).into_future());
        servers.spawn(axum::serve(api, api_router).into_future());

        let toml = configuration(idp_address, api_address).await;
        let loaded = config::parse(&toml, "the demo's proxy.toml", Path::new("."), &config::System);
        let loaded = loaded.map_err(|problems| problems.to_string())?;
        let app = App::build(loaded.config, AppSettings::default()).await.map_err(|e| e.to_string())?;
        let proxy = app.addresses().into_iter().next().unwrap_or_default();
        let admin = app.admin_address().map(|a| a.to_string()).unwrap_or_default();
        let stop = app.stop();
        let running = tokio::spawn(app.run());

        let url = format!("http://{api_address}/api/v1/protected-resource");
        say("An authorization server, an API that wants a token, and lanyard are up. This is lanyard's proxy.toml:\n");
        for line in toml.lines() {
            say(&format!("    {line}"));
        }
        say("\n1. Without lanyard:\n");
        let without = ask(None, &url).await?;
        say(&format!("    $ curl {url}\n{}", without.told));
        say("2. The same program, the same URL, with lanyard as its proxy:\n");
        let with = ask(Some(&proxy), &url).await?;
        say(&format!("    $ curl --proxy http://{proxy} {url}\n{}", with.told));
        if (without.status, with.status) != (401, 200) {
            return Err(format!("expected 401 and 200, got {} and {}", without.status, with.status));
        }
        say("401 became 200: lanyard had fetched a token before the request came, and wrote it into the header.");
        if !self.once {
            say(&format!(
                "\nAll of it stays up until you press Ctrl-C. Try:\n\n    curl http://{admin}/status\n    \
                 curl http://{admin}/metrics\n    curl -u demo:demo-secret -d grant_type=client_credentials http://{idp_address}/oauth/token\n"
            ));
            asked_to_stop().await;
        }
        stop.send_replace(true);
        running.await.map_err(|e| e.to_string())
    }
}

/// An answer, and how it is shown.
struct Asked {
    status: u16,
    told: String,
}

async fn ask(proxy: Option<&str>, url: &str) -> Result<Asked, String> {
    // Everything here is plain HTTP: the demo also runs where there are no CA certificates.
    let tls = tls::client_config_without_roots().map_err(|e| e.to_string())?;
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).tls_backend_preconfigured(tls);
    let client = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(format!("http://{proxy}")).map_err(|e| e.to_string())?),
        None => builder,
    };
    let client = client.build().map_err(|e| e.to_string())?;
    let answer = client.get(url).send().await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let challenge = answer.headers().get("www-authenticate").and_then(|v| v.to_str().ok());
    let challenge = challenge.map(|v| format!("    WWW-Authenticate: {v}\n")).unwrap_or_default();
    let body = answer.text().await.map_err(|e| e.to_string())?;
    let told = format!("    HTTP/1.1 {status}\n{challenge}    {}\n", body.trim_end());
    Ok(Asked { status: status.as_u16(), told })
}

/// A port that a reader can type, or any other if that is taken.
async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), String> {
    let listener = match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| e.to_string())?,
    };
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    Ok((listener, address))
}

/// The port if it is free now, else 0.
async fn free(port: u16) -> u16 {
    if TcpListener::bind(("127.0.0.1", port)).await.is_ok() { port } else { 0 }
}

async fn configuration(idp: SocketAddr, api: SocketAddr) -> String {
    let (proxy, admin) = (free(PROXY_PORT).await, free(ADMIN_PORT).await);
    format!(
        r#"[[listeners]]
address = "127.0.0.1:{proxy}"

[admin]
address = "127.0.0.1:{admin}"

[profiles.demo]
token_endpoint = "http://{idp}/oauth/token"
client_id = "demo"
client_secret = "demo-secret"
scope = "api:read"

[[routes]]
host = "{api}"
upstream = "http://{api}"
profile = "demo"
"#
    )
}

const PROXY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;
const IDP_PORT: u16 = 9100;
const API_PORT: u16 = 9101;
