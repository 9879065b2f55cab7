//! The clients that people really use (`tests/clients`), each on every way to lanyard that it has. The table in
//! `docs/clients.md` is what comes out.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use futures::StreamExt;
use tokio::{io::AsyncBufReadExt, process::Command};

use super::support::{upstream::Request1, *};

#[tokio::test(flavor = "multi_thread")]
async fn every_client_works_on_every_way() {
    let scene = Scene::new().await;
    let rows =
        futures::stream::iter(CLIENTS.iter().map(|client| scene.row(client))).buffered(2).collect::<Vec<_>>().await;
    let headings: Vec<&str> = WAYS.iter().map(|way| way.heading()).collect();
    let table =
        format!("| client | {} |\n|---|{}\n{}\n", headings.join(" | "), "---|".repeat(headings.len()), rows.join("\n"));
    println!("{table}");
    let failures = scene.failures.lock().unwrap().join("\n");
    assert!(failures.is_empty(), "{failures}");
    let documented = std::fs::read_to_string(repository().join("docs/clients.md")).unwrap();
    assert!(documented.contains(&table), "docs/clients.md has another table than this one:\n{table}");
    scene.lanyard.finish().await;
}

/// A program of `tests/clients`.
struct Client {
    name: &'static str,
    /// `{tools}` is what `scripts/clients.sh` made, `{here}` is `tests/clients`. The URL comes last.
    command: &'static [&'static str],
    needs: Needs,
}

/// What a client cannot do without.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// HTTP/2 in clear text: it has no business with a proxy or TLS.
    H2c,
    /// HTTP/2 all the way, and a server of its own.
    Grpc,
}

const CLIENTS: &[Client] = &[
    Client { name: "curl", command: &["sh", "{here}/curl.sh", "--http1.1"], needs: Needs::Nothing },
    Client { name: "curl --http2", command: &["sh", "{here}/curl.sh", "--http2"], needs: Needs::Nothing },
    Client {
        name: "curl --http2-prior-knowledge",
        command: &["sh", "{here}/curl.sh", "--http2-prior-knowledge"],
        needs: Needs::H2c,
    },
    Client {
        name: "Python requests",
        command: &["{tools}/python/bin/python", "{here}/python_requests.py"],
        needs: Needs::Nothing,
    },
    Client {
        name: "Python httpx",
        command: &["{tools}/python/bin/python", "{here}/python_httpx.py"],
        needs: Needs::Nothing,
    },
    Client {
        name: "Python urllib3",
        command: &["{tools}/python/bin/python", "{here}/python_urllib3.py"],
        needs: Needs::Nothing,
    },
    Client {
        name: "Python grpcio",
        command: &["{tools}/python/bin/python", "{here}/python_grpcio.py"],
        needs: Needs::Grpc,
    },
    Client { name: "Node fetch (undici)", command: &["node", "{tools}/node/node_fetch.mjs"], needs: Needs::Nothing },
    Client {
        name: "Node fetch (undici, its default)",
        command: &["node", "{tools}/node/node_fetch.mjs", "--proxy-tunnel"],
        needs: Needs::Nothing,
    },
    Client { name: "Node axios", command: &["node", "{tools}/node/node_axios.mjs"], needs: Needs::Nothing },
    Client { name: "Go net/http", command: &["{tools}/go/net_http"], needs: Needs::Nothing },
    Client {
        name: "Java HttpClient",
        command: &["java", "-cp", "{tools}/java", "JavaHttpClient"],
        needs: Needs::Nothing,
    },
    Client {
        name: "Java HttpURLConnection",
        command: &["java", "-cp", "{tools}/java", "JavaHttpUrlConnection"],
        needs: Needs::Nothing,
    },
];

/// How a client reaches lanyard: a column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Proxy,
    Intercepted,
    Tunnel,
    Reverse,
}

const WAYS: &[Way] = &[Way::Proxy, Way::Intercepted, Way::Tunnel, Way::Reverse];

