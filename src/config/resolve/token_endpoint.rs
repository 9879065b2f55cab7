//! `[token_endpoint]`.

use std::{net::SocketAddr, sync::Arc};

use super::{Check, profile::Profiles, same_socket, shown, tcp_address};
use crate::config::{
    CredentialKind, ListenAddress, Placement, Static, TokenEndpoint, TokenGiven, file::TokenEndpointTable, read::At,
};

impl Check<'_, '_> {
    /// Where it listens, which has to be nobody else's socket and nobody else's machine.
    pub(super) fn token_address(&mut self, table: Option<&At<TokenEndpointTable>>) -> Option<SocketAddr> {
        let at = table?;
        let Some(address) = &at.value.address else {
            self.missing(&at.place(), "address", "write address = \"127.0.0.1:9091\"");
            return None;
        };
        let found = match tcp_address(&address.value) {
            Ok(found) => found,
            Err(hint) => {
                self.reader.error(address, format!("{} is no address", shown(&address.value)), hint);
                return None;
            }
        };
        if !found.ip().is_loopback() {
            let hint = "write \"127.0.0.1:9091\": what it gives is for the application beside lanyard";
            self.reader.error(address, "a token endpoint that other machines can reach", hint);
            return None;
        }
        let taken = |own: &SocketAddr| same_socket(&ListenAddress::Tcp(*own), &ListenAddress::Tcp(found));
        if self.own.iter().any(taken) {
            let hint = "give each listener, [admin] and [token_endpoint] an address of its own";
            self.reader.error(address, format!("{found} is listened on twice"), hint);
        }
        Some(found)
    }

    pub(super) fn own_token_endpoint(
        &mut self,
        at: At<TokenEndpointTable>,
        address: Option<SocketAddr>,
        profiles: &Profiles,
    ) -> Option<TokenEndpoint> {
        let place = at.place();
        let Some(listed) = at.value.profiles.filter(|at| !at.value.0.is_empty()) else {
            self.missing(&place, "profiles", "write profiles = { NAME = \"placeholder\" }, or \"token\"");
            return None;
        };
        let mut given = Vec::new();
        for (name, what) in &listed.value.0 {
            let choices = [("placeholder", TokenGiven::Placeholder), ("token", TokenGiven::Token)];
            let what = self.choice(Some(listed.with(what.clone())), &choices);
            if !self.profile_exists(&listed.with(name.clone()), profiles) {
                continue;
            }
            let Some(what) = what else { continue };
            let found = profiles.iter().find(|(known, _)| known == name).and_then(|(_, at)| at.value.as_ref());
            // One that is wrong itself has been reported.
            let Some(profile) = found else { continue };
            let is_basic = matches!(profile.kind, CredentialKind::Static(Static::Basic { .. }));
            let in_header = matches!(profile.placement, Placement::Header { .. });
            let plain = in_header && !is_basic && profile.kind.caller().is_none();
            if !plain {
                let why =
                    "its requests are signed, carry it in the query or as a password, or have a token for each caller";
                let hint = "take it out: let the application send its requests through lanyard without a token";
                self.reader.error(&listed, format!("profile {name} has no token to give away: {why}"), hint);
            }
            given.push((Arc::from(name.as_str()), what));
        }
        let client_secret = match at.value.client_secret {
            Some(at) => Some(self.secret(at)?),
            None => None,
        };
        Some(TokenEndpoint { address: address?, profiles: given, client_secret })
    }
}
