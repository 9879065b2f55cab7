//! AWS Signature Version 4: a request is signed as a whole, with a secret that never leaves.
//!
//! Everything is pure: the request's parts, the credentials and the time come in, and the header fields to set come out
//! ([`Signer::sign`]), with a [`ChunkEncoder`] where the body is signed while it passes. [`Credentials`] are read from the
//! texts that AWS hands them out in. The specification is the IAM User Guide's "Signature Version 4 signing process", for
//! S3 the API Reference's "Authenticating Requests (AWS Signature Version 4)".

mod canonical;
mod chunks;
mod credentials;
mod sign;

pub use chunks::{CHUNK_SIZE, ChunkEncoder, StreamError, framed_length};
pub use credentials::{
    ACCESS_KEY_ID_VARIABLE, Credentials, CredentialsError, SECRET_ACCESS_KEY_VARIABLE, SESSION_TOKEN_VARIABLE,
};
pub use sign::{CLIENT_FIELDS, Fields, Payload, Request, SignError, Signed, Signer};

#[cfg(test)]
mod tests;
