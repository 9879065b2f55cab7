//! Signs requests with one set of credentials: decides what is said of the body, and passes the fields on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    aws::{Credentials, Payload, Request, SignError, Signed, Signer as RequestParts},
    config::{self, AwsSigV4},
    credential::{Body, Outgoing, Signature, Signer, SigningError, Streamed},
    route::pattern::Host,
};

/// What a profile's signers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    profile: Arc<str>,
    service: Box<str>,
    payload: config::Payload,
    signer: RequestParts,
    /// When it was last told that the clocks differ, in seconds since 1970.
    told_at: AtomicU64,
}

impl Shared {
    pub(super) fn new(profile: &str, config: &AwsSigV4) -> Result<Self, SignError> {
        Ok(Self {
            profile: profile.into(),
            service: config.service.as_str().into(),
            payload: config.payload,
            signer: RequestParts::new(&config.region, &config.service)?,
            told_at: AtomicU64::new(0),
        })
    }
}

/// Signs with these credentials.
#[derive(Debug)]
pub(super) struct RequestSigner {
    shared: Arc<Shared>,
    credentials: Credentials,
}

impl RequestSigner {
    pub(super) const fn new(shared: Arc<Shared>, credentials: Credentials) -> Self {
        Self { shared, credentials }
    }

    fn signed(&self, request: &Outgoing<'_>) -> Result<(Signature, Signed), SigningError> {
        let mut headers = HeaderMap::with_capacity(request.fields.len());
        for (name, value) in request.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| impossible("a field's name"))?;
            headers.append(name, HeaderValue::from_bytes(value).map_err(|_| impossible("a field's value"))?);
        }
        let host = std::str::from_utf8(request.authority).map_err(|_| impossible("Host"))?;
        let (path, query) = match request.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.path_and_query, None),
        };
        let payload = self.payload(request, host, &headers)?;
        let parts = Request { method: request.method, host, path, query, headers: &headers, payload };
        let signed = self.shared.signer.sign(&parts, &self.credentials, SystemTime::now());
        let mut signed = signed.map_err(|error| SigningError {
            detail: error.to_string(),
            hint: "look at the clock, and at the credentials of the profile".to_owned(),
        })?;
        let mut fields = Signature::new();
        for (name, value) in signed.fields.drain(..) {
            // What a client says of its body stays as it is: it was signed.
            if name != CONTENT_SHA256 || !headers.contains_key(&name) {
                fields.push((wire_name(&name), value));
            }
        }
        Ok((fields, signed))
    }

    /// What is said of the body: what the client's own library knows of it, or what we do.
    fn payload(&self, request: &Outgoing<'_>, host: &str, headers: &HeaderMap) -> Result<Payload, SigningError> {
        let mut said = headers.get_all(CONTENT_SHA256).iter();
        let payload = match (said.next(), said.next()) {
            (Some(said), None) => said_payload(said)?,
            (Some(_), Some(_)) => return Err(two_hashes()),
            (None, _) => match (self.shared.payload, request.body) {
                (config::Payload::Unsigned, _) => Payload::Unsigned,
                (config::Payload::Auto, Body::Whole(body)) => Payload::of(body),
                (config::Payload::Auto, Body::Streamed(Some(decoded_length))) if self.shared.signer.takes_chunks() => {
                    Payload::Streaming { decoded_length }
                }
                (config::Payload::Auto, Body::Streamed(length)) => return Err(self.too_large(length)),
            },
        };
        let is_unsigned = matches!(payload, Payload::Unsigned | Payload::UnsignedTrailer);
        if is_unsigned && request.scheme != "https" && !is_local(host) {
            return Err(SigningError {
                detail: "an unsigned body in clear text: anybody on the way could change it".to_owned(),
                hint: "use https:// for the upstream, or let the body be signed (payload, x-amz-content-sha256)"
                    .to_owned(),
            });
        }
        Ok(payload)
    }

    fn too_large(&self, length: Option<u64>) -> SigningError {
        let service = &self.shared.service;
        let detail = match length {
            Some(length) => {
                format!("a body of {length} bytes cannot be signed for {service}: it is kept up to 64 KiB")
            }
            None => format!("a body larger than 64 KiB whose length nobody told cannot be signed for {service}"),
        };
        let hint = if self.shared.signer.takes_chunks() {
            "send Content-Length, or set payload = \"unsigned\" in the profile"
        } else {
            "have the client send x-amz-content-sha256, or a smaller body; payload = \"unsigned\" is taken by few services"
        };
        SigningError { detail, hint: hint.to_owned() }
    }
}

