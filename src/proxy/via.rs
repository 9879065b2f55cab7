//! Our entry in `Via` (RFC 9110 7.6.3), by which a request that comes back is known.

use http::{HeaderValue, header};

use super::admit::Fields;

/// `1.1 lanyard-ID`.
#[derive(Clone, Debug)]
pub struct Via {
    value: HeaderValue,
    pseudonym: String,
}

impl Via {
    /// One that no other process has.
    pub fn new() -> Self {
        let pseudonym = format!("lanyard-{}", crate::telemetry::new_id());
        let value = HeaderValue::try_from(format!("1.1 {pseudonym}"));
        Self { value: value.unwrap_or_else(|_| HeaderValue::from_static("1.1 lanyard")), pseudonym }
    }

    /// What is added to each request.
    pub(super) const fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Whether a request went through this process before.
    pub(super) fn is_in<F: Fields + ?Sized>(&self, fields: &F) -> bool {
        let mut entries = fields.all(&header::VIA).filter_map(|entry| std::str::from_utf8(entry).ok());
        entries.any(|entry| entry.contains(&self.pseudonym))
    }
}

impl Default for Via {
    fn default() -> Self {
        Self::new()
    }
}
