//! A client's connection as pingora sees it: bytes that were read ahead come first, a request's end is an end, and an
//! answer that is overdue ends the wait.
//!
//! pingora reads on while it waits for an upstream, to see a client leave. Past the end of a request whose length is
//! known this stream gives it nothing: the next request stays here until its turn, and a client that closed its sending
//! side still gets its answer. A connection that was reset is an error at once.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context as TaskContext, Poll, ready},
};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, Ssl, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{alarm::Alarm, head::Body};
use crate::proxy::context::Connection;

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    /// Writes are gathered: pingora flushes at the end of a head, of a body, and where it waits.
    socket: BufWriter<Socket>,
    /// Read ahead.
    pub(super) buffer: BytesMut,
    /// How many bytes the current request may still have; `None`: its end cannot be told from here.
    allowance: Option<u64>,
    /// The client will send no more.
    eof: bool,
    facts: Arc<Connection>,
    /// The facts as pingora carries them, made when it asks.
    digest: OnceLock<Option<Arc<ProxyDigest>>>,
    alarm: Alarm,
}

/// What a client's bytes come through.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS that we end, inside of another.
    Tls(Box<TlsStream<Rewound>>),
}

/// A socket with what was read of it ahead.
#[derive(Debug)]
pub(super) struct Rewound {
    ahead: BytesMut,
    socket: Socket,
}

impl ClientStream {
    pub(super) fn new(socket: Socket, facts: Arc<Connection>) -> Self {
        Self {
            socket: BufWriter::with_capacity(WRITE_BUFFER, socket),
            buffer: BytesMut::new(),
            allowance: None,
            eof: false,
            facts,
            digest: OnceLock::new(),
            alarm: Alarm::default(),
        }
    }

    /// The facts that go with the connection.
    pub(super) fn facts(&self) -> &Arc<Connection> {
        &self.facts
    }

    /// The same connection from here on with other facts, such as those of the tunnel that it has become.
    pub(super) async fn become_another(mut self, facts: Arc<Connection>) -> io::Result<Self> {
        self.socket.flush().await?;
        let mut other = Self::new(self.socket.into_inner(), facts);
        other.buffer = self.buffer;
        other.eof = self.eof;
        Ok(other)
    }

    /// Ends the client's TLS: from here on its bytes are what was in there. Nothing of what was written is left behind.
    ///
    /// # Errors
    /// The handshake failed; a `rustls::Error` in it says how.
    pub(super) async fn accept_tls(mut self, settings: Arc<ServerConfig>) -> io::Result<Self> {
        self.socket.flush().await?;
        let rewound = Rewound { ahead: self.buffer, socket: self.socket.into_inner() };
        let stream = TlsAcceptor::from(settings).accept(rewound).await?;
        Ok(Self::new(Socket::Tls(Box::new(stream)), self.facts))
    }

