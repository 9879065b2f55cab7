//! What a JWS header says of the certificate that belongs to its key.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use x509_parser::public_key::PublicKey;

use super::{KeyError, SigningKey};

/// `x5t#S256` (RFC 7515 section 4.1.8): SHA-256 of the first certificate of a PEM text, in base64url.
///
/// # Errors
/// There is no certificate, or it is damaged.
pub fn certificate_thumbprint(pem: &str) -> Result<String, KeyError> {
    let certificates = read(pem)?;
    let first = certificates.first().ok_or(KeyError::NoCertificate)?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(first)))
}

/// Whether the first certificate of a PEM text is one of this key: servers find the key by the certificate.
///
/// # Errors
/// There is no certificate, it is damaged, or it belongs to another key.
pub fn certificate_belongs_to(pem: &str, key: &SigningKey) -> Result<(), KeyError> {
    let certificates = read(pem)?;
    let first = certificates.first().ok_or(KeyError::NoCertificate)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(first).map_err(|_| KeyError::BadCertificate)?;
    let public = certificate.public_key();
    let member = |name: &str| {
        let text = key.public_jwk().and_then(|jwk| jwk.get(name)).and_then(serde_json::Value::as_str);
        text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default()
    };
    let same = match public.parsed().map_err(|_| KeyError::BadCertificate)? {
        PublicKey::RSA(rsa) => {
            let unpadded = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            unpadded(rsa.modulus) == member("n") && unpadded(rsa.exponent) == member("e")
        }
        // SEC 1 2.3.3: a point that is not compressed.
        PublicKey::EC(point) => point.data() == [&[4], &*member("x"), &*member("y")].concat(),
        // RFC 8410 4: Ed25519, as it is.
        PublicKey::Unknown(bytes) if bytes.len() == 32 => bytes == member("x"),
        // What cannot be read here is the server's to judge.
        _ => true,
    };
    if same { Ok(()) } else { Err(KeyError::CertificateOfAnotherKey) }
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
