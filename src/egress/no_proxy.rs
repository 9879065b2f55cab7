//! `no_proxy`: the hosts that are reached without the proxy, by the rules of curl 8.
//!
//! * `*` and nothing else: every host.
//! * A name means itself and every name below it: `example.com` and `.example.com` are the same. Case does not count,
//!   nor does one dot at the end.
//! * An address means itself, `10.0.0.0/8` and `fd00::/8` a range; only a target that is written as an address is
//!   compared with them: names are not resolved for it. IPv6 addresses stand without brackets.
//! * Ports are not looked at; a rule with one matches nothing. Nor are there other wildcards.

use std::{fmt, net::IpAddr};

/// The hosts that need no proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    every: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// A name and all below it: lower-case, without dots at its ends.
    Domain(String),
    /// The addresses that share so many bits with this one.
    Network(IpAddr, u8),
}

/// An entry that curl reads as something else than was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    /// The entry.
    pub entry: String,
    /// What is wrong with it.
    pub what: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

impl NoProxy {
    /// Reads a list as curl does: entries between commas, up to the first entry that a blank and no comma follows.
    pub fn parse(text: &str) -> (Self, Vec<Oddity>) {
        if text == "*" {
            return (Self { every: true, rules: Vec::new() }, Vec::new());
        }
        let mut found = Self::default();
        let mut oddities = Vec::new();
        for entry in text.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty()) {
            let (word, more) = entry.split_once([' ', '\t']).map_or((entry, false), |(word, _)| (word, true));
            match rule(word) {
                Ok((rule, oddity)) => {
                    found.rules.push(rule);
                    oddities.extend(oddity);
                }
                Err(oddity) => oddities.push(oddity),
            }
            if more {
                let what = "two entries with a blank between them";
                oddities.push(odd(entry, what, "put a comma between them: curl reads nothing after such a blank"));
                break;
            }
        }
        (found, oddities)
    }

    /// Whether a host (normalised, an IPv6 address without brackets) needs no proxy.
    pub fn covers(&self, host: &str) -> bool {
        if self.every {
            return true;
        }
        let address: Option<IpAddr> = host.parse().ok();
        let name = host.strip_suffix('.').unwrap_or(host);
        self.rules.iter().any(|rule| match (rule, address) {
            (Rule::Network(network, bits), Some(address)) => shares(address, *network, *bits),
            (Rule::Domain(domain), None) => {
                let cut = name.len().checked_sub(domain.len()).and_then(|at| name.split_at_checked(at));
                cut.is_some_and(|(before, end)| {
                    end.eq_ignore_ascii_case(domain) && (before.is_empty() || before.ends_with('.'))
                })
            }
            (Rule::Network(..), None) | (Rule::Domain(_), Some(_)) => false,
        })
    }
}

impl fmt::Display for NoProxy {
    /// As a list that reads the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.every {
            return f.write_str("*");
        }
        let entries: Vec<String> = self.rules.iter().map(ToString::to_string).collect();
        f.write_str(&entries.join(","))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Network(address, bits) if *bits == width(*address) => write!(f, "{address}"),
            Self::Network(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

/// What an entry means, and whether that is odd; an error where it matches nothing.
fn rule(word: &str) -> Result<(Rule, Option<Oddity>), Oddity> {
    let (address, bits) = word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
    if let Ok(address) = address.parse::<IpAddr>() {
        let width = width(address);
        return match bits.map(str::parse::<u8>) {
            None => Ok((Rule::Network(address, width), None)),
            Some(Ok(0)) => {
                let oddity = odd(
                    word,
                    "a range of no bits, which curl takes for the address alone",
                    "write \"*\" alone for every host",
                );
                Ok((Rule::Network(address, width), Some(oddity)))
            }
            Some(Ok(bits)) if bits <= width => Ok((Rule::Network(address, bits), None)),
            Some(_) => Err(odd(word, "a range whose bits are no number in range", "write 10.0.0.0/8 or fd00::/8")),
        };
    }
    if word == "*" {
        return Err(odd(
            word,
            "a \"*\" among other entries, which matches nothing",
            "write \"*\" alone for every host",
        ));
    }
    if word.contains('*') {
        return Err(odd(
            word,
            "a wildcard, which matches nothing",
            "write .example.com: it means the name and all below it",
        ));
    }
    if word.contains('[') {
        return Err(odd(word, "brackets, which match nothing", "write an IPv6 address without brackets: ::1"));
    }
    if word.contains("://") {
        return Err(odd(word, "a URL, which matches nothing", "write the host alone: api.example.com"));
    }
    if word.contains(':') {
        return Err(odd(word, "a port, which matches nothing", "write the host alone: it means every port"));
    }
    let name = word.strip_suffix('.').unwrap_or(word);
    let name = name.strip_prefix('.').unwrap_or(name);
    let good =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !name.split('.').all(good) {
        return Err(odd(
            word,
            "no host, domain, address or range",
            "write localhost, .example.com, 10.0.0.1 or 10.0.0.0/8",
        ));
    }
    Ok((Rule::Domain(name.to_ascii_lowercase()), None))
}

fn odd(entry: &str, what: &'static str, hint: &'static str) -> Oddity {
    Oddity { entry: entry.to_owned(), what, hint }
}

/// Whether the first bits of two addresses of one family are the same.
fn shares(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differ = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= u32::from(bits)
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests;
