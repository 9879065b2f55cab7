//! HTTP/2 from clients: with prior knowledge on a plain listener, or by ALPN inside an intercepted tunnel (RFC 9113).
//!
//! The accept loop is ours, so that each stream has its own facts and deadlines, CONNECT gets an answer that says why,
//! and a drain ends with the last stream.

mod session;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, header};
use pingora::{
    apps::HttpServerApp,
    http::RequestHeader,
    protocols::{
        Digest,
        http::{
            ServerSession,
            v2::server::{H2Accept, H2Options, HttpSession, handshake},
        },
    },
    server::ShutdownWatch,
};
use tokio::{task::JoinSet, time::timeout};

use self::session::StreamSession;
use super::{Front, count_refusal, draining, head::framing, stream::ClientStream};
use crate::{
    config::Limits,
    proxy::{
        context::Connection,
        refusal::{Code, Refusal},
    },
    telemetry::RequestId,
};

/// Serves an HTTP/2 connection to its end: streams in tasks of their own, the connection here.
pub(super) async fn serve(front: &Arc<Front>, client: ClientStream, mut shutdown: ShutdownWatch) {
    let facts = Arc::clone(client.facts());
    let limits = front.current.limits();
    let Ok(Ok(mut connection)) =
        timeout(limits.header_timeout, handshake(Box::new(client), Some(options(&limits)))).await
    else {
        return;
    };
    let mut streams = JoinSet::new();
    let (mut leaving, mut malformed) = (false, 0);
    loop {
        let stream_facts = Arc::new(facts.for_stream());
        let digest = Arc::new(Digest { proxy_digest: stream_facts.as_digest(), ..Digest::default() });
        let patience = if leaving { LINGER } else { limits.idle_timeout };
        let accepted = tokio::select! {
            accepted = HttpSession::from_h2_conn(&mut connection, digest) => accepted,
            Some(_) = streams.join_next() => continue,
            () = draining(&mut shutdown), if !leaving => {
                connection.graceful_shutdown();
                leaving = true;
                continue;
            }
            () = tokio::time::sleep(patience), if streams.is_empty() => {
                if leaving {
                    return;
                }
                connection.graceful_shutdown();
                leaving = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                let (front, shutdown) = (Arc::clone(front), shutdown.clone());
                let max_headers = limits.max_headers;
                streams.spawn(async move { stream(&front, session, stream_facts, max_headers, &shutdown).await });
            }
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                if malformed >= MAX_MALFORMED_STREAMS {
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                }
            }
            Ok(None) | Err(_) => break,
        }
    }
    // The client is gone, or all is said: what still runs sees that, and ends.
    streams.join_all().await;
}

/// Serves one stream.
async fn stream(
    front: &Arc<Front>,
    session: HttpSession,
    facts: Arc<Connection>,
    max_headers: usize,
    shutdown: &ShutdownWatch,
) {
    let head = session.req_header();
    let refusal = if head.method == Method::CONNECT {
        let hint = "send CONNECT over HTTP/1.1: one tunnel takes one connection";
        Some(Refusal::new(Code::ConnectDenied, "CONNECT as a stream of an HTTP/2 connection", hint))
    } else if head.headers.len() > max_headers {
        let detail = format!("the request has more than max_headers ({max_headers}) header fields");
        Some(Refusal::new(Code::HeadersTooLarge, detail, "send fewer, or raise limits.max_headers"))
    } else {
        malformed(head)
    };
    match refusal {
        None => {
            let session = ServerSession::new_custom(Box::new(StreamSession::new(session, facts)));
            front.proxy.process_new_http(session, shutdown).await;
        }
        Some(refusal) => {
            let request_id = count_refusal(front, &facts, &refusal);
            if let Err(error) = refuse(session, &refusal, request_id).await {
                tracing::debug!(%request_id, error = error.etype().as_str(), "the client left before its refusal");
            }
        }
    }
}

/// What HTTP/1.1 would not let pass either: a body whose length is told twice or oddly goes out as it came, to a server
/// that may read it in another way; and only http and https are proxied.
fn malformed(head: &RequestHeader) -> Option<Refusal> {
    if let Some(scheme) = head.uri.scheme_str().filter(|scheme| !matches!(*scheme, "http" | "https")) {
        let detail = format!("the request's :scheme is {scheme:?}");
        return Some(Refusal::new(Code::BadRequest, detail, "only http and https are proxied"));
    }
    let lengths = head.headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    framing(HTTP_1_1, std::iter::empty(), lengths).err()
}

async fn refuse(mut session: HttpSession, refusal: &Refusal, request_id: RequestId) -> pingora::Result<()> {
    let body = refusal.body(request_id);
    let head = refusal.header(&body)?;
    session.write_response_header(Box::new(head), false)?;
    session.write_body(body, true).await
}

fn options(limits: &Limits) -> H2Options {
    let mut options = H2Options::new();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX));
    options
}

/// The minor version, as a head of HTTP/1.1 has it.
const HTTP_1_1: u8 = 1;
/// Per stream, bytes: with the 64 KiB that the protocol begins with, an upload waits for us after each of them.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Per connection, bytes.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// At once per connection (RFC 9113 6.5.2 recommends no less than 100).
const MAX_STREAMS: u32 = 250;
/// A connection that has sent so many streams that are no requests is closed.
const MAX_MALFORMED_STREAMS: u32 = 32;
/// How long a client without streams may take to close after it was told to.
const LINGER: Duration = Duration::from_secs(1);
