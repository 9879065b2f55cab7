//! Lookalikes of providers: servers as strict in what they demand, and as odd in what they answer, as the provider's public
//! documentation says. Each is used with the block of docs/providers.md, host and folder apart, so that it cannot drift.

mod auth0;
mod aws;
mod case;
mod entra;
mod google;
mod jwt_bearer;
mod keycloak;
mod keys;
mod lookalike;
mod okta;
mod simple;

use super::support::{lanyard::command, *};

use self::case::documentation;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_documentation_passes_check() {
    let folder = Folder::new();
    let text = documentation();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 15, "{}", blocks.len());
    for block in blocks {
        let path = folder.write("proxy.toml", block);
        let (exit, told, problems) = command(&["check", "--config", path.to_str().unwrap()], &[]).await;
        assert_eq!(exit, Some(0), "{block}\n{told}{problems}");
        // The secrets are not on this machine; there is nothing else to warn of.
        for warning in problems.lines().filter(|line| line.contains("warning: ")) {
            assert!(warning.contains("cannot be read now"), "{block}\n{warning}");
        }
    }
}
