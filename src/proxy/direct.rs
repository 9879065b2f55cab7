//! Plain requests, sent straight on: HTTP/1.1 on both sides, and a body of the request that is small or none.
//!
//! That is most of what goes through a sidecar, and it needs little of what pingora can do: no HTTP/2, no upgrade, no
//! chunks from the client, no header maps. What is decided, refused, counted and logged is the same code for both ways;
//! here are only the bytes in between. A request that is not plain goes by pingora, and so does the first one to an
//! upstream that may choose HTTP/2.
//!
//! [`Direct::plan`] says whether a request is plain, without waiting; [`Direct::serve`] does it.

mod answer;
mod chunks;
mod exchange;
mod link;
mod origin;
mod request;

pub use origin::{Origin, Origins};

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora::{Error, ErrorType, server::ShutdownWatch};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use self::{
    exchange::Exchange,
    link::{Dial, Link},
};
use super::{
    Injector,
    admit::Wanted,
    context::{Carried, Connection, Context},
    failure,
    peer::{Addresses, DEFAULT_CONNECT_TIMEOUT},
    refusal::Refusal,
    tunnel::{self, Tunnel},
};
use crate::{
    config::Scheme,
    snapshot::RouteEntry,
    tls::{self, TlsError},
};

/// Sends plain requests on.
#[derive(Debug)]
pub struct Direct {
    injector: Injector,
    /// TLS settings of routes that have no CAs of their own.
    tls: OnceLock<Result<Arc<ClientConfig>, TlsError>>,
}

/// A plain request, decided upon and not yet sent.
#[derive(Debug)]
pub struct Plan {
    context: Box<Context>,
    method: Method,
    /// What it carries, and its upstream; or why it is not forwarded.
    way: Result<(Wanted, Arc<Origin>), Refusal>,
    /// How many bytes its body has.
    body: usize,
    /// Whether the client wants the connection closed after it.
    closes: bool,
    /// Its head as it came, where it may turn out not to be plain.
    original: Option<Vec<u8>>,
}

/// What the requests of a connection are written and their answers read in, one after the other.
#[derive(Debug, Default)]
pub struct Room {
    /// The request's head as its upstream gets it, and its body.
    request: Vec<u8>,
    /// The answer's head as the client gets it, and the beginning of its body.
    answer: Vec<u8>,
    /// What was read of the upstream.
    read: BytesMut,
}

impl Room {
    /// Gives back what a large request or answer took.
    fn tidy(&mut self) {
        if self.request.capacity() > KEPT_ROOM {
            self.request = Vec::new();
        }
        if self.answer.capacity() > KEPT_ROOM {
            self.answer = Vec::new();
        }
        if self.read.capacity() > KEPT_ROOM {
            self.read = BytesMut::new();
        }
    }
}

/// What becomes of the client's connection.
#[derive(Debug)]
pub enum Next {
    /// It may carry another request.
    Again,
    /// It is at its end.
    Close,
    /// These bytes are its last.
    Last(Vec<u8>),
    /// Nothing was sent: the request is not plain after all, and this of its body was read.
    NotPlain(Vec<u8>),
}

impl Direct {
    /// By the same means as pingora's side.
    pub const fn new(injector: Injector) -> Self {
        Self { injector, tls: OnceLock::new() }
    }

    /// Closes idle connections in time, for as long as it is polled.
    pub async fn sweep(&self) {
        self.injector.origins.sweep().await;
    }

