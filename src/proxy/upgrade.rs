//! Upstream connections of requests that ask for an upgrade (WebSocket).
//!
//! pingora 0.9.1 takes a 101 that it reads before it has noted the end of the request for one whose client is done, and
//! ends the stream (`proxy_h1.rs`: `send_body_to1` after `was_upgraded`). The end of the request is there when it first
//! looks for the answer, so it is enough that nothing is read at that first look.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::L4Connect,
    protocols::l4::{
        socket::SocketAddr,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Dials an upstream, by itself or as another does, for a request that asks for an upgrade.
#[derive(Debug)]
pub(super) struct Dial {
    /// How the upstream is dialled; `None`: directly.
    pub(super) through: Option<Arc<super::tunnel::Tunnel>>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(inet) = address.as_inet() else { return Err(Error::new(ErrorType::SocketError)) };
        let socket = match &self.through {
            Some(tunnel) => tunnel.open(*inet).await?,
            None => TcpStream::connect(inet).await.map_err(|error| {
                let etype = match error.kind() {
                    io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                    io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                    _ => ErrorType::ConnectError,
                };
                Error::because(etype, "for an upgrade", error)
            })?,
        };
        socket.set_nodelay(true).map_err(|error| Error::because(ErrorType::SocketError, "TCP_NODELAY", error))?;
        Ok(VirtualSocketStream::new(Box::new(LooksTwice { socket, wrote: false })).into())
    }
}

/// A socket that has nothing at the first look after a write.
#[derive(Debug)]
struct LooksTwice {
    socket: TcpStream,
    wrote: bool,
}

impl VirtualSocket for LooksTwice {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // Nothing else is asked for (`peer.options`).
            _ => Ok(()),
        }
    }
}

impl AsyncRead for LooksTwice {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.wrote) {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut this.socket).poll_read(task, buf)
    }
}

impl AsyncWrite for LooksTwice {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        Pin::new(&mut this.socket).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(task)
    }
}
