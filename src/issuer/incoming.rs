//! A request to an OAuth endpoint: what it says, which URL it was sent to, and by which certificate.

use axum::{
    extract::{ConnectInfo, Request},
    http::HeaderMap,
};

use super::{Issuer, error::OAuthError, parameters::Parameters, tenant::Tenant, tls::Peer};

pub(super) struct Incoming {
    pub(super) headers: HeaderMap,
    pub(super) parameters: Parameters,
    pub(super) tenant: Tenant,
    /// The URLs of the endpoint, as metadata tells them and as the path was written.
    pub(super) urls: Vec<String>,
    pub(super) peer: Peer,
}

impl Incoming {
    pub(super) async fn read(issuer: &Issuer, tenant: Tenant, request: Request) -> Result<Self, OAuthError> {
        let peer = peer_of(&request);
        // Below a tenant, axum has taken the prefix away from the path.
        let urls = issuer.bases_of(&tenant).iter().map(|base| format!("{base}{}", request.uri().path())).collect();
        let (headers, parameters) = Parameters::read(request).await?;
        Ok(Self { headers, parameters, tenant, urls, peer })
    }
}

/// Who is at the other end of the connection, if it is known.
pub(super) fn peer_of(request: &Request) -> Peer {
    request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone()).unwrap_or_default()
}
