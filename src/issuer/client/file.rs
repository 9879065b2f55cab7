//! The file of clients (`lanyard issuer --clients FILE`): client metadata as in RFC 7591 section 2, in JSON.
//!
//! Either a list of clients, or an object with `clients` and `trusted_issuers`. Values never stand in an error: any of
//! them may be a secret.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{AuthMethod, CertificateName, Client, GrantType, User};
use crate::{
    issuer::{
        jwk::KeySet,
        settings::{Settings, TrustedIssuer},
    },
    secret::Secret,
};

/// Clients, and who else may vouch for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registrations {
    /// `clients`.
    pub clients: Vec<Client>,
    /// `trusted_issuers`.
    pub trusted_issuers: Vec<TrustedIssuer>,
}

impl Registrations {
    /// Reads a file; the files that it names are relative to its own place.
    ///
    /// # Errors
    /// A file cannot be read or is too large; a member is unknown, missing or of the wrong kind.
    pub fn read(path: &Path) -> Result<Self, RegistrationError> {
        let named = |what: String| RegistrationError(format!("{}: {what}", path.display()));
        let text = read(path).map_err(named)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        Self::parse(&text, folder).map_err(|error| named(error.0))
    }

    /// Reads the text of such a file; `folder`: where the files are that it names.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn parse(text: &str, folder: &Path) -> Result<Self, RegistrationError> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            RegistrationError(format!("no JSON ({place})"))
        })?;
        let (clients, issuers) = match value {
            Value::Array(clients) => (clients, Vec::new()),
            Value::Object(members) => {
                let mut top = Members { place: "the file".to_owned(), members, folder };
                let lists = (top.list("clients")?, top.list("trusted_issuers")?);
                top.end()?;
                lists
            }
            _ => return Err(RegistrationError("expected a list of clients, or an object with clients".to_owned())),
        };
        let each = |name: &str, values: Vec<Value>| -> Result<Vec<Members<'_>>, RegistrationError> {
            let members = values.into_iter().enumerate().map(|(at, value)| match value {
                Value::Object(members) => Ok(Members { place: format!("{name}[{at}]"), members, folder }),
                _ => Err(RegistrationError(format!("{name}[{at}] must be an object"))),
            });
            members.collect()
        };
        Ok(Self {
            clients: each("clients", clients)?.into_iter().map(client).collect::<Result<_, _>>()?,
            trusted_issuers: each("trusted_issuers", issuers)?.into_iter().map(issuer).collect::<Result<_, _>>()?,
        })
    }

    /// Adds them to what a server is made from.
    pub fn add_to(self, settings: &mut Settings) {
        settings.clients.extend(self.clients);
        settings.trusted_issuers.extend(self.trusted_issuers);
    }
}

/// What is wrong with a file of clients: the file, the place in it, and the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistrationError(String);

fn client(mut members: Members<'_>) -> Result<Client, RegistrationError> {
    let id = members.text("client_id")?.ok_or_else(|| members.wrong("client_id", "is missing"))?;
    let secret = members.text("client_secret")?.map(Secret::new);
    // RFC 7591 section 2: client_secret_basic, if nothing else is said.
    let method = match members.text("token_endpoint_auth_method")? {
        None => AuthMethod::ClientSecretBasic,
        Some(name) => AuthMethod::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let known = AuthMethod::ALL.map(AuthMethod::name).join(", ");
            members.wrong("token_endpoint_auth_method", &format!("is not one of {known}"))
        })?,
    };
    let signing_algorithm = members.text("token_endpoint_auth_signing_alg")?;
    if signing_algorithm.as_deref().is_some_and(|name| crate::issuer::jws::algorithm(name).is_none()) {
        return Err(members.wrong("token_endpoint_auth_signing_alg", "is not a known algorithm"));
    }
    let grant_types = match members.texts("grant_types")? {
        // The default of RFC 7591 is a grant that there is not here.
        None => vec![GrantType::ClientCredentials],
        Some(names) => names.iter().map(|name| GrantType::parse(name)).collect::<Option<_>>().ok_or_else(|| {
            members.wrong("grant_types", &format!("knows {}", GrantType::ALL.map(GrantType::name).join(", ")))
        })?,
    };
    let scopes = members.text("scope")?.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let audiences = members.texts("audiences")?.unwrap_or_default();
    let mut keys = members.keys()?;
    if let Some(certificate) = members.key_file("certificate_file")? {
        keys.extend(certificate);
    }
    let certificate = members.certificate_name()?;
    let certificate_bound = members.flag("tls_client_certificate_bound_access_tokens")?;
    let dpop_bound = members.flag("dpop_bound_access_tokens")?;
    let users = members.users()?;
    members.text("client_name")?;
    members.end()?;
    Ok(Client {
        id,
        secret,
        methods: vec![method],
        signing_algorithm,
        grant_types,
        scopes,
        audiences,
        keys,
        certificate,
        certificate_bound,
        dpop_bound,
        users,
    })
}

