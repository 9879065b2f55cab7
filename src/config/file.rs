//! The form of the file: one struct a table, every key optional, each value with the line it stands at.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::read::{
    At, Claims, Reader, SecretValue, Size, StringOrList, StringTable, SubjectValue, Value, dotted, kind,
};

/// A table's struct, the list of its keys, and its reader.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $(pub $key:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name {
            $(pub(super) $key: Option<At<$type>>,)+
        }

        impl $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            /// The keys that are there and could be read, each with its place.
            #[allow(dead_code, reason = "not every table has kinds")]
            pub(super) fn written(&self) -> Vec<(&'static str, At<()>)> {
                let all = [$((toml_name(stringify!($key)), self.$key.as_ref().map(At::place))),+];
                all.into_iter().filter_map(|(key, place)| Some((key, place?))).collect()
            }

            pub(super) fn read(reader: &mut Reader<'_>, table: &DeTable<'_>, path: &str) -> Self {
                let known: Vec<&str> = Self::KEYS.iter().map(|key| toml_name(key)).collect();
                reader.unknown_keys(table, path, &known);
                Self { $($key: reader.value(table, path, toml_name(stringify!($key))),)+ }
            }
        }
    };
}

/// A key as the file has it: `type` is a word of Rust's.
fn toml_name(key: &'static str) -> &'static str {
    key.strip_prefix("r#").unwrap_or(key)
}

/// The whole file.
#[derive(Default)]
pub(super) struct File {
    pub(super) listeners: Vec<At<ListenerTable>>,
    pub(super) admin: AdminTable,
    pub(super) token_endpoint: Option<At<TokenEndpointTable>>,
    pub(super) forward: ForwardTable,
    pub(super) egress_proxy: Option<At<EgressValue>>,
    pub(super) profiles: Vec<(String, At<ProfileTable>)>,
    pub(super) routes: Vec<At<RouteTable>>,
    pub(super) ca: CaTable,
    pub(super) limits: LimitsTable,
    pub(super) log: LogTable,
}

table! {
    /// `[[listeners]]`
    ListenerTable {
        pub address: String,
        pub upstream: String,
        pub allowed_hosts: Vec<String>,
        pub allow_browsers: bool,
        pub transparent: bool,
    }
}

table! {
    /// `[admin]`
    AdminTable {
        pub address: String,
    }
}

table! {
    /// `[token_endpoint]`
    TokenEndpointTable {
        pub address: String,
        pub profiles: StringTable,
        pub client_secret: SecretValue,
    }
}

table! {
    /// `[forward]`
    ForwardTable {
        pub unmatched: String,
        pub connect: String,
    }
}

table! {
    /// `[profiles.NAME]`
    ProfileTable {
        pub r#type: String,
        pub grant_type: String,
        pub issuer: String,
        pub token_endpoint: String,
        pub allow_plaintext_token_endpoint: bool,
        pub token_endpoint_auth_method: String,
        pub token_endpoint_auth_signing_alg: String,
        pub client_id: String,
        pub client_secret: SecretValue,
        pub private_key: SecretValue,
        pub key_id: String,
        pub client_certificate_file: String,
        pub client_key_file: String,
        pub client_assertion: SecretValue,
        pub client_assertion_audience: String,
        pub assertion_lifetime: Duration,
        pub refresh_token: SecretValue,
        pub refresh_token_state_file: String,
        pub username: String,
        pub password: SecretValue,
        pub assertion: SecretValue,
        pub claims: Claims,
        pub service_account: SecretValue,
        pub subject_token: SubjectValue,
        pub subject_token_type: String,
        pub actor_token: SecretValue,
        pub actor_token_type: String,
        pub requested_token_type: String,
        pub max_subjects: usize,
        pub dpop: bool,
        pub dpop_key: SecretValue,
        pub scope: StringOrList,
        pub audience: String,
        pub resource: StringOrList,
        pub params: StringTable,
        pub headers: StringTable,
        pub request_format: String,
        pub ca_file: String,
        pub timeout: Duration,
        pub egress_proxy: EgressValue,
        pub token: SecretValue,
        pub secret: SecretValue,
        pub template: String,
        pub parameter: String,
        pub signing_alg: String,
        pub token_lifetime: Duration,
        pub path: String,
        pub command: Vec<String>,
        pub environment: StringTable,
        pub installation_id: String,
        pub repositories: Vec<String>,
        pub permissions: StringTable,
        pub api: String,
        pub account: String,
        pub metadata_endpoint: String,
        pub region: String,
        pub service: String,
        pub credentials: String,
        pub credentials_file: String,
        pub credentials_profile: String,
        pub access_key_id: String,
        pub secret_access_key: SecretValue,
        pub session_token: SecretValue,
        pub payload: String,
        pub header: String,
        pub prefix: String,
        pub existing: String,
        pub prefetch: bool,
        pub required: bool,
        pub refresh_before: Duration,
        pub default_token_lifetime: Duration,
        pub token_wait: Duration,
        pub idle_after: Duration,
        pub retry_statuses: Vec<usize>,
        pub replay_limit: Size,
        pub reject_interval: Duration,
        pub on_unavailable: String,
    }
}

table! {
    /// `[egress_proxy]`, and `egress_proxy` of a profile or a route where it is a table.
    EgressTable {
        pub url: String,
        pub username: String,
        pub password: SecretValue,
        pub no_proxy: StringOrList,
        pub environment: bool,
    }
}

/// `egress_proxy`, as written.
pub(super) enum EgressValue {
    /// A URL, or "none".
    Text(String),
    /// All of it.
    Table(Box<EgressTable>),
}

impl Value for EgressValue {
    const EXPECTED: &'static str =
        "\"http://HOST:PORT\", \"none\", or { url = \"http://HOST:PORT\", no_proxy = \"...\" }";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().map(|text| Self::Text(text.to_owned())).ok_or_else(|| kind(value))
    }

    fn read_at(reader: &mut Reader<'_>, value: &DeValue<'_>, path: &str) -> Result<Self, String> {
        match value.as_table() {
            Some(table) => Ok(Self::Table(Box::new(EgressTable::read(reader, table, path)))),
            None => Self::read(value),
        }
    }
}

