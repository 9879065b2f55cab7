//! One plain request and its answer, byte by byte.

use std::{
    future::poll_fn,
    io,
    ops::Range,
    pin::{Pin, pin},
    task::{Context as Task, Poll},
};

use bytes::{Buf, BytesMut};
use http::{Method, StatusCode};
use pingora::{Error, ErrorType, Result, server::ShutdownWatch};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

use super::{
    Direct, Room,
    answer::{self, Answer, Body},
    link::Link,
    origin::Origin,
};
use crate::proxy::{context::Context, inject, peer::Addresses, retry};

/// A request on its way.
pub(super) struct Exchange<'a> {
    pub(super) direct: &'a Direct,
    pub(super) context: &'a mut Context,
    pub(super) method: &'a Method,
    pub(super) origin: &'a Origin,
    /// The request's head is in it, but for the credential and the empty line at the end.
    pub(super) room: &'a mut Room,
    pub(super) body: &'a [u8],
    /// Whether the client wants its connection closed.
    pub(super) closes: bool,
    /// Where in the first line of the head the credential stands.
    pub(super) in_first_line: Option<Range<usize>>,
    /// The status that the client has got.
    pub(super) answered: Option<u16>,
}

/// How a try ended that brought no answer for the client.
enum Tried {
    /// The answer, whose head and what was read behind it are in the room, and the connection that brings the rest.
    Answered(Answer, Link),
    /// Once more: with a new token, or on a new connection.
    Again,
}