    /// Looks at a request's head and decides upon it; `None` where it is not plain. `body`: how many bytes follow it.
    pub fn plan(&self, head: &[u8], body: u64, connection: &Arc<Connection>, room: &mut Room) -> Option<Plan> {
        let body = usize::try_from(body).ok().filter(|length| *length <= MAX_BODY)?;
        request::read(head, |read| {
            let mut context = Box::new(Context::new());
            context.connection = Some(Arc::clone(connection));
            context.snapshot = Some(self.injector.current.load());
            let way = match self.injector.lead(read.named(), read.fields, &mut context) {
                Ok(wanted) => {
                    let destination = context.destination.as_ref()?;
                    // A redirected connection without a route keeps its Host, and what it speaks.
                    if destination.fixed.is_some() {
                        return None;
                    }
                    let origin = self.injector.origins.of(destination, context.route.as_deref());
                    if destination.scheme == Scheme::Https && !origin.chose_http1() {
                        return None;
                    }
                    Ok((wanted, origin))
                }
                Err(refusal) => Err(refusal),
            };
            let mut original = None;
            if let (Ok((wanted, _)), Some(destination)) = (&way, &context.destination) {
                let fields = match wanted {
                    Wanted::Credential(profile, _) => &*profile.fields,
                    Wanted::Nothing(_) => &[],
                };
                original = (destination.scheme == Scheme::Https).then(|| head.to_vec());
                read.write(&mut room.request, destination, fields, self.injector.via.value());
            }
            Some(Plan { context, method: read.method.clone(), way, body, closes: read.closes, original })
        })?
    }

