//! What a JWS header says of the certificate that belongs to its key.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

use super::KeyError;

/// `x5t#S256` (RFC 7515 section 4.1.8): SHA-256 of the first certificate of a PEM text, in base64url.
///
/// # Errors
/// There is no certificate, or it is damaged.
pub fn certificate_thumbprint(pem: &str) -> Result<String, KeyError> {
    let certificates = read(pem)?;
    let first = certificates.first().ok_or(KeyError::NoCertificate)?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(first)))
}

/// `x5c` (RFC 7515 section 4.1.6): the certificates of a PEM text in their order, in base64.
///
/// # Errors
/// There is no certificate, or one is damaged.
pub fn certificate_chain(pem: &str) -> Result<Vec<String>, KeyError> {
    Ok(read(pem)?.iter().map(|certificate| STANDARD.encode(certificate)).collect())
}

fn read(pem: &str) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| KeyError::BadCertificate)?;
    for certificate in &certificates {
        x509_parser::parse_x509_certificate(certificate).map_err(|_| KeyError::BadCertificate)?;
    }
    if certificates.is_empty() { Err(KeyError::NoCertificate) } else { Ok(certificates) }
}
