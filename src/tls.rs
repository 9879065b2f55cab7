//! The one place that makes TLS client settings: ring as the provider, the system's roots plus a `ca_file`.
//!
//! The system's roots are loaded once, by `rustls-native-certs`, which honours `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest as _, Sha256};

use crate::{config::CaBundle, secret::Secret};

/// Makes ring the provider of the whole process, for libraries that ask rustls for its default. Idempotent.
pub fn install_provider() {
    // An error means that one is installed already: this one, unless a caller of the library chose another.
    drop(ring::default_provider().install_default());
}

/// Settings for a TLS client that trusts the system's roots and `extra`.
///
/// # Errors
/// There is nothing to trust, or `extra` has a certificate that cannot be a root.
pub fn client_config(extra: Option<&CaBundle>) -> Result<ClientConfig, TlsError> {
    build(system(), extra)
}

/// Settings for a TLS client that trusts nobody, for a client that speaks no TLS but has to have some.
///
/// # Errors
/// The provider cannot do what rustls needs, which would be a fault of the build.
pub fn client_config_without_roots() -> Result<ClientConfig, TlsError> {
    config_of(RootCertStore::empty())
}

/// The system's roots, DER: whoever replaces them by a list of its own (a pingora peer with a CA) begins with these.
///
/// Empty where there are none; [`client_config`] tells why.
pub fn system_roots_der() -> &'static [CertificateDer<'static>] {
    &system().certificates
}

/// Whether a loader that takes all of the system's roots or none, as pingora's does, would take them.
pub fn system_roots_are_plain() -> bool {
    system().problems.is_empty() && system().unusable == 0
}

/// Why there are no TLS settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Neither the system nor the configuration has a root certificate.
    #[error("there are no trusted root certificates{}", reason(.problems))]
    NoRoots {
        /// What went wrong while the system's were looked for.
        problems: Vec<String>,
    },
    /// A certificate of a `ca_file` cannot be a root.
    #[error("{}: certificate {number} cannot be trusted as a root: {problem}", path.display())]
    Bundle {
        /// The `ca_file`.
        path: PathBuf,
        /// Which certificate, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The provider does not support what rustls needs.
    #[error("TLS cannot be set up: {0}")]
    Provider(String),
}

impl TlsError {
    /// What to do about it, in one line.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoRoots { .. } => {
                "install the system's CA certificates (package ca-certificates), or name a PEM file by SSL_CERT_FILE or ca_file"
            }
            Self::Bundle { .. } => "ca_file must hold CA certificates in PEM form",
            Self::Provider(_) => "this is a fault of lanyard: please report it",
        }
    }
}

/// What the system trusts.
#[derive(Debug)]
struct SystemRoots {
    /// Those that rustls can use.
    certificates: Vec<CertificateDer<'static>>,
    /// How many there are that it cannot.
    unusable: usize,
    /// What could not be read, one line each.
    problems: Vec<String>,
}

fn system() -> &'static SystemRoots {
    static ROOTS: OnceLock<SystemRoots> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let problems: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let roots = usable(found.certs, problems);
        if !roots.problems.is_empty() {
            tracing::warn!(
                trusted = roots.certificates.len(),
                problems = roots.problems.join("; "),
                "some system root certificates could not be read"
            );
        }
        roots
    })
}

/// Keeps the certificates that can be roots. System stores hold odd ones, and one of them must not cost all others.
fn usable(found: Vec<CertificateDer<'static>>, problems: Vec<String>) -> SystemRoots {
    let all = found.len();
    let certificates: Vec<_> =
        found.into_iter().filter(|der| RootCertStore::empty().add(der.clone()).is_ok()).collect();
    SystemRoots { unusable: all - certificates.len(), certificates, problems }
}

fn build(system: &SystemRoots, extra: Option<&CaBundle>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certificates.iter().cloned());
    if let Some(bundle) = extra {
        for (index, der) in bundle.certificates.iter().enumerate() {
            roots.add(CertificateDer::from(der.as_slice())).map_err(|e| TlsError::Bundle {
                path: bundle.path.clone(),
                number: index + 1,
                problem: e.to_string(),
            })?;
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots { problems: system.problems.clone() });
    }
    config_of(roots)
}

/// A certificate and its key, shown to servers that ask for one (RFC 8705).
#[derive(Clone)]
pub struct Identity {
    /// SHA-256 of both files: whether it is still the same.
    fingerprint: [u8; 32],
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// From two texts in PEM form: a certificate with its chain, and its key.
    ///
    /// # Errors
    /// There is no certificate or no key in them, or they do not belong together. Nothing of them is quoted.
    pub fn parse(certificate: &str, key: &Secret) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let chain = chain.map_err(|_| IdentityError::Certificate)?;
        if chain.is_empty() {
            return Err(IdentityError::Certificate);
        }
        let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| IdentityError::Key)?;
        let certified = CertifiedKey::from_der(chain, der, &ring::default_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch,
            other => IdentityError::Unusable(other.to_string()),
        })?;
        let fingerprint =
            Sha256::new().chain_update(certificate).chain_update([0]).chain_update(key.expose()).finalize().into();
        Ok(Self { fingerprint, key: Arc::new(certified) })
    }

    /// What rustls asks for a certificate.
    pub fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.key)))
    }

    /// SHA-256 of certificate and key: the same for the same.
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Why two files are no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No certificate.
    #[error("the certificate file holds no certificate (-----BEGIN CERTIFICATE-----)")]
    Certificate,
    /// No private key.
    #[error("the key file holds no private key in clear PEM (-----BEGIN PRIVATE KEY-----)")]
    Key,
    /// A key of another certificate.
    #[error("the key is not that of the certificate: were both files renewed?")]
    Mismatch,
    /// A key that TLS cannot use.
    #[error("the key cannot be used: {0}")]
    Unusable(String),
}

fn config_of(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Provider(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn reason(problems: &[String]) -> String {
    if problems.is_empty() { String::new() } else { format!(": {}", problems.join("; ")) }
}

#[cfg(test)]
mod tests;
