//! HTTPS for the server and its API, with a certificate of the client's if it has one (RFC 8705).
//!
//! The handshake proves that a client has the key of its certificate, and nothing more: which certificates are good is
//! decided for each client, where it is known which client it is.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The TLS settings of a server that asks for a client's certificate, and takes any or none.
///
/// # Errors
/// The key is not that of the certificate, or of a kind that is not known.
pub fn settings(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let anybody = AnyCertificate(provider.signature_verification_algorithms);
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(anybody))
        .with_single_cert(certificates, key)?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}

/// The same with a certificate of a new CA, for this host, for `localhost` and for the loopback addresses. Also returns
/// the CA's certificate in PEM form, for clients to trust. It signs this once, and its key is gone then.
///
/// # Errors
/// The host is no DNS name and no address, or the machine gives no random numbers.
pub fn mint(host: &str) -> Result<(Arc<ServerConfig>, String), MintError> {
    let key = KeyPair::generate()?;
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = ((now - CLOCK_SKEW).into(), (now + LIFETIME).into());
    params.distinguished_name = named(&format!("lanyard issuer {}", crate::telemetry::new_id()));
    let pem = params.self_signed(&key)?.pem();
    let authority = Issuer::new(params, key);

    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    let mut params = CertificateParams::new(names)?;
    (params.not_before, params.not_after) = ((now - CLOCK_SKEW).into(), (now + LIFETIME).into());
    // No name that could be a host's: OpenSSL would look for it among the names above.
    params.distinguished_name = named("lanyard issuer");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?.der().clone();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((settings(vec![certificate], private)?, pem))
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut whole = rcgen::DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// It cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot use it.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Takes any certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Serves `router` by HTTPS on `listener` until `shutdown`, then finishes the requests that are under way.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: Arc<ServerConfig>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Handshakes::start(listener, settings)?;
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown).await
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Whether the connection is TLS.
    pub(super) tls: bool,
    /// The client's certificate and those above it; empty where it has none.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

impl Connected<IncomingStream<'_, Handshakes>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Handshakes>) -> Self {
        let (_, connection) = stream.io().get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        Self { tls: true, chain: chain.iter().map(|one| one.clone().into_owned()).collect() }
    }
}

/// Connections whose handshake is done. A client that dawdles keeps no other waiting.
struct Handshakes {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
    /// Ends with the listener.
    _tasks: JoinSet<()>,
}

impl Handshakes {
    fn start(listener: TcpListener, settings: Arc<ServerConfig>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut listener = listener;
            let mut handshakes = JoinSet::new();
            loop {
                // axum's own way of accepting waits where there are no file descriptors left.
                let (stream, peer) = Listener::accept(&mut listener).await;
                while handshakes.try_join_next().is_some() {}
                let (acceptor, sender) = (TlsAcceptor::from(Arc::clone(&settings)), sender.clone());
                handshakes.spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        // The listener may be gone meanwhile.
                        Ok(Ok(stream)) => drop(sender.send((stream, peer)).await),
                        Ok(Err(error)) => tracing::info!(target: "lanyard::issuer", %peer, %error, "no TLS connection"),
                        Err(_) => tracing::info!(target: "lanyard::issuer", %peer, "the TLS handshake took too long"),
                    }
                });
            }
        });
        Ok(Self { ready, address, _tasks: tasks })
    }
}

impl Listener for Handshakes {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a minted certificate is good; browsers and Apple's TLS take none of more than 398 days.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Certificates begin so long ago: a client's clock may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
