//! The one place that makes TLS client settings: ring as the provider, the system's roots plus a `ca_file`.
//!
//! The system's roots are loaded once, by `rustls-native-certs`, which honours `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};

use crate::config::CaBundle;

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
