//! One block of docs/providers.md in use: with a lookalike for its provider, an upstream for its route, and files.

use super::{super::support::*, lookalike::Lookalike};

pub fn documentation() -> String {
    std::fs::read_to_string(repository().join("docs/providers.md")).unwrap()
}

/// A block in use.
pub struct Case {
    pub server: Lookalike,
    pub upstream: Upstream,
    pub folder: Folder,
    pub config: String,
}

impl Case {
    /// The block that comes first after this line of the documentation (`nth` from 0), where `server` has the place of the
    /// host (`https://...`), and a folder that of the one with the secrets.
    pub async fn new(after: &str, nth: usize, host: &str, server: Lookalike, files: &[(&str, &str)]) -> Self {
        let documentation = documentation();
        let (_, rest) = documentation.split_once(&format!("\n{after}\n")).expect(after);
        let block = rest.split("```toml\n").nth(nth + 1).unwrap().split("```").next().unwrap();
        assert!(block.contains(host) || host.is_empty(), "{host} is not in {block}");
        let (folder, upstream) = (Folder::new(), Upstream::start().await);
        let path = folder.path().to_str().unwrap();
        let mut config = block
            .replace("\"/run/secrets/", &format!("\"{path}/"))
            .replace("\"/var/run/secrets/", &format!("\"{path}/"))
            .replace("[[routes]]\n", &format!("[[routes]]\nupstream = \"{}\"\n", upstream.url()));
        if !host.is_empty() {
            config = config.replace(host, &server.url());
        }
        let case = Self { server, upstream, folder, config };
        for (name, content) in files {
            case.file(name, content);
        }
        case
    }

    /// Writes a file of secrets.
    pub fn file(&self, name: &str, content: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// `http://` and the route's host.
    pub fn url(&self) -> String {
        let (_, rest) = self.config.split_once("\nhost = \"").unwrap();
        format!("http://{}/things", rest.split('"').next().unwrap())
    }

    fn profile(&self) -> &str {
        self.config.split("[profiles.").nth(1).unwrap().split(']').next().unwrap()
    }

    /// It works: what the upstream saw, and how many seconds the token lives.
    pub async fn works(&self) -> (String, u64) {
        let lanyard = Lanyard::start(&self.config).await;
        let answer = get_via(lanyard.address(), &self.url()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let status = lanyard.status().await;
        let left = status["profiles"][self.profile()]["token"]["expires_in_seconds"].as_u64().unwrap();
        lanyard.finish().await;
        let authorization = self.upstream.seen.last().all("authorization");
        assert_eq!(authorization.len(), 1);
        (authorization[0].clone(), left)
    }

    /// It fails where the configuration has `to` in the place of `from`: `lanyard doctor` and the client's 503 both tell
    /// what the server said, and what to do.
    pub async fn fails(&self, from: &str, to: &str, said: &[&str], fix: &[&str]) {
        assert!(self.config.contains(from), "{from} is not in {}", self.config);
        let config = self.config.replacen(from, to, 1);
        let before = self.upstream.seen.requests().len();
        let lanyard = Lanyard::start(&config).await;
        let answer = get_via(lanyard.address(), &self.url()).await;
        assert_eq!((answer.status, answer.refusal()), (503, Some("token_unavailable")), "{to}: {}", answer.body);
        let body = answer.json();
        let path = lanyard.config_path();
        let (exit, told, _) = lanyard::command(&["doctor", "--config", path.to_str().unwrap()], &[]).await;
        assert_eq!(exit, Some(1), "{told}");
        let (failed, advice) = told.split_once("    fix: ").expect("a fix");
        for words in said {
            assert!(
                failed.contains(words) && body["detail"].as_str().unwrap().contains(words),
                "{words}: {told}{body}"
            );
        }
        for words in fix {
            assert!(advice.contains(words) && body["hint"].as_str().unwrap().contains(words), "{words}: {told}{body}");
        }
        assert!(!told.contains(CANARY) && !answer.body.contains(CANARY), "{told}{body}");
        assert_eq!(self.upstream.seen.requests().len(), before, "a request went out without a token");
        lanyard.finish().await;
    }

    /// `lanyard check` refuses it where the configuration has `to` in the place of `from`, and says why.
    pub async fn is_refused(&self, from: &str, to: &str, why: &[&str]) {
        assert!(self.config.contains(from), "{from} is not in {}", self.config);
        let path = self.folder.write("proxy.toml", self.config.replacen(from, to, 1));
        let (exit, _, told) = lanyard::command(&["check", "--config", path.to_str().unwrap()], &[]).await;
        assert_eq!(exit, Some(64), "{told}");
        for words in why {
            assert!(told.contains(words), "{words}: {told}");
        }
    }
}
