//! What a request may carry, and where it goes: decided here, whichever way it is sent.
//!
//! Two steps: `Injector::lead` tells the route and the destination and waits for nothing; `Injector::equip` gets the
//! credential and `Injector::addresses` the addresses, which may take time.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Injector,
    context::{Carried, Connection, Context},
    dialled, headers,
    peer::{self, Addresses, Destination},
    refusal::{Code, Refusal},
    target::{self, Named, NamedBy, Target},
};
use crate::{
    config::{Existing, OnUnavailable, Placement, Unmatched},
    credential::FetchErrorKind,
    oauth::response::MAX_TOKEN,
    route::{Ambiguous, path, query},
    snapshot::{Profile, RouteEntry, Snapshot},
    token::{Slot, Unavailable},
    token_endpoint::PLACEHOLDER,
};

/// The header fields of a request, however they are kept.
pub trait Fields {
    /// The values of all fields with this name, in the order in which they came.
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]>;

    /// Whether there is any with this name.
    fn has(&self, name: &HeaderName) -> bool {
        self.all(name).next().is_some()
    }
}

impl Fields for HeaderMap {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

impl Fields for [httparse::Header<'_>] {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_str())).map(|field| field.value)
    }
}

/// What a request is to carry.
#[derive(Debug)]
pub(super) enum Wanted {
    /// What the client sent.
    Nothing(&'static str),
    /// This profile's credential; on behalf of its caller where there is a slot of that one.
    Credential(Arc<Profile>, Option<Arc<Slot>>),
}

impl Injector {
    /// Decides what a request is for, which route it takes and where that leads; the context keeps it. The answer is
    /// what the request is to carry.
    ///
    /// # Errors
    /// It is not to be forwarded.
    pub(super) fn lead<F: Fields + ?Sized>(
        &self,
        named: Named<'_>,
        fields: &F,
        context: &mut Context,
    ) -> Result<Wanted, Refusal> {
        let Context { snapshot: Some(snapshot), connection: Some(connection), .. } = context else {
            return Err(Refusal::new(Code::InternalError, "the connection has no facts", "report it"));
        };
        let target = context.target.insert(target::decide(&connection.listening, named)?);
        context.route = route(snapshot, target, named)?;
        let wanted = self.wanted(context.route.as_deref(), connection, target, named.host, fields)?;
        let route = context.route.as_deref().map(|entry| &entry.route);
        let mut destination = Destination::of(target, route, &snapshot.config.egress_proxy);
        if let Wanted::Credential(profile, _) = &wanted
            && let Placement::Query { parameter } = &profile.config.placement
            && let Cow::Owned(path) = query::without(&destination.path_and_query, parameter)
        {
            destination.path_and_query = path.into();
        }
        context.destination = Some(destination);
        Ok(wanted)
    }

    fn wanted<F: Fields + ?Sized>(
        &self,
        entry: Option<&RouteEntry>,
        connection: &Connection,
        target: &Target,
        host: Option<&[u8]>,
        fields: &F,
    ) -> Result<Wanted, Refusal> {
        if self.via.is_in(fields) {
            let hint = match connection.listening.original {
                None => {
                    "the upstream sends requests back to lanyard: look at its proxy settings, and at `upstream` here"
                }
                Some(_) => dialled::EXCLUDE,
            };
            return Err(Refusal::new(Code::LoopDetected, "the request went through this lanyard before", hint));
        }
        let Some(profile) = entry.and_then(|entry| entry.profile.as_ref()) else {
            return Ok(Wanted::Nothing("unmatched"));
        };
        let placement = &profile.config.placement;
        let sent_own = || match placement {
            Placement::Query { parameter } => query::has(&target.path_and_query, parameter),
            Placement::Header { name, .. } => has_own(fields, name),
            Placement::Signature { fields: names } => names.first().is_some_and(|name| has_own(fields, name)),
        };
        match profile.config.existing {
            Existing::Reject if sent_own() => {
                let detail = match placement {
                    Placement::Query { parameter } => format!("the request has a parameter {parameter} of its own"),
                    Placement::Header { .. } | Placement::Signature { .. } => {
                        let name = placement.fields().first().map_or("", HeaderName::as_str);
                        format!("the request has a {name} of its own")
                    }
                };
                let hint = "do not send it, or set `existing` of the profile to \"replace\" or \"keep\"";
                Err(Refusal::new(Code::BadRequest, detail, hint).for_profile(&profile.config.name))
            }
            Existing::Keep if sent_own() => Ok(Wanted::Nothing("existing")),
            Existing::Keep | Existing::Replace | Existing::Reject => {
                let foreign = !connection.allow_browsers && headers::is_foreign(fields, host, target.host.as_str());
                if foreign {
                    return Ok(Wanted::Nothing("browser"));
                }
                if let Placement::Query { parameter } = placement
                    && let Some(refusal) = target.no_query(parameter)
                {
                    return Err(refusal.for_profile(&profile.config.name));
                }
                let subject = match &profile.subjects {
                    None => None,
                    Some(subjects) => Some(subjects.of(subject_token(profile, fields)?)),
                };
                Ok(Wanted::Credential(Arc::clone(profile), subject))
            }
        }
    }

    /// What the request carries: the profile's token, waited for if need be.
    ///
    /// # Errors
    /// There is none, and the profile does not let requests pass without.
    pub(super) async fn equip(&self, wanted: Wanted, context: &mut Context) -> Result<(), Refusal> {
        context.credential = match wanted {
            Wanted::Nothing(why) => Carried::Nothing(why),
            Wanted::Credential(profile, subject) => match subject.as_deref().unwrap_or(&profile.slot).usable() {
                Some(token) => Carried::Token { profile, subject, token },
                None => wait_for_token(profile, subject, context).await?,
            },
        };
        Ok(())
    }

