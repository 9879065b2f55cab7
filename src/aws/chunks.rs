//! `aws-chunked` bodies (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`): each chunk has a signature that the one before it goes into.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::sign::{DayKey, hex_of};

/// Octets of the body in each chunk but the last: S3 takes no fewer than 8 KiB, and a chunk is held until it is whole.
pub const CHUNK_SIZE: u64 = 64 * 1024;

/// What a body of so many octets is long as `aws-chunked`.
pub const fn framed_length(decoded: u64) -> u64 {
    let (whole, last) = (decoded / CHUNK_SIZE, decoded % CHUNK_SIZE);
    let mut length = whole.saturating_mul(frame_length(CHUNK_SIZE)).saturating_add(frame_length(0));
    if last > 0 {
        length = length.saturating_add(frame_length(last));
    }
    length
}

/// Cuts a body into signed chunks while it passes. It is as long as was announced, or an error.
#[derive(Debug)]
pub struct ChunkEncoder {
    key: Arc<DayKey>,
    /// What stands before the previous signature in each text to sign.
    prefix: String,
    previous: [u8; 64],
    /// The length that was announced.
    declared: u64,
    /// Octets of it that have not come yet.
    missing: u64,
    /// Chunks that are whole, and the one that is not.
    frames: BytesMut,
    open: Option<Chunk>,
}

/// A chunk that is not whole yet.
#[derive(Clone, Debug)]
struct Chunk {
    /// Where it begins in the frames.
    start: usize,
    /// Where its signature goes, from there.
    signature: usize,
    /// Octets that it lacks.
    missing: usize,
    hash: Sha256,
}

/// Why a body does not fit its announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// More came than was announced.
    #[error("the body is longer than the {declared} bytes that were announced")]
    TooLong {
        /// Octets that were announced.
        declared: u64,
    },
    /// Less came than was announced.
    #[error("the body ended {missing} bytes before the {declared} that were announced")]
    TooShort {
        /// Octets that were announced.
        declared: u64,
        /// Octets that did not come.
        missing: u64,
    },
}

impl ChunkEncoder {
    /// Begins after a request with this signature.
    pub(super) fn new(key: Arc<DayKey>, stamp: &str, seed: [u8; 64], declared: u64) -> Self {
        let prefix = format!("AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{}\n", key.scope);
        Self { key, prefix, previous: seed, declared, missing: declared, frames: BytesMut::new(), open: None }
    }

    /// Takes octets of the body and returns what is ready to send, which may be nothing yet.
    ///
    /// # Errors
    /// The body is longer than was announced.
    pub fn push(&mut self, mut data: &[u8]) -> Result<Bytes, StreamError> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if length > self.missing {
            return Err(StreamError::TooLong { declared: self.declared });
        }
        while !data.is_empty() {
            let mut chunk = match self.open.take() {
                Some(chunk) => chunk,
                None => self.begin(self.missing.min(CHUNK_SIZE)),
            };
            let (now, later) = data.split_at_checked(chunk.missing).unwrap_or((data, &[]));
            data = later;
            chunk.hash.update(now);
            chunk.missing -= now.len();
            self.missing -= u64::try_from(now.len()).unwrap_or(0);
            self.frames.extend_from_slice(now);
            if chunk.missing == 0 { self.end(chunk) } else { self.open = Some(chunk) }
        }
        let whole = self.open.as_ref().map_or(self.frames.len(), |chunk| chunk.start);
        if let Some(chunk) = &mut self.open {
            chunk.start = 0;
        }
        Ok(self.frames.split_to(whole).freeze())
    }

    /// The end of the body: returns the last chunk, which is empty.
    ///
    /// # Errors
    /// The body is shorter than was announced.
    pub fn finish(mut self) -> Result<Bytes, StreamError> {
        if self.missing > 0 {
            return Err(StreamError::TooShort { declared: self.declared, missing: self.missing });
        }
        let chunk = self.begin(0);
        self.end(chunk);
        Ok(self.frames.freeze())
    }

    /// Writes the head of a chunk, with room for the signature that its octets will have.
    fn begin(&mut self, size: u64) -> Chunk {
        let start = self.frames.len();
        self.frames.reserve(usize::try_from(frame_length(size)).unwrap_or(0));
        self.frames.extend_from_slice(format!("{size:x}{SIGNATURE_NAME}").as_bytes());
        let signature = self.frames.len() - start;
        self.frames.extend_from_slice(&[b'0'; SIGNATURE_LENGTH]);
        self.frames.extend_from_slice(LINE_END);
        Chunk { start, signature, missing: usize::try_from(size).unwrap_or(0), hash: Sha256::new() }
    }

    /// Signs a chunk that is whole.
    fn end(&mut self, chunk: Chunk) {
        let (mut hash, mut signature) = ([0; 64], [0; 64]);
        let hash = hex_of(&chunk.hash.finalize().into(), &mut hash);
        let previous = std::str::from_utf8(&self.previous).unwrap_or_default();
        self.key.sign(&[&self.prefix, previous, "\n", EMPTY_HASH, "\n", hash], &mut signature);
        let at = chunk.start + chunk.signature;
        if let Some(room) = self.frames.get_mut(at..at + SIGNATURE_LENGTH) {
            room.copy_from_slice(&signature);
        }
        self.frames.extend_from_slice(LINE_END);
        self.previous = signature;
    }
}

/// What a chunk of so many octets is long with what stands around it.
const fn frame_length(size: u64) -> u64 {
    let digits = if size == 0 { 1 } else { size.ilog2() / 4 + 1 };
    digits as u64 + SIGNATURE_NAME.len() as u64 + SIGNATURE_LENGTH as u64 + size + 2 * LINE_END.len() as u64
}

const SIGNATURE_NAME: &str = ";chunk-signature=";
const SIGNATURE_LENGTH: usize = 64;
const LINE_END: &[u8] = b"\r\n";
/// SHA-256 of nothing: what it stands for, headers of a chunk, does not exist.
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
