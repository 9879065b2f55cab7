//! Signs requests for one region and service.

use std::{fmt, sync::Arc, time::SystemTime};

use arc_swap::ArcSwapOption;
use hmac::{Hmac, Mac as _};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST},
};
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    ChunkEncoder, Credentials,
    canonical::{self, PathStyle},
    framed_length,
};
use crate::secret::Secret;

/// Signs requests for one region and service. Keeps the key of the day, which takes four HMACs to derive.
#[derive(Debug)]
pub struct Signer {
    region: Box<str>,
    service: Box<str>,
    style: PathStyle,
    /// Whether the service wants `x-amz-content-sha256` with each request.
    wants_payload_field: bool,
    key: ArcSwapOption<DayKey>,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// What the server will see as `Host` or `:authority`, with the port unless it is the scheme's.
    pub host: &'a str,
    /// The path as it goes on the wire, percent-encoded.
    pub path: &'a str,
    /// The query as it goes on the wire, without its question mark.
    pub query: Option<&'a str>,
    /// The header fields as they go on the wire. Which of them are signed is the signer's choice.
    pub headers: &'a HeaderMap,
    /// What is said of the body.
    pub payload: Payload,
}

/// What a signature says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Its SHA-256: see [`Payload::of`].
    Sha256([u8; 32]),
    /// Nothing; S3 takes this, and few others.
    Unsigned,
    /// Nothing, and the body comes as `aws-chunked` with a checksum after it, from an SDK that made it so (S3).
    UnsignedTrailer,
    /// It is signed in chunks while it passes, by [`Signed::chunks`] (S3).
    Streaming {
        /// Its length, in octets, before it is cut into chunks.
        decoded_length: u64,
    },
}

impl Payload {
    /// The hash of a whole body; that of no body is that of an empty one.
    pub fn of(body: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(body).into())
    }

    /// What a client said in its own `x-amz-content-sha256`, if it holds for any signature: a hash, or that there is none.
    pub fn from_field(value: &str) -> Option<Self> {
        match value {
            UNSIGNED => Some(Self::Unsigned),
            UNSIGNED_TRAILER => Some(Self::UnsignedTrailer),
            digest => {
                let mut octets = [0; 32];
                hex::decode_to_slice(digest, &mut octets).ok()?;
                Some(Self::Sha256(octets))
            }
        }
    }
}

/// The fields of a client's own signature: to be removed from a request before it is signed, since a token that does not
/// belong to the key makes a signature void.
pub const CLIENT_FIELDS: [HeaderName; 3] = [AUTHORIZATION, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN];

/// Header fields with their values.
pub type Fields = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// A signed request's new parts.
#[derive(Debug)]
pub struct Signed {
    /// The header fields to set, in place of any with the same names.
    pub fields: Fields,
    /// What the body has to pass through, for [`Payload::Streaming`].
    pub chunks: Option<ChunkEncoder>,
}

/// Why a request cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A region or service with other characters than letters, digits, `-`, `_` and `.`.
    #[error("the {what} is not a name that AWS uses: letters, digits, -, _ and . only")]
    Name {
        /// `region` or `service`.
        what: &'static str,
    },
    /// Credentials or a host with control characters.
    #[error("the {what} has characters that no header field can hold")]
    Field {
        /// Which one.
        what: &'static str,
    },
    /// A time that has no date of four digits.
    #[error("the clock is wrong: its year is not one of 1970 to 9999")]
    Time,
}

