//! HTTPS for the server and its API, with a certificate of the client's if it has one (RFC 8705).
//!
//! The handshake proves that a client has the key of its certificate, and nothing more: which certificates are good is
//! decided for each client, where it is known which client it is.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    ca::{Authority, CaError, Leaves},
    route::pattern::{Host, HostPattern},
};

/// The TLS settings of a server that asks for a client's certificate, and takes any or none.
///
/// # Errors
/// The key is not that of the certificate, or of a kind that is not known.
pub fn settings(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    finished(|builder| builder.with_single_cert(certificates, key))
}

/// The same with certificates of a new CA, which signs for this host, for `localhost` and for the loopback addresses
/// only. Also returns the CA's certificate in PEM form, for clients to trust.
///
/// # Errors
/// A certificate cannot be made.
pub fn mint(host: &str) -> Result<(Arc<ServerConfig>, String), CaError> {
    let fault = |error: &dyn std::fmt::Display| CaError::Signing(error.to_string());
    let mut patterns = Vec::new();
    for name in ["localhost", "127.0.0.1", "[::1]", host] {
        patterns.push(HostPattern::parse(name).map_err(|error| fault(&error))?);
    }
    let default = Host::parse(host).map_err(|error| fault(&error))?;
    let (authority, _key) = Authority::new(&patterns)?;
    let pem = authority.pem().to_owned();
    let minting = Minting { leaves: Leaves::new(authority)?, default };
    let settings = finished(|builder| Ok(builder.with_cert_resolver(Arc::new(minting))));
    Ok((settings.map_err(|error| fault(&error))?, pem))
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

fn finished(
    with_certificate: impl FnOnce(Builder) -> Result<ServerConfig, rustls::Error>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let anybody = AnyCertificate(provider.signature_verification_algorithms);
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut settings = with_certificate(builder.with_client_cert_verifier(Arc::new(anybody)))?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}

/// A certificate for the name that the client asks for. Whether the CA may sign for it, clients check.
#[derive(Debug)]
struct Minting {
    leaves: Leaves,
    /// For clients that dial an address and name no host.
    default: Host,
}

impl ResolvesServerCert for Minting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| Host::parse(name).ok());
        let settings = self.leaves.settings(named.as_ref().unwrap_or(&self.default)).ok()?;
        settings.cert_resolver.resolve(hello)
    }
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
