//! The keys of credentials that a cloud gives, and those of GitHub Apps.

use std::time::Duration;

use url::Url;

use super::super::Check;
use crate::config::{
    AwsCredentials, AwsSigV4, AzureManagedIdentity, GitHubApp, GoogleMetadata, Payload, Scheme, file::ProfileTable,
    read::At,
};

impl Check<'_, '_> {
    pub(super) fn github_app(&mut self, place: &At<()>, mut table: ProfileTable) -> Option<GitHubApp> {
        let client_id = self.required(place, table.client_id.take(), "client_id = \"Iv1...\", or the app's id");
        let client_id = client_id.and_then(|at| self.not_empty(&at));
        let installation_id = self.required(place, table.installation_id.take(), "installation_id = \"12345678\"");
        let installation_id = installation_id.and_then(|at| {
            if !at.value.is_empty() && at.value.bytes().all(|b| b.is_ascii_digit()) {
                return Some(at.value);
            }
            self.reader.error(
                &at,
                "an installation_id that is no number",
                "it stands in the URL of the installation's settings",
            );
            None
        });
        if table.private_key.is_none() {
            self.missing(place, "private_key", "write private_key = { file = \"/run/secrets/app.pem\" }");
        }
        let key = self.signing_key(&table);
        let repositories = table.repositories.map(|at| at.value).unwrap_or_default();
        let permissions = table.permissions.map(|at| at.value.0).unwrap_or_default();
        let api = match table.api {
            Some(at) => self.https(&at, "https://github.example.com/api/v3"),
            None => Url::parse("https://api.github.com").ok(),
        };
        let ca_file = table.ca_file.and_then(|at| self.ca_bundle(&at));
        let place_of_proxy = table.egress_proxy.as_ref().map_or_else(|| place.place(), At::place);
        let egress_proxy = self.egress(table.egress_proxy);
        if let Some(url) = &api {
            let scheme = if url.scheme() == "http" { Scheme::Http } else { Scheme::Https };
            self.loopback_goes_directly(&place_of_proxy, &egress_proxy, scheme, url.host_str().unwrap_or_default());
        }
        let timeout = self.positive(table.timeout.as_ref(), TIMEOUT);
        Some(GitHubApp {
            client_id: client_id?,
            installation_id: installation_id?,
            key: key?,
            repositories,
            permissions,
            api: api?,
            ca_file,
            timeout,
            egress_proxy,
        })
    }

    pub(super) fn google_metadata(&mut self, table: ProfileTable) -> GoogleMetadata {
        if let (Some(_), Some(at)) = (&table.scope, &table.audience) {
            let hint = "remove one of them: an audience means an identity token, which has no scopes";
            self.reader.error(at, "`scope` and `audience`", hint);
        }
        GoogleMetadata {
            account: table.account.and_then(|at| self.not_empty(&at)).unwrap_or_else(|| "default".to_owned()),
            scope: table.scope.and_then(|at| self.scope(&at)),
            audience: table.audience.and_then(|at| self.not_empty(&at)),
            metadata_endpoint: self.metadata_endpoint(table.metadata_endpoint.as_ref()),
            timeout: self.positive(table.timeout.as_ref(), TIMEOUT),
        }
    }

    pub(super) fn azure(&mut self, place: &At<()>, table: ProfileTable) -> Option<AzureManagedIdentity> {
        let at = self.required(place, table.resource, "resource = \"https://management.azure.com/\"");
        let resource = at.and_then(|at| match at.value.0.as_slice() {
            [one] if !one.is_empty() => Some(one.clone()),
            _ => {
                self.reader.error(&at, "not one resource", "a managed identity's token is for one: write it");
                None
            }
        });
        let client_id = table.client_id.and_then(|at| self.not_empty(&at));
        let metadata_endpoint = self.metadata_endpoint(table.metadata_endpoint.as_ref());
        let timeout = self.positive(table.timeout.as_ref(), TIMEOUT);
        Some(AzureManagedIdentity { resource: resource?, client_id, metadata_endpoint, timeout })
    }