impl Signer for RequestSigner {
    fn sign(&self, request: &Outgoing<'_>) -> Result<Signature, SigningError> {
        Ok(self.signed(request)?.0)
    }

    fn sign_streamed(&self, request: &Outgoing<'_>) -> Result<Streamed, SigningError> {
        let (fields, signed) = self.signed(request)?;
        Ok(Streamed { fields, chunks: signed.chunks.map(Box::new) })
    }

    fn wants_body(&self, headers: &HeaderMap, length: Option<u64>) -> bool {
        self.shared.payload == config::Payload::Auto
            && !headers.contains_key(CONTENT_SHA256)
            && length.is_none_or(|length| length <= MAX_WHOLE)
    }

    fn key(&self) -> Option<&str> {
        Some(&self.credentials.access_key_id)
    }

    fn refused_at(&self, date: SystemTime) {
        let now = SystemTime::now();
        let (apart, ours) = match now.duration_since(date) {
            Ok(apart) => (apart, "ahead"),
            Err(error) => (error.duration(), "behind"),
        };
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let told_at = self.shared.told_at.load(Ordering::Relaxed);
        if apart < SKEW || seconds.abs_diff(told_at) < TOLD_EVERY.as_secs() {
            return;
        }
        self.shared.told_at.store(seconds, Ordering::Relaxed);
        tracing::warn!(
            profile = &*self.shared.profile,
            skew_s = apart.as_secs(),
            ours,
            hint = "set the clock (NTP): AWS refuses signatures that are more than five minutes off",
            "clock differs from the upstream's, which refused a signed request"
        );
    }
}

/// What a client says of its body itself.
fn said_payload(said: &HeaderValue) -> Result<Payload, SigningError> {
    let text = said.to_str().unwrap_or_default();
    match Payload::from_field(text) {
        // In the one form in which it stands in what is signed.
        Some(payload) if !text.bytes().any(|b| b.is_ascii_uppercase()) || !matches!(payload, Payload::Sha256(_)) => {
            Ok(payload)
        }
        _ if text.starts_with("STREAMING-") => Err(SigningError {
            detail: "the client signs its body piece by piece, with a key that is not the profile's".to_owned(),
            hint: "have the client use https:// (intercepted), where its library sends the body unsigned, or turn chunked \
                encoding off in it"
                .to_owned(),
        }),
        _ => Err(SigningError {
            detail: "the client's x-amz-content-sha256 is no SHA-256 in lower case, and not UNSIGNED-PAYLOAD".to_owned(),
            hint: "send what it should be, or do not send it: lanyard computes it".to_owned(),
        }),
    }
}

fn two_hashes() -> SigningError {
    SigningError {
        detail: "the request has more than one x-amz-content-sha256".to_owned(),
        hint: "send one, or none: lanyard computes it".to_owned(),
    }
}

/// What the request side has looked at before.
fn impossible(what: &str) -> SigningError {
    SigningError { detail: format!("{what} cannot be signed"), hint: "look at its characters".to_owned() }
}

/// Whether an authority is of this machine.
fn is_local(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    };
    Host::parse(name).is_ok_and(|host| host.is_loopback())
}

/// A field's name as HTTP/1.1 is used to it.
fn wire_name(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "authorization" => "Authorization",
        "x-amz-date" => "X-Amz-Date",
        "x-amz-content-sha256" => "X-Amz-Content-Sha256",
        "x-amz-security-token" => "X-Amz-Security-Token",
        "x-amz-decoded-content-length" => "X-Amz-Decoded-Content-Length",
        "content-length" => "Content-Length",
        // The last of the fields that a signer sets.
        _ => "Content-Encoding",
    }
}

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// As much of a body as is read before the request goes out, bytes: what pingora keeps.
const MAX_WHOLE: u64 = 64 * 1024;
/// So far apart clocks may be: less than any AWS service bears.
const SKEW: Duration = Duration::from_secs(4 * 60);
/// How often it is told.
const TOLD_EVERY: Duration = Duration::from_secs(300);
