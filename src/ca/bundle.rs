//! Certificates in the forms that clients read: PEM, and PKCS #12 for Java.

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::pki_types::CertificateDer;

/// One after the other in PEM form.
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (place, letter) in BASE64_STANDARD.encode(der).chars().enumerate() {
            if place > 0 && place % 64 == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}

/// A truststore of Java's: PKCS #12 (RFC 7292) without password and without MAC, as the JDK's own has been since
/// version 18. What is in it is public, so there is nothing to encrypt.
pub fn truststore<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Vec<u8> {
    let bags = certificates.into_iter().enumerate().map(|(number, der)| {
        let octets = der_of(CONTEXT_0, &[&der_of(OCTET_STRING, &[der])]);
        let certificate = der_of(SEQUENCE, &[X509_CERTIFICATE, &octets]);
        // Java takes a certificate for a root by the second of these alone, and tells them apart by the first.
        let name: Vec<u8> = format!("lanyard-{number}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        let name = der_of(SEQUENCE, &[FRIENDLY_NAME, &der_of(SET, &[&der_of(BMP_STRING, &[&name])])]);
        let usage = der_of(SEQUENCE, &[TRUSTED_KEY_USAGE, &der_of(SET, &[ANY_EXTENDED_KEY_USAGE])]);
        der_of(SEQUENCE, &[CERT_BAG, &der_of(CONTEXT_0, &[&certificate]), &der_of(SET, &[&name, &usage])])
    });
    let bags: Vec<Vec<u8>> = bags.collect();
    let bags = der_of(SEQUENCE, &bags.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let safe = der_of(SEQUENCE, &[&data(&bags)]);
    der_of(SEQUENCE, &[VERSION_3, &data(&safe)])
}

/// `ContentInfo` of the type `data` (RFC 5652 3 and 4).
fn data(content: &[u8]) -> Vec<u8> {
    der_of(SEQUENCE, &[DATA, &der_of(CONTEXT_0, &[&der_of(OCTET_STRING, &[content])])])
}

/// Tag, length, and these parts.
fn der_of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let significant = bytes.get(zeros..).unwrap_or_default();
            der.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            der.extend_from_slice(significant);
        }
    }
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const BMP_STRING: u8 = 0x1e;
const CONTEXT_0: u8 = 0xa0;
/// The integer 3.
const VERSION_3: &[u8] = &[0x02, 0x01, 0x03];
/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3
const CERT_BAG: &[u8] = &[0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1
const X509_CERTIFICATE: &[u8] = &[0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20
const FRIENDLY_NAME: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1, Java's own
const TRUSTED_KEY_USAGE: &[u8] = &[0x06, 0x0c, 0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x06, 0x04, 0x55, 0x1d, 0x25, 0x00];
