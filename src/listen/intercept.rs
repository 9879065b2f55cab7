//! An intercepted CONNECT, or redirected TLS: lanyard answers in the host's place, and what is inside is served as any
//! other request.

use std::{io, sync::Arc, time::Duration};

use pingora::server::ShutdownWatch;
use rustls::AlertDescription;
use tokio::time::timeout;

use super::{Front, draining, h2, serve_connection, stream::ClientStream};
use crate::{
    ca::Leaves,
    config::Scheme,
    metrics::Interception,
    proxy::{
        context::Connection,
        target::{Listening, Role},
    },
    route::pattern::Host,
};

/// Serves what comes after the answer to a CONNECT, or came by a redirect: TLS with a certificate of ours, or plain HTTP.
pub(super) async fn serve(
    front: &Arc<Front>,
    mut client: ClientStream,
    leaves: &Leaves,
    host: &Host,
    port: u16,
    mut shutdown: ShutdownWatch,
) {
    let limit = front.current.load().config.limits.header_timeout;
    let began = tokio::select! {
        began = begins_with_tls(&mut client, limit) => began,
        () = draining(&mut shutdown) => return,
    };
    match began {
        None => return front.metrics.interception(Interception::Failed),
        Some(false) => return serve_clear(front, client, host, port, shutdown).await,
        Some(true) => {}
    }
    let facts = inside(client.facts(), Role::Tunnel { scheme: Scheme::Https, host: host.clone(), port });
    let Ok(client) = client.become_another(facts).await else { return };
    let settings = match leaves.settings(host) {
        Ok(settings) => settings,
        Err(error) => {
            front.metrics.interception(Interception::Failed);
            return tracing::error!(%host, %error, "a connection cannot be intercepted");
        }
    };
    let accepted = tokio::select! {
        accepted = timeout(limit, client.accept_tls(settings)) => accepted,
        () = draining(&mut shutdown) => return,
    };
    let accepted = accepted.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "header_timeout is over")));
    match accepted {
        Ok(client) => {
            front.metrics.interception(Interception::Tls);
            if client.agreed_on_http2() {
                h2::serve(front, client, shutdown).await;
            } else {
                Box::pin(serve_connection(front, client, shutdown)).await;
            }
        }
        Err(error) if is_distrust(&error) => {
            front.metrics.interception(Interception::Untrusted);
            tracing::warn!(%host, %error, hint = TRUST, "a client does not trust the CA of lanyard");
        }
        Err(error) => {
            front.metrics.interception(Interception::Failed);
            tracing::warn!(
                %host,
                %error,
                hint = "a client that leaves without a word may not trust the CA of lanyard: `lanyard ca install-hint`",
                "TLS with a client failed in an intercepted connection"
            );
        }
    }
}

/// Whether the client's first byte is that of TLS; `None`: it sent nothing in time.
async fn begins_with_tls(client: &mut ClientStream, limit: Duration) -> Option<bool> {
    if client.buffer.is_empty() && !matches!(timeout(limit, client.fill()).await, Ok(Ok(1..))) {
        return None;
    }
    Some(client.buffer.first() == Some(&TLS_HANDSHAKE))
}

/// Serves plain HTTP in a tunnel.
pub(super) async fn serve_clear(
    front: &Arc<Front>,
    client: ClientStream,
    host: &Host,
    port: u16,
    shutdown: ShutdownWatch,
) {
    front.metrics.interception(Interception::Clear);
    let facts = inside(client.facts(), Role::Tunnel { scheme: Scheme::Http, host: host.clone(), port });
    let Ok(client) = client.become_another(facts).await else { return };
    Box::pin(serve_connection(front, client, shutdown)).await;
}

/// The facts of a connection inside another.
fn inside(outer: &Connection, role: Role) -> Arc<Connection> {
    let mut facts = outer.for_stream();
    facts.listening = Listening { role: Arc::new(role), ..outer.listening };
    Arc::new(facts)
}

/// Whether the client said that it does not take the certificate (RFC 8446 6.2).
fn is_distrust(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
        ))
    )
}

/// First byte of a TLS record that carries a ClientHello (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What a client needs.
const TRUST: &str = "have it trust the file that `lanyard ca path` names: SSL_CERT_FILE (OpenSSL, Go, Ruby, httpx), \
                     REQUESTS_CA_BUNDLE (Python requests), NODE_EXTRA_CA_CERTS (Node), CURL_CA_BUNDLE (curl), \
                     AWS_CA_BUNDLE (AWS), a truststore (Java); or start it with `lanyard exec --`, which sets them all";
