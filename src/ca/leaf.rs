//! Certificates for intercepted hosts, made when a host is first met and kept: a handshake with a host that was met
//! before costs no signature of the CA's.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use lru::LruCache;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

use super::{Authority, CLOCK_SKEW, CaError, random_serial, signing};
use crate::route::pattern::Host;

/// The certificates of a CA's hosts, with the TLS settings that use them.
pub struct Leaves {
    authority: Authority,
    /// One key for all of them: it lives as long as this process, and never leaves it.
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    settings: ServerConfig,
    cache: Mutex<LruCache<Host, Leaf>>,
}

struct Leaf {
    settings: Arc<ServerConfig>,
    minted: SystemTime,
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaves").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Leaves {
    /// None yet.
    ///
    /// # Errors
    /// [`CaError::Signing`]: the machine gives no random numbers.
    pub fn new(authority: Authority) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(signing)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = ring::sign::any_ecdsa_type(&private).map_err(signing)?;
        let mut settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(signing)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(Vec::new(), Arc::clone(&signer)))));
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A session is resumed by its ticket, and only for the name that it was made for.
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        settings.ticketer = ring::Ticketer::new().map_err(signing)?;
        let cache = Mutex::new(LruCache::new(MAX_LEAVES));
        Ok(Self { authority, key, signer, settings, cache })
    }

    /// The CA that signs them.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The TLS settings for a host: ALPN h2 and http/1.1, and a certificate that is good for two days at least.
    ///
    /// # Errors
    /// [`CaError::Signing`].
    pub fn settings(&self, host: &Host) -> Result<Arc<ServerConfig>, CaError> {
        self.settings_at(host, SystemTime::now())
    }

    fn settings_at(&self, host: &Host, now: SystemTime) -> Result<Arc<ServerConfig>, CaError> {
        // Either way a clock was changed if it was minted later than now.
        let fresh = |leaf: &&Leaf| now.duration_since(leaf.minted).is_ok_and(|age| age < RENEW_AFTER);
        let known = self
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(host)
            .filter(fresh)
            .map(|leaf| Arc::clone(&leaf.settings));
        if let Some(known) = known {
            return Ok(known);
        }
        // Two handshakes at once may both make one: that costs less than to wait.
        let settings = Arc::new(self.mint(host, now)?);
        let leaf = Leaf { settings: Arc::clone(&settings), minted: now };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).put(host.clone(), leaf);
        Ok(settings)
    }

    fn mint(&self, host: &Host, now: SystemTime) -> Result<ServerConfig, CaError> {
        let key = CertifiedKey::new(self.chain(host, now)?, Arc::clone(&self.signer));
        let mut settings = self.settings.clone();
        settings.cert_resolver = Arc::new(SingleCertAndKey::from(key));
        Ok(settings)
    }

    /// A certificate for a host, and the CA's after it.
    fn chain(&self, host: &Host, now: SystemTime) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let mut params = CertificateParams::new(vec![host.as_str().to_owned()]).map_err(signing)?;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LIFETIME).min(self.authority.expires).into();
        params.serial_number = Some(random_serial());
        params.distinguished_name = DistinguishedName::new();
        // RFC 5280, ub-common-name: 64 characters. Clients look at the alternative name; but OpenSSL holds a name here that
        // could be a host's against the CA's constraints, and takes an address for one.
        let can_stand = host.as_str().len() <= 64 && host.ip().is_none();
        let name = if can_stand { host.as_str() } else { "lanyard's leaf" };
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.key, &self.authority.issuer).map_err(signing)?;
        Ok(std::iter::once(certificate.der().clone()).chain(self.authority.chain.iter().cloned()).collect())
    }
}

