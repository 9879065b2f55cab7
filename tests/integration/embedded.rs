//! `lanyard issuer` and `lanyard run`, both as real processes: every client authentication with every grant, through to a
//! resource server that asks the issuer what the token is good for. The table is that of `docs/issuer.md`.

mod cases;
mod documented;
mod proofs;
mod refusals;
mod registrations;
mod servers;

use std::os::unix::fs::PermissionsExt as _;

use futures::{StreamExt as _, future::join_all};
use serde_json::{Value, json};

use self::{
    cases::{GRANTS, Grant, ROWS, Row},
    registrations::{ACTOR, Registrations, USER, WORKLOADS},
    servers::{Issuer, Server},
};
use super::{
    interop::resource::ResourceServer,
    support::{lanyard::command, tools::repository, *},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_every_grant() {
    let scene = Scene::new().await;
    let config = scene.config();
    let path = scene.folders[0].write("proxy.toml", &config);
    let (exit, told, problems) = command(&["check", "--config", path.to_str().unwrap()], &[]).await;
    assert_eq!(exit, Some(0), "{told}{problems}");

    // Another process goes on with the refresh tokens that the first one was given.
    let mut cells = Vec::new();
    for _ in 0..2 {
        let lanyard = Lanyard::start(&config).await;
        cells = scene.cells(&lanyard).await;
        let status = lanyard.status().await;
        for ((row, grant), cell) in Scene::all().zip(&mut cells) {
            let requests = status["profiles"][row.profile_name(grant)]["token_requests"].as_u64();
            // Those for callers are not the profile's own.
            let expected = u64::from(grant != Grant::OnBehalf);
            if cell == &Ok("yes") && requests != Some(expected) {
                *cell = Err(format!("{}: {requests:?} token requests", row.heading()));
            }
        }
        lanyard.finish().await;
        let failures: Vec<&String> = cells.iter().filter_map(|cell| cell.as_ref().err()).collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    let headings = GRANTS.map(Grant::name).join(" | ");
    let mut table = format!("| client authentication | {headings} |\n|---|{}\n", "---|".repeat(GRANTS.len()));
    for (row, cells) in ROWS.iter().zip(cells.chunks(GRANTS.len())) {
        let shown: Vec<&str> = cells.iter().map(|cell| *cell.as_ref().unwrap()).collect();
        table += &format!("| {} | {} |\n", row.heading(), shown.join(" | "));
    }
    println!("{table}");
    let documented = std::fs::read_to_string(repository().join("docs/issuer.md")).unwrap();
    assert!(documented.contains(&table), "docs/issuer.md has another table than this one:\n{table}");
}

/// The servers, started once for every case, and for each a resource server that asks it, and a folder of files.
struct Scene {
    registrations: Registrations,
    issuers: [Issuer; 3],
    resources: [ResourceServer; 3],
    folders: [Folder; 3],
}

const SERVERS: [Server; 3] = [Server::Tls, Server::Both, Server::Nonces];

impl Scene {
    async fn new() -> Self {
        let registrations = Registrations::new();
        let folders = SERVERS.map(|_| Folder::new());
        let start = async |at: usize| {
            registrations.write(&folders[at]);
            let issuer = Issuer::start(SERVERS[at], &folders[at]).await;
            registrations.write_for(&folders[at], &issuer.ca);
            let endpoint = format!("{}/oauth/introspect", issuer.url);
            let resource = ResourceServer::start(&endpoint, &issuer.ca).await;
            (issuer, resource)
        };
        let ((one, of_one), (two, of_two), (three, of_three)) = tokio::join!(start(0), start(1), start(2));
        let scene = Self { issuers: [one, two, three], resources: [of_one, of_two, of_three], registrations, folders };
        let log_in = |row: &'static Row| {
            let (issuer, _, folder) = scene.at(row);
            row.log_in(&scene.registrations, &issuer.url, folder)
        };
        join_all(ROWS.iter().map(log_in)).await;
        scene
    }

    fn at(&self, row: &Row) -> (&Issuer, &ResourceServer, &Folder) {
        let at = SERVERS.iter().position(|server| *server == row.server).unwrap();
        (&self.issuers[at], &self.resources[at], &self.folders[at])
    }

    fn all() -> impl Iterator<Item = (&'static Row, Grant)> {
        ROWS.iter().flat_map(|row| GRANTS.into_iter().map(move |grant| (row, grant)))
    }

    /// One file with every profile, and the routes to them.
    fn config(&self) -> String {
        let mut config = String::new();
        for (row, grant) in Self::all().filter(|(row, grant)| row.works.contains(grant)) {
            let (issuer, resource, folder) = self.at(row);
            config += &row.profile(grant, &issuer.url, folder);
            config += &resource.route(&row.host(grant), &row.profile_name(grant));
            if grant == Grant::OnBehalf {
                let narrowed = resource.route(&format!("narrowed.{}", row.host(grant)), &row.profile_name(grant));
                config += &format!("{narrowed}scope = \"read\"\n");
            }
        }
        config
    }

    async fn cells(&self, lanyard: &Lanyard) -> Vec<Result<&'static str, String>> {
        let cells = Self::all().map(async |(row, grant)| {
            if !row.works.contains(&grant) {
                return Ok("-");
            }
            let works = self.works(lanyard, row, grant).await;
            works.map(|()| "yes").map_err(|wrong| format!("{}, {}: {wrong}", row.heading(), grant.name()))
        });
        futures::stream::iter(cells).buffered(4).collect().await
    }

    /// Requests get a token that says what it should, and only that.
    async fn works(&self, lanyard: &Lanyard, row: &Row, grant: Grant) -> Result<(), String> {
        let host = row.host(grant);
        if grant != Grant::OnBehalf {
            let sub = if grant == Grant::ClientCredentials { row.client() } else { USER.to_owned() };
            for _ in 0..2 {
                let seen = ask(lanyard, &host, None).await?;
                self.vouched_for(row, grant, &seen, &sub, "read write")?;
            }
        } else {
            // Each caller has a token of its own, and where the route narrows it another one.
            let callers = ["bob", "carol"].map(|name| (name, self.registrations.token_of(name, 600)));
            for (name, token) in &callers {
                let seen = ask(lanyard, &host, Some(token)).await?;
                self.vouched_for(row, grant, &seen, name, "read write")?;
                let narrowed = ask(lanyard, &format!("narrowed.{host}"), Some(token)).await?;
                self.vouched_for(row, grant, &narrowed, name, "read")?;
                same(
                    "the same caller's token is kept",
                    ask(lanyard, &host, Some(token)).await?["jti"].clone(),
                    seen["jti"].clone(),
                )?;
            }
        }
        if grant == Grant::Refresh {
            let state = self.at(row).2.path().join(format!("{}.state", row.client()));
            let mode = std::fs::metadata(state).map_err(|error| error.to_string())?.permissions().mode();
            same("who may read the state file", mode & 0o777, 0o600)?;
        }
        Ok(())
    }

    fn vouched_for(&self, row: &Row, grant: Grant, seen: &Value, sub: &str, scope: &str) -> Result<(), String> {
        let (issuer, ..) = self.at(row);
        let act = match grant {
            Grant::Exchange => json!({"sub": ACTOR, "iss": WORKLOADS}),
            _ => Value::Null,
        };
        let expected = [
            ("iss", json!(issuer.url)),
            ("client_id", json!(row.client())),
            ("sub", json!(sub)),
            ("scope", json!(scope)),
            ("aud", json!("https://api.test")),
            ("act", act),
            ("token_type", json!(if row.is_bound() { "DPoP" } else { "Bearer" })),
        ];
        for (name, expected) in expected {
            same(name, seen[name].clone(), expected)?;
        }
        let cnf = &seen["cnf"];
        let thumbprint = row.certificate().map(|name| self.registrations.thumbprint(name));
        same("cnf.x5t#S256", cnf["x5t#S256"].as_str(), thumbprint.as_deref())?;
        if row.has_bound_key() {
            same("cnf.jkt", cnf["jkt"].as_str(), Some(&*self.registrations.bound_thumbprint()))?;
        }
        same("cnf.jkt is there", cnf["jkt"].is_string(), row.is_bound())
    }
}

/// What the resource server says of the token of a request.
async fn ask(lanyard: &Lanyard, host: &str, token: Option<&str>) -> Result<Value, String> {
    let mut request = client(Some(lanyard.address())).get(format!("http://{host}/resource?q=1"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = send(request).await;
    if answer.status == 200 { Ok(answer.json()) } else { Err(format!("{}: {}", answer.status, answer.body)) }
}

/// A check that fails a cell, and not the whole table.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}