    /// Whether the client's TLS agreed on HTTP/2.
    pub(super) fn agreed_on_http2(&self) -> bool {
        matches!(self.socket.get_ref(), Socket::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Reads more ahead; 0 at the end.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.fill_until(None).await
    }

    /// Reads more ahead; 0 at the end, `TimedOut` once `due` is over.
    pub(super) async fn fill_until(&mut self, due: Option<Instant>) -> io::Result<usize> {
        if self.eof {
            return Ok(0);
        }
        self.buffer.reserve(READ_AHEAD);
        let Self { socket, buffer, alarm, .. } = self;
        let read = poll_fn(|task| {
            if let Poll::Ready(read) = pin!(socket.get_mut().read_buf(buffer)).poll(task) {
                return Poll::Ready(read);
            }
            match due {
                Some(due) => alarm.poll(due, task).map(|()| Err(io::ErrorKind::TimedOut.into())),
                None => Poll::Pending,
            }
        });
        let read = read.await?;
        self.eof = read == 0;
        Ok(read)
    }

    /// From here on one request is read, whose head has `head` bytes.
    pub(super) fn begin_request(&mut self, head: usize, body: Body) {
        self.allowance = match body {
            Body::Exact(length) => Some(length.saturating_add(head as u64)),
            Body::Open => None,
        };
    }

    /// Writes all of it out, and nothing more can be read or written after it.
    pub(super) async fn farewell(mut self, bytes: &[u8]) {
        let sent = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await?;
            self.socket.shutdown().await?;
            // What the client still sends is read and dropped for a moment: closing on it would reset the connection
            // before the client has read the answer.
            let mut sink = [0; 4096];
            while self.socket.get_mut().read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        // The client may be gone, or never stop: either way this was its last word from us.
        drop(tokio::time::timeout(LINGER, sent).await);
    }

    /// Past the end of the request: sees a reset, remembers an end, keeps what comes for later.
    fn watch(&mut self, task: &mut TaskContext<'_>) -> io::Result<()> {
        while !self.eof && self.buffer.len() < READ_AHEAD {
            let mut chunk = [const { MaybeUninit::uninit() }; 1024];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match Pin::new(self.socket.get_mut()).poll_read(task, &mut chunk) {
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => self.eof = true,
                Poll::Ready(Ok(())) => self.buffer.extend_from_slice(chunk.filled()),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Fails once the answer is overdue; otherwise wakes the task when it is.
    fn poll_due(&mut self, task: &mut TaskContext<'_>) -> Poll<io::Error> {
        let Some(at) = self.facts.answer_due.get() else { return Poll::Pending };
        ready!(self.alarm.poll(at, task));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the upstream did not begin to answer in time"))
    }

    fn spend(&mut self, read: usize) {
        if let Some(left) = &mut self.allowance {
            *left = left.saturating_sub(read as u64);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, task: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let allowed = match this.allowance {
            Some(left) => buf.remaining().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => buf.remaining(),
        };
        if allowed == 0 && buf.remaining() > 0 {
            this.watch(task)?;
            return this.poll_due(task).map(Err);
        }
        if !this.buffer.is_empty() {
            let ahead = this.buffer.len().min(allowed);
            let bytes = this.buffer.split_to(ahead);
            buf.put_slice(&bytes);
            this.spend(ahead);
            return Poll::Ready(Ok(()));
        }
        if this.eof {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = if allowed == buf.remaining() {
            Pin::new(this.socket.get_mut()).poll_read(task, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(allowed));
            let polled = Pin::new(this.socket.get_mut()).poll_read(task, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            polled
        };
        match polled {
            Poll::Ready(Ok(())) => {
                this.spend(buf.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_due(task).map(Err),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, task: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(task)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        if let Err(error) = self.socket.shutdown().await {
            tracing::trace!(%error, "client connection was gone before it was shut down");
        }
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        use std::os::fd::AsRawFd;
        let mut socket = self.socket.get_ref();
        loop {
            match socket {
                Socket::Tcp(stream) => return stream.as_raw_fd(),
                Socket::Unix(stream) => return stream.as_raw_fd(),
                Socket::Tls(stream) => socket = &stream.get_ref().0.socket,
            }
        }
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digest.get_or_init(|| self.facts.as_digest()).clone()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<pingora::protocols::SocketDigest>> {
        None
    }
}

impl Ssl for ClientStream {}
impl Peek for ClientStream {}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, task: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(task, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(task, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(task, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, task: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(task, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(task, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(task),
            Self::Unix(stream) => Pin::new(stream).poll_flush(task),
            Self::Tls(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(task),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(task),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, task: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.socket).poll_read(task, buf);
        }
        let length = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, task: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(task)
    }
}

/// Read at once, and kept at most of a request that is not due yet, bytes.
const READ_AHEAD: usize = 4 * 1024;
/// An answer's head and a small body in one packet, bytes.
const WRITE_BUFFER: usize = 4 * 1024;
/// How long a refused client is listened to.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);
