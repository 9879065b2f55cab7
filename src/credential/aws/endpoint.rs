//! What hands AWS credentials out by HTTP: a container's endpoint (ECS, EKS Pod Identity), and a machine's (IMDSv2).
//!
//! Neither is ever asked through a proxy, and clear text goes to addresses of the machine's own alone.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::AUTHORIZATION};
use url::{Host, Url};

use super::unusable;
use crate::{
    aws::Credentials,
    credential::{FetchError, FetchErrorKind},
    egress::connect::Dialer,
    oauth::error::retry_after,
    provider::{Body, Provider, Question, Settings, shown},
    secret::{Secret, SecretSource},
};

/// An endpoint of one profile.
#[derive(Debug)]
pub(super) struct Endpoint {
    provider: Provider,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// `AWS_CONTAINER_CREDENTIALS_...`: its URL, or why there is none, and what it wants to be told.
    Container { url: Result<Url, Misplaced>, authorization: Option<SecretSource> },
    /// The machine's: what comes before `/latest`.
    Imds(Url),
}

/// Why there is no URL to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Misplaced {
    detail: String,
    hint: &'static str,
}

/// What the environment says of a container's endpoint.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`: a path at 169.254.170.2.
    pub(super) relative_uri: Option<String>,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub(super) full_uri: Option<String>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, or `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub(super) authorization: Option<SecretSource>,
}

impl Environment {
    /// Reads it, through a function that yields the value of a variable.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        // The file first, as AWS's own libraries do: it rotates.
        let file = variable(TOKEN_FILE_VARIABLE).map(|path| SecretSource::File(path.into()));
        let text = || variable(TOKEN_VARIABLE).map(|token| SecretSource::Literal(Secret::new(token)));
        Self {
            relative_uri: variable(RELATIVE_URI_VARIABLE),
            full_uri: variable(FULL_URI_VARIABLE),
            authorization: file.or_else(text),
        }
    }

    /// The URL to ask.
    fn url(&self) -> Result<Url, Misplaced> {
        let (name, text) = match (&self.relative_uri, &self.full_uri) {
            (Some(path), _) => (RELATIVE_URI_VARIABLE, format!("{ECS}{path}")),
            (None, Some(url)) => (FULL_URI_VARIABLE, url.clone()),
            (None, None) => {
                return Err(Misplaced {
                    detail: format!("neither {FULL_URI_VARIABLE} nor {RELATIVE_URI_VARIABLE} is set"),
                    hint: "ECS and EKS Pod Identity set one of them for a task or pod that has a role: has this one?",
                });
            }
        };
        let url = Url::parse(&text).ok().filter(|url| name != RELATIVE_URI_VARIABLE || at_ecs(url));
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| Misplaced {
            detail: format!("{name} is no URL of http:// or https://, or no path"),
            hint: "leave it as the platform sets it, or write metadata_endpoint in the profile",
        })
    }
}

impl Endpoint {
    /// A container's. `url`: `metadata_endpoint`, which goes before what the environment says.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub(super) fn container(
        profile: &str,
        url: Option<&Url>,
        environment: Environment,
        timeout: Duration,
        dialer: &Dialer,
    ) -> Result<Self, String> {
        let url = url.map_or_else(|| environment.url(), |url| Ok(url.clone()));
        let url = url.and_then(|url| match may_be_asked(&url) {
            true => Ok(url),
            false => Err(Misplaced {
                detail: format!("{} would bring the credentials in clear text", shown(&url)),
                hint: "http:// is for loopback, 169.254.170.2, 169.254.170.23 and [fd00:ec2::23]; write https://",
            }),
        });
        let https = url.as_ref().is_ok_and(|url| url.scheme() == "https");
        let provider = provider(profile, https, timeout, dialer)?;
        Ok(Self { provider, kind: Kind::Container { url, authorization: environment.authorization } })
    }

    /// A machine's. `url`: `metadata_endpoint`.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub(super) fn imds(profile: &str, url: Option<&Url>, timeout: Duration, dialer: &Dialer) -> Result<Self, String> {
        let url = url.map_or_else(|| Url::parse(IMDS).map_err(|error| error.to_string()), |url| Ok(url.clone()))?;
        let provider = provider(profile, url.scheme() == "https", timeout, dialer)?;
        Ok(Self { provider, kind: Kind::Imds(url) })
    }

    /// Asks it for credentials.
    ///
    /// # Errors
    /// It does not answer, or has none.
    pub(super) async fn ask(&self) -> Result<Credentials, FetchError> {
        match &self.kind {
            Kind::Container { url, authorization } => {
                let url = url.as_ref().map_err(|misplaced| FetchError {
                    kind: FetchErrorKind::Refused,
                    detail: misplaced.detail.clone(),
                    hint: misplaced.hint.to_owned(),
                    retry_after: None,
                })?;
                let what = format!("{CONTAINER} {}", shown(url));
                self.provider.in_time(&what, self.container_credentials(url, authorization.as_ref())).await
            }
            Kind::Imds(base) => {
                let what = format!("{METADATA} {}", shown(base));
                let asked = self.provider.in_time(&what, self.machine_credentials(base)).await;
                asked.map_err(|mut error| {
                    if matches!(error.kind, FetchErrorKind::Timeout | FetchErrorKind::Unreachable) {
                        UNREACHABLE_HINT.clone_into(&mut error.hint);
                    }
                    error
                })
            }
        }
    }

    async fn container_credentials(
        &self,
        url: &Url,
        authorization: Option<&SecretSource>,
    ) -> Result<Credentials, FetchError> {
        let mut headers = HeaderMap::new();
        if let Some(source) = authorization {
            let unreadable = |problem: String| FetchError {
                kind: FetchErrorKind::Secret,
                detail: format!("the authorization token of the container credentials endpoint: {problem}"),
                hint: format!("look at {TOKEN_FILE_VARIABLE}, or {TOKEN_VARIABLE}"),
                retry_after: None,
            };
            let token = source.read().await.map_err(|error| unreadable(error.to_string()))?;
            let illegal = || unreadable("a line end or another control character in it".to_owned());
            headers.insert(AUTHORIZATION, header(&token).ok_or_else(illegal)?);
        }
        let body = self.get(CONTAINER, url, headers, CONTAINER_HINT).await?;
        credentials(&body, CONTAINER, url)
    }

    /// A token first, then the role's name, then its credentials.
    async fn machine_credentials(&self, base: &Url) -> Result<Credentials, FetchError> {
        let url = below(base, "latest/api/token");
        let headers = HeaderMap::from_iter([(TOKEN_TTL, HeaderValue::from_static("300"))]);
        let token = self.send(METADATA, Method::PUT, &url, headers, DISABLED_HINT).await?;
        let token = text(&token).map(str::trim).filter(|token| !token.is_empty());
        let token = token.and_then(|token| header(&Secret::new(token)));
        let token = token.ok_or_else(|| wrong(METADATA, &url, "gave a token that is none"))?;
        let headers = HeaderMap::from_iter([(TOKEN, token)]);

        let roles = below(base, "latest/meta-data/iam/security-credentials/");
        let answer = self.get(METADATA, &roles, headers.clone(), NO_ROLE_HINT).await?;
        let role = text(&answer).and_then(|text| text.lines().map(str::trim).find(|line| !line.is_empty()));
        let role = role.filter(|role| role.bytes().all(is_of_role));
        let role = role.ok_or_else(|| wrong(METADATA, &roles, "named no role"))?;
        let url = below(&roles, role);
        let body = self.get(METADATA, &url, headers, NO_ROLE_HINT).await?;
        credentials(&body, METADATA, &url)
    }

    async fn get(
        &self,
        what: &'static str,
        url: &Url,
        headers: HeaderMap,
        hint: &'static str,
    ) -> Result<Body, FetchError> {
        self.send(what, Method::GET, url, headers, hint).await
    }

    /// One request; an answer of any status but 200 is an error. `hint`: what a refusal means.
    async fn send(
        &self,
        what: &'static str,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        hint: &'static str,
    ) -> Result<Body, FetchError> {
        let body = Secret::new("");
        let question = Question { what, key: "metadata_endpoint", method, url, headers, body };
        let reply = self.provider.ask(question).await?;
        if reply.status == StatusCode::OK {
            return Ok(reply.body);
        }
        let (kind, hint) = match reply.status {
            StatusCode::TOO_MANY_REQUESTS => (FetchErrorKind::RateLimited, "it wants to be asked less often"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (FetchErrorKind::InvalidClient, hint),
            status if status.is_server_error() => (FetchErrorKind::ServerError, "it is tried again"),
            _ => (FetchErrorKind::Refused, hint),
        };
        Err(FetchError {
            kind,
            detail: format!("{what} {} answered {}", shown(url), reply.status),
            hint: hint.to_owned(),
            retry_after: retry_after(&reply.headers, SystemTime::now()),
        })
    }
}

fn provider(profile: &str, https: bool, timeout: Duration, dialer: &Dialer) -> Result<Provider, String> {
    let egress_proxy = std::sync::Arc::default();
    let settings = Settings { https, ca_file: None, timeout, egress_proxy, identity: None };
    Provider::new(profile, settings, dialer).map_err(|error| error.to_string())
}

/// Whether credentials may come from there: encrypted, or from the machine itself.
fn may_be_asked(url: &Url) -> bool {
    if url.scheme() == "https" {
        return true;
    }
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || matches!(ip.octets(), [169, 254, 170, 2 | 23]),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Whether a path did not turn a URL into that of another host.
fn at_ecs(url: &Url) -> bool {
    url.scheme() == "http" && url.host_str() == Some("169.254.170.2") && url.port().is_none()
}

fn credentials(body: &Body, what: &str, url: &Url) -> Result<Credentials, FetchError> {
    let text = text(body).ok_or_else(|| wrong(what, url, "answered with something that is no text"))?;
    let place = format!("{what} {}", shown(url));
    Credentials::from_json(&Secret::new(text))
        .map_err(|error| unusable(&error, FetchErrorKind::InvalidResponse, &place))
}

fn text(body: &Body) -> Option<&str> {
    std::str::from_utf8(body.bytes()).ok()
}

/// A URL with more at the end of its path.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// What names of roles are made of (IAM: letters, digits and `+=,.@-_`).
const fn is_of_role(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'=' | b',' | b'.' | b'@' | b'-' | b'_')
}

fn header(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn wrong(what: &str, url: &Url, problem: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("{what} {} {problem}", shown(url)),
        hint: "is metadata_endpoint right?".to_owned(),
        retry_after: None,
    }
}

const CONTAINER: &str = "container credentials endpoint";
const METADATA: &str = "instance metadata service";
const ECS: &str = "http://169.254.170.2";
const IMDS: &str = "http://169.254.169.254";

const RELATIVE_URI_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_VARIABLE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE_VARIABLE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

const CONTAINER_HINT: &str =
    "check that the task or pod has a role, and that the token in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE is current";
const NO_ROLE_HINT: &str = "give the instance a role: an instance profile that names it";
const DISABLED_HINT: &str =
    "the instance metadata service is turned off (HttpEndpoint), or this is none: see metadata_endpoint";
const UNREACHABLE_HINT: &str = "outside EC2 there is none; in a container its answer comes only with \
    `aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2`";
