//! From pingora's errors to refusals. An error's own text is shown only where it cannot hold bytes of a request.

use pingora::{Error, ErrorSource, ErrorType};

use super::{
    context::Context,
    inject,
    refusal::{Code, Refusal},
    tunnel,
};
use crate::{credential::SigningError, egress::connect::NoTunnel};

/// What a failed request is answered with; `None`: the client is gone.
pub(super) fn refusal(error: &Error, context: &Context, body_timeout: std::time::Duration) -> Option<Refusal> {
    let refusal = told(error, context, body_timeout)?;
    Some(match context.profile() {
        Some(profile) => refusal.for_profile(&profile.config.name),
        None => refusal,
    })
}

fn told(error: &Error, context: &Context, body_timeout: std::time::Duration) -> Option<Refusal> {
    let to = context.destination.as_ref().map(|to| to.name().to_string()).unwrap_or_default();
    if context.answer_overdue {
        let limit = context.response_timeout();
        return Some(Refusal::new(
            Code::UpstreamTimeout,
            format!("{to} did not begin to answer within response_timeout ({limit:?})"),
            "raise response_timeout of the route if such answers are normal",
        ));
    }
    if let Some(no_tunnel) = cause::<NoTunnel>(error) {
        return Some(tunnel::refusal(no_tunnel));
    }
    if let Some(unsignable) = cause::<SigningError>(error) {
        return Some(inject::refusal(unsignable));
    }
    let through = context.destination.as_ref().and_then(|destination| destination.through.as_ref());
    Some(match (error.etype(), error.esource()) {
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => Refusal::new(
            Code::BodyTimeout,
            format!("no byte of the request's body arrived for body_timeout ({body_timeout:?})"),
            "send the body without such pauses, or raise limits.body_timeout",
        ),
        (
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::ConnectionClosed
            | ErrorType::WriteTimedout
            | ErrorType::H2Error,
            ErrorSource::Downstream,
        ) => return None,
        (ErrorType::InvalidHTTPHeader, ErrorSource::Downstream) => Refusal::new(
            Code::BadRequest,
            "the request is not well-formed",
            "look at its header fields (does Connection name one that has to stay?) and its body's framing",
        ),
        (_, ErrorSource::Downstream) => Refusal::new(
            Code::BadRequest,
            format!("the request ended with {}", error.etype().as_str()),
            "look at how its body is framed",
        ),
        (ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout, _) => Refusal::new(
            Code::UpstreamTimeout,
            match through {
                Some(proxy) => {
                    format!("no connection to {to} through egress proxy {} within connect_timeout", proxy.name())
                }
                None => format!("no connection to {to} within connect_timeout"),
            },
            "check that it is up and that a firewall lets us through",
        ),
        _ if is_tls(error) => Refusal::new(
            Code::UpstreamTls,
            format!("TLS with {to} failed: {}", causes(error)),
            "if its CA is private, set ca_file on the route; if its name differs, set server_name",
        ),
        (
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::SocketError
            | ErrorType::BindError,
            _,
        ) => Refusal::new(
            Code::UpstreamUnreachable,
            format!("no connection to {to}: {}", causes(error)),
            "check that it is up and that `upstream` names its host and port",
        ),
        (ErrorType::ReadTimedout | ErrorType::WriteTimedout, _) => {
            Refusal::new(Code::UpstreamTimeout, format!("{to} stopped answering"), "look at the upstream")
        }
        (
            ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::H2Error
            | ErrorType::H1Error,
            _,
        ) => Refusal::new(
            Code::UpstreamUnreachable,
            format!("the connection to {to} broke before an answer"),
            "look at the upstream's log; only GET, HEAD, PUT, DELETE and the like are sent once more, and once",
        ),
        (ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade, ErrorSource::Upstream) => {
            Refusal::new(
                Code::UpstreamProtocol,
                format!("{to} answered with something that is not HTTP"),
                "is the port right, and does it speak TLS?",
            )
        }
        (etype, _) => Refusal::new(
            Code::InternalError,
            format!("the request ended with {}", etype.as_str()),
            "report it with the request_id and the log line",
        ),
    })
}

/// The error of this type below one of pingora's, if there is one.
pub(super) fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.cause.as_deref().map(|cause| cause as _);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        let pingora =
            inner.downcast_ref::<Error>().or_else(|| inner.downcast_ref::<Box<Error>>().map(|boxed| &**boxed));
        cause = match pingora {
            Some(pingora) => pingora.cause.as_deref().map(|cause| cause as _),
            None => inner.source(),
        };
    }
    None
}

/// Whether TLS with the upstream failed.
pub(super) fn is_tls(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError)
}

/// The reason below a connection error: the operating system's or rustls's words, which hold no request. pingora's
/// own texts name addresses and more; of them only the kind is told.
fn causes(error: &Error) -> String {
    let mut last = error.etype().as_str().to_owned();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.cause.as_deref().map(|cause| cause as _);
    while let Some(inner) = cause {
        let pingora =
            inner.downcast_ref::<Error>().or_else(|| inner.downcast_ref::<Box<Error>>().map(|boxed| &**boxed));
        cause = match pingora {
            Some(pingora) => {
                pingora.etype().as_str().clone_into(&mut last);
                pingora.cause.as_deref().map(|cause| cause as _)
            }
            None => {
                last = inner.to_string();
                inner.source()
            }
        };
    }
    last
}