    /// The vetted addresses of the destination, the first to try last.
    ///
    /// # Errors
    /// There is none that may be dialled.
    pub(super) async fn addresses(&self, context: &Context) -> Result<Addresses, Refusal> {
        let Some(destination) = &context.destination else {
            return Err(Refusal::new(Code::InternalError, "the request has no destination", "report it"));
        };
        let route = context.route.as_deref().map(|entry| &entry.route);
        let limit = route.map_or(peer::DEFAULT_CONNECT_TIMEOUT, |route| route.connect_timeout);
        peer::addresses(destination, &self.dialer, limit).await.map_err(|refusal| match context.profile() {
            Some(profile) => refusal.for_profile(&profile.config.name),
            None => refusal,
        })
    }
}

/// The route of a target, or whether it may go without one.
fn route(snapshot: &Snapshot, target: &Target, named: Named<'_>) -> Result<Option<Arc<RouteEntry>>, Refusal> {
    let found = snapshot.routes.find(target.host.as_str(), target.port, target.path(), named.method);
    if let Some(entry) = found.map_err(|Ambiguous| target.ambiguous())? {
        let base = entry.route.upstream.as_ref().and_then(|upstream| upstream.path.as_ref());
        if base.is_some() && path::normalise(target.path()).is_none() {
            return Err(target.no_normal_form());
        }
        return Ok(Some(Arc::clone(entry)));
    }
    let to = target.authority();
    if target.named_by == NamedBy::Host {
        let detail = format!("no route is for {to}, and a request that names it by Host alone needs one");
        let hint = "add a route for it, or point the client's proxy setting (HTTP_PROXY) here";
        return Err(Refusal::new(Code::RouteDenied, detail, hint));
    }
    match snapshot.config.forward.unmatched {
        Unmatched::Pass => Ok(None),
        Unmatched::Deny => {
            let detail = format!("no route is for {} {to}{}", named.method, target.path());
            let hint =
                "add a route for it (profile = \"none\" to forward it bare); `lanyard explain` tells what matches";
            Err(Refusal::new(Code::RouteDenied, detail, hint))
        }
    }
}

/// Whether the client sent this field itself; a placeholder in it, which lanyard gave out, stands for ours.
fn has_own<F: Fields + ?Sized>(fields: &F, name: &HeaderName) -> bool {
    let is_placeholder = |value: &[u8]| memchr::memmem::find(value, PLACEHOLDER.as_bytes()).is_some();
    fields.all(name).any(|value| !is_placeholder(value))
}

/// The token of whoever sent the request, which the profile exchanges.
fn subject_token<'a, F: Fields + ?Sized>(profile: &'a Profile, fields: &'a F) -> Result<&'a str, Refusal> {
    let name = profile.config.kind.caller().map_or(&AUTHORIZATION, |(_, header, _)| header);
    let missing = |detail: String| {
        let hint = "send the token that lanyard is to exchange, as a caller of the API itself would";
        Refusal::new(Code::SubjectTokenMissing, detail, hint).for_profile(&profile.config.name)
    };
    let mut values = fields.all(name);
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(missing(format!("the request has not one {name}")));
    };
    let text = std::str::from_utf8(value).unwrap_or_default().trim();
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => token.trim(),
        None if *name != AUTHORIZATION => text,
        _ => "",
    };
    let legal = !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|b| b.is_ascii_graphic());
    if legal { Ok(token) } else { Err(missing(format!("{name} of the request holds no bearer token"))) }
}

async fn wait_for_token(
    profile: Arc<Profile>,
    subject: Option<Arc<Slot>>,
    context: &mut Context,
) -> Result<Carried, Refusal> {
    let asked = tokio::time::Instant::now();
    let token = subject.as_deref().unwrap_or(&profile.slot).get(context.request_id).await;
    context.token_wait = asked.elapsed();
    match token {
        Ok(token) => Ok(Carried::Token { profile, subject, token }),
        Err(_) if profile.config.on_unavailable == OnUnavailable::Pass => Ok(Carried::Stripped(profile)),
        Err(unavailable) => Err(no_token(&profile, subject.is_some(), &unavailable)),
    }
}

fn no_token(profile: &Profile, on_behalf: bool, unavailable: &Unavailable) -> Refusal {
    let name = &profile.config.name;
    let refusal = match unavailable {
        // RFC 8693 2.2.2: so a server says that it does not take the subject's token.
        Unavailable::Failed { error, .. }
            if on_behalf && matches!(error.kind, FetchErrorKind::InvalidGrant | FetchErrorKind::InvalidRequest) =>
        {
            let detail = format!("profile {name} could not exchange the caller's token: {}", error.detail);
            Refusal::new(Code::SubjectTokenRefused, detail, &*error.hint)
        }
        Unavailable::Failed { error, retry_after } => {
            Refusal::new(Code::TokenUnavailable, format!("profile {name} has no token: {}", error.detail), &*error.hint)
                .retry_after(*retry_after)
        }
        Unavailable::StillWaiting { waited } => Refusal::new(
            Code::TokenUnavailable,
            format!("profile {name} has no token yet: the token request is still under way after {waited:.1?}"),
            "look at the identity provider, or raise token_wait of the profile",
        )
        .retry_after(Duration::from_secs(1)),
    };
    refusal.for_profile(name)
}

static AUTHORIZATION: HeaderName = header::AUTHORIZATION;