impl Signer {
    /// Signs for a region (`eu-central-1`) and a service (`s3`, `execute-api`), by the names of the endpoint's scope.
    ///
    /// # Errors
    /// One of them is no name.
    pub fn new(region: &str, service: &str) -> Result<Self, SignError> {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
        };
        for (what, name) in [("region", region), ("service", service)] {
            if !is_name(name) {
                return Err(SignError::Name { what });
            }
        }
        let s3 = matches!(service, "s3" | "s3express" | "s3-object-lambda" | "s3-outposts");
        Ok(Self {
            region: region.into(),
            service: service.into(),
            style: if s3 { PathStyle::Object } else { PathStyle::Normalized },
            // OpenSearch Serverless and VPC Lattice want it too.
            wants_payload_field: s3 || matches!(service, "glacier" | "aoss" | "vpc-lattice-svcs"),
            key: ArcSwapOption::empty(),
        })
    }

    /// Whether the service takes bodies that are signed in chunks while they pass ([`Payload::Streaming`]): S3 alone.
    pub fn takes_chunks(&self) -> bool {
        self.style == PathStyle::Object
    }

    /// Signs a request at this time, by the wall clock: servers take what is at most five to fifteen minutes off.
    ///
    /// # Errors
    /// The credentials or the host cannot stand in a header field, or the time is none.
    pub fn sign(&self, request: &Request<'_>, credentials: &Credentials, now: SystemTime) -> Result<Signed, SignError> {
        let stamp = stamp(now).ok_or(SignError::Time)?;
        let mut digest = [0; 64];
        let payload = match &request.payload {
            Payload::Sha256(octets) => hex_of(octets, &mut digest),
            Payload::Unsigned => UNSIGNED,
            Payload::UnsignedTrailer => UNSIGNED_TRAILER,
            Payload::Streaming { .. } => STREAMING,
        };

        let mut fields = self.fields(request, payload, credentials, &stamp)?;
        let canonical = {
            let host = field(request.host, "host")?;
            let own: SmallVec<[(&HeaderName, &[u8]); 8]> = std::iter::once((&HOST, host.as_bytes()))
                .chain(fields.iter().map(|(name, value)| (name, value.as_bytes())))
                .collect();
            canonical::request(self.style, request, &own, payload)
        };

        let key = self.key_of(&stamp, credentials);
        let (mut hash, mut signature) = ([0; 64], [0; 64]);
        let hash = hex_of(&Sha256::digest(&canonical.text).into(), &mut hash);
        let signature_text = key.sign(&["AWS4-HMAC-SHA256\n", &stamp, "\n", &key.scope, "\n", hash], &mut signature);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={signature_text}",
            credentials.access_key_id, key.scope, canonical.signed_headers
        );
        let mut authorization = field(&authorization, "access key ID")?;
        authorization.set_sensitive(true);
        fields.push((AUTHORIZATION, authorization));

        let chunks = match request.payload {
            Payload::Streaming { decoded_length } => Some(ChunkEncoder::new(key, &stamp, signature, decoded_length)),
            _ => None,
        };
        Ok(Signed { fields, chunks })
    }

    /// The fields to set but `Authorization`, which is made of them.
    fn fields(
        &self,
        request: &Request<'_>,
        payload: &str,
        credentials: &Credentials,
        stamp: &str,
    ) -> Result<Fields, SignError> {
        let mut fields = Fields::new();
        fields.push((X_AMZ_DATE, field(stamp, "date")?));
        let is_hash = matches!(request.payload, Payload::Sha256(_));
        // What a client says of its body itself would contradict the signature, where both are looked at.
        if self.wants_payload_field || !is_hash || request.headers.contains_key(X_AMZ_CONTENT_SHA256) {
            fields.push((X_AMZ_CONTENT_SHA256, field(payload, "payload hash")?));
        }
        if let Some(token) = &credentials.session_token {
            let mut value = field(token.expose(), "session token")?;
            value.set_sensitive(true);
            fields.push((X_AMZ_SECURITY_TOKEN, value));
        }
        if let Payload::Streaming { decoded_length } = request.payload {
            fields.push((X_AMZ_DECODED_CONTENT_LENGTH, decoded_length.into()));
            fields.push((CONTENT_LENGTH, framed_length(decoded_length).into()));
            fields.push((CONTENT_ENCODING, chunked_encoding(request.headers)?));
        }
        Ok(fields)
    }

    /// The key for the day of a time stamp: the last one, if it is that.
    fn key_of(&self, stamp: &str, credentials: &Credentials) -> Arc<DayKey> {
        let day = stamp.get(..8).unwrap_or_default();
        if let Some(key) = self.key.load_full()
            && *key.day == *day
            && key.secret == credentials.secret_access_key
        {
            return key;
        }
        let key = Arc::new(DayKey::derive(&credentials.secret_access_key, day, &self.region, &self.service));
        self.key.store(Some(Arc::clone(&key)));
        key
    }
}

/// A signing key: good for one day, region and service.
pub(super) struct DayKey {
    day: Box<str>,
    /// What it was derived from.
    secret: Secret,
    /// `day/region/service/aws4_request`.
    pub(super) scope: String,
    mac: Hmac<Sha256>,
}

impl DayKey {
    fn derive(secret: &Secret, day: &str, region: &str, service: &str) -> Self {
        let mut first = Zeroizing::new(Vec::with_capacity(secret.expose().len() + 4));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret.expose().as_bytes());
        let mut mac = keyed(&first);
        for part in [day, region, service, "aws4_request"] {
            mac.update(part.as_bytes());
            let next: Zeroizing<[u8; 32]> = Zeroizing::new(mac.finalize().into_bytes().into());
            mac = keyed(&*next);
        }
        Self { day: day.into(), secret: secret.clone(), scope: format!("{day}/{region}/{service}/aws4_request"), mac }
    }

    /// The signature of a text that comes in parts, in hex.
    pub(super) fn sign<'a>(&self, parts: &[&str], out: &'a mut [u8; 64]) -> &'a str {
        let mut mac = self.mac.clone();
        parts.iter().for_each(|part| mac.update(part.as_bytes()));
        hex_of(&mac.finalize().into_bytes().into(), out)
    }
}

impl fmt::Debug for DayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DayKey").field("scope", &self.scope).finish_non_exhaustive()
    }
}

fn field(text: &str, what: &'static str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::Field { what })
}

/// HMAC takes a key of any length: a longer one is hashed first, and a shorter one padded.
#[expect(clippy::expect_used, reason = "the error is for MACs with keys of one length, which HMAC is not")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes any key")
}

/// Hex of a digest, in lower case.
pub(super) fn hex_of<'a>(octets: &[u8; 32], out: &'a mut [u8; 64]) -> &'a str {
    // Both fail for other lengths and other characters only.
    if hex::encode_to_slice(octets, out).is_err() {
        return "";
    }
    std::str::from_utf8(out).unwrap_or_default()
}

/// `20130524T000000Z`.
fn stamp(now: SystemTime) -> Option<String> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    Some(format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second()))
}

/// `aws-chunked` before what else is in `Content-Encoding`.
fn chunked_encoding(headers: &HeaderMap) -> Result<HeaderValue, SignError> {
    let mut encoding = "aws-chunked".to_owned();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| SignError::Field { what: "content encoding" })?;
        let others = value.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "aws-chunked");
        others.for_each(|name| encoding.extend([",", name]));
    }
    HeaderValue::try_from(encoding).map_err(|_| SignError::Field { what: "content encoding" })
}

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const X_AMZ_DECODED_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
