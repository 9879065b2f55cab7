//! The one place that writes a credential into a request, whichever way it is sent.
//!
//! By the time it is called, the head is as its upstream will get it: what the client sent in the same place is gone.

use std::ops::Range;

use http::header::{CONTENT_LENGTH, HOST};
use pingora::{Error, ErrorType, Result, http::RequestHeader};

use super::{
    context::Carried,
    peer::Destination,
    refusal::{Code, Refusal},
};
use crate::{
    aws::ChunkEncoder,
    config::Placement,
    credential::{Body, Outgoing, Signer, SigningError, Streamed},
    route::query,
    token::Form,
};

/// Writes what a request carries into its head as pingora sends it. The answer: what its body has to pass through.
///
/// # Errors
/// The request cannot be signed.
pub fn into_head(
    head: &mut RequestHeader,
    carried: &Carried,
    destination: &Destination,
    body: Body<'_>,
) -> Result<Option<Box<ChunkEncoder>>> {
    let Carried::Token { profile, token, .. } = carried else { return Ok(None) };
    match (&token.form, &profile.config.placement) {
        (Form::Header(value), _) => head.insert_header(profile.wire_header.clone(), value.clone())?,
        (Form::Query(value), Placement::Query { parameter }) => {
            let plain = &*destination.path_and_query;
            let path = [plain, query::separator(plain), parameter, "=", value.expose()].concat();
            head.set_raw_path(path.as_bytes())?;
        }
        (Form::Query(_), _) => return Err(misplaced()),
        (Form::Signer(signer), _) => {
            let signed = {
                let authority = head.headers.get(HOST).map_or(&b""[..], |host| host.as_bytes());
                let fields: Vec<(&str, &[u8])> = head
                    .headers
                    .iter()
                    .filter(|(name, _)| **name != HOST)
                    .map(|(name, value)| (name.as_str(), value.as_bytes()))
                    .collect();
                let body = match body {
                    Body::Streamed(None) => Body::Streamed(length(head)),
                    known => known,
                };
                let outgoing = Outgoing {
                    method: head.method.as_str(),
                    scheme: destination.scheme.as_str(),
                    authority,
                    path_and_query: &destination.path_and_query,
                    fields: &fields,
                    body,
                };
                match body {
                    Body::Whole(_) => signer.sign(&outgoing).map(|fields| Streamed { fields, chunks: None }),
                    Body::Streamed(_) => signer.sign_streamed(&outgoing),
                }
            };
            let Streamed { fields, chunks } = signed.map_err(unsignable)?;
            for (name, value) in fields {
                head.insert_header(name, value)?;
            }
            return Ok(chunks);
        }
    }
    Ok(None)
}

/// How long a head says that its body is, bytes.
pub(super) fn length(head: &RequestHeader) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Writes what a request carries behind the fields of its head, which are in `out` without the empty line at the end.
/// What it put into the first line, if anything: where it stands.
///
/// # Errors
/// The request cannot be signed.
pub(super) fn behind(
    out: &mut Vec<u8>,
    carried: &Carried,
    destination: &Destination,
    method: &str,
    body: &[u8],
) -> Result<Option<Range<usize>>> {
    let Carried::Token { profile, token, .. } = carried else { return Ok(None) };
    match (&token.form, &profile.config.placement) {
        (Form::Header(value), _) => {
            out.extend_from_slice(&profile.wire_header);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        (Form::Query(value), Placement::Query { parameter }) => {
            let plain = &*destination.path_and_query;
            let at = method.len() + 1 + plain.len();
            let before = out.len();
            let pieces = [query::separator(plain), parameter, "=", value.expose()];
            // What follows moves behind it; `splice` would gather the pieces first.
            let added: usize = pieces.iter().map(|piece| piece.len()).sum();
            out.resize(before + added, 0);
            out.copy_within(at..before, at + added);
            let mut rest = out.get_mut(at..at + added).unwrap_or_default();
            for piece in pieces {
                let Some((here, behind)) = rest.split_at_mut_checked(piece.len()) else { break };
                here.copy_from_slice(piece.as_bytes());
                rest = behind;
            }
            return Ok(Some(at..at + (out.len() - before)));
        }
        (Form::Query(_), _) => return Err(misplaced()),
        (Form::Signer(signer), _) => sign_behind(out, &**signer, destination, method, body)?,
    }
    Ok(None)
}

fn sign_behind(
    out: &mut Vec<u8>,
    signer: &dyn Signer,
    destination: &Destination,
    method: &str,
    body: &[u8],
) -> Result<()> {
    let signature = {
        let mut fields = out.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(line.get(..colon)?).ok()?;
            Some((name, line.get(colon + 1..)?.trim_ascii()))
        });
        // The head begins with it.
        let authority = fields.next().map_or(&b""[..], |(_, host)| host);
        let fields: Vec<(&str, &[u8])> = fields.collect();
        signer.sign(&Outgoing {
            method,
            scheme: destination.scheme.as_str(),
            authority,
            path_and_query: &destination.path_and_query,
            fields: &fields,
            body: Body::Whole(body),
        })
    };
    let signature = signature.map_err(unsignable)?;
    for (name, value) in signature {
        for piece in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    Ok(())
}

/// The error of a credential that has no place. A slot makes one for the query for such a placement alone; were it ever
/// otherwise, no request goes without the credential that it should carry.
fn misplaced() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a credential for the query, and no parameter")
}

/// The error of a request that cannot be signed; what it was is its cause.
fn unsignable(error: SigningError) -> Box<Error> {
    Error::because(ErrorType::Custom("unsignable"), "the profile signs requests", error)
}

/// The refusal of a request that cannot be signed.
pub(super) fn refusal(error: &SigningError) -> Refusal {
    Refusal::new(Code::Unsignable, error.detail.clone(), error.hint.clone())
}
