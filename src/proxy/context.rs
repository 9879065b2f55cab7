//! What is known of a connection and of a request while it is served.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderName;
use pingora::{http::ResponseHeader, protocols::raw_connect::ProxyDigest};
use tokio::time::Instant;

use super::{
    peer::{Addresses, DEFAULT_RESPONSE_TIMEOUT, Destination},
    refusal::Refusal,
    target::{Listening, Target},
};
use crate::{
    aws::ChunkEncoder,
    credential::Signer,
    metrics::{Outcome, ProfileMetrics},
    snapshot::{Profile, RouteEntry, Snapshot},
    telemetry::RequestId,
    token::{Form, Slot, Token},
};

/// The facts that a connection hands to the request side, once.
#[derive(Debug)]
pub struct Connection {
    /// The listener's name, for logs.
    pub listener: Arc<str>,
    /// What the listener contributes to the target.
    pub listening: Listening,
    /// Whether requests that a browser marks as foreign get a credential.
    pub allow_browsers: bool,
    /// Who called, if it is TCP.
    pub peer: Option<SocketAddr>,
    /// When the answer to the current request has to begin.
    pub answer_due: Due,
}

impl Connection {
    /// The same facts for one stream of an HTTP/2 connection, whose answer is due at a moment of its own.
    pub fn for_stream(&self) -> Self {
        Self {
            listener: Arc::clone(&self.listener),
            listening: self.listening.clone(),
            allow_browsers: self.allow_browsers,
            peer: self.peer,
            answer_due: Due::default(),
        }
    }

    /// The facts in the one form that pingora carries from a connection to its requests: "user data" beside the answer of
    /// a CONNECT. The answer itself is never looked at.
    pub fn as_digest(self: &Arc<Self>) -> Option<Arc<ProxyDigest>> {
        let answer = ResponseHeader::build(200, Some(0)).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(answer), Some(Box::new(Arc::clone(self))))))
    }
}

/// A moment that the request side sets and the connection's stream keeps: pingora's own timeout would also cut an
/// answer that is silent for long, as server-sent events are.
#[derive(Debug)]
pub struct Due {
    zero: Instant,
    /// Milliseconds after `zero`; 0: not set.
    at: AtomicU64,
}

impl Default for Due {
    fn default() -> Self {
        Self { zero: Instant::now(), at: AtomicU64::new(0) }
    }
}

