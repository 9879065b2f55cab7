//! One immutable generation of configuration: routes and slots that belong together, and where it is kept.
//!
//! A request loads the snapshot once and finishes on it. A profile whose definition did not change moves from one
//! snapshot to the next with its slot, its token and its task.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderName;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::ClientConfig;

use crate::{
    ca::{Authority, CaError, Files, Leaves},
    clock::Clock,
    config::{self, CaBundle, Config, CredentialKind, Limits},
    credential::{
        Credential, aws::Aws, azure_managed_identity::ManagedIdentity, exec::Printed, file::TokenFile, fixed::Fixed,
        github_app::Installation, google_metadata::ServiceAccount, jwt::SelfSigned,
    },
    egress::connect::Dialer,
    metrics::{Metrics, NO_PROFILE, ProfileMetrics},
    oauth::{OnBehalf, TokenClient},
    proxy::direct::Origin,
    route::Table,
    tls::{self, TlsError},
    token::{Exchange, Policy, Slot, Subjects},
};

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    /// From 1, one more with each reload.
    pub generation: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// Every route with what a request on it needs.
    pub routes: Table<Arc<RouteEntry>>,
    /// Every profile, by name.
    pub profiles: BTreeMap<Arc<str>, Arc<Profile>>,
    /// The certificates of intercepted hosts; `None` where none is intercepted.
    pub interception: Option<Arc<Leaves>>,
    /// The handles of requests that take no profile.
    pub bare_metrics: Arc<ProfileMetrics>,
}

/// A profile at work.
#[derive(Debug)]
pub struct Profile {
    /// Its definition.
    pub config: Arc<config::Profile>,
    /// Its token; where each caller has one of its own, nobody asks for this.
    pub slot: Slot,
    /// The tokens of its callers, where it acts on behalf of them.
    pub subjects: Option<Subjects>,
    /// The header fields that it writes or takes for itself: none of them goes out as the client sent it.
    pub fields: Box<[HeaderName]>,
    /// Its metrics.
    pub metrics: Arc<ProfileMetrics>,
    /// The name of the header field that carries the token as HTTP/1.1 upstreams see it: `X-Api-Key`, not `x-api-key`.
    pub wire_header: Bytes,
}

/// A route at work.
#[derive(Debug)]
pub struct RouteEntry {
    /// Its definition.
    pub route: config::Route,
    /// Its profile; `None`: forward bare.
    pub profile: Option<Arc<Profile>>,
    /// The CAs that its upstream's certificate may come from; `None`: the system's.
    pub trusted: Option<Arc<[WrappedX509]>>,
    /// TLS settings for its upstream where it speaks HTTP/1.1, made when they are first needed.
    pub tls: OnceLock<Result<Arc<ClientConfig>, TlsError>>,
    /// Its upstream, where the route names one: asked for once.
    pub origin: OnceLock<Arc<Origin>>,
    /// Keeps upstream connections of different profiles and TLS settings apart (the pool's key has neither).
    pub group_key: u64,
}

/// The running snapshot.
#[derive(Clone, Debug)]
pub struct Current(Arc<ArcSwap<Snapshot>>);

impl Current {
    /// Starts with this one.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot for a request, once.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The limits that apply now.
    pub fn limits(&self) -> Limits {
        self.0.load().config.limits
    }

    /// From now on requests take this one.
    pub fn store(&self, next: Arc<Snapshot>) {
        self.0.store(next);
    }
}

/// What snapshots are built with, the same for the life of the process.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Tells the moment.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
    /// Reaches token endpoints.
    pub dialer: Dialer,
}