impl Way {
    fn heading(self) -> &'static str {
        match self {
            Self::Proxy => "`http://` by proxy",
            Self::Intercepted => "`https://` by proxy, intercepted",
            Self::Tunnel => "`https://` by proxy, no route",
            Self::Reverse => "base URL",
        }
    }

    /// Whether a client can go it; why not is told in docs/clients.md.
    fn is_open_to(self, client: &Client) -> bool {
        match client.needs {
            Needs::Nothing | Needs::Grpc => true,
            Needs::H2c => self == Self::Reverse,
        }
    }
}

/// What a client trusts, in both forms that clients want.
struct Trust {
    pem: PathBuf,
    java: PathBuf,
}

impl Trust {
    async fn new(folder: &Folder, name: &str, pem: &str) -> Self {
        let (pem, java) = (folder.write(&format!("{name}.pem"), pem), folder.path().join(format!("{name}.p12")));
        let made = Command::new("keytool")
            .args(["-importcert", "-noprompt", "-alias", "ca", "-storetype", "PKCS12", "-storepass", "changeit"])
            .arg("-file")
            .arg(&pem)
            .arg("-keystore")
            .arg(&java)
            .output();
        let made = made.await.unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { pem, java }
    }
}

/// lanyard between the clients and three servers: an API that wants a token, one of a private CA that no route is for,
/// and a gRPC server. A fourth is asked without lanyard, to know what a client sends by itself.
struct Scene {
    lanyard: Lanyard,
    tools: PathBuf,
    bearer: String,
    api: Upstream,
    private: Upstream,
    bare: Upstream,
    grpc: GrpcServer,
    trust: Trust,
    intercepted: Trust,
    /// What did not go as it has to: one line a cell, so that one broken client does not hide the next.
    failures: Mutex<Vec<String>>,
    _idp: Idp,
    _folder: Folder,
}

impl Scene {
    async fn new() -> Self {
        let (tools, folder, authority) = (tools().await.to_owned(), Folder::new(), Authority::new());
        let (idp, api, bare) = (Idp::start().await, Upstream::start().await, Upstream::start().await);
        api.seen.want_token();
        // Not 127.0.0.1: Go and Java ask no proxy for that.
        let private =
            Upstream::start_tls(authority.server(&["private.localhost", "127.0.0.1"], &["h2", "http/1.1"])).await;
        let grpc = GrpcServer::start(&tools, &folder, authority.pair(&["localhost", "grpc.localhost"])).await;
        let trust = Trust::new(&folder, "private", authority.pem()).await;
        let intercept = "intercept = true\n";
        let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
        let grpc_upstream = format!("upstream = \"https://localhost:{}\"\n", grpc.port);
        let config = format!(
            "{listener}{listener}upstream = \"{}\"\n{listener}{grpc_upstream}[ca]\ndirectory = \"ca\"\n{}{}{intercept}{}\
             [[routes]]\nhost = \"localhost:{}\"\nprofile = \"matrix\"\nca_file = {:?}\n\
             [[routes]]\nhost = \"grpc.matrix.test\"\nprofile = \"matrix\"\nca_file = {:?}\n{grpc_upstream}{intercept}",
            api.url(),
            idp.profile("matrix"),
            api.route("api.matrix.test", "matrix"),
            api.route(&api.address.to_string(), "matrix"),
            grpc.port,
            trust.pem,
            trust.pem,
        );
        let lanyard = Lanyard::start(&config).await;
        lanyard.ready().await;
        // The tunnel's server has its own CA, and an intercepted host lanyard's: each client trusts one of them at a time.
        let own = std::fs::read_to_string(lanyard.folder.path().join("ca/ca.crt")).unwrap();
        let intercepted = Trust::new(&folder, "lanyard", &own).await;
        let bearer = format!("Bearer {}", idp.last_token());
        Self {
            lanyard,
            tools,
            bearer,
            api,
            private,
            bare,
            grpc,
            trust,
            intercepted,
            failures: Mutex::default(),
            _idp: idp,
            _folder: folder,
        }
    }