impl Due {
    /// From now on so long.
    pub fn set(&self, after: Duration) {
        let at = (self.zero.elapsed() + after).as_millis();
        self.at.store(u64::try_from(at).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// Not any more.
    pub fn clear(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// The moment, if it is set.
    pub fn get(&self) -> Option<Instant> {
        match self.at.load(Ordering::Relaxed) {
            0 => None,
            millis => self.zero.checked_add(Duration::from_millis(millis)),
        }
    }

    /// Whether it is set and over.
    pub fn is_over(&self) -> bool {
        self.get().is_some_and(|at| at <= Instant::now())
    }
}

/// pingora's `CTX`: one request from its head to its log line.
#[derive(Debug)]
pub struct Context {
    /// In the refusal, the log of the request and that of the token request it waits for.
    pub request_id: RequestId,
    /// When its head had arrived.
    pub started: Instant,
    /// When its answer was out, if that is known.
    pub ended: Option<Instant>,
    /// Its connection's facts.
    pub connection: Option<Arc<Connection>>,
    /// The snapshot it runs on.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What it is for.
    pub target: Option<Target>,
    /// The route it takes; `None`: unmatched.
    pub route: Option<Arc<RouteEntry>>,
    /// Where it goes.
    pub destination: Option<Destination>,
    /// What goes out with it.
    pub credential: Carried,
    /// How long it waited for a token.
    pub token_wait: Duration,
    /// The addresses of its upstream that have not been tried, the next one last.
    pub addresses: Option<Addresses>,
    /// Whether its body was read before its head goes out, all of it: into the retry buffer.
    pub held: bool,
    /// What its body passes through on its way, where it is signed in pieces.
    pub chunks: Option<Box<ChunkEncoder>>,
    /// How often its head went out.
    pub sends: u32,
    /// Whether it was sent again because its pooled connection was dead.
    pub resent: bool,
    /// Whether it was sent again with a new token.
    pub retried: bool,
    /// Whether it was sent again with the nonce that its upstream wanted.
    pub challenged: bool,
    /// Whether `response_timeout` ended it.
    pub answer_overdue: bool,
    /// Keep-alive as it was before an interim answer, seconds.
    pub keepalive: Option<u64>,
    /// What its upstream answered.
    pub upstream_status: Option<u16>,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
}

/// What a request carries out.
#[derive(Clone, Debug)]
pub enum Carried {
    /// What the client sent, nothing of ours.
    Nothing(&'static str),
    /// The profile's token.
    Token {
        /// Whose.
        profile: Arc<Profile>,
        /// The slot of the caller that it acts on behalf of; `None`: the profile's own.
        subject: Option<Arc<Slot>>,
        /// Which.
        token: Arc<Token>,
    },
    /// The profile says to go without one: `on_unavailable = "pass"`.
    Stripped(Arc<Profile>),
}

impl Carried {
    /// The header fields that carry it, which the client's own make room for.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Nothing(_) => &[],
            Self::Token { profile, .. } | Self::Stripped(profile) => &profile.fields,
        }
    }

    /// What signs the request, if it is signed.
    pub fn signer(&self) -> Option<&Arc<dyn Signer>> {
        match self {
            Self::Token { token, .. } => match &token.form {
                Form::Signer(signer) => Some(signer),
                Form::Header(_) | Form::Query(_) => None,
            },
            Self::Nothing(_) | Self::Stripped(_) => None,
        }
    }
}

impl Context {
    /// A request that nothing is known of yet.
    pub fn new() -> Self {
        Self {
            request_id: RequestId::new(),
            started: Instant::now(),
            ended: None,
            connection: None,
            snapshot: None,
            target: None,
            route: None,
            destination: None,
            credential: Carried::Nothing("unmatched"),
            token_wait: Duration::ZERO,
            addresses: None,
            held: false,
            chunks: None,
            sends: 0,
            resent: false,
            retried: false,
            challenged: false,
            answer_overdue: false,
            keepalive: None,
            upstream_status: None,
            refusal: None,
        }
    }

    /// The profile of its route.
    pub fn profile(&self) -> Option<&Arc<Profile>> {
        self.route.as_ref()?.profile.as_ref()
    }

    /// The handles that it is counted by.
    pub fn metrics(&self) -> Option<&Arc<ProfileMetrics>> {
        match self.profile() {
            Some(profile) => Some(&profile.metrics),
            None => self.snapshot.as_ref().map(|snapshot| &snapshot.bare_metrics),
        }
    }

    /// How long its upstream may take to begin an answer.
    pub fn response_timeout(&self) -> Duration {
        self.route.as_ref().map_or(DEFAULT_RESPONSE_TIMEOUT, |entry| entry.route.response_timeout)
    }

    /// How long it took, or has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.ended.map_or_else(|| self.started.elapsed(), |ended| ended.duration_since(self.started))
    }

    /// From now on the answer is due; each piece of the request's body that goes out puts it off.
    pub fn expect_answer(&self) {
        if let Some(connection) = &self.connection {
            connection.answer_due.set(self.response_timeout());
        }
    }

    /// The answer began, or nobody waits for it any more.
    pub fn stop_expecting(&self) {
        if let Some(connection) = &self.connection {
            connection.answer_due.clear();
        }
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match (&self.refusal, self.upstream_status, &self.credential) {
            (Some(refusal), None, _) if refusal.code.is_of_upstream() => Outcome::UpstreamError,
            (Some(_), None, _) => Outcome::Refused,
            _ if self.retried => Outcome::Retried,
            (_, _, Carried::Token { .. }) => Outcome::Injected,
            (_, _, Carried::Nothing(_) | Carried::Stripped(_)) => Outcome::Passed,
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}
