//! The configuration of each proxy for a site: one worker, pools of upstream connections without a limit of requests, no
//! log unless it is asked for.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::proxies::{CLIENT, Inbound, Outbound, STATIC_TOKEN, Site, Who, Yard};

pub(crate) fn write(
    yard: &Yard,
    who: &Who,
    site: &Site,
    folder: &Path,
    address: SocketAddr,
    admin: SocketAddr,
) -> Result<PathBuf, String> {
    let (certificates, failed) = (&yard.certificates, |error: std::io::Error| error.to_string());
    fs::write(folder.join("ca.pem"), &certificates.ca).map_err(failed)?;
    fs::write(folder.join("server.pem"), format!("{}{}", certificates.chain, certificates.key)).map_err(failed)?;
    let upstream = yard.upstream(site.outbound);
    let (name, text) = match who {
        Who::Lanyard(_) => ("proxy.toml", lanyard(yard, site, address, admin, upstream)),
        Who::Nginx => ("nginx.conf", nginx(site, folder, address, upstream)),
        Who::Haproxy => ("haproxy.cfg", haproxy(site, folder, address, upstream)),
        Who::Envoy => ("envoy.json", envoy(yard, site, folder, address, upstream).to_string()),
    };
    let path = folder.join(name);
    fs::write(&path, text).map_err(failed)?;
    Ok(path)
}

pub(crate) fn arguments(command: &mut Command, who: &Who, config: &Path, folder: &Path, site: &Site) {
    match who {
        Who::Lanyard(_) => {
            command.args(["run", "--config"]).arg(config).env("TOKIO_WORKER_THREADS", site.cores.to_string());
        }
        Who::Nginx => {
            command.arg("-p").arg(folder).arg("-e").arg(folder.join("nginx.err")).arg("-c").arg(config);
        }
        Who::Haproxy => {
            command.arg("-db").arg("-f").arg(config);
        }
        Who::Envoy => {
            command.args(["--concurrency", &site.cores.to_string(), "--disable-hot-restart", "-l", "error", "-c"]);
            command.arg(config);
        }
    }
}

fn lanyard(yard: &Yard, site: &Site, address: SocketAddr, admin: SocketAddr, port: u16) -> String {
    let forward = matches!(site.inbound, Inbound::Forward | Inbound::Tls | Inbound::Tunnel);
    // The shortest form, for a file has at most 1 MiB.
    let mut text = String::from("routes=[");
    if site.inbound != Inbound::Tunnel {
        let scheme = if matches!(site.outbound, Outbound::Https | Outbound::H2) { "https" } else { "http" };
        write!(text, "{{host=\"api.test\",profile=\"used\",upstream=\"{scheme}://127.0.0.1:{port}\"").unwrap();
        if scheme == "https" {
            text += ",ca_file=\"ca.pem\",server_name=\"api.test\"";
        }
        text += if site.inbound == Inbound::Tls { ",intercept=true},\n" } else { "},\n" };
    }
    for at in 1..site.restless {
        writeln!(text, "{{host=\"n{at}.a\",profile=\"n{at}\"}},").unwrap();
    }
    for at in 1..site.routes {
        // Profiles without a route would be a warning each.
        let profile = if at < site.profiles { format!("p{at}") } else { "used".into() };
        writeln!(text, "{{host=\"h{at}\",profile=\"{profile}\"}},").unwrap();
    }
    text += "]\n";
    let plain = |name: &str, more: &str| {
        let (id, secret) = CLIENT.split_once(':').unwrap();
        let issuer = if more.contains("refresh") { yard.short_issuer } else { yard.issuer };
        format!(
            "{name}={{token_endpoint=\"http://{issuer}/oauth/token\",client_id=\"{id}\",client_secret=\"{secret}\"{more}}}\n"
        )
    };
    writeln!(text, "[log]\naccess = {}\nlevel = \"info\"\nformat = \"json\"", site.log).unwrap();
    writeln!(text, "[admin]\naddress = \"{admin}\"\n[[listeners]]\naddress = \"{address}\"").unwrap();
    if !forward {
        writeln!(text, "upstream = \"http://api.test\"").unwrap();
    }
    if site.inbound == Inbound::Tls {
        writeln!(text, "[ca]\nephemeral = true").unwrap();
    }
    writeln!(text, "[profiles]").unwrap();
    let renewed = ",refresh_before=\"1s\"";
    text += &match (site.restless, site.rejects) {
        (0, true) => plain("used", ",reject_interval=\"1ms\""),
        (0, false) => plain("used", ""),
        _ => plain("used", renewed),
    };
    for at in 1..site.restless {
        text += &plain(&format!("n{at}"), renewed);
    }
    for at in 1..site.profiles {
        let secret = "client_id=\"a\",client_secret=\"b\",prefetch=false";
        writeln!(text, "p{at}={{token_endpoint=\"https://a\",{secret}}}").unwrap();
    }
    text
}

