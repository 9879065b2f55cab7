//! The request side: what may this request carry, and where? `impl ProxyHttp`, each phase a few lines.
//!
//! A request walks through: [`request_filter`](ProxyHttp::request_filter) (target, route, token, or a refusal),
//! `upstream_peer` (vetted address, TLS, pool key), `upstream_request_filter` (header fields, and the credential, which
//! `inject` alone writes), `upstream_response_filter` (the 401 loop), `logging`. Failures end in `fail_to_proxy`.

mod access_log;
pub mod admit;
mod body;
pub mod context;
pub mod dialled;
pub mod direct;
mod failure;
pub mod headers;
pub mod inject;
pub mod peer;
pub mod refusal;
pub mod retry;
pub mod target;
pub mod tunnel;
mod upgrade;
mod via;

pub use via::Via;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
    upstreams::peer::HttpPeer,
    utils::tls::WrappedX509,
};

use self::{
    context::{Connection, Context},
    dialled::{Dialled, Noted},
    direct::Origins,
    refusal::Refusal,
    target::Named,
};
use crate::{config::Scheme, credential::Body, egress::connect::Dialer, metrics::Metrics, snapshot::Current};

/// Puts the right token on every request.
#[derive(Clone, Debug)]
pub struct Injector {
    /// The running configuration.
    pub current: Current,
    /// Names to addresses, and the sockets of this process: a request to one of them would be a loop.
    pub dialer: Dialer,
    /// Counts.
    pub metrics: Metrics,
    /// The roots of upstreams, where pingora could not load the system's.
    pub roots: Option<Arc<[WrappedX509]>>,
    /// Where the connections that are opened are remembered; `None` where nothing can be redirected back to us.
    pub dialled: Option<Dialled>,
    /// The upstreams of plain requests.
    pub origins: Origins,
    /// Our entry in `Via`, by which a loop through others is known too.
    pub via: Via,
}

#[async_trait]
impl ProxyHttp for Injector {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new()
    }

    /// None: pingora's default is a compression module.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, context: &mut Context) -> Result<()> {
        let snapshot = self.current.load();
        let limits = &snapshot.config.limits;
        // Only where it is on at all: pingora turns it off for HTTP/1.0 and `Connection: close`.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(limits.idle_timeout.as_secs().max(1)));
        }
        session.set_read_timeout(Some(limits.body_timeout));
        // RFC 9110 15.2: an HTTP/1.0 client knows no interim answers.
        let old = session.req_header().version == Version::HTTP_10;
        session.set_ignore_info_resp(old);
        // What is left of a body after its answer is not worth more.
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        // A client that closes its sending side still wants its answer.
        session.set_abort_on_close(false);
        context.connection = connection(session);
        context.snapshot = Some(snapshot);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        let head = session.req_header();
        let admitted = async {
            let wanted = self.lead(named(head), &head.headers, context)?;
            self.equip(wanted, context).await?;
            context.addresses = Some(self.addresses(context).await?);
            Ok(())
        };
        match admitted.await {
            Ok(()) => {
                body::hold(session, context).await?;
                Ok(false)
            }
            Err(refusal) => {
                // What goes wrong now is the client's: it left.
                self.refuse(session, context, refusal).await.map_err(Error::into_down)?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        let address = match &mut context.addresses {
            Some(left) => left.pop(),
            None => None,
        };
        let (Some(destination), Some(address)) = (&context.destination, address) else {
            return Err(Error::new(ErrorType::ConnectNoRoute));
        };
        let speaks = peer::Speaks::of(session.req_header(), session.is_upgrade_req(), destination);
        let mut peer = peer::peer(destination, address, context.route.as_ref(), self.roots.as_ref(), speaks);
        if let (Some(dialled), Some(limit), None) =
            (&self.dialled, peer.options.connection_timeout, &peer.options.custom_l4)
        {
            peer.options.custom_l4 = Some(Arc::new(Noted { dialled: dialled.clone(), limit }));
        }
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        let Some(destination) = &context.destination else { return Err(Error::new(ErrorType::InternalError)) };
        head.set_raw_path(destination.path_and_query.as_bytes())?;
        headers::restore_trailers(head, session.req_header())?;
        let asked = named(session.req_header()).host.filter(|_| destination.fixed.is_some());
        let authority = asked.map_or_else(|| destination.authority().into_bytes(), <[u8]>::to_vec);
        headers::rewrite(head, &authority, self.via.value(), context.credential.fields())?;
        let held = body::held(session, head, context)?;
        let body = match &held {
            Some(held) => Body::Whole(held),
            None if session.is_body_empty() => Body::Whole(b""),
            None => Body::Streamed(None),
        };
        context.chunks = inject::into_head(head, &context.credential, destination, body)?;
        context.upstream_status = None;
        context.sends += 1;
        context.expect_answer();
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<()> {
        if context.upstream_status.is_none() {
            context.expect_answer();
        }
        if context.chunks.is_some() { body::cut(body, end, context) } else { Ok(()) }
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req() {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "101 without having been asked to").into_up());
        }
        if is_interim(answer) {
            // The one that counts is still due. pingora turns keep-alive off as it would for an answer that comes before
            // the whole request.
            context.keepalive = session.get_keepalive();
            headers::clean_answer(answer);
            return Ok(());
        }
        context.stop_expecting();
        context.upstream_status = Some(answer.status.as_u16());
        if let Some(metrics) = context.metrics() {
            metrics.upstream_response(answer.status.as_u16());
        }
        if let Some(destination) = &context.destination
            && destination.scheme == Scheme::Https
            && answer.version == Version::HTTP_11
            && !session.is_upgrade_req()
        {
            self.origins.note_http1(destination, context.route.as_deref());
        }
        if let Some(again) = retry::after_answer(session, context, answer).await {
            return Err(again);
        }
        headers::clean_answer(answer);
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            // An upgraded stream may be silent for as long as its ends like.
            session.set_read_timeout(None);
        } else if has_no_body(answer) {
            session.set_read_timeout(Some(LATE_BODY_TIMEOUT));
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        if end && context.upstream_status != Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()) {
            session.set_read_timeout(Some(LATE_BODY_TIMEOUT));
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if !is_interim(answer)
            && let Some(seconds) = context.keepalive.take()
        {
            session.set_keepalive(Some(seconds));
        }
        // While we drain, each answer is the last of its connection, and says so.
        if session.is_process_shutting_down() {
            session.set_keepalive(None);
        }
        // HTTP/1.0 knows no chunks: there the body ends with the connection.
        if session.req_header().version == Version::HTTP_10
            && answer.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent yet: another address may let us in. A bad certificate is told at once instead, and so is what an
        // egress proxy answered.
        let more = context.addresses.as_ref().is_some_and(|left| !left.is_empty());
        error.set_retry(more && !tunnel::was_answered(&error) && !failure::is_tls(&error));
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        context.answer_overdue = context.connection.as_ref().is_some_and(|c| c.answer_due.is_over());
        context.stop_expecting();
        if context.answer_overdue || session.as_ref().retry_buffer_truncated() {
            error.set_retry(false);
        } else if *error.etype() == retry::REJECTED {
            // The upstream did not act on it: any method may go again.
            error.set_retry(true);
        } else if session.req_header().method.is_idempotent() && !context.resent {
            // A pooled connection may have been closed as the request went out: once more, and only once.
            error.retry.decide_reuse(client_reused);
            context.resent = error.retry();
        } else {
            error.set_retry(false);
        }
        if error.retry()
            && let (Some(left), Some(address)) = (&mut context.addresses, peer._address.as_inet())
        {
            left.push(*address);
        }
        error
    }

    /// pingora's lines hold queries and raw bytes; the log line of the request says what is known.
    fn suppress_error_log(&self, _session: &Session, _context: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Context,
        _error: &Error,
        _kind: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        let body_timeout = context.snapshot.as_ref().map_or(Duration::ZERO, |s| s.config.limits.body_timeout);
        let answered = session.response_written().is_some_and(|answer| !is_interim(answer));
        if let Some(refusal) = failure::refusal(error, context, body_timeout) {
            if answered {
                context.refusal = Some(refusal);
            } else if self.refuse(session, context, refusal).await.is_err() {
                tracing::debug!(request_id = %context.request_id, "the client left before its refusal");
            }
        }
        let error_code = context.refusal.as_ref().map_or(0, |refusal| refusal.code.status().as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        let status = session.response_written().map_or(0, |answer| answer.status.as_u16());
        self.finish(context, &session.req_header().method, status, error);
    }

    /// Only pingora's own log lines would use it.
    fn request_summary(&self, _session: &Session, context: &Context) -> String {
        context.request_id.to_string()
    }
}

