//! The admin listener.
//!
//! * `GET /livez`: the process works; never depends on a provider.
//! * `GET /startupz`: every profile with `prefetch` has had its first answer.
//! * `GET /readyz`: every `required` profile has a usable token.
//! * `GET /metrics`: Prometheus text format.
//! * `GET /status`: profiles, tokens' age and expiry, last errors, routes, generation; never a secret.
//! * `GET /config`: the running configuration, redacted.
//! * `GET /ca.pem`: the certificate that clients have to trust where hosts are intercepted.
//! * `POST /reload`: loads the configuration file.
//! * `POST /quitquitquit`: drains and exits.

mod readiness;
mod redact;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    guard::guard,
    metrics::{Metrics, TokenTimes},
    reload::Reloader,
    snapshot::Current,
};

/// What the admin listener tells of and acts on.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The running configuration.
    pub current: Current,
    /// Counts.
    pub metrics: Metrics,
    /// For `POST /reload`.
    pub reloader: Arc<Reloader>,
    /// For `POST /quitquitquit`: set to stop the process.
    pub stop: watch::Sender<bool>,
}

impl Admin {
    /// Serves until the process has drained.
    pub async fn serve(self, listener: TcpListener, until: impl Future<Output = ()> + Send + 'static) {
        if let Err(error) = axum::serve(listener, self.router()).with_graceful_shutdown(until).await {
            tracing::error!(%error, "admin listener ended");
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/startupz", get(startupz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/config", get(config))
            .route("/ca.pem", get(ca))
            .route("/reload", post(reload))
            .route("/quitquitquit", post(quit))
            .fallback(async || (StatusCode::NOT_FOUND, ENDPOINTS))
            .layer(middleware::from_fn(guard))
            .with_state(self)
    }
}

async fn startupz(State(admin): State<Admin>) -> Response {
    probe(&readiness::awaited_at_start(&admin.current.load()))
}

async fn readyz(State(admin): State<Admin>) -> Response {
    probe(&readiness::awaited(&admin.current.load()))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let snapshot = admin.current.load();
    let tokens = snapshot.profiles.values().filter_map(|profile| {
        let (arrived, expires) = profile.slot.status().last_success?;
        Some(TokenTimes { profile: Arc::clone(&profile.config.name), arrived, expires })
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render(tokens)).into_response()
}

async fn status(State(admin): State<Admin>) -> Response {
    pretty(StatusCode::OK, &status::of(&admin.current.load()))
}

async fn config(State(admin): State<Admin>) -> Response {
    pretty(StatusCode::OK, &redact::config(&admin.current.load().config))
}

async fn ca(State(admin): State<Admin>) -> Response {
    match &admin.current.load().interception {
        Some(leaves) => {
            let headers = [(header::CONTENT_TYPE, "application/x-pem-file"), (header::CACHE_CONTROL, "no-store")];
            (headers, leaves.authority().pem().to_owned()).into_response()
        }
        None => (StatusCode::NOT_FOUND, NO_CA).into_response(),
    }
}

async fn reload(State(admin): State<Admin>) -> Response {
    match admin.reloader.reload().await {
        Ok(report) => pretty(
            StatusCode::OK,
            &json!({
                "generation": report.generation,
                "needs_restart": report.needs_restart,
                "warnings": report.warnings,
            }),
        ),
        Err(problems) => {
            let problems: Vec<&str> = problems.lines().collect();
            pretty(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "error": "config_invalid", "problems": problems }))
        }
    }
}

async fn quit(State(admin): State<Admin>) -> Response {
    tracing::info!("asked to stop by POST /quitquitquit");
    admin.stop.send_replace(true);
    (StatusCode::OK, "draining\n").into_response()
}

/// 200 `ok`, or 503 with what is still awaited.
fn probe(awaited: &[Value]) -> Response {
    if awaited.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    pretty(StatusCode::SERVICE_UNAVAILABLE, &json!({ "awaited": awaited }))
}

fn pretty(status: StatusCode, value: &Value) -> Response {
    let body = format!("{value:#}\n");
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

const ENDPOINTS: &str = "GET /livez /startupz /readyz /metrics /status /config /ca.pem; POST /reload /quitquitquit\n";
const NO_CA: &str = "there is no CA: no route of the running configuration says `intercept = true`\n";
