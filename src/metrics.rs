//! Prometheus metrics: every name that dashboards rely on, labels from closed sets, handles resolved once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// All metrics of one process.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    upstream_responses: IntCounterVec,
    refusals: IntCounterVec,
    token_requests: IntCounterVec,
    token_request_duration: HistogramVec,
    token_expiry: GaugeVec,
    token_last_success: GaugeVec,
    token_rejected: IntCounterVec,
    token_wait: HistogramVec,
    config_generation: IntGauge,
    config_reloads: IntCounterVec,
    connections: IntGaugeVec,
    tunnels: IntCounter,
    interceptions: IntCounterVec,
    profiles: Mutex<HashMap<Arc<str>, Arc<ProfileMetrics>>>,
    /// One at a time, for the gauges that are set then.
    rendering: Mutex<()>,
}

/// How a request ended; the label `outcome` of `lanyard_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went out with the credential.
    Injected,
    /// It went out twice, the second time with a new token.
    Retried,
    /// It went out without a credential, as it was meant to.
    Passed,
    /// A tunnel that nothing can be injected into.
    Bypassed,
    /// It did not go out.
    Refused,
    /// It went out (or was about to) and the upstream failed.
    UpstreamError,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Injected, Self::Retried, Self::Passed, Self::Bypassed, Self::Refused, Self::UpstreamError];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Retried => "retried",
            Self::Passed => "passed",
            Self::Bypassed => "bypassed",
            Self::Refused => "refused",
            Self::UpstreamError => "upstream_error",
        }
    }
}

/// How an intercepted CONNECT began; the label `result` of `lanyard_interceptions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// With TLS.
    Tls,
    /// In clear text.
    Clear,
    /// The client does not trust the CA.
    Untrusted,
    /// It sent nothing, or TLS failed otherwise.
    Failed,
}

impl Interception {
    const ALL: [Self; 4] = [Self::Tls, Self::Clear, Self::Untrusted, Self::Failed];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Clear => "clear",
            Self::Untrusted => "untrusted",
            Self::Failed => "failed",
        }
    }
}

/// The handles of one profile, resolved once.
#[derive(Debug)]
pub struct ProfileMetrics {
    requests: [IntCounter; Outcome::ALL.len()],
    request_duration: Histogram,
    upstream_responses: [IntCounter; CLASSES.len()],
    /// `lanyard_token_request_duration_seconds`.
    pub token_request_duration: Histogram,
    /// `lanyard_token_rejected_total`: tokens that an upstream refused and that were fetched anew for it.
    pub token_rejected: IntCounter,
    /// `lanyard_token_wait_seconds`: how long requests waited for a token.
    pub token_wait: Histogram,
    token_requests: IntCounterVec,
    name: Arc<str>,
}

/// When the last token of a profile arrived and when it expires, for the gauges. What does not expire has no expiry.
#[derive(Clone, Debug)]
pub struct TokenTimes {
    /// Whose.
    pub profile: Arc<str>,
    /// By the wall clock.
    pub arrived: SystemTime,
    /// By the wall clock of the moment when it arrived; `None`: it does not expire.
    pub expires: Option<SystemTime>,
}

impl ProfileMetrics {
    /// One request ended.
    pub fn request(&self, outcome: Outcome, seconds: f64) {
        if let Some(counter) = self.requests.get(outcome as usize) {
            counter.inc();
        }
        self.request_duration.observe(seconds);
    }

    /// The upstream answered with this status.
    pub fn upstream_response(&self, status: u16) {
        if let Some(counter) = self.upstream_responses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }

