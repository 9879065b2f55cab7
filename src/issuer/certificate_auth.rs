//! Client authentication by certificate (RFC 8705 section 2): of a CA and with a registered name, or registered itself.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    Issuer,
    client::{AuthMethod, Client},
    jwk::digest,
    settings::IssuerError,
    tls::Peer,
};

/// The CAs whose certificates name clients.
pub(super) struct ClientCa(Option<Arc<dyn ClientCertVerifier>>);

impl ClientCa {
    pub(super) fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, IssuerError> {
        if certificates.is_empty() {
            return Ok(Self(None));
        }
        let wrong = |error: &dyn std::fmt::Display| IssuerError::BadClientCa(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self(Some(verifier.map_err(|error| wrong(&error))?)))
    }
}

impl Issuer {
    /// Whether the connection's certificate is the client's. The error tells what is wrong with it.
    pub(super) fn check_certificate(&self, client: &Client, method: AuthMethod, peer: &Peer) -> Result<(), String> {
        if !peer.tls {
            let aliases =
                if self.has_tls() { ": use the URL in mtls_endpoint_aliases" } else { ", and this server has no TLS" };
            return Err(format!("the connection is not TLS{aliases}"));
        }
        let Some((leaf, above)) = peer.chain.split_first() else {
            return Err("the TLS connection has no client certificate".to_owned());
        };
        if method == AuthMethod::SelfSignedTlsClientAuth {
            let thumbprint = digest(leaf);
            return match client.keys.iter().any(|key| key.x5t.as_ref() == Some(&thumbprint)) {
                true => Ok(()),
                false => Err(format!("the client certificate (x5t#S256 {thumbprint}) is not the registered one")),
            };
        }
        let Some(verifier) = &self.client_ca.0 else {
            return Err("this server has no CA for client certificates (--tls-client-ca)".to_owned());
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(self.now()));
        verifier
            .verify_client_cert(leaf, above, now)
            .map_err(|error| format!("the client certificate is not accepted: {error}"))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| format!("no certificate: {error}"))?;
        match &client.certificate {
            Some(name) => name.check(&parsed).map_err(|what| format!("the client certificate is another: {what}")),
            None => Err("no certificate name is registered for this client".to_owned()),
        }
    }
}

/// The thumbprint of the connection's certificate (`x5t#S256`, RFC 8705 section 3.1), if there is one.
pub(super) fn thumbprint(peer: &Peer) -> Option<String> {
    peer.chain.first().map(|leaf| digest(leaf))
}
