//! Bodies of requests that are signed: read before the request goes out, or signed in pieces while they pass.

use bytes::Bytes;
use http::{Version, header};
use pingora::{Error, ErrorType, Result, http::RequestHeader, proxy::Session};
use tokio::time::timeout;

use super::{context::Context, inject};

/// Reads the whole body into the retry buffer, where the signer has to see it and it is not larger than that. Other
/// requests are left alone.
///
/// # Errors
/// The body does not arrive.
pub(super) async fn hold(session: &mut Session, context: &mut Context) -> Result<()> {
    let Some(signer) = context.credential.signer() else { return Ok(()) };
    let head = session.req_header();
    if session.is_upgrade_req() || !signer.wants_body(&head.headers, inject::length(head)) {
        return Ok(());
    }
    let waits = head.version != Version::HTTP_10
        && head.headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if session.is_body_empty() {
        return Ok(());
    }
    let limit = context.snapshot.as_ref().map(|snapshot| snapshot.config.limits.body_timeout).unwrap_or_default();
    let session = session.as_mut();
    session.enable_retry_buffering();
    if waits {
        session.write_continue_response().await.map_err(Error::into_down)?;
    }
    loop {
        // Of HTTP/2 pingora has no timeout.
        let read = timeout(limit, session.read_request_body()).await;
        let read = read.map_err(|_| Error::new(ErrorType::ReadTimedout).into_down())?;
        if read.map_err(Error::into_down)?.is_none() {
            break;
        }
        if session.retry_buffer_truncated() {
            // It is signed as one that nobody knows, or not at all.
            return Ok(());
        }
    }
    context.held = true;
    Ok(())
}

/// The body that was read before, if one was; the head then says how long it is.
///
/// # Errors
/// None in practice.
pub(super) fn held(session: &Session, head: &mut RequestHeader, context: &Context) -> Result<Option<Bytes>> {
    if !context.held {
        return Ok(None);
    }
    let body = session.as_ref().get_retry_buffer().unwrap_or_default();
    head.remove_header(&header::TRANSFER_ENCODING);
    // The client was told already that it may go on.
    head.remove_header(&header::EXPECT);
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    Ok(Some(body))
}

/// Cuts what came of the body into signed chunks.
///
/// # Errors
/// The body is not as long as was announced.
pub(super) fn cut(body: &mut Option<Bytes>, end: bool, context: &mut Context) -> Result<()> {
    let Some(mut chunks) = context.chunks.take() else { return Ok(()) };
    let wrong =
        |error| Error::because(ErrorType::Custom("a body of another length"), "signed chunks", error).into_down();
    let end = end || body.is_none();
    let mut ready = chunks.push(body.as_deref().unwrap_or_default()).map_err(wrong)?;
    if end {
        let last = chunks.finish().map_err(wrong)?;
        ready = if ready.is_empty() { last } else { [&*ready, &*last].concat().into() };
    } else {
        context.chunks = Some(chunks);
    }
    *body = Some(ready);
    Ok(())
}