    /// A row of the table.
    async fn row(&self, client: &Client) -> String {
        let mut row = format!("| {}", client.name);
        for way in WAYS {
            let result = match (way.is_open_to(client), client.needs) {
                (false, _) => Ok(()),
                (true, Needs::Grpc) => self.calls(client, *way).await,
                (true, _) => self.requests(client, *way).await,
            };
            row += match (result, way) {
                (Err(failure), _) => {
                    self.failures.lock().unwrap().push(format!("{}, {way:?}: {failure}", client.name));
                    " | FAILED"
                }
                (Ok(()), _) if !way.is_open_to(client) => " | -",
                (Ok(()), Way::Tunnel) => " | untouched",
                (Ok(()), _) => " | token",
            };
        }
        row + " |"
    }

    /// A client's requests on a way: they arrive once, with the token or without, and else as without lanyard.
    async fn requests(&self, client: &Client, way: Way) -> Result<(), String> {
        let path = format!("/{}/{way:?}", client.name.replace(' ', "-"));
        let (url, server) = match way {
            Way::Proxy => (format!("http://api.matrix.test{path}"), &self.api),
            Way::Intercepted => (format!("https://api.matrix.test{path}"), &self.api),
            Way::Tunnel => (format!("https://private.localhost:{}{path}", self.private.address.port()), &self.private),
            Way::Reverse => (format!("http://{}{path}", self.lanyard.addresses[1]), &self.api),
        };
        // The other side of a tunnel has the name that the client wrote, a route's upstream its own.
        let host = match way {
            Way::Tunnel => format!("private.localhost:{}", self.private.address.port()),
            Way::Proxy | Way::Intercepted | Way::Reverse => self.api.address.to_string(),
        };
        let seen = |server: &Upstream, path: &str| -> Vec<Request1> {
            server.seen.requests().into_iter().filter(|request| request.path == path).collect()
        };
        self.run(client, way, &url).await?;
        let through = seen(server, &path);
        let (scheme, server) = match way {
            Way::Proxy | Way::Reverse => ("http", &self.bare),
            Way::Intercepted | Way::Tunnel => ("https", &self.private),
        };
        let path = path + "/alone";
        self.run_alone(client, &format!("{scheme}://{}{path}", server.address)).await?;
        let alone = seen(server, &path);

        let methods: Vec<&str> = through.iter().map(|request| request.method.as_str()).collect();
        same("arrived", methods, ["GET", "POST"])?;
        for (request, alone) in through.iter().zip(&alone) {
            let mut expected = own_fields(alone);
            if way != Way::Tunnel {
                expected.insert("authorization".to_owned(), vec![self.bearer.clone()]);
                expected.insert("via".to_owned(), request.all("via"));
                same("via", request.all("via").len(), 1)?;
                for name in ["upgrade", "http2-settings", "keep-alive"] {
                    same(name, request.all(name), [""; 0])?;
                }
                let connection = request.all("connection").join(", ").to_ascii_lowercase();
                same("connection", ["", "keep-alive", "close"].contains(&&*connection), true)?;
            }
            same(&format!("header fields of {}", request.method), own_fields(request), expected)?;
            let authority = request.authority.clone().map_or_else(|| request.all("host"), |one| vec![one]);
            same("host", authority, [host.clone()])?;
        }
        Ok(())
    }

    /// gRPC calls of every kind on a way: each has the token or none, and ends as the server said.
    async fn calls(&self, client: &Client, way: Way) -> Result<(), String> {
        let url = match way {
            // In clear text gRPC asks for a tunnel too.
            Way::Proxy => "http://grpc.matrix.test:80".to_owned(),
            Way::Intercepted => "https://grpc.matrix.test:443".to_owned(),
            Way::Tunnel => format!("https://grpc.localhost:{}", self.grpc.port),
            Way::Reverse => format!("http://{}", self.lanyard.addresses[2]),
        };
        let output = self.run(client, way, &url).await?;
        let expected = [
            ["Unary", "OK", "unary"],
            ["ServerStream", "OK", "-"],
            ["ClientStream", "OK", "6"],
            ["BothStreams", "OK", "-"],
            ["Failing", "FAILED_PRECONDITION", "failing"],
            ["Endless", "CANCELLED", "-"],
        ];
        same("lines", output.lines().count(), expected.len())?;
        for (line, expected) in output.lines().zip(expected) {
            let parts: Vec<&str> = line.splitn(4, ' ').collect();
            same("call", &parts[..3], &expected[..])?;
            let fields: Vec<(String, String)> = serde_json::from_str(parts[3]).unwrap();
            let tokens: Vec<&str> =
                fields.iter().filter(|(name, _)| name == "authorization").map(|(_, value)| value.as_str()).collect();
            let wanted: &[&str] = if way == Way::Tunnel { &[] } else { &[&self.bearer] };
            same(parts[0], tokens, wanted)?;
        }
        Ok(())
    }