fn nginx(site: &Site, folder: &Path, address: SocketAddr, port: u16) -> String {
    let folder = folder.display();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let log = if site.log { format!("{folder}/access.log") } else { "off".into() };
    let listen = match site.inbound {
        Inbound::Tls => " ssl",
        Inbound::H2c => " http2",
        _ => "",
    };
    let onwards = match site.outbound {
        Outbound::H2c => {
            "grpc_pass grpc://up; grpc_set_header Host api.test; grpc_set_header Authorization $credential;".to_owned()
        }
        outbound => {
            let scheme = if outbound == Outbound::Https { "https" } else { "http" };
            let (upgrade, connection) = if site.upgrades { ("$http_upgrade", "Upgrade") } else { ("\"\"", "\"\"") };
            format!(
                "proxy_pass {scheme}://up; proxy_http_version 1.1; proxy_set_header Host api.test;
      proxy_set_header Authorization $credential;
      proxy_set_header Upgrade {upgrade}; proxy_set_header Connection {connection};
      proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_verify on; proxy_ssl_name api.test; proxy_ssl_server_name on;
      proxy_request_buffering off; proxy_max_temp_file_size 0;"
            )
        }
    };
    format!(
        "daemon off;
{user}
worker_processes {};
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err error;
events {{ worker_connections 8192; }}
http {{
  access_log {log};
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.pem;
  upstream up {{
    server 127.0.0.1:{port};
    keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s;
  }}
  server {{
    listen {address}{listen} backlog=4096;
    set $credential \"Bearer {STATIC_TOKEN}\";
    location / {{
      {onwards}
    }}
  }}
}}
",
        site.cores
    )
}

fn haproxy(site: &Site, folder: &Path, address: SocketAddr, port: u16) -> String {
    let folder = folder.display();
    let mode = if site.inbound == Inbound::Tunnel { "tcp" } else { "http" };
    let bind = match site.inbound {
        Inbound::Tls => format!(" ssl crt {folder}/server.pem"),
        Inbound::H2c => " proto h2".into(),
        _ => String::new(),
    };
    let tls = format!(" ssl verify required ca-file {folder}/ca.pem sni str(api.test) verifyhost api.test");
    let server = match site.outbound {
        Outbound::Https => tls,
        Outbound::H2 => format!("{tls} alpn h2"),
        Outbound::H2c => " proto h2".into(),
        Outbound::Http | Outbound::Raw => String::new(),
    };
    let http = if mode == "http" {
        format!("  http-request set-header Authorization \"Bearer {STATIC_TOKEN}\"\n")
    } else {
        String::new()
    };
    let reuse = if mode == "http" { "  http-reuse always\n" } else { "" };
    format!(
        "global
  nbthread {}
  maxconn 9000
  ssl-server-verify required
defaults
  mode {mode}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
frontend in
  bind {address} backlog 4096{bind}
{http}  default_backend out
backend out
{reuse}  server up 127.0.0.1:{port}{server}
",
        site.cores
    )
}

fn envoy(yard: &Yard, site: &Site, folder: &Path, address: SocketAddr, port: u16) -> Value {
    let folder = folder.display();
    let (id, secret) = CLIENT.split_once(':').unwrap();
    let kind = |name: &str| format!("type.googleapis.com/envoy.{name}");
    let injector = json!({
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": kind("extensions.filters.http.credential_injector.v3.CredentialInjector"),
            "overwrite": true,
            "credential": {
                "name": "envoy.http.injected_credentials.oauth2",
                "typed_config": {
                    "@type": kind("extensions.http.injected_credentials.oauth2.v3.OAuth2"),
                    "token_endpoint": {
                        "uri": format!("http://{}/oauth/token", yard.issuer), "cluster": "issuer", "timeout": "3s"
                    },
                    "client_credentials": {
                        "client_id": id, "client_secret": { "name": "client-secret" }, "auth_type": "BASIC_AUTH"
                    }
                }
            }
        }
    });
    let router = json!({ "name": "envoy.filters.http.router", "typed_config": { "@type": kind("extensions.filters.http.router.v3.Router") } });
    let mut manager = json!({
        "@type": kind("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": if site.inbound == Inbound::H2c { "HTTP2" } else { "HTTP1" },
        "generate_request_id": false,
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "0s", "host_rewrite_literal": "api.test" } }]
        }] },
        "http_filters": [injector, router]
    });
    if site.upgrades {
        manager["upgrade_configs"] = json!([{ "upgrade_type": "websocket" }]);
    }
    let mut chain =
        json!({ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] });
    if site.inbound == Inbound::Tls {
        let file = json!({ "filename": format!("{folder}/server.pem") });
        chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": kind("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": { "tls_certificates": [{ "certificate_chain": file, "private_key": file }] }
        } });
    }
    let mut up = cluster("up", port);
    if matches!(site.outbound, Outbound::H2 | Outbound::H2c) {
        up["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": kind("extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} }
        } });
    }
    if matches!(site.outbound, Outbound::H2 | Outbound::Https) {
        let alpn = if site.outbound == Outbound::H2 { "h2" } else { "http/1.1" };
        up["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": kind("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "api.test",
            "common_tls_context": {
                "alpn_protocols": [alpn],
                "validation_context": { "trusted_ca": { "filename": format!("{folder}/ca.pem") } }
            }
        } });
    }
    json!({
        "static_resources": {
            "secrets": [{ "name": "client-secret", "generic_secret": { "secret": { "inline_string": secret } } }],
            "listeners": [{
                "name": "in",
                "address": socket(address.port()),
                "tcp_backlog_size": 4096,
                "filter_chains": [chain]
            }],
            "clusters": [up, cluster("issuer", yard.issuer.port())]
        }
    })
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(port) } }] }]
        }
    })
}

fn socket(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
