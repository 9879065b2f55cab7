//! Real authorization servers (`tests/interop`), each way to get a token from each of them that both sides know, through
//! lanyard to a resource server that asks the same authorization server about the token. The tables are those of
//! `docs/interoperability.md`.

mod cases;
mod couper;
pub mod dpop;
pub mod registrations;
pub mod resource;
pub mod servers;

use futures::StreamExt;

use self::{
    cases::{CLIENT_CREDENTIALS, GRANTS, PASSWORD_GRANT, REFUSALS, ROWS, Refusal, Row, Server},
    couper::Couper,
    registrations::{Registrations, USER, secret},
    resource::ResourceServer,
    servers::AuthorizationServer,
};
use super::support::{lanyard::command, tools::repository, *};

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_grant_at_every_server() {
    let scene = Scene::new().await;
    let mut failures = Vec::new();

    let headings: Vec<&str> = GRANTS.iter().map(|grant| grant.rsplit(':').next().unwrap()).collect();
    let cells = ROWS.iter().flat_map(|row| GRANTS.iter().map(move |grant| (row, *grant)));
    let cells: Vec<_> =
        futures::stream::iter(cells.map(|(row, grant)| scene.cell(row, grant))).buffered(2).collect().await;
    let mut table = format!("| server | client authentication | {} |\n", headings.join(" | "));
    table += &format!("|---|---|{}\n", "---|".repeat(GRANTS.len()));
    for (row, cells) in ROWS.iter().zip(cells.chunks(GRANTS.len())) {
        let shown: Vec<&str> = cells.iter().map(|cell| cell.as_ref().map_or("FAILED", |shown| shown)).collect();
        table += &format!("| {} | {} |\n", row.heading(), shown.join(" | "));
        failures.extend(
            cells.iter().filter_map(|cell| cell.as_ref().err()).map(|failure| format!("{}: {failure}", row.heading())),
        );
    }

    let rows = futures::stream::iter(REFUSALS.iter().map(|refusal| scene.refused(refusal))).buffered(2);
    let rows: Vec<_> = rows.collect().await;
    let mut refusals =
        "| server | client authentication | what is wrong | `lanyard doctor` and the caller's 503 say |\n\
                        |---|---|---|---|\n"
            .to_owned();
    for (refusal, row) in REFUSALS.iter().zip(rows) {
        let shown = row.unwrap_or_else(|failure| {
            failures.push(format!("{}, {}: {failure}", refusal.of.heading(), refusal.what));
            "FAILED".to_owned()
        });
        refusals += &format!("| {} | {} | {shown} |\n", refusal.of.heading(), refusal.what);
    }
    println!("{table}\n{refusals}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let documented = std::fs::read_to_string(repository().join("docs/interoperability.md")).unwrap();
    for table in [table, refusals] {
        assert!(documented.contains(&table), "docs/interoperability.md has another table than this one:\n{table}");
    }
}

/// The servers, started once for every case, and a resource server for each that asks it.
struct Scene {
    registrations: Registrations,
    oidc_provider: AuthorizationServer,
    authlib: AuthorizationServer,
    fosite: AuthorizationServer,
    couper: Couper,
    /// In the order of the servers.
    resource_servers: [ResourceServer; 3],
}

impl Scene {
    async fn new() -> Self {
        let registrations = Registrations::new();
        let (of_oidc_provider, of_authlib, of_fosite) =
            (registrations.of_oidc_provider(), registrations.of_authlib(), registrations.of_fosite());
        let (oidc_provider, authlib, fosite, couper) = tokio::join!(
            AuthorizationServer::oidc_provider(&of_oidc_provider),
            AuthorizationServer::authlib(&of_authlib),
            AuthorizationServer::fosite(&of_fosite),
            Couper::start(),
        );
        let ask = async |server: &AuthorizationServer| {
            ResourceServer::start(server.told("introspection_endpoint"), registrations.authority.pem()).await
        };
        let resource_servers = [ask(&oidc_provider).await, ask(&authlib).await, ask(&fosite).await];
        Self { registrations, oidc_provider, authlib, fosite, couper, resource_servers }
    }

    /// The process of a server; Couper tells nothing of itself.
    fn server(&self, server: Server) -> Option<&AuthorizationServer> {
        match server {
            Server::OidcProvider => Some(&self.oidc_provider),
            Server::Authlib => Some(&self.authlib),
            Server::Fosite => Some(&self.fosite),
            Server::Couper => None,
        }
    }

    fn token_endpoint(&self, row: &Row) -> String {
        match self.server(row.server) {
            Some(server) => server.told("token_endpoint").to_owned(),
            None => self.couper.token_endpoint(row.method),
        }
    }

    /// The rest of the configuration: a route to the server's own resource server, and whom to trust.
    fn completed(&self, profile: String, server: Server) -> String {
        let route = match server {
            Server::OidcProvider => self.resource_servers[0].route("api.test", "p"),
            Server::Authlib => self.resource_servers[1].route("api.test", "p"),
            Server::Fosite => self.resource_servers[2].route("api.test", "p"),
            Server::Couper => self.couper.route("api.test", "p"),
        };
        let trust = if server == Server::OidcProvider { "ca_file = \"ca.pem\"\n" } else { "" };
        format!("{profile}{trust}{route}")
    }

    /// A folder with what the profile's files are.
    fn folder(&self, row: &Row, token_endpoint: &str) -> Folder {
        let folder = Folder::new();
        self.registrations.write(&folder, token_endpoint);
        if let Some(token) = self.server(row.server).and_then(|server| server.refresh_token(row.client)) {
            secret(&folder, "refresh_token", token);
        }
        folder
    }

    /// A cell of the table, or what is wrong.
    async fn cell(&self, row: &Row, grant: &str) -> Result<&'static str, String> {
        let token_endpoint = self.token_endpoint(row);
        let issuer = self.server(row.server).map_or("", |server| server.told("issuer"));
        let folder = self.folder(row, &token_endpoint);
        let config = self.completed(row.profile(grant, issuer, &token_endpoint), row.server);
        if row.works.contains(&grant) { self.works(row, grant, folder, &config).await.map(|()| "yes") } else { Ok("-") }
            .map_err(|failure| format!("{grant}: {failure}"))
    }

    /// Requests get a token that the server vouches for, and the second one the same.
    async fn works(&self, row: &Row, grant: &str, folder: Folder, config: &str) -> Result<(), String> {
        let (exit, told) = check(&folder, config).await;
        same("check's exit code", exit, Some(0)).map_err(|wrong| format!("{wrong}: {told}"))?;
        let lanyard = Lanyard::start_in(folder, config, &[]).await;
        for _ in 0..2 {
            let answer = get_via(lanyard.address(), "http://api.test/resource").await;
            same("the answer", answer.status, 200).map_err(|wrong| format!("{wrong}: {}", answer.body))?;
            let seen = answer.json();
            if row.server == Server::Couper {
                same("Couper's resource", seen["foo"].as_u64(), Some(1))?;
                continue;
            }
            same("the token's client", seen["client_id"].as_str(), Some(row.client))?;
            let scope = seen["scope"].as_str().unwrap_or_default();
            same("the token's scope has `read`", scope.split(' ').any(|one| one == "read"), row.has_scope())?;
            // fosite's storage in memory makes up who a user is.
            if grant != CLIENT_CREDENTIALS && !(row.server == Server::Fosite && grant == PASSWORD_GRANT) {
                same("the token's user", seen["sub"].as_str(), Some(USER))?;
            }
        }
        let status = lanyard.status().await;
        same("token requests", status["profiles"]["p"]["token_requests"].as_u64(), Some(1))?;
        same("what an operator must do", lanyard.log().iter().find(|event| event["level"] == "ERROR"), None)?;
        lanyard.finish().await;
        Ok(())
    }

    /// A refusal of the server's reaches `lanyard doctor` and the caller, in the server's own words.
    async fn refused(&self, refusal: &Refusal) -> Result<String, String> {
        let token_endpoint = self.token_endpoint(&refusal.of);
        let folder = self.folder(&refusal.of, &token_endpoint);
        let config = self.completed(refusal.profile(&token_endpoint), refusal.of.server);
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        let answer = get_via(lanyard.address(), "http://api.test/resource").await;
        same("the caller's answer", (answer.status, answer.refusal()), (503, Some("token_unavailable")))?;
        let path = lanyard.config_path();
        let (exit, told, _) = command(&["doctor", "--config", path.to_str().unwrap()], &[]).await;
        same("doctor's exit code", exit, Some(1))?;
        same("doctor knows what to do", told.contains("fix: "), true)?;
        for said in refusal.says {
            for told in [&told, &answer.body] {
                same(said, told.contains(said), true).map_err(|wrong| format!("{wrong}: {told}"))?;
            }
        }
        lanyard.finish().await;
        Ok(format!("`{}`", refusal.says.join("`, `")))
    }
}

/// The exit code of `lanyard check`, and what it said.
async fn check(folder: &Folder, config: &str) -> (Option<i32>, String) {
    let path = folder.write("proxy.toml", config);
    let (exit, told, problems) = command(&["check", "--config", path.to_str().unwrap()], &[]).await;
    (exit, told + &problems)
}

/// A check that fails a cell, and not the whole table.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}
