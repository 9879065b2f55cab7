//! A tunnel through an HTTP proxy: CONNECT (RFC 9110 9.3.6), and what became of it.
//!
//! The target's name goes to the proxy as it is: the proxy resolves it. Of the answer not a byte more than its head is
//! taken, for what follows belongs to the target.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zeroize::Zeroizing;

use super::Proxy;
use crate::{
    dns::{self, DnsError, Names, Resolver},
    secret::SecretError,
};

/// What it takes to reach a proxy.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Names to addresses.
    pub resolver: Resolver,
    /// The sockets of this process: a proxy that is one of them would be a loop.
    pub own: Arc<[SocketAddr]>,
}

impl Dialer {
    /// The addresses of a proxy, the first to try last.
    ///
    /// # Errors
    /// No address; only forbidden ones; our own.
    pub async fn addresses(&self, proxy: &Proxy) -> Result<Vec<SocketAddr>, Why> {
        // An operator named it: a literal address is meant as it is.
        let ips = if proxy.host.ip().is_some() {
            self.resolver.lookup(&proxy.host, Names::System).await
        } else {
            self.resolver.resolve(&proxy.host, Names::System).await
        };
        let mut addresses: Vec<SocketAddr> =
            ips.map_err(Why::NoAddress)?.into_iter().take(MAX_ADDRESSES).map(|ip| (ip, proxy.port).into()).collect();
        if let Some(mine) = addresses.iter().find(|address| dns::is_own(**address, &self.own)) {
            return Err(Why::Own(*mine));
        }
        addresses.reverse();
        Ok(addresses)
    }

    /// Opens a tunnel to `target` (`HOST:PORT`), all within `limit`.
    ///
    /// # Errors
    /// Whatever kept it from that.
    pub async fn tunnel(&self, proxy: &Proxy, target: &str, limit: Duration) -> Result<TcpStream, NoTunnel> {
        let opened = async { first(proxy, self.addresses(proxy).await?, target).await };
        let opened = tokio::time::timeout(limit, opened).await;
        opened.unwrap_or(Err(Why::TimedOut(limit))).map_err(|why| why.told(proxy, target))
    }
}

/// Opens a tunnel by the first address that answers, the first to try last.
///
/// # Errors
/// As [`open`], of the last one.
pub async fn first(proxy: &Proxy, mut addresses: Vec<SocketAddr>, target: &str) -> Result<TcpStream, Why> {
    let mut last = Why::Unreachable(io::ErrorKind::NotFound.into());
    while let Some(address) = addresses.pop() {
        match open(proxy, address, target).await {
            Err(Why::Unreachable(error)) => last = Why::Unreachable(error),
            answered => return answered,
        }
    }
    Err(last)
}

/// Opens a tunnel by this address of the proxy.
///
/// # Errors
/// The password cannot be had, no connection, or an answer that is no success.
pub async fn open(proxy: &Proxy, address: SocketAddr, target: &str) -> Result<TcpStream, Why> {
    let authorization = proxy.authorization().await.map_err(Why::Secret)?;
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes());
    if let Some(value) = &authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(concat!("User-Agent: lanyard/", env!("CARGO_PKG_VERSION"), "\r\n\r\n").as_bytes());
    let mut stream = TcpStream::connect(address).await.map_err(Why::Unreachable)?;
    stream.set_nodelay(true).map_err(Why::Unreachable)?;
    stream.write_all(&request).await.map_err(Why::Broken)?;
    let status = answer(&mut stream).await?;
    if status.is_success() { Ok(stream) } else { Err(Why::Answered(status)) }
}

/// The status of the final answer; everything behind its head stays in the socket.
async fn answer(stream: &mut TcpStream) -> Result<StatusCode, Why> {
    let (mut head, mut total) = (Vec::new(), 0);
    loop {
        let mut ahead = [0; 1024];
        let seen = stream.peek(&mut ahead).await.map_err(Why::Broken)?;
        if seen == 0 {
            return Err(Why::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = head.len();
        head.extend_from_slice(ahead.get(..seen).unwrap_or_default());
        let end = end_of_head(&head);
        let taken = end.unwrap_or(head.len()) - before;
        stream.read_exact(ahead.get_mut(..taken).unwrap_or_default()).await.map_err(Why::Broken)?;
        total += taken;
        let begins = head.iter().zip(b"HTTP/1.").all(|(found, expected)| found == expected);
        if !begins {
            return Err(Why::NotHttp);
        }
        if total > MAX_HEAD {
            return Err(Why::TooLong);
        }
        let Some(end) = end else { continue };
        let status = status(head.get(..end).unwrap_or_default())?;
        if !status.is_informational() {
            return Ok(status);
        }
        head.clear();
    }
}

/// Where the empty line ends; lines may end without CR, as some proxies' do.
fn end_of_head(head: &[u8]) -> Option<usize> {
    let crlf = head.windows(3).position(|window| window == b"\n\r\n").map(|at| at + 3);
    let lf = head.windows(2).position(|window| window == b"\n\n").map(|at| at + 2);
    match (crlf, lf) {
        (Some(crlf), Some(lf)) => Some(crlf.min(lf)),
        (crlf, lf) => crlf.or(lf),
    }
}

fn status(head: &[u8]) -> Result<StatusCode, Why> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Why::TooLong),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Why::NotHttp),
    }
    answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Why::NotHttp)
}