    pub(super) fn aws(&mut self, place: &At<()>, mut table: ProfileTable) -> Option<AwsSigV4> {
        let region = self.required(place, table.region.take(), "region = \"eu-central-1\"");
        let region = region.and_then(|at| self.scope_word(&at));
        let service = self.required(place, table.service.take(), "service = \"execute-api\"");
        let service = service.and_then(|at| self.scope_word(&at));
        let credentials = self.aws_credentials(place, &mut table);
        let payloads = [("auto", Payload::Auto), ("unsigned", Payload::Unsigned)];
        let payload = self.choice(table.payload.take(), &payloads).unwrap_or(Payload::Auto);
        let timeout = self.positive(table.timeout.as_ref(), TIMEOUT);
        Some(AwsSigV4 { region: region?, service: service?, credentials: credentials?, payload, timeout })
    }

    fn aws_credentials(&mut self, place: &At<()>, table: &mut ProfileTable) -> Option<AwsCredentials> {
        let metadata_endpoint = self.metadata_endpoint(table.metadata_endpoint.as_ref());
        let Some(at) = table.credentials.take() else {
            let keys = [
                table.credentials_file.as_ref().map(At::place),
                table.credentials_profile.as_ref().map(At::place),
                table.metadata_endpoint.as_ref().map(At::place),
            ];
            self.only_with(keys, "`credentials`");
            let id = self.required(
                place,
                table.access_key_id.take(),
                "access_key_id = \"AKIA...\" with secret_access_key, or credentials = \"imds\" and the like",
            );
            let id = id.and_then(|at| self.not_empty(&at))?;
            let secret = "secret_access_key = { file = \"/run/secrets/...\" }";
            let secret = self.required(place, table.secret_access_key.take(), secret);
            let secret = secret.and_then(|at| self.secret(at));
            let session_token = match table.session_token.take() {
                Some(at) => Some(self.secret(at)?),
                None => None,
            };
            return Some(AwsCredentials::Keys { access_key_id: id, secret_access_key: secret?, session_token });
        };
        let keys = [
            table.access_key_id.as_ref().map(At::place),
            table.secret_access_key.as_ref().map(At::place),
            table.session_token.as_ref().map(At::place),
        ];
        self.only_with(keys, "a profile without `credentials`");
        let of_file =
            [table.credentials_file.as_ref().map(At::place), table.credentials_profile.as_ref().map(At::place)];
        let of_metadata = [table.metadata_endpoint.as_ref().map(At::place)];
        if at.value != "file" {
            self.only_with(of_file, "credentials = \"file\"");
        }
        if !matches!(at.value.as_str(), "container" | "imds") {
            self.only_with(of_metadata, "credentials = \"container\" and \"imds\"");
        }
        let choices = [("environment", 0), ("file", 1), ("container", 2), ("imds", 3)];
        Some(match self.choice(Some(at), &choices)? {
            0 => AwsCredentials::Environment,
            1 => {
                let write = "credentials_file = \"/home/app/.aws/credentials\"";
                let path = self.required(place, table.credentials_file.take(), write)?;
                let profile = table.credentials_profile.take().and_then(|at| self.not_empty(&at));
                let path = self.readable_file(&path)?;
                AwsCredentials::File { path, profile: profile.unwrap_or_else(|| "default".to_owned()) }
            }
            2 => AwsCredentials::Container(metadata_endpoint),
            _ => AwsCredentials::Imds(metadata_endpoint),
        })
    }

    /// A word of a credential scope: it stands between slashes.
    fn scope_word(&mut self, at: &At<String>) -> Option<String> {
        if !at.value.is_empty()
            && at.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Some(at.value.clone());
        }
        self.reader.error(
            at,
            "no word of letters, digits and '-'",
            "write it as AWS does: \"eu-central-1\", \"execute-api\"",
        );
        None
    }

    /// Where a metadata server is, if not where it always is.
    fn metadata_endpoint(&mut self, at: Option<&At<String>>) -> Option<Url> {
        at.and_then(|at| self.url(at, "http://169.254.169.254"))
    }

    /// `https://`, or `http://` to loopback.
    fn https(&mut self, at: &At<String>, example: &str) -> Option<Url> {
        let url = self.url(at, example)?;
        let local = url.host_str().is_some_and(super::is_local);
        if url.scheme() == "http" && !local {
            self.reader.error(at, "the credential would travel in clear text", format!("write it like {example}"));
            return None;
        }
        Some(url)
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
