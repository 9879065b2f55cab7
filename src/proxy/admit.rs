//! What a request may carry, and where it goes: decided here, whichever way it is sent.

use std::{sync::Arc, time::Duration};

use pingora::{http::RequestHeader, proxy::Session};

use super::{
    Injector,
    context::{Carried, Context},
    dialled, headers, named,
    peer::{self, Destination},
    refusal::{Code, Refusal},
    target::{self, NamedBy, Target},
};
use crate::{
    config::{Existing, OnUnavailable, Unmatched},
    route::{Ambiguous, path},
    snapshot::{Profile, RouteEntry, Snapshot},
    token::Unavailable,
};

impl Injector {
    /// Decides what a request is for, which route it takes and what it carries.
    pub(super) async fn admit(&self, session: &Session, context: &mut Context) -> Result<(), Refusal> {
        let (Some(snapshot), Some(connection)) = (context.snapshot.clone(), context.connection.clone()) else {
            return Err(Refusal::new(Code::InternalError, "the connection has no facts", "report it"));
        };
        let head = session.req_header();
        let target = target::decide(&connection.listening, named(head))?;
        context.target = Some(target.clone());
        let route = self.route(&snapshot, &target, head)?;
        context.route.clone_from(&route);
        if self.via.is_in(&head.headers) {
            let hint = match connection.listening.original {
                None => {
                    "the upstream sends requests back to lanyard: look at its proxy settings, and at `upstream` here"
                }
                Some(_) => dialled::EXCLUDE,
            };
            return Err(Refusal::new(Code::LoopDetected, "the request went through this lanyard before", hint));
        }
        let foreign = !connection.allow_browsers && headers::is_foreign(&head.headers, target.host.as_str());
        let has_own = |profile: &Profile| head.headers.contains_key(&profile.config.header);

        if let Some(profile) = route.as_ref().and_then(|entry| entry.profile.as_ref()) {
            context.credential = match profile.config.existing {
                Existing::Reject if has_own(profile) => {
                    let header = &profile.config.header;
                    let detail = format!("the request has a {header} of its own");
                    let hint = "do not send it, or set `existing` of the profile to \"replace\" or \"keep\"";
                    return Err(Refusal::new(Code::BadRequest, detail, hint).for_profile(&profile.config.name));
                }
                Existing::Keep if has_own(profile) => Carried::Nothing("existing"),
                Existing::Keep | Existing::Replace | Existing::Reject if foreign => Carried::Nothing("browser"),
                Existing::Keep | Existing::Replace | Existing::Reject => self.credential(profile, context).await?,
            };
        }

        let route = route.as_deref().map(|entry| &entry.route);
        let destination = Destination::of(&target, route, &snapshot.config.egress_proxy);
        let limit = route.map_or(peer::DEFAULT_CONNECT_TIMEOUT, |route| route.connect_timeout);
        let addresses = peer::addresses(&destination, &self.dialer, limit).await;
        context.destination = Some(destination);
        context.addresses = Some(addresses.map_err(|refusal| match context.profile() {
            Some(profile) => refusal.for_profile(&profile.config.name),
            None => refusal,
        })?);
        Ok(())
    }

    /// The route of a target, or whether it may go without one.
    fn route(
        &self,
        snapshot: &Snapshot,
        target: &Target,
        head: &RequestHeader,
    ) -> Result<Option<Arc<RouteEntry>>, Refusal> {
        let found = snapshot.routes.find(target.host.as_str(), target.port, target.path(), &head.method);
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
                let detail = format!("no route is for {} {to}{}", head.method, target.path());
                let hint =
                    "add a route for it (profile = \"none\" to forward it bare); `lanyard explain` tells what matches";
                Err(Refusal::new(Code::RouteDenied, detail, hint))
            }
        }
    }

    /// The profile's token, waited for if need be.
    async fn credential(&self, profile: &Arc<Profile>, context: &mut Context) -> Result<Carried, Refusal> {
        if let Some(token) = profile.slot.usable() {
            return Ok(Carried::Token { profile: Arc::clone(profile), token });
        }
        let asked = tokio::time::Instant::now();
        let token = profile.slot.get(context.request_id).await;
        context.token_wait = asked.elapsed();
        match token {
            Ok(token) => Ok(Carried::Token { profile: Arc::clone(profile), token }),
            Err(_) if profile.config.on_unavailable == OnUnavailable::Pass => {
                Ok(Carried::Stripped(profile.config.header.clone()))
            }
            Err(unavailable) => Err(no_token(profile, &unavailable)),
        }
    }
}

fn no_token(profile: &Profile, unavailable: &Unavailable) -> Refusal {
    let name = &profile.config.name;
    let refusal = match unavailable {
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
