//! The name that a certificate must have for `tls_client_auth` (RFC 8705 section 2.1.2), as it is registered and as it
//! stands in the certificate.

use std::net::IpAddr;

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    x509::{AttributeTypeAndValue, X509Name},
};

/// The one name that is compared; the CA has to vouch for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// `tls_client_auth_subject_dn`: the whole subject, in the form of RFC 4514 (`CN=billing,O=Example`).
    SubjectDn(String),
    /// `tls_client_auth_san_dns`: one of its DNS names.
    SanDns(String),
    /// `tls_client_auth_san_uri`: one of its URIs, `spiffe://...` for one.
    SanUri(String),
    /// `tls_client_auth_san_ip`: one of its addresses.
    SanIp(IpAddr),
    /// `tls_client_auth_san_email`: one of its mail addresses.
    SanEmail(String),
}

impl CertificateName {
    /// Checks that the certificate has the name.
    ///
    /// # Errors
    /// What it has instead, in words.
    pub(in crate::issuer) fn check(&self, certificate: &X509Certificate<'_>) -> Result<(), String> {
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.as_slice(),
            Ok(None) => &[],
            Err(error) => return Err(format!("its alternative names cannot be read: {error}")),
        };
        let (found, wanted): (Vec<String>, String) = match self {
            Self::SubjectDn(wanted) => {
                let subject = subject(certificate.subject());
                return match parse(wanted) == Some(subject.clone()) {
                    true => Ok(()),
                    false => Err(format!("its subject is {}, and {wanted} is registered", shown(&subject))),
                };
            }
            Self::SanDns(wanted) => (names.iter().filter_map(dns).collect(), wanted.to_ascii_lowercase()),
            Self::SanUri(wanted) => (names.iter().filter_map(uri).collect(), wanted.clone()),
            Self::SanIp(wanted) => (names.iter().filter_map(ip).collect(), wanted.to_string()),
            Self::SanEmail(wanted) => (names.iter().filter_map(email).collect(), wanted.clone()),
        };
        if found.contains(&wanted) {
            return Ok(());
        }
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Err(format!("its {} are {found}, and {wanted} is registered", self.kind()))
    }

    /// Whether it can be compared at all.
    pub(super) fn is_readable(&self) -> bool {
        match self {
            Self::SubjectDn(text) => parse(text).is_some(),
            Self::SanDns(text) | Self::SanUri(text) | Self::SanEmail(text) => !text.is_empty(),
            Self::SanIp(_) => true,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::SubjectDn(_) => "subjects",
            Self::SanDns(_) => "DNS names",
            Self::SanUri(_) => "URIs",
            Self::SanIp(_) => "IP addresses",
            Self::SanEmail(_) => "mail addresses",
        }
    }
}

fn dns(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }
}

fn uri(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
}

fn email(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::RFC822Name(name) = name { Some((*name).to_owned()) } else { None }
}

fn ip(name: &GeneralName<'_>) -> Option<String> {
    let GeneralName::IPAddress(bytes) = name else { return None };
    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
}

/// A distinguished name: relative ones from the leaf to the root, each a sorted list of types and values.
type Name = Vec<Vec<(String, String)>>;

/// The subject in the order of RFC 4514 section 2.1, which is the reverse of that in the certificate.
fn subject(name: &X509Name<'_>) -> Name {
    let attribute = |attribute: &AttributeTypeAndValue<'_>| {
        let oid = attribute.attr_type().to_id_string();
        let short = SHORT_NAMES.iter().find(|(_, known)| *known == oid).map_or(oid.as_str(), |(short, _)| short);
        (short.to_owned(), folded(attribute.as_str().unwrap_or_default()))
    };
    let mut name: Name = name.iter_rdn().map(|rdn| sorted(rdn.iter().map(attribute).collect())).collect();
    name.reverse();
    name
}

/// The name in the string form of RFC 4514; none if it is in no such form.
fn parse(text: &str) -> Option<Name> {
    let mut name = vec![Vec::new()];
    let mut rest = text.chars().peekable();
    loop {
        let mut kind = String::new();
        loop {
            match rest.next()? {
                '=' => break,
                letter => kind.push(letter),
            }
        }
        let mut value: Vec<u8> = Vec::new();
        let end = loop {
            match rest.next() {
                None => break None,
                Some(end @ (',' | '+' | ';')) => break Some(end),
                Some('\\') => {
                    let first = rest.next()?;
                    match (first.to_digit(16), rest.peek().and_then(|second| second.to_digit(16))) {
                        (Some(high), Some(low)) => {
                            rest.next();
                            value.push(u8::try_from(high * 16 + low).ok()?);
                        }
                        _ => value.extend(first.encode_utf8(&mut [0; 4]).bytes()),
                    }
                }
                Some(letter) => value.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
            }
        };
        let value = folded(&String::from_utf8(value).ok()?);
        name.last_mut()?.push((canonical_type(kind.trim())?, value));
        match end {
            None => return Some(name.into_iter().map(sorted).collect()),
            Some('+') => {}
            Some(_) => name.push(Vec::new()),
        }
    }
}

/// The short name of an attribute type that has one, else its number.
fn canonical_type(kind: &str) -> Option<String> {
    let upper = kind.to_ascii_uppercase();
    let upper = if upper == "E" { "EMAILADDRESS" } else { upper.as_str() };
    let number = upper.strip_prefix("OID.").unwrap_or(upper);
    SHORT_NAMES
        .iter()
        .find(|(short, oid)| *short == upper || *oid == number)
        .map(|(short, _)| (*short).to_owned())
        .or_else(|| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| number.to_owned()))
        .filter(|name| !name.is_empty())
}

/// Letters and spaces as caseIgnoreMatch compares them (RFC 4517 section 4.2.11).
fn folded(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn sorted(mut attributes: Vec<(String, String)>) -> Vec<(String, String)> {
    attributes.sort_unstable();
    attributes
}

fn shown(name: &Name) -> String {
    let relative = |rdn: &Vec<(String, String)>| {
        rdn.iter().map(|(kind, value)| format!("{kind}={}", value.replace(',', "\\,"))).collect::<Vec<_>>().join("+")
    };
    name.iter().map(relative).collect::<Vec<_>>().join(",")
}

/// The types of RFC 4514 section 3, and three that certificates have.
const SHORT_NAMES: [(&str, &str); 11] = [
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_form_of_rfc_4514_is_read() {
        // The examples of RFC 4514 section 4.
        let name = parse("UID=jsmith,DC=example,DC=net").unwrap();
        assert_eq!(shown(&name), "UID=jsmith,DC=example,DC=net");
        let name = parse("OU=Sales+CN=J.  Smith,DC=example,DC=net").unwrap();
        assert_eq!(name[0], [("CN".into(), "j. smith".into()), ("OU".into(), "sales".into())]);
        assert_eq!(parse(r#"CN=James \"Jim\" Smith\, III,DC=example"#).unwrap()[0][0].1, "james \"jim\" smith, iii");
        assert_eq!(parse(r"CN=Lu\C4\8Di\C4\87").unwrap()[0][0].1, "lučić");
        assert_eq!(parse("cn = A B , o=c"), parse("2.5.4.3=a  b,OID.2.5.4.10=C"));
        assert_ne!(parse("CN=a,O=b"), parse("O=b,CN=a"));
        for malformed in ["", "CN", "no such type=a", "CN=a,", r"CN=a\"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