fn issuer(mut members: Members<'_>) -> Result<TrustedIssuer, RegistrationError> {
    let issuer = members.text("issuer")?.ok_or_else(|| members.wrong("issuer", "is missing"))?;
    let keys = members.keys()?;
    if keys.is_empty() {
        return Err(members.wrong("issuer", "needs jwks, jwks_file or public_key_file"));
    }
    let subjects = members.map("subjects")?;
    let audiences = members.texts("audiences")?.unwrap_or_default();
    members.end()?;
    Ok(TrustedIssuer { issuer, keys, subjects, audiences })
}

/// The members of one object that have not been read yet.
struct Members<'a> {
    /// What the object is, for people.
    place: String,
    members: Map<String, Value>,
    folder: &'a Path,
}

impl Members<'_> {
    fn wrong(&self, name: &str, what: &str) -> RegistrationError {
        RegistrationError(format!("{}: {name} {what}", self.place))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, RegistrationError> {
        match self.members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, RegistrationError> {
        match self.members.remove(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    fn list(&mut self, name: &str) -> Result<Vec<Value>, RegistrationError> {
        match self.members.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(self.wrong(name, "must be a list")),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, RegistrationError> {
        if !self.members.contains_key(name) {
            return Ok(None);
        }
        let texts = self.list(name)?.into_iter().map(|value| match value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(name, "must be a list of strings")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn map(&mut self, name: &str) -> Result<HashMap<String, String>, RegistrationError> {
        let members = match self.members.remove(name) {
            None => return Ok(HashMap::new()),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(self.wrong(name, "must be an object")),
        };
        let pairs = members.into_iter().map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            _ => Err(self.wrong(name, "must be an object of strings")),
        });
        pairs.collect()
    }

    /// `jwks`, `jwks_file` and `public_key_file` together.
    fn keys(&mut self) -> Result<KeySet, RegistrationError> {
        let mut keys = match self.members.remove("jwks") {
            None => KeySet::default(),
            Some(jwks) => {
                KeySet::from_jwks(&jwks).map_err(|what| self.wrong("jwks", &format!("is not usable: {what}")))?
            }
        };
        for name in ["jwks_file", "public_key_file"] {
            if let Some(more) = self.key_file(name)? {
                keys.extend(more);
            }
        }
        Ok(keys)
    }

    /// The keys in a file, a JWK set or PEM.
    fn key_file(&mut self, name: &str) -> Result<Option<KeySet>, RegistrationError> {
        let Some(path) = self.text(name)? else { return Ok(None) };
        let path: PathBuf = self.folder.join(path);
        let wrong = |what: String| self.wrong(name, &format!("{}: {what}", path.display()));
        let text = read(&path).map_err(wrong)?;
        let keys = match serde_json::from_str::<Value>(&text) {
            Ok(jwks) => KeySet::from_jwks(&jwks),
            Err(_) => KeySet::from_pem(&text),
        };
        keys.map(Some).map_err(|what| wrong(what.to_string()))
    }

    fn certificate_name(&mut self) -> Result<Option<CertificateName>, RegistrationError> {
        let mut found = Vec::new();
        for (name, make) in CERTIFICATE_NAMES {
            if let Some(text) = self.text(name)? {
                let made = make(text).filter(CertificateName::is_readable);
                found.push(made.ok_or_else(|| self.wrong(name, "cannot be read as one"))?);
            }
        }
        if found.len() > 1 {
            return Err(self.wrong("tls_client_auth_...", "is there more than once (RFC 8705 section 2.1.2)"));
        }
        Ok(found.pop())
    }

    /// `users`: an object of names and passwords.
    fn users(&mut self) -> Result<Vec<User>, RegistrationError> {
        let users = self.map("users")?.into_iter();
        let mut users: Vec<User> =
            users.map(|(name, password)| User { name, password: Secret::new(password) }).collect();
        users.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(users)
    }

    /// A member that nobody has read is a typing mistake.
    fn end(self) -> Result<(), RegistrationError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(RegistrationError(format!("{}: unknown member {unknown:?}", self.place))),
        }
    }
}

/// A regular file of a size that such files have.
fn read(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(format!("not a regular file of at most {MAX_SIZE} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Makes a name from its text, if it is one.
type Make = fn(String) -> Option<CertificateName>;

const CERTIFICATE_NAMES: [(&str, Make); 5] = [
    ("tls_client_auth_subject_dn", |text| Some(CertificateName::SubjectDn(text))),
    ("tls_client_auth_san_dns", |text| Some(CertificateName::SanDns(text))),
    ("tls_client_auth_san_uri", |text| Some(CertificateName::SanUri(text))),
    ("tls_client_auth_san_ip", |text| text.parse().ok().map(CertificateName::SanIp)),
    ("tls_client_auth_san_email", |text| Some(CertificateName::SanEmail(text))),
];

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;
