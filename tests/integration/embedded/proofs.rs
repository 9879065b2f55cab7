//! DPoP from end to end (RFC 9449): the server and the protected API are in this process, so that a test can say which
//! nonces they want and by which URL the API is known.

use std::{net::SocketAddr, sync::Arc};

use ::lanyard::issuer::{self, Issuer, NoncePolicy, Registrations, Settings, resource};
use futures::future::join_all;
use serde_json::json;
use tokio::net::TcpListener;

use super::registrations::{Registrations as Keys, USER, WORKLOADS};
use crate::support::*;

/// A token endpoint, and an API that takes its tokens.
struct Servers {
    issuer: Arc<Issuer>,
    api: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Servers {
    /// With nonces that are good for so many proofs; `url`: what the API is called by those who prove.
    async fn start(uses: u32, url: Option<&str>) -> Self {
        let folder = Folder::new();
        Keys::new().write(&folder);
        let clients = json!({
            "clients": [{
                "client_id": "id", "client_secret": SECRET, "dpop_bound_access_tokens": true, "scope": "read",
                "grant_types": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
            }],
            "trusted_issuers": [{
                "issuer": WORKLOADS, "public_key_file": "rsa.public", "audiences": ["https://auth.test"],
            }],
        });
        folder.write("rsa.public", Keys::new().public_key("rsa.pem", "RS256"));
        let mut settings = Settings::development();
        settings.clients.clear();
        Registrations::parse(&clients.to_string(), folder.path()).unwrap().add_to(&mut settings);
        settings.algorithm = issuer::Algorithm::Es256;
        settings.dpop_nonce = Some(NoncePolicy { uses, ..NoncePolicy::default() });
        let listeners =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let [own, api] = [0, 1].map(|at: usize| listeners[at].local_addr().unwrap());
        let issuer = Arc::new(Issuer::new(settings, own).unwrap());
        let requirements = resource::Requirements { url: url.map(str::to_owned), ..Default::default() };
        let routers = [issuer.router(), resource::router(Arc::clone(&issuer), requirements)];
        let serve = |(listener, router)| tokio::spawn(issuer::serve(listener, router, std::future::pending()));
        let tasks = listeners.into_iter().zip(routers).map(serve).collect();
        Self { issuer, api, tasks }
    }

    fn profile(&self, more: &str) -> String {
        format!(
            "[profiles.p]\nissuer = \"{}\"\nclient_id = \"id\"\nclient_secret = \"{SECRET}\"\ndpop = true\n{more}",
            self.issuer.identifier()
        )
    }

    fn route(&self) -> String {
        format!("[[routes]]\nhost = \"api.test\"\nprofile = \"p\"\nupstream = \"http://{}\"\n", self.api)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Every token is bound, and every request is proved: also one with a body, also one in chunks, whatever its path.
#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_proved_whichever_way_it_goes() {
    let servers = Servers::start(3, None).await;
    let lanyard = Lanyard::start(&(servers.profile("") + &servers.route())).await;
    lanyard.ready().await;
    let client = client(Some(lanyard.address()));
    for number in 0..20 {
        let url = format!("http://api.test/items/{number}%20a/./b?x=%2F&y");
        let answer = match number % 3 {
            0 => send(client.get(url)).await,
            1 => send(client.post(url).body("a body")).await,
            _ => {
                let request = format!(
                    "PUT {url} HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                     1\r\na\r\n0\r\n\r\n"
                );
                let answer = raw(lanyard.address(), request).await;
                assert_eq!(status_of(&answer), 200, "{number}: {answer}");
                continue;
            }
        };
        assert_eq!((answer.status, answer.json()["token_type"].as_str()), (200, Some("DPoP")), "{number}: {answer:?}");
    }
    assert_eq!(servers.issuer.tokens_issued(), 1, "a nonce that is used up is no reason for another token");
    lanyard.finish().await;
}

/// Who learns the nonce first is not the only one who needed it.
#[tokio::test(flavor = "multi_thread")]
async fn many_first_requests_at_once_cost_one_token_and_all_get_through() {
    let servers = Servers::start(1_000_000, None).await;
    let lanyard = Lanyard::start(&(servers.profile("") + &servers.route())).await;
    lanyard.ready().await;
    let client = client(Some(lanyard.address()));
    for round in 0..2 {
        let answers = (0..50).map(|_| send(client.get("http://api.test/x")));
        let refused: Vec<Answer> = join_all(answers).await.into_iter().filter(|answer| answer.status != 200).collect();
        assert!(refused.is_empty(), "round {round}: {refused:?}");
    }
    assert_eq!(servers.issuer.tokens_issued(), 1);
    lanyard.finish().await;
}

/// The same at the token endpoint, which callers make busy.
#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_all_get_a_token_that_is_bound() {
    let servers = Servers::start(1_000_000, None).await;
    let exchange = "grant_type = \"urn:ietf:params:oauth:grant-type:token-exchange\"\n\
                    subject_token = { header = \"Authorization\" }\nsubject_token_type = \"jwt\"\n";
    let lanyard = Lanyard::start(&(servers.profile(exchange) + &servers.route())).await;
    let client = client(Some(lanyard.address()));
    let keys = Keys::new();
    let answers = join_all((0..30).map(|number| {
        let token = keys.token_of(&format!("{USER}-{number}"), 600);
        send(client.get("http://api.test/x").header("authorization", format!("Bearer {token}")))
    }));
    for (number, answer) in answers.await.into_iter().enumerate() {
        assert_eq!(answer.status, 200, "{number}: {answer:?}");
        assert_eq!(answer.json()["sub"], format!("{USER}-{number}"));
    }
    assert_eq!(servers.issuer.tokens_issued(), 30);
    lanyard.finish().await;
}

/// A proof names the API as the request does, behind a path of the upstream's too, and on a reverse listener.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_for_the_url_that_the_upstream_sees() {
    let servers = Servers::start(2, None).await;
    let config = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         upstream = \"http://{api}/base\"\n{}{}[[routes]]\nhost = \"127.0.0.1:{}\"\nprofile = \"p\"\n\
         [[routes]]\nhost = \"moved.test\"\npath_prefix = \"/v1\"\nprofile = \"p\"\nupstream = \"http://{api}/base\"\n",
        servers.profile(""),
        servers.route(),
        servers.api.port(),
        api = servers.api,
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    for _ in 0..5 {
        let moved = get_via(lanyard.address(), "http://moved.test/v1/a?q").await;
        assert_eq!((moved.status, moved.json()["path"].as_str()), (200, Some("/base/a")), "{moved:?}");
        let reverse = get(&format!("http://{}/a?q", lanyard.addresses[1])).await;
        assert_eq!((reverse.status, reverse.json()["path"].as_str()), (200, Some("/base/a")), "{reverse:?}");
    }
    lanyard.finish().await;
}

/// An API that is known by another URL than the one that is asked refuses, and the client sees why.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_for_no_other_server() {
    let elsewhere = Servers::start(100, Some("https://elsewhere.test")).await;
    let lanyard = Lanyard::start(&(elsewhere.profile("") + &elsewhere.route())).await;
    lanyard.ready().await;
    let answer = get_via(lanyard.address(), "http://api.test/x").await;
    let told = format!("htu is http://{}/x, expected https://elsewhere.test/x", elsewhere.api);
    assert!(answer.status == 401 && answer.body.contains(&told), "{answer:?}");
    lanyard.finish().await;
}
