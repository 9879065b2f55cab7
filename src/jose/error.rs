//! Why a key cannot be used, and why nothing was signed. No error quotes a key file.

use super::Algorithm;

/// Why there is no key. Says what is wrong; [`KeyError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no text, or an empty secret.
    #[error("the key is empty")]
    Empty,
    /// Neither PEM nor JSON.
    #[error("not a private key: neither PEM nor a JWK")]
    NotAKey,
    /// PEM of something else: a request, a list of revoked certificates, parameters.
    #[error("the PEM text holds no private key")]
    NoPrivateKey,
    /// PEM or PKCS#8 under a password.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The public half only.
    #[error("this is a public key; signing takes the private one")]
    PublicKey,
    /// A certificate without its key.
    #[error("this is a certificate; signing takes the private key that belongs to it")]
    Certificate,
    /// The format of ssh-keygen.
    #[error("the private key has the format of OpenSSH")]
    OpenSsh,
    /// PEM or its content is incomplete or corrupt.
    #[error("the private key is damaged: it cannot be read as {format}")]
    Damaged {
        /// What it says it is.
        format: &'static str,
    },
    /// JSON with a mistake in it.
    #[error("the JWK cannot be read: mistake at line {line}, column {column} of the JSON")]
    Json {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// JSON of something else.
    #[error("this is JSON, but neither a JWK nor a JWK set")]
    NotAJwk,
    /// A JWK without a member that its type needs.
    #[error("the JWK has no member `{member}`")]
    MissingMember {
        /// The member's name.
        member: &'static str,
    },
    /// A JWK with a member that is no unpadded base64url, or of a wrong length.
    #[error("the JWK's member `{member}` is not what RFC 7518 asks for")]
    BadMember {
        /// The member's name.
        member: &'static str,
    },
    /// A JWK whose `alg` is none of ours.
    #[error("the JWK's member `alg` names no signature algorithm that is known here")]
    UnknownAlgorithm,
    /// A JWK that is meant for something else.
    #[error("the JWK is not for signing: its `use` or `key_ops` says otherwise")]
    NotForSigning,
    /// Several keys, and nothing to tell which one.
    #[error("there are {number} private keys")]
    Several {
        /// How many.
        number: usize,
    },
    /// No private key with the wanted `kid`.
    #[error("there is no private key with kid {kid:?}")]
    NoSuchKid {
        /// What was asked for.
        kid: String,
    },
    /// A type or curve that signs nothing here.
    #[error("a key of this type or curve signs none of the algorithms that are known here")]
    UnsupportedType,
    /// RSA that nobody should use any longer (RFC 7518 section 3.3).
    #[error("the RSA key has {bits} bits, and 2048 is the least")]
    RsaTooShort {
        /// Of the modulus.
        bits: usize,
    },
    /// RSA that would take too long for each signature.
    #[error("the RSA key has {bits} bits, and 8192 is the most")]
    RsaTooLong {
        /// Of the modulus.
        bits: usize,
    },
    /// RSA whose numbers contradict each other.
    #[error("the numbers of the RSA key do not belong together")]
    RsaInconsistent,
    /// The public half is that of another key.
    #[error("the key's public part does not belong to its private part")]
    PublicMismatch,
    /// The algorithm needs another kind of key.
    #[error("{algorithm} cannot be signed with {key}")]
    Algorithm {
        /// What was asked for.
        algorithm: Algorithm,
        /// What kind of key it is.
        key: &'static str,
        /// What this kind of key signs.
        fitting: &'static str,
    },
    /// The text holds no certificate.
    #[error("no certificate in this PEM text")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("the certificate is damaged")]
    BadCertificate,
    /// A certificate that names another public key.
    #[error("the certificate belongs to another key")]
    CertificateOfAnotherKey,
    /// The system's random number generator failed.
    #[error("the system's random number generator failed")]
    Random,
}

impl KeyError {
    /// What to do about it, in one line.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "put the key there: PEM (-----BEGIN PRIVATE KEY-----) or a JWK",
            Self::NotAKey | Self::NoPrivateKey => {
                "give a PEM file that begins with -----BEGIN PRIVATE KEY-----, or a JWK with its private members"
            }
            Self::Encrypted => {
                "decrypt it: openssl pkey -in ENCRYPTED -out PLAIN, and let only lanyard read the result"
            }
            Self::PublicKey | Self::Certificate => "give the private key's file; it was made together with this one",
            Self::OpenSsh => "convert a copy of it: ssh-keygen -p -m PKCS8 -N '' -f COPY",
            Self::Damaged { .. } => {
                "copy it once more, whole and with its line ends, not as \\n; openssl pkey -noout -in FILE checks it"
            }
            Self::Json { .. } => "copy the JWK once more, whole",
            Self::NotAJwk => {
                "a JWK has a member `kty`, a set has `keys`; of a Google service account file the key is the text in `private_key`"
            }
            Self::MissingMember { .. } => "export the JWK with all private members (RFC 7518 section 6)",
            Self::BadMember { .. } => {
                "binary members are base64url without padding, in full length (RFC 7518 section 6)"
            }
            Self::UnknownAlgorithm => "name the algorithm in the configuration, or correct the JWK's `alg`",
            Self::NotForSigning => "choose a key with \"use\": \"sig\"",
            Self::Several { .. } => "name one by its kid (JWK set), or leave only one in the file (PEM)",
            Self::NoSuchKid { .. } => "the kid must be that of a JWK with private members; comparing is exact",
            Self::UnsupportedType => "use RSA, EC on P-256, P-384 or P-521, Ed25519, or an octet sequence for HMAC",
            Self::RsaTooShort { .. } | Self::RsaTooLong { .. } => {
                "make another one: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072"
            }
            Self::RsaInconsistent | Self::PublicMismatch => {
                "export the key once more: this one was put together wrongly"
            }
            Self::Algorithm { fitting, .. } => fitting,
            Self::NoCertificate => "give the certificate as PEM, beginning with -----BEGIN CERTIFICATE-----",
            Self::BadCertificate => "copy it once more, whole; openssl x509 -noout -in FILE checks it",
            Self::CertificateOfAnotherKey => {
                "give the certificate of private_key; if both are being renewed, lanyard tries again when both are there"
            }
            Self::Random => "this is a fault of the machine: /dev/urandom or getrandom must work",
        }
    }
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// What should be signed is no JSON object.
    #[error("the claims cannot be written as a JSON object")]
    Claims,
    /// The signature failed, which only missing random numbers bring about.
    #[error("the signature failed: the system's random number generator does not work")]
    Signature,
}
