//! For which hosts a CA may sign (name constraints, RFC 5280 4.2.1.10).

use std::net::IpAddr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::{
    extensions::{GeneralName, GeneralSubtree as Subtree},
    prelude::X509Certificate,
};

use crate::route::pattern::{Host, HostPattern};

/// What a new CA is constrained to; `None` where there is nothing to name, or too much.
pub(super) fn of(hosts: &[HostPattern]) -> Option<NameConstraints> {
    if hosts.is_empty() || hosts.len() > MAX_HOSTS {
        return None;
    }
    let (mut permitted, mut addresses, mut names) = (Vec::new(), false, false);
    for pattern in hosts {
        let subtree = match pattern.host.ip() {
            Some(ip) => {
                addresses = true;
                GeneralSubtree::IpAddress(match ip {
                    IpAddr::V4(ip) => CidrSubnet::V4(ip.octets(), [0xff; 4]),
                    IpAddr::V6(ip) => CidrSubnet::V6(ip.octets(), [0xff; 16]),
                })
            }
            None => {
                names = true;
                GeneralSubtree::DnsName(pattern.host.as_str().to_owned())
            }
        };
        if !permitted.contains(&subtree) {
            permitted.push(subtree);
        }
    }
    // A kind of name that no subtree is for would be free.
    let mut excluded = Vec::new();
    if !addresses {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    if !names {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded })
}

/// What an existing CA is constrained to.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    names: Vec<String>,
    addresses: Vec<(IpAddr, Vec<u8>)>,
    excludes_names: bool,
    excludes_addresses: bool,
}

impl Constraints {
    /// Reads them from the CA's certificate; `None`: it may sign for any host.
    pub(super) fn read(certificate: &X509Certificate<'_>) -> Result<Option<Self>, String> {
        let extension = certificate.name_constraints().map_err(|error| format!("its name constraints: {error}"))?;
        let Some(extension) = extension else { return Ok(None) };
        let mut constraints = Self::default();
        for Subtree { base } in extension.value.permitted_subtrees.iter().flatten() {
            match base {
                GeneralName::DNSName(name) => constraints.names.push(name.trim_start_matches('.').to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => constraints.addresses.extend(network(bytes)),
                _ => {}
            }
        }
        for Subtree { base } in extension.value.excluded_subtrees.iter().flatten() {
            match base {
                GeneralName::DNSName("") => constraints.excludes_names = true,
                GeneralName::IPAddress(bytes) if bytes.iter().all(|byte| *byte == 0) => {
                    constraints.excludes_addresses = true;
                }
                _ => {}
            }
        }
        Ok(Some(constraints))
    }

    /// Whether the CA may sign for a host, and for all below it.
    pub(super) fn permit(&self, host: &Host) -> bool {
        match host.ip() {
            Some(ip) if self.addresses.is_empty() => !self.excludes_addresses || self.contains(ip),
            Some(ip) => self.contains(ip),
            None if self.names.is_empty() => !self.excludes_names,
            None => self.names.iter().any(|name| {
                let rest = host.as_str().strip_suffix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let ip = octets(ip);
        self.addresses.iter().any(|(network, mask)| {
            let network = octets(*network);
            network.len() == ip.len()
                && ip.iter().zip(&network).zip(mask).all(|((ip, network), mask)| ip & mask == network & mask)
        })
    }

    /// The hosts, for people.
    pub(super) fn permitted(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(|(address, _)| address.to_string());
        self.names.iter().cloned().chain(addresses).collect()
    }
}

/// An address and its mask, as RFC 5280 has them: one after the other.
fn network(bytes: &[u8]) -> Option<(IpAddr, Vec<u8>)> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    Some((address, mask.to_vec()))
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// More hosts make a certificate that is too large for a handshake.
const MAX_HOSTS: usize = 200;