impl Snapshot {
    /// Builds the next generation, taking over the slots of unchanged profiles. Starts the tasks of the others.
    ///
    /// # Errors
    /// What a configuration that is right in itself still cannot be run for: one line a profile or route.
    pub fn build(config: Arc<Config>, previous: Option<&Self>, parts: &Parts) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut profiles = BTreeMap::new();
        for (name, definition) in &config.profiles {
            let unchanged = previous.and_then(|p| p.profiles.get(name)).filter(|old| old.config == *definition);
            let profile = match unchanged {
                Some(old) => Ok(Arc::clone(old)),
                None => start_profile(definition, parts).map(Arc::new),
            };
            match profile {
                Ok(profile) => drop(profiles.insert(Arc::clone(name), profile)),
                Err(problem) => problems.push(format!("profiles.{name}: {problem}")),
            }
        }
        let interception = interception(&config, previous).unwrap_or_else(|error| {
            problems.push(format!("ca: {error}: {}", error.hint()));
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let entries = config.routes.iter().map(|route| (route.clone(), Arc::new(entry(route, &profiles))));
        Ok(Self {
            generation: previous.map_or(1, |p| p.generation + 1),
            routes: Table::new(entries),
            profiles,
            interception,
            bare_metrics: parts.metrics.profile(&NO_PROFILE.into()),
            config,
        })
    }
}

/// The CA that signs for the intercepted hosts: the running one, or that of the files, which is made if there is none.
fn interception(config: &Config, previous: Option<&Snapshot>) -> Result<Option<Arc<Leaves>>, CaError> {
    let hosts = config.intercepted();
    if hosts.is_empty() {
        return Ok(None);
    }
    let running = previous.filter(|previous| previous.config.ca == config.ca);
    let running = running.and_then(|previous| previous.interception.as_ref());
    let authority = if config.ca.ephemeral {
        match running.filter(|leaves| leaves.authority().covers(&hosts).is_ok()) {
            Some(running) => return Ok(Some(Arc::clone(running))),
            None => Authority::new(&hosts)?.0,
        }
    } else {
        Files::at(config.ca.directory.as_deref())?.load_or_create(&hosts)?
    };
    authority.covers(&hosts)?;
    if let Some(running) = running.filter(|leaves| leaves.authority().pem() == authority.pem()) {
        return Ok(Some(Arc::clone(running)));
    }
    let days = authority.expires().duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
    if days < CA_RENEWAL_DAYS {
        let hint = "make another (lanyard ca create --force), and have clients trust it";
        tracing::warn!(days, hint, "the CA of lanyard expires soon");
    }
    Ok(Some(Arc::new(Leaves::new(authority)?)))
}

/// The credential that a profile's definition describes.
///
/// # Errors
/// Its client cannot be built: no CA at all, a bad proxy.
pub fn credential(definition: &config::Profile, dialer: &Dialer) -> Result<Arc<dyn Credential>, String> {
    let name = &definition.name;
    match &definition.kind {
        CredentialKind::OAuth2(oauth2) => {
            let client = TokenClient::new(name, oauth2, dialer).map_err(|e| e.to_string())?;
            Ok(Arc::new(client))
        }
        CredentialKind::Static(config) => Ok(Arc::new(Fixed::new(name, config, &definition.placement))),
        CredentialKind::Jwt(config) => Ok(Arc::new(SelfSigned::new(name, config))),
        CredentialKind::File(config) => Ok(Arc::new(TokenFile::new(name, config))),
        CredentialKind::Exec(config) => Ok(Arc::new(Printed::new(name, config))),
        CredentialKind::GitHubApp(config) => Ok(Arc::new(Installation::new(name, config, dialer)?)),
        CredentialKind::GoogleMetadata(config) => Ok(Arc::new(ServiceAccount::new(name, config, dialer)?)),
        CredentialKind::AzureManagedIdentity(config) => Ok(Arc::new(ManagedIdentity::new(name, config, dialer)?)),
        CredentialKind::AwsSigV4(config) => Ok(Arc::new(Aws::new(name, config, dialer)?)),
    }
}

fn start_profile(definition: &Arc<config::Profile>, parts: &Parts) -> Result<Profile, String> {
    let policy = Policy {
        profile: Arc::clone(&definition.name),
        placement: definition.placement.clone(),
        prefetch: definition.prefetch,
        refresh_before: definition.refresh_before,
        default_token_lifetime: definition.default_token_lifetime,
        token_wait: definition.token_wait,
        idle_after: definition.idle_after,
        reject_interval: definition.reject_interval,
    };
    let metrics = parts.metrics.profile(&definition.name);
    let mut fields = definition.placement.fields().to_vec();
    let mut subjects = None;
    if let Some((oauth2, header, most)) = definition.kind.caller() {
        let client = Arc::new(TokenClient::new(&definition.name, oauth2, &parts.dialer).map_err(|e| e.to_string())?);
        let exchange: Box<Exchange> =
            Box::new(move |subject| Arc::new(OnBehalf { client: Arc::clone(&client), subject }));
        subjects = Some(Subjects::new(policy.clone(), most, exchange, Arc::clone(&metrics), parts.clock));
        if !fields.contains(header) {
            fields.push(header.clone());
        }
    }
    let credential = credential(definition, &parts.dialer)?;
    let slot = Slot::start(policy, credential, Arc::clone(&metrics), parts.clock);
    let wire_header = definition.placement.fields().first().map(wire_name).unwrap_or_default().into();
    Ok(Profile { config: Arc::clone(definition), slot, subjects, fields: fields.into(), metrics, wire_header })
}

/// A header field's name as HTTP/1.1 is used to it: each word capitalised.
pub fn wire_name(name: &HeaderName) -> String {
    let mut upper = true;
    let capital = |c: char| {
        let titled = if upper { c.to_ascii_uppercase() } else { c };
        upper = c == '-';
        titled
    };
    name.as_str().chars().map(capital).collect()
}

fn entry(route: &config::Route, profiles: &BTreeMap<Arc<str>, Arc<Profile>>) -> RouteEntry {
    // A profile that could not be started is a problem of its own.
    let profile = route.profile.as_ref().and_then(|name| profiles.get(name)).cloned();
    RouteEntry {
        trusted: route.ca_file.as_ref().map(|bundle| trusted(Some(bundle))),
        tls: OnceLock::new(),
        origin: OnceLock::new(),
        group_key: group_key(route),
        route: route.clone(),
        profile,
    }
}

/// The system's roots and the bundle: a peer's own CAs take the place of the system's.
pub fn trusted(bundle: Option<&CaBundle>) -> Arc<[WrappedX509]> {
    let system = tls::system_roots_der().iter().map(|der| der.to_vec());
    let extra = bundle.into_iter().flat_map(|bundle| bundle.certificates.iter().cloned());
    system.chain(extra).map(|der| WrappedX509::new(der, parse_x509)).collect()
}

/// The same for the same profile, CAs and server name, and only for them.
fn group_key(route: &config::Route) -> u64 {
    let mut hasher = DefaultHasher::new();
    route.profile.hash(&mut hasher);
    route.server_name.hash(&mut hasher);
    route.ca_file.as_ref().map(|bundle| &bundle.certificates).hash(&mut hasher);
    hasher.finish()
}

/// When an operator is reminded of a CA's end.
const CA_RENEWAL_DAYS: u64 = 30;

#[cfg(test)]
mod tests {
    #[test]
    fn header_names_are_capitalised() {
        for (name, titled) in [("authorization", "Authorization"), ("x-api-key", "X-Api-Key"), ("x--y", "X--Y")] {
            assert_eq!(super::wire_name(&super::HeaderName::from_static(name)), titled);
        }
    }
}