    /// What a client on this way has to trust.
    fn trust(&self, way: Way) -> &Trust {
        if way == Way::Intercepted { &self.intercepted } else { &self.trust }
    }

    /// Runs a client with all that a user would set for lanyard, the same for every client.
    async fn run(&self, client: &Client, way: Way, url: &str) -> Result<String, String> {
        let proxy = (way != Way::Reverse).then(|| self.lanyard.address());
        self.execute(client, &environment(proxy, self.trust(way)), url).await
    }

    /// Runs a client as if there was no lanyard.
    async fn run_alone(&self, client: &Client, url: &str) -> Result<String, String> {
        self.execute(client, &environment(None, &self.trust), url).await
    }

    async fn execute(&self, client: &Client, environment: &[(&str, String)], url: &str) -> Result<String, String> {
        let here = repository().join("tests/clients");
        let place = |part: &&str| {
            part.replace("{tools}", self.tools.to_str().unwrap()).replace("{here}", here.to_str().unwrap())
        };
        let command: Vec<String> = client.command.iter().map(place).collect();
        // Nothing of this machine's own settings.
        let kept = ["PATH", "HOME", "TMPDIR", "JAVA_HOME"];
        let kept = kept.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
        let run = Command::new(&command[0])
            .args(&command[1..])
            .arg(url)
            .env_clear()
            .envs(kept)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), run).await.expect("a client ends").unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = format!("{url}: {told}{}", String::from_utf8_lossy(&output.stderr));
        let statuses: Vec<&str> = told.lines().map(|line| line.get(..8).unwrap_or(line).trim_end()).collect();
        if output.status.success() && (client.needs == Needs::Grpc || statuses == ["GET 200", "POST 200"]) {
            Ok(told)
        } else {
            Err(failed)
        }
    }
}

/// A check that fails a cell, and not the whole table.
fn same<T: PartialEq<U> + Debug, U: Debug>(what: &str, found: T, expected: U) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

/// The variables that lead every client here to a proxy (`HOST:PORT`) and tell it whom to trust.
fn environment(proxy: Option<&str>, Trust { pem, java }: &Trust) -> Vec<(&'static str, String)> {
    let pem = pem.to_str().unwrap();
    let trust = [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ];
    let mut variables: Vec<(&str, String)> = trust.map(|name| (name, pem.to_owned())).into();
    let mut options =
        format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=changeit", java.display());
    if let Some((host, port)) = proxy.and_then(|proxy| proxy.rsplit_once(':')) {
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
            variables.push((name, format!("http://{host}:{port}")));
        }
        for scheme in ["http", "https"] {
            options += &format!(" -D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}");
        }
    }
    variables.push(("JAVA_TOOL_OPTIONS", options));
    variables
}

/// The fields that a request has from its client, without those that are about one connection or its target.
fn own_fields(request: &Request1) -> BTreeMap<String, Vec<String>> {
    let names = request.headers.keys().map(|name| name.as_str().to_owned());
    let own =
        names.filter(|name| !["host", "connection", "upgrade", "http2-settings", "keep-alive"].contains(&&**name));
    own.map(|name| (name.clone(), request.all(&name))).collect()
}

/// `tests/clients/grpc_server.py`. Ends when it is dropped.
struct GrpcServer {
    port: u16,
    _process: tokio::process::Child,
}

impl GrpcServer {
    async fn start(tools: &Path, folder: &Folder, (certificate, key): (String, String)) -> Self {
        let mut process = Command::new(tools.join("python/bin/python"))
            .arg(repository().join("tests/clients/grpc_server.py"))
            .arg(folder.write("grpc.pem", certificate))
            .arg(folder.write("grpc.key", key))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = tokio::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.expect("it starts").unwrap();
        Self { port: line.expect("its port").parse().unwrap(), _process: process }
    }
}
