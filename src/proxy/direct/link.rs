//! One connection to an upstream that speaks HTTP/1.1, in clear text or TLS.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pingora::{Error, ErrorType, Result};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::unconstrained,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::proxy::{dialled::Dialled, tunnel::Tunnel};

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    /// Where it goes: the upstream's, or the egress proxy's on the way.
    pub(super) address: SocketAddr,
    /// Whether it carried a request before.
    pub(super) reused: bool,
}

#[derive(Debug)]
enum Wire {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a connection is opened.
#[derive(Debug)]
pub(super) struct Dial {
    /// Through an egress proxy.
    pub(super) through: Option<Tunnel>,
    /// TLS, and the name to verify.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// For all of it.
    pub(super) limit: Duration,
    /// Where it is remembered.
    pub(super) dialled: Option<Dialled>,
}

impl Dial {
    /// Opens a connection.
    ///
    /// # Errors
    /// As pingora's connector has them.
    pub(super) async fn open(&self, address: SocketAddr) -> Result<Link> {
        let opened = timeout(self.limit, async {
            let stream = match &self.through {
                Some(tunnel) => tunnel.open(address).await?,
                None => connect(address).await?,
            };
            if let Some(dialled) = &self.dialled {
                dialled.note(&stream);
            }
            let Some((settings, name)) = &self.tls else { return Ok::<_, Box<Error>>(Wire::Clear(stream)) };
            let stream = TlsConnector::from(Arc::clone(settings)).connect(name.clone(), stream).await;
            let stream = stream.map_err(|error| Error::because(ErrorType::TLSHandshakeFailure, "no TLS", error))?;
            Ok(Wire::Tls(Box::new(stream)))
        });
        let wire =
            opened.await.map_err(|_| Error::explain(ErrorType::ConnectTimedout, "connect_timeout is over"))??;
        Ok(Link { wire, address, reused: false })
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    stream.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, "no connection", error)
    })
}

impl Link {
    /// Whether it may carry another request: nothing was said since the last one, and it was not closed. Asks what is
    /// known of the socket already, and the system only where there is news.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        let read = poll_fn(|task| Pin::new(&mut *self).poll_read(task, &mut byte));
        // A task that did much of late would be told that there is nothing to read, so that it lets others run.
        pin!(unconstrained(read)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Clear(stream) => Pin::new(stream).poll_read(task, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(task, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Clear(stream) => Pin::new(stream).poll_write(task, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Clear(stream) => Pin::new(stream).poll_flush(task),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Clear(stream) => Pin::new(stream).poll_shutdown(task),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }
}