/// Why there is no tunnel.
#[derive(Debug)]
pub enum Why {
    /// The proxy's name does not resolve, or only to what is never dialled.
    NoAddress(DnsError),
    /// The proxy is lanyard itself.
    Own(SocketAddr),
    /// No connection to the proxy.
    Unreachable(io::Error),
    /// The connection ended before the answer did.
    Broken(io::Error),
    /// The proxy's answer is none of success.
    Answered(StatusCode),
    /// What came back is not HTTP/1.
    NotHttp,
    /// The answer's head has no end.
    TooLong,
    /// Not within this time.
    TimedOut(Duration),
    /// The password cannot be had.
    Secret(SecretError),
}

impl Why {
    /// The same, naming the proxy and the target.
    pub fn told(self, proxy: &Proxy, target: &str) -> NoTunnel {
        NoTunnel { proxy: proxy.name(), has_login: proxy.login.is_some(), target: target.to_owned(), why: self }
    }
}

/// No tunnel to a target through a proxy. Holds nothing secret, and nothing that the proxy wrote but its status.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.detail())]
pub struct NoTunnel {
    /// `http://HOST:PORT`.
    pub proxy: String,
    /// Whether credentials are set for it.
    pub has_login: bool,
    /// `HOST:PORT`.
    pub target: String,
    /// The reason.
    pub why: Why,
}

impl NoTunnel {
    /// What happened, in one line.
    fn detail(&self) -> String {
        let Self { proxy, target, .. } = self;
        match &self.why {
            Why::NoAddress(error) => format!("egress proxy {proxy}: {error}"),
            Why::Own(address) => format!("egress proxy {proxy} is lanyard itself ({address})"),
            Why::Unreachable(error) => {
                format!("no connection to egress proxy {proxy}, on the way to {target}: {error}")
            }
            Why::Broken(_) => {
                format!("egress proxy {proxy} closed the connection without an answer to CONNECT {target}")
            }
            Why::Answered(status) if wants_login(*status) && self.has_login => {
                format!("egress proxy {proxy} does not take the credentials ({} to CONNECT {target})", status.as_u16())
            }
            Why::Answered(status) if wants_login(*status) => {
                format!("egress proxy {proxy} wants credentials ({} to CONNECT {target})", status.as_u16())
            }
            Why::Answered(status) => format!("egress proxy {proxy} answered CONNECT {target} with {status}"),
            Why::NotHttp => format!("egress proxy {proxy} answered CONNECT {target} with something that is not HTTP/1"),
            Why::TooLong => {
                format!("egress proxy {proxy} answered CONNECT {target} with more than {MAX_HEAD} bytes of head")
            }
            Why::TimedOut(limit) => format!("egress proxy {proxy} opened no tunnel to {target} within {limit:?}"),
            Why::Secret(error) => format!("the password of egress proxy {proxy} cannot be read: {error}"),
        }
    }

    /// What to do about it, in one line.
    pub fn hint(&self) -> String {
        let target = &self.target;
        match &self.why {
            Why::NoAddress(_) => "check the host of egress_proxy, and this machine's name servers".to_owned(),
            Why::Own(_) => "let egress_proxy name the proxy that leads outside, not a listener of lanyard's".to_owned(),
            Why::Unreachable(_) => "check host and port of egress_proxy, and that it is up".to_owned(),
            Why::Broken(_) | Why::NotHttp | Why::TooLong => {
                "is egress_proxy really an HTTP proxy, at this port, without TLS? Its log may tell more".to_owned()
            }
            Why::Answered(status) if wants_login(*status) && self.has_login => {
                "check username and password of egress_proxy; Basic is the one scheme that lanyard speaks".to_owned()
            }
            Why::Answered(status) if wants_login(*status) => "set username and password of egress_proxy".to_owned(),
            Why::Answered(status) if status.is_server_error() => {
                format!(
                    "the egress proxy cannot reach {target}: look at its log, or name the host in no_proxy to go directly"
                )
            }
            Why::Answered(_) => format!(
                "have {target} allowed at the egress proxy (many allow CONNECT to port 443 alone), \
                 or name the host in no_proxy to go directly"
            ),
            Why::TimedOut(_) => {
                format!("check that the egress proxy is up and reaches {target}, and that a firewall lets us through")
            }
            Why::Secret(_) => "check `password` of egress_proxy".to_owned(),
        }
    }
}

/// 407, and 401 of proxies that mean it: tinyproxy says so to a wrong password.
fn wants_login(status: StatusCode) -> bool {
    matches!(status, StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED)
}

/// How many addresses of a proxy are tried.
const MAX_ADDRESSES: usize = 3;
/// Of the answer to CONNECT, interim ones included, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Of the answer to CONNECT.
const MAX_FIELDS: usize = 128;

#[cfg(test)]
mod tests;