table! {
    /// `[[routes]]`
    RouteTable {
        pub host: String,
        pub path_prefix: String,
        pub methods: Vec<String>,
        pub profile: String,
        pub scope: StringOrList,
        pub audience: String,
        pub resource: StringOrList,
        pub upstream: String,
        pub ca_file: String,
        pub server_name: String,
        pub egress_proxy: EgressValue,
        pub connect_timeout: Duration,
        pub response_timeout: Duration,
        pub intercept: bool,
    }
}

table! {
    /// `[ca]`
    CaTable {
        pub directory: String,
        pub ephemeral: bool,
    }
}

table! {
    /// `[limits]`
    LimitsTable {
        pub max_connections: usize,
        pub header_timeout: Duration,
        pub max_header_size: Size,
        pub max_headers: usize,
        pub idle_timeout: Duration,
        pub body_timeout: Duration,
        pub drain_timeout: Duration,
    }
}

table! {
    /// `[log]`
    LogTable {
        pub format: String,
        pub level: String,
        pub access: bool,
    }
}

impl File {
    /// Reads every table that is there; `None` where the text is no TOML.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let document = reader.document()?;
        let known = [
            "listeners",
            "admin",
            "token_endpoint",
            "forward",
            "egress_proxy",
            "profiles",
            "routes",
            "ca",
            "limits",
            "log",
        ];
        reader.unknown_keys(&document, "", &known);
        let mut file = Self::default();
        for (key, value) in document.iter() {
            let name = key.get_ref().as_ref();
            let write = match name {
                "listeners" => "[[listeners]]",
                "routes" => "[[routes]]",
                "profiles" => "[profiles.NAME]",
                _ => "a table",
            };
            match name {
                "listeners" | "routes" => {
                    let Some(list) = value.get_ref().as_array() else {
                        let at = reader.at((), name.to_owned(), &key.span());
                        let what = if value.get_ref().is_table() {
                            "a single table".to_owned()
                        } else {
                            kind(value.get_ref())
                        };
                        reader.error(&at, what, format!("write {write}: there can be several"));
                        continue;
                    };
                    for (index, item) in list.iter().enumerate() {
                        let path = format!("{name}[{index}]");
                        let Some(table) = reader.table(item, &path, write) else { continue };
                        if name == "listeners" {
                            let read = ListenerTable::read(reader, table, &path);
                            file.listeners.push(reader.at(read, path, &item.span()));
                        } else {
                            let read = RouteTable::read(reader, table, &path);
                            file.routes.push(reader.at(read, path, &item.span()));
                        }
                    }
                }
                "profiles" => {
                    let Some(profiles) = reader.table(value, name, write) else { continue };
                    for (profile, item) in profiles.iter() {
                        let path = dotted(name, profile.get_ref());
                        let Some(table) = reader.table(item, &path, write) else { continue };
                        let read = ProfileTable::read(reader, table, &path);
                        let at = reader.at(read, path, &profile.span());
                        file.profiles.push((profile.get_ref().to_string(), at));
                    }
                }
                "egress_proxy" => file.egress_proxy = reader.value(&document, "", name),
                "token_endpoint" => {
                    let Some(table) = reader.table(value, name, "[token_endpoint]") else { continue };
                    let read = TokenEndpointTable::read(reader, table, name);
                    file.token_endpoint = Some(reader.at(read, name.to_owned(), &key.span()));
                }
                "admin" | "forward" | "ca" | "limits" | "log" => {
                    let Some(table) = reader.table(value, name, &format!("[{name}]")) else { continue };
                    match name {
                        "admin" => file.admin = AdminTable::read(reader, table, name),
                        "forward" => file.forward = ForwardTable::read(reader, table, name),
                        "ca" => file.ca = CaTable::read(reader, table, name),
                        "limits" => file.limits = LimitsTable::read(reader, table, name),
                        _ => file.log = LogTable::read(reader, table, name),
                    }
                }
                _ => {} // reported above
            }
        }
        Some(file)
    }
}

/// Every key of every table, as the file has them.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<&'static str> {
    let tables = [
        ListenerTable::KEYS,
        AdminTable::KEYS,
        TokenEndpointTable::KEYS,
        ForwardTable::KEYS,
        EgressTable::KEYS,
        ProfileTable::KEYS,
        RouteTable::KEYS,
        CaTable::KEYS,
        LimitsTable::KEYS,
        LogTable::KEYS,
    ];
    tables.concat().into_iter().map(toml_name).collect()
}
