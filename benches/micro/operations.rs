//! What one request is made of, each step as an operation that can be done again and again.

use std::{hint::black_box, net::SocketAddr, path::Path, sync::Arc};

use async_trait::async_trait;
use http::{HeaderValue, Method};
use lanyard::{
    ca::{Authority, Leaves},
    clock::{Clock, Moment},
    config::{self, AwsCredentials, AwsSigV4, Config, Payload, Route, Scheme},
    credential::{Body, Credential, FetchError, Fetched, Material, Outgoing, aws::Aws},
    dns::{Names, Resolver},
    egress::connect::Dialer,
    jose::{Prover, SigningKey, ath},
    listen::head,
    metrics::{Metrics, Outcome},
    proxy::{
        context::Carried,
        headers, inject,
        peer::Destination,
        target::{self, Listening, Named, Role},
    },
    route::{
        Table,
        pattern::{Host, HostPattern, PathPrefix},
    },
    secret::{Secret, SecretSource},
    snapshot::{Current, Parts, Snapshot},
    token::{Form, Policy, Slot, Token},
};
use pingora::http::RequestHeader;
use tokio::runtime::Runtime;

/// One operation.
#[derive(Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    /// How often it is done where instructions are counted, which is slow.
    pub times: usize,
    prepare: fn() -> Box<dyn FnMut()>,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Operation {
    /// Sets up what it needs; what is given back does it once.
    pub fn prepare(&self) -> Box<dyn FnMut()> {
        (self.prepare)()
    }
}

