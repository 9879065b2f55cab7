//! Streams, certificates, and as much of HTTP/1.1 as both ends of a benchmark need.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

/// A connection, with or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) async fn tls(stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(connector.connect(name, stream).await?.into())))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection and what was read from it and not yet used.
pub(crate) struct Http {
    pub(crate) stream: Stream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Http {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: vec![0; 64 * 1024].into(), start: 0, end: 0 }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next head, looked at by `read` where it stands. `None`: the other end closed between two messages.
    pub(crate) async fn head<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<Option<T>> {
        let mut seen = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = end_of_head(unread, seen) {
                let result = read(&unread[..at]);
                self.start += at;
                return Ok(Some(result));
            }
            seen = unread.len().saturating_sub(3);
            if self.more().await? == 0 {
                return if self.start == self.end { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads and forgets so many bytes.
    pub(crate) async fn skip(&mut self, mut length: usize) -> io::Result<()> {
        loop {
            let here = length.min(self.end - self.start);
            self.start += here;
            length -= here;
            if length == 0 {
                return Ok(());
            }
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads and forgets a chunked body.
    pub(crate) async fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let size = loop {
                let unread = &self.buffer[self.start..self.end];
                if let Some(at) = unread.windows(2).position(|pair| pair == b"\r\n") {
                    let text = std::str::from_utf8(&unread[..at]).map_err(io::Error::other)?;
                    let size = usize::from_str_radix(text.trim(), 16).map_err(io::Error::other)?;
                    self.start += at + 2;
                    break size;
                }
                if self.more().await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            self.skip(size + 2).await?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// One read, forgotten; how much it was.
    pub(crate) async fn read_some(&mut self) -> io::Result<usize> {
        (self.start, self.end) = (0, 0);
        self.more().await
    }

    /// Sends a request and reads its answer to the end.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.write(request).await?;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let answer = self.head(Answer::parse).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match answer.length {
            Some(length) => self.skip(length).await?,
            None if answer.chunked => self.skip_chunks().await?,
            None => {}
        }
        Ok(answer)
    }

    async fn more(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read)
    }
}

/// What a client has to know of an answer.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    length: Option<usize>,
    chunked: bool,
}

impl Answer {
    fn parse(head: &[u8]) -> Self {
        let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0);
        let length = field(head, "content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let chunked = length.is_none() && field(head, "transfer-encoding").is_some();
        Self { status, length, chunked }
    }

    pub(crate) fn expect(self, status: u16) -> io::Result<()> {
        if self.status == status {
            Ok(())
        } else {
            Err(io::Error::other(format!("the answer was {}, not {status}", self.status)))
        }
    }
}

/// A field's value; the name in lower case.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        (value.first() == Some(&b':') && field.eq_ignore_ascii_case(name.as_bytes())).then(|| value[1..].trim_ascii())
    })
}

fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(4).position(|end| end == b"\r\n\r\n").map(|at| from + at + 4)
}

/// One certificate for all servers here, signed by a CA that clients trust.
pub(crate) struct Certificates {
    pub(crate) ca: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "bench");
        let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let names = vec!["api.test".to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Self { ca: ca.pem(), chain: leaf.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn server(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from_pem_slice(self.key.as_bytes()).unwrap());
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A client that trusts one CA and remembers no session.
pub(crate) fn client(ca: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}