    /// A token request ended with `result` (`success` or the kind of its failure).
    pub fn token_request(&self, result: &'static str, seconds: f64) {
        self.token_requests.with_label_values(&[&self.name, result]).inc();
        self.token_request_duration.observe(seconds);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every family.
    #[expect(clippy::expect_used, reason = "names and labels are constants of this file, and each is registered once")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels).expect("a legal name");
            registry.register(Box::new(family.clone())).expect("registered once");
            family
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let family = GaugeVec::new(Opts::new(name, help), labels).expect("a legal name");
            registry.register(Box::new(family.clone())).expect("registered once");
            family
        };
        let histograms = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let family = HistogramVec::new(options, &["profile"]).expect("a legal name");
            registry.register(Box::new(family.clone())).expect("registered once");
            family
        };

        let build_info = counters("lanyard_build_info", "Always 1; the label is the version.", &["version"]);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).inc();
        let config_generation =
            IntGauge::new("lanyard_config_generation", "Generation of the running configuration, from 1.")
                .expect("a legal name");
        registry.register(Box::new(config_generation.clone())).expect("registered once");
        let tunnels =
            IntCounter::new("lanyard_tunnels_total", "CONNECT tunnels that were opened.").expect("a legal name");
        registry.register(Box::new(tunnels.clone())).expect("registered once");
        let connections = IntGaugeVec::new(
            Opts::new("lanyard_connections", "Client connections that are open, by listener."),
            &["listener"],
        )
        .expect("a legal name");
        registry.register(Box::new(connections.clone())).expect("registered once");
        let config_reloads =
            counters("lanyard_config_reloads_total", "Reloads by result: success or failure.", &["result"]);
        let interceptions = counters(
            "lanyard_interceptions_total",
            "CONNECTs that were intercepted, by how they began: tls, clear, untrusted (the CA) or failed.",
            &["result"],
        );
        for result in Interception::ALL {
            interceptions.with_label_values(&[result.as_str()]).reset();
        }
        for result in ["success", "failure"] {
            config_reloads.with_label_values(&[result]).reset();
        }

        let families = Families {
            requests: counters(
                "lanyard_requests_total",
                "Requests by profile and by how they ended.",
                &["profile", "outcome"],
            ),
            request_duration: histograms(
                "lanyard_request_duration_seconds",
                "From a request's head to the end of its answer.",
                &REQUEST_BUCKETS,
            ),
            upstream_responses: counters(
                "lanyard_upstream_responses_total",
                "Answers of upstreams by class: 1xx to 5xx.",
                &["profile", "class"],
            ),
            refusals: counters("lanyard_refusals_total", "Requests that were not forwarded, by code.", &["code"]),
            token_requests: counters(
                "lanyard_token_requests_total",
                "Token requests by result: success, or the kind of the failure.",
                &["profile", "result"],
            ),
            token_request_duration: histograms(
                "lanyard_token_request_duration_seconds",
                "How long token requests took.",
                &TOKEN_BUCKETS,
            ),
            token_expiry: gauges(
                "lanyard_token_expiry_timestamp_seconds",
                "When the current token expires, Unix time; not there for what does not expire.",
                &["profile"],
            ),
            token_last_success: gauges(
                "lanyard_token_last_success_timestamp_seconds",
                "When the last token arrived, Unix time.",
                &["profile"],
            ),
            token_rejected: counters(
                "lanyard_token_rejected_total",
                "Tokens that an upstream rejected and that were fetched anew for it.",
                &["profile"],
            ),
            token_wait: histograms(
                "lanyard_token_wait_seconds",
                "How long requests waited for a token; those that did not wait are not in it.",
                &TOKEN_BUCKETS,
            ),
            config_generation,
            config_reloads,
            connections,
            tunnels,
            interceptions,
            profiles: Mutex::default(),
            rendering: Mutex::default(),
            registry: registry.clone(),
        };
        Self(Arc::new(families))
    }

    /// The handles of a profile; [`NO_PROFILE`] for requests that take none.
    pub fn profile(&self, name: &Arc<str>) -> Arc<ProfileMetrics> {
        let families = &self.0;
        let mut profiles = families.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let handles = profiles.entry(Arc::clone(name)).or_insert_with(|| {
            Arc::new(ProfileMetrics {
                requests: Outcome::ALL.map(|outcome| families.requests.with_label_values(&[&**name, outcome.as_str()])),
                request_duration: families.request_duration.with_label_values(&[&**name]),
                upstream_responses: CLASSES
                    .map(|class| families.upstream_responses.with_label_values(&[&**name, class])),
                token_request_duration: families.token_request_duration.with_label_values(&[&**name]),
                token_rejected: families.token_rejected.with_label_values(&[&**name]),
                token_wait: families.token_wait.with_label_values(&[&**name]),
                token_requests: families.token_requests.clone(),
                name: Arc::clone(name),
            })
        });
        Arc::clone(handles)
    }

    /// A request was refused with this code.
    pub fn refused(&self, code: &'static str) {
        self.0.refusals.with_label_values(&[code]).inc();
    }

    /// Makes the series of these refusals, so that they are seen at zero.
    pub fn declare_refusals(&self, codes: impl IntoIterator<Item = &'static str>) {
        for code in codes {
            self.0.refusals.with_label_values(&[code]).inc_by(0);
        }
    }

    /// A new configuration runs.
    pub fn config_generation(&self, generation: u64) {
        self.0.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// A reload ended.
    pub fn reloaded(&self, success: bool) {
        self.0.config_reloads.with_label_values(&[if success { "success" } else { "failure" }]).inc();
    }

    /// The gauge of open connections of a listener.
    pub fn connections(&self, listener: &str) -> IntGauge {
        self.0.connections.with_label_values(&[listener])
    }

    /// A CONNECT was intercepted.
    pub fn interception(&self, result: Interception) {
        self.0.interceptions.with_label_values(&[result.as_str()]).inc();
    }

    /// `lanyard_tunnels_total`.
    pub fn tunnels(&self) -> &IntCounter {
        &self.0.tunnels
    }

    /// Everything in the Prometheus text format. The token gauges tell of these tokens and of no others: a profile that
    /// is no longer configured has none.
    pub fn render(&self, tokens: impl IntoIterator<Item = TokenTimes>) -> String {
        let Families { token_expiry, token_last_success, rendering, registry, .. } = &*self.0;
        let _turn = rendering.lock().unwrap_or_else(PoisonError::into_inner);
        token_expiry.reset();
        token_last_success.reset();
        for token in tokens {
            token_last_success.with_label_values(&[&*token.profile]).set(unix_seconds(token.arrived));
            if let Some(expires) = token.expires {
                token_expiry.with_label_values(&[&*token.profile]).set(unix_seconds(expires));
            }
        }
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The label `profile` of requests that take no profile. No profile can be called so.
pub const NO_PROFILE: &str = "none";

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Seconds: from what a proxied call on the same machine takes to a slow report.
const REQUEST_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Seconds: from a provider next door to the default timeout of a token request.
const TOKEN_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_family_has_its_name() {
        let metrics = Metrics::new();
        let profile = metrics.profile(&NO_PROFILE.into());
        profile.request(Outcome::Retried, 0.1);
        profile.upstream_response(204);
        profile.upstream_response(0);
        profile.token_request("success", 0.1);
        profile.token_wait.observe(0.1);
        metrics.refused("route_denied");
        metrics.connections("127.0.0.1:8080").inc();
        metrics.reloaded(true);
        let token = TokenTimes {
            profile: NO_PROFILE.into(),
            arrived: UNIX_EPOCH + Duration::from_secs(1),
            expires: Some(UNIX_EPOCH),
        };
        let text = metrics.render([token]);
        for line in [
            "lanyard_requests_total{outcome=\"retried\",profile=\"none\"} 1",
            "lanyard_requests_total{outcome=\"bypassed\",profile=\"none\"} 0",
            "lanyard_upstream_responses_total{class=\"2xx\",profile=\"none\"} 1",
            "lanyard_refusals_total{code=\"route_denied\"} 1",
            "lanyard_token_requests_total{profile=\"none\",result=\"success\"} 1",
            "lanyard_token_rejected_total{profile=\"none\"} 0",
            "lanyard_config_generation 0",
            "lanyard_config_reloads_total{result=\"success\"} 1",
            "lanyard_connections{listener=\"127.0.0.1:8080\"} 1",
            "lanyard_tunnels_total 0",
            "lanyard_interceptions_total{result=\"untrusted\"} 0",
            concat!("lanyard_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        for family in [
            "lanyard_request_duration_seconds_bucket",
            "lanyard_token_request_duration_seconds_count",
            "lanyard_token_expiry_timestamp_seconds{profile=\"none\"}",
            "lanyard_token_last_success_timestamp_seconds{profile=\"none\"} 1\n",
            "lanyard_token_wait_seconds_sum",
        ] {
            assert!(text.contains(family), "{family} is not in:\n{text}");
        }
        let forever = TokenTimes { profile: NO_PROFILE.into(), arrived: UNIX_EPOCH, expires: None };
        for text in [metrics.render([forever]), metrics.render([])] {
            assert!(!text.contains("lanyard_token_expiry_timestamp_seconds{"), "{text}");
        }
    }
}