const fn often(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Operation {
    Operation { name, times: 20_000, prepare }
}

/// For what takes long to prepare, or a thousand instructions and more.
const fn some(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Operation {
    Operation { name, times: 2000, prepare }
}

pub const ALL: [Operation; 21] = [
    some("head find: GET of 5 fields", || find_head(GET)),
    some("head find: absolute form", || find_head(ABSOLUTE)),
    some("head find: GET of 30 fields", || find_head(&many_fields())),
    some("target decide: reverse listener", || {
        let upstream = config().routes[0].upstream.clone().unwrap();
        decide(Role::Reverse { upstream, allowed_hosts: Vec::new() }, "/api/v1/orders/17?page=2")
    }),
    some("target decide: forward listener, absolute form", || {
        decide(Role::Forward, "http://api.example.com/api/v1/orders/17?page=2")
    }),
    some("route find: 1 exact host", || find_route(1, |n| format!("api-{n}.example.com"))),
    some("route find: 100 exact hosts", || find_route(100, |n| format!("api-{n}.example.com"))),
    some("route find: 10,000 exact hosts", || find_route(10_000, |n| format!("api-{n}.example.com"))),
    some("route find: 1 wildcard", || find_route(1, |n| format!("*.s{n}.example.com"))),
    some("route find: 100 wildcards", || find_route(100, |n| format!("*.s{n}.example.com"))),
    some("route find: 10,000 wildcards", || find_route(10_000, |n| format!("*.s{n}.example.com"))),
    some("route find: last of 100 prefixes of one host", find_prefix),
    some("route find: host unknown to 10,000 wildcards", find_nothing),
    often("snapshot load", || {
        let world = World::new();
        Box::new(move || drop(black_box(world.current.load())))
    }),
    often("slot usable", || {
        let (runtime, slot) = slot();
        Box::new(move || {
            let _runtime = &runtime;
            drop(black_box(slot.usable()));
        })
    }),
    often("head clone (a part of the next two)", || {
        let head = request_head();
        Box::new(move || drop(black_box(head.clone())))
    }),
    often("head clone and rewrite, with a token", || {
        let world = World::new();
        let profile = Arc::clone(&world.current.load().profiles["api"]);
        let form = Form::Header(HeaderValue::from_static("Bearer canary-token"));
        let [fetched_at, refresh_at, expires_at] = [Moment::default(); 3];
        let token = Arc::new(Token { form, serial: 1, fetched_at, expires_at, refresh_at });
        rewrite(world, Carried::Token { profile, subject: None, token })
    }),
    often("head clone and rewrite, without", || rewrite(World::new(), Carried::Nothing("none"))),
    often("metrics of one request", || {
        let metrics = Metrics::new().profile(&"api".into());
        Box::new(move || {
            metrics.upstream_response(black_box(200));
            metrics.request(black_box(Outcome::Injected), black_box(0.003));
        })
    }),
    often("leaf of a known host", || {
        let (leaves, host) = (leaves(), Host::parse("known.example.com").unwrap());
        Box::new(move || drop(black_box(leaves.settings(&host).unwrap())))
    }),
    Operation {
        name: "leaf of a new host",
        times: 30,
        prepare: || {
            let (leaves, mut n) = (leaves(), 0);
            Box::new(move || {
                n += 1;
                drop(black_box(leaves.settings(&Host::parse(&format!("h{n:07}.example.com")).unwrap()).unwrap()));
            })
        },
    },
];

/// What is done for each request of profiles that sign: measured in time alone, for most of it is hashing.
pub const SIGNING: [Operation; 3] = [
    some("sigv4 sign: GET of 5 fields", || sign(5)),
    some("sigv4 sign: GET of 30 fields", || sign(30)),
    some("dpop proof: P-256", || {
        let prover = Prover::new(Arc::new(SigningKey::generate().unwrap())).unwrap();
        let ath = ath(&Secret::new("canary-token"));
        Box::new(move || {
            let htu = black_box("https://api.example.com/api/v1/orders/17");
            drop(black_box(prover.proof("GET", htu, Some(&ath), None).unwrap()));
        })
    }),
];

const GET: &str = "GET /api/v1/orders/17?page=2 HTTP/1.1\r\nHost: localhost:9001\r\nUser-Agent: curl/8.14.1\r\n\
    Accept: */*\r\nAccept-Encoding: gzip\r\nX-Request-Id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\r\n\r\n";
const ABSOLUTE: &str = "GET http://api.example.com/api/v1/orders/17?page=2 HTTP/1.1\r\nHost: api.example.com\r\n\
    User-Agent: curl/8.14.1\r\nAccept: */*\r\nProxy-Connection: Keep-Alive\r\n\
    X-Request-Id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\r\n\r\n";

fn many_fields() -> String {
    let more: String = (0..25).map(|n| format!("X-Field-{n}: the value of field {n}\r\n")).collect();
    GET.replace("\r\n\r\n", &format!("\r\n{more}\r\n"))
}

fn find_head(text: &str) -> Box<dyn FnMut()> {
    let (bytes, limits) = (text.as_bytes().to_vec(), config().limits);
    Box::new(move || {
        let found = head::find(black_box(&bytes), 0, &limits).unwrap();
        assert!(black_box(found).is_some());
    })
}

fn decide(role: Role, request_target: &'static str) -> Box<dyn FnMut()> {
    let local = SocketAddr::from(([127, 0, 0, 1], 9001));
    let listening = Listening { role: Arc::new(role), local: Some(local), original: None };
    Box::new(move || {
        let named = Named {
            method: &Method::GET,
            request_target: black_box(request_target.as_bytes()),
            host: Some(b"localhost:9001"),
        };
        drop(black_box(target::decide(&listening, named).unwrap()));
    })
}

/// Routes with a path prefix, one a host, looked for in a changing order: what one lookup costs hangs on where the
/// randomly keyed hash of its host fell.
fn find_route(routes: usize, host: impl Fn(usize) -> String) -> Box<dyn FnMut()> {
    let template = config().routes.swap_remove(0);
    let table = Table::new((0..routes).map(|n| {
        let host = HostPattern::parse(&host(n)).unwrap();
        (Route { host, path_prefix: Some(PathPrefix::parse("/api/v1").unwrap()), ..template.clone() }, n)
    }));
    let hosts: Vec<String> = (0..routes.min(1000)).map(|n| host(n * 7919 % routes).replace('*', "a.b")).collect();
    let mut hosts = hosts.into_iter().cycle_through();
    Box::new(move || {
        let found = table.find(black_box(hosts()), 443, black_box("/api/v1/orders/17"), &Method::GET);
        assert!(black_box(found).unwrap().is_some());
    })
}

fn find_prefix() -> Box<dyn FnMut()> {
    let template = config().routes.swap_remove(0);
    let table = Table::new((0..100).map(|n| {
        let path_prefix = Some(PathPrefix::parse(&format!("/api/v1/area-{n:02}")).unwrap());
        (Route { host: HostPattern::parse("api.example.com").unwrap(), path_prefix, ..template.clone() }, n)
    }));
    Box::new(move || {
        let found = table.find(black_box("api.example.com"), 443, black_box("/api/v1/area-99/orders"), &Method::GET);
        assert_eq!(black_box(found), Ok(Some(&99)));
    })
}

fn find_nothing() -> Box<dyn FnMut()> {
    let template = config().routes.swap_remove(0);
    let table =
        Table::new((0..10_000).map(|n| {
            (Route { host: HostPattern::parse(&format!("*.s{n}.example.com")).unwrap(), ..template.clone() }, n)
        }));
    let hosts: Vec<String> = (0..1000).map(|n| format!("a.b.c{n}.example.net")).collect();
    let mut hosts = hosts.into_iter().cycle_through();
    Box::new(move || {
        let found = table.find(black_box(hosts()), 443, black_box("/api/v1/orders/17"), &Method::GET);
        assert!(black_box(found).unwrap().is_none());
    })
}

/// All of an iterator's texts, again and again.
trait CycleThrough: Iterator<Item = String> + Sized {
    fn cycle_through(self) -> impl FnMut() -> &'static str {
        let all: &'static [String] = Vec::leak(self.collect());
        let mut at = 0;
        move || {
            at = if at + 1 < all.len() { at + 1 } else { 0 };
            &all[at]
        }
    }
}

impl<I: Iterator<Item = String>> CycleThrough for I {}

fn request_head() -> RequestHeader {
    let mut head = RequestHeader::build("GET", b"/api/v1/orders/17?page=2", None).unwrap();
    for line in GET.split("\r\n").skip(1).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        head.append_header(name.to_owned(), value).unwrap();
    }
    head
}