impl Injector {
    /// Counts and logs a request that has ended. `status`: what the client got; 0: nothing.
    fn finish(&self, context: &Context, method: &Method, status: u16, error: Option<&Error>) {
        if let Some(metrics) = context.metrics() {
            metrics.request(context.outcome(), context.elapsed().as_secs_f64());
        }
        if context.snapshot.as_ref().is_some_and(|snapshot| snapshot.config.log.access) {
            access_log::write(context, method.as_str(), status, error.map(|error| error.etype().as_str()));
        }
    }

    /// Answers with a refusal, and closes the connection after it: the body may be unread.
    async fn refuse(&self, session: &mut Session, context: &mut Context, refusal: Refusal) -> Result<()> {
        self.metrics.refused(refusal.code.as_str());
        let body = refusal.body(context.request_id);
        let header = refusal.header(&body)?;
        context.refusal = Some(refusal);
        session.write_error_response(header, body).await
    }
}

/// The facts that the connection handed over.
fn connection(session: &Session) -> Option<Arc<Connection>> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Connection>>().cloned()
}

/// What the head says about its target.
fn named(head: &RequestHeader) -> Named<'_> {
    Named {
        method: &head.method,
        request_target: head.raw_path(),
        // HTTP/2 has `:authority`; pingora refused a request where Host says something else.
        host: match head.uri.authority() {
            Some(authority) if head.version == Version::HTTP_2 => Some(authority.as_str().as_bytes()),
            _ => head.headers.get(header::HOST).map(HeaderValue::as_bytes),
        },
    }
}

/// Whether another answer follows this one (RFC 9110 15.2).
fn is_interim(answer: &ResponseHeader) -> bool {
    answer.status.is_informational() && answer.status != StatusCode::SWITCHING_PROTOCOLS
}

/// Whether an answer is whole with its head.
fn has_no_body(answer: &ResponseHeader) -> bool {
    matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || answer.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// Once the answer is out: how long the rest of a request's body is read, and how long its next byte is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`DRAIN_TIMEOUT`].
const LATE_BODY_TIMEOUT: Duration = Duration::from_secs(2);
