//! A request through an egress proxy: a tunnel, TLS in it, one request and its answer.
//!
//! The tunnel is the one that upstreams use, so a failure of the proxy's is told in the same words. Such requests are
//! rare: each has a connection of its own.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{MAX_BODY, Provider, Question, USER_AGENT, Whole, told::Stage, too_long};
use crate::{
    credential::FetchError,
    egress::{Proxy, connect::Dialer},
};

/// The way to a provider through a proxy.
pub(super) struct Tunnelled<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) tls: &'a Arc<ClientConfig>,
    /// For the tunnel, and again for TLS in it.
    pub(super) connect_timeout: Duration,
}

impl Tunnelled<'_> {
    /// Sends one request and reads its answer.
    pub(super) async fn ask(&self, provider: &Provider, question: &Question<'_>) -> Result<Whole, FetchError> {
        let endpoint = question.url;
        let host = endpoint.host_str().unwrap_or_default();
        let target = format!("{host}:{}", endpoint.port_or_known_default().unwrap_or_default());
        let tunnel = self.dialer.tunnel(self.proxy, &target, self.connect_timeout).await;
        let stream = tunnel.map_err(|error| Provider::no_tunnel(question, &error))?;
        if endpoint.scheme() == "http" {
            return exchange(stream, provider, question).await;
        }
        // An IPv6 address stands in brackets in a URL, and not in a certificate.
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| provider.told(question, &error, Stage::Connect))?;
        let connecting = TlsConnector::from(Arc::clone(self.tls)).connect(name, stream);
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(Ok(stream)) => exchange(stream, provider, question).await,
            Ok(Err(error)) => Err(provider.told(question, &error, Stage::Connect)),
            Err(error) => Err(provider.told(question, &error, Stage::ConnectTimeout)),
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    provider: &Provider,
    question: &Question<'_>,
) -> Result<Whole, FetchError> {
    let broken = |error: hyper::Error| provider.told(question, &error, Stage::Exchange);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let head = head(question).map_err(|error| provider.told(question, &error, Stage::Exchange))?;
    let exchange = async move {
        let answer = sender.send_request(head).await.map_err(broken)?;
        let (parts, mut body) = answer.into_parts();
        let mut whole = Zeroizing::new(Vec::new());
        let read = loop {
            match body.frame().await {
                None => break Ok(whole),
                Some(Err(error)) => break Err(broken(error)),
                Some(Ok(frame)) => {
                    let chunk = frame.into_data().unwrap_or_default();
                    if whole.len() + chunk.len() > MAX_BODY {
                        break Err(too_long(question));
                    }
                    whole.extend_from_slice(&chunk);
                }
            }
        };
        Ok((parts.status, parts.headers, read))
    };
    // The connection does its work here and not in a task of its own: it ends with the request.
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        whole = &mut exchange => whole,
        _ = &mut connection => exchange.await,
    }
}

fn head(question: &Question<'_>) -> http::Result<Request<Full<Bytes>>> {
    let endpoint = question.url;
    let path =
        endpoint.query().map_or_else(|| endpoint.path().to_owned(), |query| format!("{}?{query}", endpoint.path()));
    let host = endpoint.host_str().unwrap_or_default();
    let authority = endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let body = Full::new(Bytes::from(question.body.expose().to_owned()));
    let mut head = Request::builder().method(question.method.clone()).uri(path).body(body)?;
    let fields = head.headers_mut();
    fields.insert(header::HOST, HeaderValue::try_from(authority)?);
    fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // A field that stands there several times takes the place of ours, all of them.
    fields.extend(question.headers.clone());
    Ok(head)
}
