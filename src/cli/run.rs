//! `lanyard run`: the proxy, until SIGTERM or SIGINT; SIGHUP reloads.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, Failed, asked_to_stop, runtime, say_error};
use crate::{
    app::{App, Settings},
    telemetry,
};

/// Run the proxy.
///
/// Tokens are fetched at once and renewed in the background. The configuration file, the secret files and the CA files
/// are watched; SIGHUP and `POST /reload` on the admin listener reload too. SIGTERM and SIGINT drain: no new
/// connections, what is in flight ends, at most `limits.drain_timeout`.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failed> {
        let loaded = self.file.load()?;
        let log_level = telemetry::init(&loaded.config.log);
        runtime()?.block_on(async {
            let settings = Settings { path: Some(self.file.path().to_owned()), log_level: Some(log_level) };
            let app = App::build(loaded.config, settings).await.map_err(|error| {
                say_error(&format!("lanyard cannot start: {error}"));
                Failed::AtRunTime
            })?;
            let version = env!("CARGO_PKG_VERSION");
            tracing::info!(version, admin = app.admin_address().map(tracing::field::display), "started");

            let (stop, reloader) = (app.stop(), app.reloader());
            tokio::spawn(async move {
                let signal = asked_to_stop().await;
                tracing::info!(signal, "asked to stop");
                stop.send_replace(true);
                // Whoever asks twice does not want to wait.
                let signal = asked_to_stop().await;
                tracing::warn!(signal, "asked to stop again: connections are cut");
                std::process::exit(1);
            });
            tokio::spawn(async move {
                let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
                while hangups.recv().await.is_some() {
                    // Both outcomes are logged there.
                    drop(reloader.reload().await);
                }
            });
            app.run().await;
            Ok(())
        })
    }
}
