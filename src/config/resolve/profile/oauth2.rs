//! The keys of OAuth2 profiles: where, and what every token request has. `grant` reads for whom, `client` who asks.

mod client;
mod grant;

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use self::{client::needs_client_id, grant::GrantType};
use super::super::{Check, shown};
use crate::{
    config::{
        Dpop, Endpoint, Issuer, OAuth2, RequestFormat, Scheme,
        file::ProfileTable,
        read::{At, StringOrList, StringTable},
    },
    route::pattern::Host,
};

impl Check<'_, '_> {
    pub(super) fn oauth2(&mut self, place: &At<()>, mut table: ProfileTable) -> Option<OAuth2> {
        let is_google = table.service_account.is_some();
        // Before it is taken: an assertion is for it.
        let has_issuer = table.issuer.is_some();
        let endpoint = self.endpoint(place, &mut table, is_google);
        let grant_type = self.grant_type(table.grant_type.take());
        // What a grant does not have is told once the grant is known.
        let grant = grant_type.and_then(|grant_type| self.grant(grant_type, place, &mut table));
        let authentication =
            self.authentication(grant_type.unwrap_or(GrantType::ClientCredentials), has_issuer, place, &mut table);
        let client_id = match (table.client_id, &authentication) {
            (Some(at), _) => self.not_empty(&at).map(Some),
            (None, Some(authentication)) if !needs_client_id(authentication, grant_type) => Some(None),
            (None, _) => {
                self.missing(place, "client_id", "write client_id = \"...\"");
                None
            }
        };
        let scope = table.scope.and_then(|at| self.scope(&at));
        let audience = table.audience.and_then(|at| self.not_empty(&at));
        let resource = table.resource.map(|at| self.resources(&at)).unwrap_or_default();
        let params = table.params.map(|at| self.params(at)).unwrap_or_default();
        let headers = table.headers.map(|at| self.headers(&at)).unwrap_or_default();
        let formats = [("form", RequestFormat::Form), ("json", RequestFormat::Json)];
        let request_format = self.choice(table.request_format, &formats).unwrap_or(RequestFormat::Form);
        let dpop = match (table.dpop, table.dpop_key) {
            (Some(off), Some(key)) if !off.value => {
                self.reader.error(&key, "`dpop_key` and `dpop = false`", "remove one of them");
                None
            }
            (_, Some(key)) => self.secret(key).map(|key| Dpop { key: Some(key) }),
            (Some(on), None) if on.value => Some(Dpop { key: None }),
            (_, None) => None,
        };
        let ca_file = table.ca_file.and_then(|at| self.ca_bundle(&at));
        let place_of_proxy = table.egress_proxy.as_ref().map_or_else(|| place.place(), At::place);
        let egress_proxy = self.egress(table.egress_proxy);
        if let Some(url) = endpoint.as_ref().and_then(Endpoint::first) {
            let scheme = if url.scheme() == "http" { Scheme::Http } else { Scheme::Https };
            self.loopback_goes_directly(&place_of_proxy, &egress_proxy, scheme, url.host_str().unwrap_or_default());
        }
        let timeout = self.positive(table.timeout.as_ref(), Duration::from_secs(10));
        Some(OAuth2 {
            grant: grant?,
            endpoint: endpoint?,
            client_id: client_id?,
            authentication: authentication?,
            scope,
            audience,
            resource,
            params,
            headers,
            request_format,
            dpop,
            ca_file,
            timeout,
            egress_proxy,
        })
    }

    fn endpoint(&mut self, place: &At<()>, table: &mut ProfileTable, is_google: bool) -> Option<Endpoint> {
        let allow_plaintext = table.allow_plaintext_token_endpoint.as_ref().is_some_and(|at| at.value);
        // It is looked at again for the audience of assertions.
        let issuer = table.issuer.clone();
        let has_issuer = issuer.is_some() || self.reader.is_wrong(&place.key, "issuer");
        let issuer = issuer.map(|at| self.issuer(&at, allow_plaintext));
        let token_endpoint = match table.token_endpoint.take() {
            Some(at) => Some(self.token_endpoint(&at, allow_plaintext)),
            None if has_issuer => None,
            // It stands in the file, too; where it is not Google's, it is written.
            None if is_google => Url::parse(GOOGLE_TOKEN_ENDPOINT).ok().map(Some),
            None => {
                let hint = "write token_endpoint = \"https://auth.example.com/oauth/token\", or issuer = \"https://auth.example.com\"";
                self.missing(place, "token_endpoint", hint);
                return None;
            }
        };
        Some(Endpoint {
            token_endpoint: match token_endpoint {
                Some(url) => Some(url?),
                None => None,
            },
            issuer: match issuer {
                Some(url) => Some(url?),
                None => None,
            },
            allow_plaintext,
        })
    }