/// How long a certificate is good for.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600 - 3600);
/// After this time another takes its place.
const RENEW_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);
/// Hosts that are kept; the one unused for longest goes first.
const MAX_LEAVES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime, pem::PemObject},
    };

    use super::*;
    use crate::route::pattern::HostPattern;

    fn leaves(hosts: &[&str]) -> Leaves {
        let hosts: Vec<HostPattern> = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        Leaves::new(Authority::new(&hosts).unwrap().0).unwrap()
    }

    /// As a client that trusts the CA sees it.
    fn verify(leaves: &Leaves, host: &str, at: SystemTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(leaves.authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let chain = leaves.chain(&Host::parse(host).unwrap(), SystemTime::now()).unwrap();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).unwrap();
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).map(drop)
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn clients_take_a_leaf_for_its_host_and_for_at_most_seven_days() {
        let now = SystemTime::now();
        let any = leaves(&[]);
        for host in ["api.example.com", "a.test", "192.0.2.1", "[2001:db8::1]", &format!("{}.test", "a".repeat(63))] {
            verify(&any, host, now).unwrap();
            verify(&any, host, now + 6 * DAY).unwrap();
            verify(&any, host, now + 7 * DAY).unwrap_err();
            verify(&any, host, now - 2 * Duration::from_secs(3600)).unwrap_err();
        }
    }

    #[test]
    fn what_the_constraints_do_not_permit_no_client_takes() {
        let now = SystemTime::now();
        let named = leaves(&["api.example.com", "*.internal.test"]);
        for (host, permitted) in [
            ("api.example.com", true),
            ("v1.internal.test", true),
            ("example.com", false),
            ("evilapi.example.com", false),
            ("accounts.example.net", false),
            ("192.0.2.1", false),
            ("[2001:db8::1]", false),
        ] {
            assert_eq!(verify(&named, host, now).is_ok(), permitted, "{host}");
            let pattern = HostPattern::parse(host).unwrap();
            assert_eq!(named.authority.covers([&pattern]).is_ok(), permitted, "{host}");
        }
        let address = leaves(&["192.0.2.1", "[2001:db8::1]"]);
        for (host, permitted) in
            [("192.0.2.1", true), ("[2001:db8::1]", true), ("192.0.2.2", false), ("a.example.com", false)]
        {
            assert_eq!(verify(&address, host, now).is_ok(), permitted, "{host}");
            assert_eq!(address.authority.covers([&HostPattern::parse(host).unwrap()]).is_ok(), permitted, "{host}");
        }
    }

    #[test]
    fn an_address_is_no_common_name() {
        let leaves = leaves(&["192.0.2.1", "a.test"]);
        for (host, expected) in [("a.test", "CN=a.test"), ("192.0.2.1", "CN=lanyard's leaf")] {
            let chain = leaves.chain(&Host::parse(host).unwrap(), SystemTime::now()).unwrap();
            let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
            assert_eq!(leaf.subject().to_string(), expected);
        }
    }

    #[test]
    fn a_leaf_is_renewed_before_it_expires_and_when_the_clock_went_back() {
        let (leaves, host, now) = (leaves(&[]), Host::parse("a.test").unwrap(), SystemTime::now());
        let first = leaves.settings_at(&host, now).unwrap();
        assert!(Arc::ptr_eq(&first, &leaves.settings_at(&host, now + 4 * DAY).unwrap()));
        let second = leaves.settings_at(&host, now + 5 * DAY).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &leaves.settings_at(&host, now).unwrap()));
    }

    #[test]
    fn no_two_certificates_have_the_same_serial_number() {
        let leaves = leaves(&[]);
        let mut serials = std::collections::HashSet::new();
        for n in 0..50 {
            let chain = leaves.chain(&Host::parse(&format!("h{n}.test")).unwrap(), SystemTime::now()).unwrap();
            let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
            assert!(serials.insert(leaf.raw_serial().to_vec()));
        }
    }

    #[test]
    fn the_cache_has_a_bound() {
        let leaves = leaves(&[]);
        for n in 0..MAX_LEAVES.get() + 10 {
            leaves.settings(&Host::parse(&format!("h{n}.test")).unwrap()).unwrap();
        }
        assert_eq!(leaves.cache.lock().unwrap().len(), MAX_LEAVES.get());
    }
}
