//! One stream of an HTTP/2 connection as the request side sees it: pingora's, with the deadlines that it does not keep.
//!
//! Everything but the two ways to read is handed through.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::{
            HttpTask,
            custom::{CustomMessageWrite, server::Session},
            v2::server::HttpSession,
        },
        l4::socket::SocketAddr,
    },
};
use tokio::time::{Instant, timeout_at};

use crate::proxy::context::Connection;

/// One stream.
pub(super) struct StreamSession {
    inner: HttpSession,
    facts: Arc<Connection>,
    /// Without a byte of the request's body.
    read_timeout: Option<Duration>,
}

impl StreamSession {
    pub(super) const fn new(inner: HttpSession, facts: Arc<Connection>) -> Self {
        Self { inner, facts, read_timeout: None }
    }
}

/// Fails once `at` is over.
async fn until<T>(at: Option<Instant>, what: ErrorType, reading: impl Future<Output = Result<T>>) -> Result<T> {
    match at {
        None => reading.await,
        Some(at) => timeout_at(at, reading).await.unwrap_or_else(|_| Err(Error::new(what).into_down())),
    }
}

#[async_trait]
impl Session for StreamSession {
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let body_due = self.read_timeout.and_then(|limit| Instant::now().checked_add(limit));
        let answer_due = self.facts.answer_due.get();
        let reading = until(body_due, ErrorType::ReadTimedout, self.inner.read_body_bytes());
        until(answer_due, ErrorType::ReadError, reading).await.map_err(Error::into_down)
    }

    /// The body, and after its end nothing until the client leaves or the answer is overdue.
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.inner.is_body_done() {
            return self.read_body_bytes().await;
        }
        let inner = &mut self.inner;
        let idle = async {
            // The stream was reset, or its connection is gone.
            drop(inner.idle().await);
            Err(Error::new(ErrorType::ConnectionClosed).into_down())
        };
        until(self.facts.answer_due.get(), ErrorType::ReadError, idle).await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, answer: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.inner.write_response_header(answer, end)
    }

    async fn write_response_header_ref(&mut self, answer: &ResponseHeader, end: bool) -> Result<()> {
        self.inner.write_response_header_ref(answer, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.inner.response_duplex_vec(tasks).await
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _reason: &str) {
        self.inner.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.inner.get_retry_buffer()
    }

    // What follows is for protocols that carry more than a request and its answer: HTTP/2 does not.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