fn rewrite(world: World, carried: Carried) -> Box<dyn FnMut()> {
    let (head, via) = (request_head(), HeaderValue::from_static("1.1 lanyard-0123456789ab"));
    let destination = Destination {
        scheme: Scheme::Https,
        host: Host::parse("api.example.com").unwrap(),
        port: 443,
        path_and_query: "/v1/x".into(),
        named_literally: false,
        names: Names::System,
        through: None,
        fixed: None,
    };
    Box::new(move || {
        let _world = &world;
        let mut head = head.clone();
        headers::rewrite(&mut head, black_box(b"api.example.com"), &via, carried.fields()).unwrap();
        inject::into_head(&mut head, &carried, &destination, Body::Whole(b"")).unwrap();
        drop(black_box(head));
    })
}

fn sign(fields: usize) -> Box<dyn FnMut()> {
    lanyard::tls::install_provider();
    let runtime = runtime();
    let aws = AwsSigV4 {
        region: "eu-central-1".to_owned(),
        service: "execute-api".to_owned(),
        credentials: AwsCredentials::Keys {
            access_key_id: "AKIATEST".to_owned(),
            secret_access_key: SecretSource::Literal(Secret::new("canary-secret")),
            session_token: None,
        },
        payload: Payload::Auto,
        timeout: std::time::Duration::from_secs(1),
    };
    let fetched = {
        let _entered = runtime.enter();
        let dialer = Dialer { resolver: Resolver::system().unwrap(), own: Arc::from([]) };
        runtime.block_on(Aws::new("aws", &aws, &dialer).unwrap().fetch()).unwrap()
    };
    let Material::Signer(signer) = fetched.material else { panic!("it signs") };
    let text = if fields > 5 { many_fields() } else { GET.to_owned() };
    let lines: Vec<(String, String)> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| *name != "Host")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Box::new(move || {
        let fields: Vec<(&str, &[u8])> = lines.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        let request = Outgoing {
            method: "GET",
            scheme: "https",
            authority: b"api.example.com",
            path_and_query: black_box("/api/v1/orders/17?page=2"),
            fields: &fields,
            body: Body::Whole(b""),
        };
        drop(black_box(signer.sign(&request).unwrap()));
    })
}

fn leaves() -> Leaves {
    lanyard::tls::install_provider();
    let leaves = Leaves::new(Authority::new(&[]).unwrap().0).unwrap();
    drop(leaves.settings(&Host::parse("known.example.com").unwrap()).unwrap());
    leaves
}

fn config() -> Config {
    let toml = r#"
        [profiles.api]
        token_endpoint = "http://127.0.0.1:1/token"
        client_id = "demo"
        client_secret = "demo-secret"
        prefetch = false
        [[routes]]
        host = "api.example.com"
        upstream = "https://api.example.com"
        profile = "api"
    "#;
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let loaded = config::parse(&format!("{listener}{toml}"), "proxy.toml", Path::new("."), &config::System);
    loaded.unwrap_or_else(|problems| panic!("{problems}")).config
}

/// A snapshot that runs, and what it runs on.
struct World {
    current: Current,
    _runtime: Runtime,
}

impl World {
    fn new() -> Self {
        lanyard::tls::install_provider();
        let runtime = runtime();
        let current = {
            let _entered = runtime.enter();
            let dialer = Dialer { resolver: Resolver::system().unwrap(), own: Arc::from([]) };
            let parts = Parts { clock: Clock::boot(), metrics: Metrics::new(), dialer };
            Current::new(Snapshot::build(Arc::new(config()), None, &parts).unwrap())
        };
        Self { current, _runtime: runtime }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A slot with a token that lives long.
pub fn slot() -> (Runtime, Slot) {
    let runtime = runtime();
    let slot = runtime.block_on(async {
        let slot = start_slot();
        slot.first_answer().await;
        slot
    });
    (runtime, slot)
}

/// Starts a slot on the runtime that this is called on.
pub fn start_slot() -> Slot {
    let oauth = config();
    let profile = &oauth.profiles["api"];
    let policy = Policy {
        profile: "api".into(),
        placement: profile.placement.clone(),
        prefetch: true,
        refresh_before: profile.refresh_before,
        default_token_lifetime: profile.default_token_lifetime,
        token_wait: profile.token_wait,
        idle_after: None,
        reject_interval: profile.reject_interval,
    };
    Slot::start(policy, Arc::new(Fixed), Metrics::new().profile(&"api".into()), Clock::boot())
}

#[derive(Debug)]
struct Fixed;

#[async_trait]
impl Credential for Fixed {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let lifetime = Some(std::time::Duration::from_secs(36_000));
        Ok(Fetched::token(Secret::new("canary-token"), lifetime))
    }
}
