//! Upstream connections through an egress proxy: what pingora dials by, and what a failure of it means.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::L4Connect,
    protocols::l4::{socket::SocketAddr, stream::Stream},
};

use tokio::net::TcpStream;

use super::{
    failure,
    refusal::{Code, Refusal},
};
use crate::{
    dns::DnsError,
    egress::{
        Proxy,
        connect::{self, NoTunnel, Why},
    },
};

/// Dials one target through one proxy. pingora then speaks TLS through it as if it were the target's own connection.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// The proxy.
    pub(super) proxy: Arc<Proxy>,
    /// `HOST:PORT`.
    pub(super) target: String,
}

impl Tunnel {
    /// `address` is one of the proxy's.
    pub(super) async fn open(&self, address: std::net::SocketAddr) -> Result<TcpStream> {
        connect::open(&self.proxy, address, &self.target).await.map_err(|why| {
            let error = why.told(&self.proxy, &self.target);
            Error::because(ErrorType::ConnectError, "through the egress proxy", error)
        })
    }
}

#[async_trait]
impl L4Connect for Tunnel {
    /// `connect_timeout` is pingora's to keep.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else { return Err(Error::new(ErrorType::SocketError)) };
        Ok(self.open(*address).await?.into())
    }
}

/// What a client is told.
pub fn refusal(error: &NoTunnel) -> Refusal {
    let code = match &error.why {
        Why::NoAddress(DnsError::Unresolved { .. }) => Code::UpstreamUnresolved,
        Why::NoAddress(DnsError::Forbidden { .. }) => Code::RouteDenied,
        Why::Own(_) => Code::LoopDetected,
        Why::TimedOut(_) | Why::Answered(http::StatusCode::GATEWAY_TIMEOUT) => Code::UpstreamTimeout,
        Why::Unreachable(_) | Why::Broken(_) | Why::Answered(_) | Why::NotHttp | Why::TooLong | Why::Secret(_) => {
            Code::UpstreamUnreachable
        }
    };
    Refusal::new(code, error.to_string(), error.hint())
}

/// Whether an egress proxy had its say: then no other address of it is worth a try.
pub(super) fn was_answered(error: &Error) -> bool {
    failure::cause::<NoTunnel>(error).is_some_and(|no_tunnel| !matches!(no_tunnel.why, Why::Unreachable(_)))
}