    /// Sends a request on and its answer back. `client` gives the request's body next, and after it nothing until the
    /// client is gone or the answer overdue.
    pub async fn serve<C>(&self, mut plan: Plan, room: &mut Room, client: &mut C, shutdown: &ShutdownWatch) -> Next
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let (wanted, origin) = match plan.way {
            Ok(way) => way,
            Err(refusal) => return self.refused(&mut plan.context, &plan.method, refusal, None),
        };
        let context = &mut plan.context;
        let body = match self.body(plan.body, client, context).await {
            Ok(body) => body,
            Err(error) => {
                // It would have had its credential: it did not pass without.
                if let Wanted::Credential(profile, subject) = wanted
                    && let Some(token) = subject.as_deref().unwrap_or(&profile.slot).usable()
                {
                    context.credential = Carried::Token { profile, subject, token };
                }
                return self.failed(context, &plan.method, &error, false);
            }
        };
        let ready = async {
            self.injector.equip(wanted, context).await?;
            self.injector.addresses(context).await
        };
        let addresses = match ready.await {
            Ok(addresses) => addresses,
            Err(refusal) => return self.refused(context, &plan.method, refusal, None),
        };
        let mut exchange = Exchange {
            direct: self,
            context,
            method: &plan.method,
            origin: &origin,
            room,
            body: &body,
            closes: plan.closes,
            in_first_line: None,
            answered: None,
        };
        let outcome = exchange.run(addresses, client, shutdown).await;
        let answered = exchange.answered;
        exchange.room.tidy();
        match outcome {
            Ok(keeps) => {
                self.injector.finish(context, &plan.method, answered.unwrap_or_default(), None);
                // The end is told, and nothing that the client sent too much takes the answer along.
                if keeps { Next::Again } else { Next::Last(Vec::new()) }
            }
            Err(error) if failure::is_tls(&error) && answered.is_none() && context.sends == 0 => {
                // Whatever is wrong with it, pingora offers both versions, and tells.
                origin.forget_choice();
                let mut read = plan.original.unwrap_or_default();
                read.extend_from_slice(&body);
                Next::NotPlain(read)
            }
            Err(error) => self.failed(context, &plan.method, &error, answered.is_some()),
        }
    }

    /// Reads the request's body, which is small: its upstream gets it with the head, in one piece.
    async fn body<C>(&self, length: usize, client: &mut C, context: &Context) -> pingora::Result<Bytes>
    where
        C: AsyncRead + Unpin,
    {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let limit = context.snapshot.as_ref().map(|snapshot| snapshot.config.limits.body_timeout).unwrap_or_default();
        let mut body = BytesMut::with_capacity(length);
        while body.len() < length {
            let read = tokio::time::timeout(limit, client.read_buf(&mut body)).await;
            let read = read.map_err(|_| Error::new(ErrorType::ReadTimedout).into_down())?;
            if read.map_err(|_| Error::new(ErrorType::ReadError).into_down())? == 0 {
                return Err(Error::new(ErrorType::ConnectionClosed).into_down());
            }
        }
        Ok(body.freeze())
    }

    /// A connection to the destination, if one of these addresses takes it.
    async fn dial(&self, context: &Context, addresses: &mut Addresses) -> pingora::Result<Link> {
        let (Some(destination), entry) = (&context.destination, context.route.as_deref()) else {
            return Err(Error::new(ErrorType::ConnectNoRoute));
        };
        let through = destination.through.as_ref();
        let dial = Dial {
            through: through.map(|proxy| Tunnel { proxy: Arc::clone(proxy), target: destination.name().to_string() }),
            tls: match destination.scheme {
                Scheme::Http => None,
                Scheme::Https => {
                    let name = entry.and_then(|entry| entry.route.server_name.as_ref()).unwrap_or(&destination.host);
                    let name = ServerName::try_from(name.as_str().to_owned());
                    let name =
                        name.map_err(|error| Error::because(ErrorType::TLSHandshakeFailure, "no name", error))?;
                    Some((self.settings(entry)?, name))
                }
            },
            limit: entry.map_or(DEFAULT_CONNECT_TIMEOUT, |entry| entry.route.connect_timeout),
            dialled: self.injector.dialled.clone(),
        };
        loop {
            let Some(address) = addresses.pop() else { return Err(Error::new(ErrorType::ConnectNoRoute)) };
            match dial.open(address).await {
                Ok(link) => return Ok(link),
                // Another address may let us in. A bad certificate is told at once instead, and so is what an egress
                // proxy answered.
                Err(error) => {
                    if addresses.is_empty() || tunnel::was_answered(&error) || failure::is_tls(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// TLS settings for a route's upstream, made once: HTTP/1.1, which it chose before.
    fn settings(&self, entry: Option<&RouteEntry>) -> pingora::Result<Arc<ClientConfig>> {
        let (kept, extra) = match entry.filter(|entry| entry.route.ca_file.is_some()) {
            Some(entry) => (&entry.tls, entry.route.ca_file.as_ref()),
            None => (&self.tls, None),
        };
        let made = kept.get_or_init(|| {
            let mut settings = tls::client_config(extra)?;
            settings.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Arc::new(settings))
        });
        made.clone().map_err(|error| Error::because(ErrorType::TLSHandshakeFailure, "no settings", error))
    }

    /// A request that is not forwarded, or not any further.
    fn refused(&self, context: &mut Context, method: &Method, refusal: Refusal, error: Option<&Error>) -> Next {
        self.injector.metrics.refused(refusal.code.as_str());
        let status = refusal.code.status().as_u16();
        let mut answer = refusal.to_http1(context.request_id);
        if *method == Method::HEAD {
            let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
            answer.truncate(end);
        }
        context.refusal = Some(refusal);
        self.injector.finish(context, method, status, error);
        Next::Last(answer)
    }

    fn failed(&self, context: &mut Context, method: &Method, error: &Error, answered: bool) -> Next {
        context.stop_expecting();
        let body_timeout = context.snapshot.as_ref().map(|s| s.config.limits.body_timeout).unwrap_or_default();
        match failure::refusal(error, context, body_timeout) {
            Some(refusal) if !answered => self.refused(context, method, refusal, Some(error)),
            refusal => {
                context.refusal = refusal;
                let status = if answered { context.upstream_status.unwrap_or_default() } else { 0 };
                self.injector.finish(context, method, status, Some(error));
                Next::Close
            }
        }
    }
}

/// As much room as a connection keeps from one request to the next, for each of three uses, bytes.
const KEPT_ROOM: usize = 16 * 1024;
/// As large as the body of a plain request may be, bytes.
const MAX_BODY: usize = 16 * 1024;