    fn issuer(&mut self, at: &At<String>, allow_plaintext: bool) -> Option<Issuer> {
        let url = self.token_endpoint(at, allow_plaintext)?;
        if url.query().is_some() {
            let hint = "write it as the server's metadata has it: \"https://auth.example.com\" (RFC 8414 2)";
            self.reader.error(at, "an issuer with a query", hint);
            return None;
        }
        if let Some((issuer, _)) = at.value.split_once("/.well-known/") {
            let hint = format!("write issuer = {issuer:?}: lanyard looks for its metadata itself");
            self.reader.error(at, "the address of an issuer's metadata", hint);
            return None;
        }
        Some(Issuer { text: at.value.clone(), url })
    }

    fn token_endpoint(&mut self, at: &At<String>, allow_plaintext: bool) -> Option<Url> {
        let url = self.url(at, "https://auth.example.com/oauth/token")?;
        if !url.username().is_empty() || url.password().is_some() {
            self.reader.error(at, "a URL with userinfo", "write the credentials as client_id and client_secret");
            return None;
        }
        let host = url.host_str().unwrap_or_default();
        let local = Host::parse(host).is_ok_and(|host| host.is_loopback());
        let cluster = host.ends_with(".svc") || host.ends_with(".svc.cluster.local");
        if url.scheme() == "http" && !local && !cluster && !allow_plaintext {
            let hint = "write https://, or set allow_plaintext_token_endpoint = true if the network is trusted";
            self.reader.error(at, "the client secret would be sent in clear text", hint);
            return None;
        }
        Some(url)
    }

    /// Scopes as one list, joined by spaces.
    pub(in crate::config::resolve) fn scope(&mut self, at: &At<StringOrList>) -> Option<String> {
        let words: Vec<&str> = at.value.0.iter().flat_map(|text| text.split(' ')).filter(|w| !w.is_empty()).collect();
        // RFC 6749 3.3: visible ASCII without '"' and '\'.
        let legal = |word: &&str| word.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'"' && b != b'\\');
        if words.is_empty() {
            self.reader.error(at, "no scope at all", "name the scopes, or leave the key out");
        } else if let Some(word) = words.iter().find(|word| !legal(word)) {
            self.reader.error(
                at,
                format!("{word:?} is no scope"),
                "scopes are visible ASCII without '\"' and '\\' (RFC 6749 3.3)",
            );
        }
        (!words.is_empty()).then(|| words.join(" "))
    }

    pub(in crate::config::resolve) fn resources(&mut self, at: &At<StringOrList>) -> Vec<String> {
        if at.value.0.is_empty() {
            self.reader.error(at, "no resource at all", "name the resources, or leave the key out");
        }
        for resource in &at.value.0 {
            let has_userinfo = |url: &Url| !url.username().is_empty() || url.password().is_some();
            let good = Url::parse(resource).is_ok_and(|url| url.fragment().is_none() && !has_userinfo(&url));
            if !good {
                let hint =
                    "write absolute URIs without fragment and userinfo: \"https://api.example.com\" (RFC 8707 2)";
                self.reader.error(at, format!("{} is no absolute URI of a resource", shown(resource)), hint);
            }
        }
        at.value.0.clone()
    }

    fn params(&mut self, at: At<StringTable>) -> Vec<(String, String)> {
        let own = [
            "grant_type",
            "client_id",
            "client_secret",
            "client_assertion",
            "scope",
            "audience",
            "resource",
            "refresh_token",
            "username",
            "password",
            "assertion",
            "subject_token",
            "subject_token_type",
            "actor_token",
            "actor_token_type",
            "requested_token_type",
        ];
        for (name, _) in &at.value.0 {
            if name.is_empty() {
                self.reader.error(&at, "a parameter without a name", "write { name = \"value\" }");
            }
            if own.contains(&name.as_str()) {
                self.reader.error(
                    &at,
                    format!("`{name}` in params"),
                    format!("{name} is a key of the profile: write it there"),
                );
            }
        }
        at.value.0
    }

    fn headers(&mut self, at: &At<StringTable>) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in &at.value.0 {
            let parsed = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value.as_str()).ok());
            match parsed {
                Some((name, _)) if OWN_TOKEN_HEADERS.contains(&name.as_str()) => {
                    self.reader.error(at, format!("`{name}` in headers"), "lanyard writes it itself: remove it");
                }
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                None => self.reader.error(
                    at,
                    format!("{name:?} is no header field, or its value is none"),
                    "write { \"x-name\" = \"value\" }",
                ),
            }
        }
        headers
    }
}

const GOOGLE_TOKEN_ENDPOINT: &str = "https://oauth2.googleapis.com/token";
/// What a token request has from us.
const OWN_TOKEN_HEADERS: [&str; 6] =
    ["authorization", "content-type", "content-length", "host", "connection", "transfer-encoding"];