impl Exchange<'_> {
    /// Sends the request and brings its answer; whether the client's connection may carry another.
    ///
    /// # Errors
    /// As pingora has them. What the client has got by then is in `answered`.
    pub(super) async fn run<C>(
        &mut self,
        mut addresses: Addresses,
        client: &mut C,
        shutdown: &ShutdownWatch,
    ) -> Result<bool>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let plain = self.room.request.len();
        loop {
            self.write_credential(plain)?;
            let pooled = if self.context.resent { None } else { self.origin.take(&addresses, self.context.started) };
            let link = match pooled {
                Some(link) => link,
                None => self.direct.dial(self.context, &mut addresses).await.map_err(Error::into_up)?,
            };
            let address = link.address;
            match self.attempt(link, client).await? {
                Tried::Answered(answer, link) => return self.bring(answer, link, client, shutdown).await,
                Tried::Again => {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
            }
        }
    }

    /// Completes the head, whose fields take the first `plain` bytes but for what the last try put into its first line.
    fn write_credential(&mut self, plain: usize) -> Result<()> {
        let out = &mut self.room.request;
        if let Some(written) = self.in_first_line.take() {
            out.drain(written);
        }
        out.truncate(plain);
        if let Some(destination) = &self.context.destination {
            let (carried, method) = (&self.context.credential, self.method.as_str());
            self.in_first_line = inject::behind(out, carried, destination, method, self.body)?;
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body);
        Ok(())
    }

    /// Sends the request by one connection, and reads up to the head of its final answer.
    async fn attempt<C>(&mut self, mut link: Link, client: &mut C) -> Result<Tried>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let reused = link.reused;
        self.context.upstream_status = None;
        self.context.sends += 1;
        self.context.expect_answer();
        self.room.read.clear();
        let begun = match send(&mut link, client, &self.room.request).await {
            // What it has to say may be there already, though it does not listen.
            Ok(()) | Err(End::Upstream(_)) => self.final_head(&mut link, client).await,
            Err(end) => Err(end),
        };
        let answer = match begun {
            Ok(answer) => answer,
            Err(end) => {
                let may_resend = self.room.read.is_empty() && self.answered.is_none() && reused;
                return match end {
                    End::Upstream(_) if may_resend && self.method.is_idempotent() && !self.context.resent => {
                        // A pooled connection may have been closed as the request went out: once more, and only once.
                        self.context.resent = true;
                        Ok(Tried::Again)
                    }
                    end => Err(end.into_error(self.context)),
                };
            }
        };
        self.context.stop_expecting();
        self.context.upstream_status = Some(answer.status.as_u16());
        if let Some(metrics) = self.context.metrics() {
            metrics.upstream_response(answer.status.as_u16());
        }
        retry::tell(self.context, answer.refused_at);
        if self.renewed(&answer).await {
            if answer.reusable && matches!(answer.body, Body::Exact(left) if left == self.room.read.len() as u64) {
                self.origin.put(link, Instant::now(), answer.granted);
            }
            return Ok(Tried::Again);
        }
        Ok(Tried::Answered(answer, link))
    }

    /// Whether the request is to be sent again with another credential.
    async fn renewed(&mut self, answer: &Answer) -> bool {
        let body = self.body.len();
        let (status, nonce) = (answer.status, answer.nonce.as_ref());
        retry::renew(self.context, status, nonce, || answer.challenge, |limit| body <= limit).await
    }

    /// Reads up to the head of the final answer, and passes interim ones on.
    async fn final_head<C>(&mut self, link: &mut Link, client: &mut C) -> std::result::Result<Answer, End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Room { answer: out, read, .. } = &mut *self.room;
        loop {
            if !read.is_empty() {
                out.clear();
                match answer::read(read, self.method, out).map_err(|_| End::Malformed)? {
                    Some(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => return Err(End::Malformed),
                    Some(answer) if answer.status.is_informational() => {
                        out.extend_from_slice(b"\r\n");
                        client.write_all(out).await.map_err(End::Client)?;
                        client.flush().await.map_err(End::Client)?;
                        read.advance(answer.length);
                        // While there is always another one, nothing is waited for.
                        if self.context.connection.as_ref().is_some_and(|c| c.answer_due.is_over()) {
                            return Err(End::Client(io::ErrorKind::TimedOut.into()));
                        }
                        continue;
                    }
                    Some(answer) => {
                        read.advance(answer.length);
                        return Ok(answer);
                    }
                    None => {}
                }
            }
            if more(link, client, read, false).await? == 0 {
                return Err(End::Upstream(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Writes the answer to the client.
    async fn bring<C>(
        &mut self,
        mut answer: Answer,
        mut link: Link,
        client: &mut C,
        shutdown: &ShutdownWatch,
    ) -> Result<bool>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        // While we drain, each answer is the last of its connection, and says so.
        let keeps = !self.closes && !matches!(answer.body, Body::UntilClose) && !*shutdown.borrow();
        let Room { answer: out, read, .. } = &mut *self.room;
        out.extend_from_slice(if keeps { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        let status = answer.status.as_u16();
        let answered = &mut self.answered;
        let brought = async {
            let mut pending = true;
            loop {
                let (length, kept, done) = match &mut answer.body {
                    Body::Exact(left) => {
                        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                        *left -= here as u64;
                        (here, here, *left == 0)
                    }
                    Body::Chunked(chunks) => {
                        let found = chunks.scan(read).map_err(|_| End::Malformed)?;
                        (found.length, found.kept, found.done)
                    }
                    Body::UntilClose | Body::Unframed => (read.len(), read.len(), false),
                };
                let piece = read.get(..kept).unwrap_or_default();
                let (before, after) = match answer.body {
                    Body::Unframed if kept > 0 => (format!("{kept:x}\r\n"), &b"\r\n"[..]),
                    _ => (String::new(), &b""[..]),
                };
                let pieces = [before.as_bytes(), piece, after];
                if pending && out.len() + piece.len() <= WITH_HEAD {
                    pieces.into_iter().for_each(|piece| out.extend_from_slice(piece));
                } else {
                    if pending {
                        *answered = Some(status);
                        write(client, out).await?;
                        pending = false;
                    }
                    for piece in pieces {
                        write(client, piece).await?;
                    }
                }
                read.advance(length);
                if done {
                    if matches!(answer.body, Body::Chunked(_)) {
                        if pending { out.extend_from_slice(b"\r\n") } else { write(client, b"\r\n").await? }
                    }
                    if pending {
                        *answered = Some(status);
                        write(client, out).await?;
                    }
                    client.flush().await.map_err(End::Client)?;
                    return Ok(());
                }
                if pending {
                    *answered = Some(status);
                    write(client, out).await?;
                    pending = false;
                }
                let wanted = match &answer.body {
                    Body::Exact(left) => usize::try_from(*left).unwrap_or(usize::MAX).clamp(READ, READ_MUCH),
                    Body::Chunked(_) | Body::UntilClose | Body::Unframed => READ_MUCH,
                };
                read.reserve(wanted);
                if more(&mut link, client, read, true).await? == 0 {
                    match answer.body {
                        Body::UntilClose => {}
                        Body::Unframed => write(client, b"0\r\n\r\n").await?,
                        _ => return Err(End::Upstream(io::ErrorKind::UnexpectedEof.into())),
                    }
                    return client.flush().await.map_err(End::Client);
                }
            }
        };
        if let Err(end) = brought.await {
            // What came before the break is the client's all the same.
            if !matches!(end, End::Client(_)) && self.answered.is_some() {
                drop(client.flush().await);
            }
            return Err(end.into_error(self.context));
        }
        let ended = *self.context.ended.insert(Instant::now());
        if answer.reusable && read.is_empty() {
            self.origin.put(link, ended, answer.granted);
        }
        Ok(keeps)
    }
}

/// Why an exchange ended early.
enum End {
    /// The client is gone, or its answer is overdue.
    Client(io::Error),
    /// The upstream's connection broke.
    Upstream(io::Error),
    /// What it sent is no answer.
    Malformed,
}

impl End {
    fn into_error(self, context: &mut Context) -> Box<Error> {
        context.answer_overdue = context.connection.as_ref().is_some_and(|c| c.answer_due.is_over());
        context.stop_expecting();
        match self {
            Self::Client(error) => Error::because(ErrorType::WriteError, "the client", error).into_down(),
            Self::Upstream(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Error::new(ErrorType::ConnectionClosed).into_up()
            }
            Self::Upstream(error) => Error::because(ErrorType::ReadError, "the upstream", error).into_up(),
            Self::Malformed => Error::new(ErrorType::InvalidHTTPHeader).into_up(),
        }
    }
}

async fn write<C: AsyncWrite + Unpin>(client: &mut C, bytes: &[u8]) -> std::result::Result<(), End> {
    if bytes.is_empty() {
        return Ok(());
    }
    client.write_all(bytes).await.map_err(End::Client)
}

/// Sends all of it, unless the client is gone before that, or the answer overdue.
async fn send<L, C>(link: &mut L, client: &mut C, bytes: &[u8]) -> std::result::Result<(), End>
where
    L: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
{
    let mut left = bytes;
    poll_fn(|task| {
        while !left.is_empty() {
            match Pin::new(&mut *link).poll_write(task, left) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Upstream(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(sent)) => left = left.get(sent..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Upstream(error))),
                Poll::Pending => return gone(client, task).map(Err),
            }
        }
        // What TLS took may be waiting here still.
        match Pin::new(&mut *link).poll_flush(task) {
            Poll::Ready(flushed) => Poll::Ready(flushed.map_err(End::Upstream)),
            Poll::Pending => gone(client, task).map(Err),
        }
    })
    .await
}

/// Reads more of the upstream; 0 at its end. Where it has nothing yet, what the client has coming is flushed first if
/// that is wanted, and the client is watched while we wait.
async fn more<C>(link: &mut Link, client: &mut C, read: &mut BytesMut, flush: bool) -> std::result::Result<usize, End>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut flushed = !flush;
    poll_fn(|task| {
        if let Poll::Ready(result) = poll_read_buf(link, task, read) {
            return Poll::Ready(result.map_err(End::Upstream));
        }
        if !flushed {
            match Pin::new(&mut *client).poll_flush(task) {
                Poll::Ready(Ok(())) => flushed = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Client(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        gone(client, task).map(Err)
    })
    .await
}

fn poll_read_buf(link: &mut Link, task: &mut Task<'_>, read: &mut BytesMut) -> Poll<io::Result<usize>> {
    if read.capacity() == read.len() {
        read.reserve(READ);
    }
    pin!(link.read_buf(read)).poll(task)
}

/// Ready once the client is gone, or the answer overdue.
fn gone<C: AsyncRead + Unpin>(client: &mut C, task: &mut Task<'_>) -> Poll<End> {
    let mut byte = [0; 1];
    let mut byte = ReadBuf::new(&mut byte);
    match Pin::new(client).poll_read(task, &mut byte) {
        Poll::Ready(Err(error)) => Poll::Ready(End::Client(error)),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
    }
}

/// Room for most answers, bytes.
const READ: usize = 4 * 1024;
/// Room for what is large, bytes.
const READ_MUCH: usize = 64 * 1024;
/// Up to so much an answer's head and the beginning of its body are gathered, bytes.
const WITH_HEAD: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that takes what is written and lets nothing out.
    struct Stuck;

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A client whose answer is overdue.
    struct Overdue;

    impl AsyncRead for Overdue {
        fn poll_read(self: Pin<&mut Self>, _: &mut Task<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_takes_nothing_is_not_waited_for_too_long() {
        let (mut upstream, mut client) = (Stuck, Overdue);
        let sent = send(&mut upstream, &mut client, b"GET / HTTP/1.1\r\n\r\n");
        let sent = tokio::time::timeout(std::time::Duration::from_secs(60), sent).await;
        assert!(matches!(sent, Ok(Err(End::Client(_)))));
    }
}
