//! The local certificate authority that interception signs with: created once, kept in two files, read at start.
//!
//! Whoever has its key can pretend to be any host to a program that trusts it. So it is made on this machine and for it,
//! its key is readable by its owner alone, and it may only sign for the hosts that are intercepted (RFC 5280 4.2.1.10).

pub mod bundle;
mod constraints;
mod files;
mod leaf;

pub use self::{files::Files, leaf::Leaves};

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rand_core::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::constraints::Constraints;
use crate::{route::pattern::HostPattern, secret::Secret};

/// A CA with its key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, and those above it if its file has them.
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    constraints: Option<Constraints>,
    expires: SystemTime,
}

/// What a CA's certificate says, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub subject: String,
    /// When it begins to be good.
    pub from: String,
    /// When it expires.
    pub until: String,
    /// SHA-256 of its DER form, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
}

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is none yet.
    #[error("there is no CA: {} does not exist", .0.display())]
    Absent(PathBuf),
    /// There is one already.
    #[error("there is a CA already: {}", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read the key.
    #[error("{}: others can read the CA's key (mode {mode:03o})", path.display())]
    Exposed {
        /// The key.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The CA may not sign for a host.
    #[error("the CA may not sign for {host}: it was created for other hosts")]
    NotCovered {
        /// Which.
        host: String,
    },
    /// Neither the configuration nor the environment says where.
    #[error("there is no place for the CA: neither ca.directory nor XDG_DATA_HOME nor HOME is set")]
    NoPlace,
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Signing(String),
}

impl CaError {
    /// What to do about it, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Absent(_) => "make one: lanyard ca create".to_owned(),
            Self::Exists(_) => {
                "keep it, or make another with --force: clients then have to trust the new one".to_owned()
            }
            Self::File { .. } => {
                "look at the permissions of the directory, or name another: [ca] directory = \"...\"".to_owned()
            }
            Self::Exposed { path, .. } => {
                format!("chmod 600 {}, and if anybody may have read it: lanyard ca create --force", path.display())
            }
            Self::Unusable { .. } => {
                "mend it, or make another CA (lanyard ca create --force) and have clients trust it".to_owned()
            }
            Self::NotCovered { .. } => {
                "make one for the hosts of this configuration (lanyard ca create --force), and have clients trust it"
                    .to_owned()
            }
            Self::NoPlace => "write [ca] directory = \"/var/lib/lanyard/ca\", or ephemeral = true".to_owned(),
            Self::Signing(_) => "this is a fault of lanyard: please report it".to_owned(),
        }
    }
}

impl Authority {
    /// A new one for these hosts, in no file.
    ///
    /// # Errors
    /// [`CaError::Signing`].
    pub fn new(hosts: &[HostPattern]) -> Result<(Self, Secret), CaError> {
        let key = KeyPair::generate().map_err(signing)?;
        let private = Secret::new(key.serialize_pem());
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LIFETIME).into();
        params.serial_number = Some(random_serial());
        params.name_constraints = constraints::of(hosts);
        params.distinguished_name = DistinguishedName::new();
        // Some clients find a root by its name alone: each has one of its own.
        let name = format!("lanyard local CA {}", crate::telemetry::new_id());
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).map_err(signing)?.pem();
        let unusable = |problem| CaError::Signing(problem);
        Ok((Self::parse(&pem, key).map_err(unusable)?, private))
    }

    /// From a certificate in PEM form and its key.
    fn parse(pem: &str, key: KeyPair) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("no good PEM: {error}"))?;
        let first = chain.first().ok_or("it holds no certificate")?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|error| format!("no certificate: {error}"))?;
        if !parsed.is_ca() {
            return Err("the certificate is not that of a CA".to_owned());
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("the key beside it belongs to another certificate".to_owned());
        }
        let expires = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(expires);
        if expires <= SystemTime::now() {
            return Err(format!("the certificate expired at {}", parsed.validity().not_after));
        }
        let constraints = Constraints::read(&parsed)?;
        let issuer = Issuer::from_ca_cert_der(first, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, chain: chain.clone(), pem: pem.to_owned(), constraints, expires })
    }

    /// Its certificate (and those above it) in PEM form, for clients to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, and those above it if its file has them.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What its certificate says, for people.
    pub fn about(&self) -> About {
        let der = self.chain.first().map_or(&[][..], |der| der.as_ref());
        let hash = Sha256::digest(der);
        let fingerprint = hash.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let (subject, from, until) = match X509Certificate::from_der(der) {
            Ok((_, parsed)) => {
                let validity = parsed.validity();
                (parsed.subject().to_string(), validity.not_before.to_string(), validity.not_after.to_string())
            }
            Err(_) => Default::default(), // It was parsed before.
        };
        About { subject, from, until, fingerprint }
    }

    /// When its certificate expires.
    pub const fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The hosts that it may sign for, for people; `None`: any.
    pub fn permitted(&self) -> Option<Vec<String>> {
        self.constraints.as_ref().map(Constraints::permitted)
    }

    /// Whether it may sign for these.
    ///
    /// # Errors
    /// [`CaError::NotCovered`] with the first that it may not sign for.
    pub fn covers<'a>(&self, hosts: impl IntoIterator<Item = &'a HostPattern>) -> Result<(), CaError> {
        let Some(constraints) = &self.constraints else { return Ok(()) };
        match hosts.into_iter().find(|pattern| !constraints.permit(&pattern.host)) {
            Some(pattern) => Err(CaError::NotCovered { host: pattern.to_string() }),
            None => Ok(()),
        }
    }
}

fn signing(error: impl std::fmt::Display) -> CaError {
    CaError::Signing(error.to_string())
}

/// RFC 5280 4.1.2.2: positive, at most 20 octets; no two certificates of an issuer have the same.
fn random_serial() -> rcgen::SerialNumber {
    let mut serial = [0; 16];
    rand_core::OsRng.fill_bytes(&mut serial);
    serial[0] &= 0x7f;
    rcgen::SerialNumber::from_slice(&serial)
}

/// How long a CA is good for: as long as a machine lives.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates begin so long ago: a client's clock may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
