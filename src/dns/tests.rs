use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hickory_resolver::{
    Hosts,
    config::{ConnectionConfig, NameServerConfig},
    proto::rr::Name,
};
use tokio::net::UdpSocket;

use super::*;

#[test]
fn metadata_and_link_local_addresses_are_forbidden_in_every_spelling() {
    for ip in [
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "0.1.2.3",
        "255.255.255.255",
        "224.0.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "::",
        "ff02::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "::169.254.169.254",
        "::ffff:0.0.0.0",
    ] {
        assert!(forbidden(ip.parse().unwrap()).is_some(), "{ip}");
    }
    for ip in
        ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "2606:4700::1111", "fd00::1", "::ffff:10.0.0.1"]
    {
        assert!(forbidden(ip.parse().unwrap()).is_none(), "{ip}");
    }
}

#[tokio::test]
async fn literal_and_local_names_resolve_and_metadata_does_not() {
    let resolver = Resolver::system().unwrap();
    let resolve = async |host: &str| resolver.resolve(&Host::parse(host).unwrap(), Names::System).await;
    assert_eq!(resolve("127.0.0.1").await.unwrap()[..], [IpAddr::from([127, 0, 0, 1])]);
    assert!(resolve("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
    assert!(matches!(resolve("169.254.169.254").await, Err(DnsError::Forbidden { kind: "link-local", .. })));
    assert!(matches!(resolve("[::ffff:169.254.169.254]").await, Err(DnsError::Forbidden { .. })));
    assert!(matches!(resolve("does-not-exist.invalid").await, Err(DnsError::Unresolved { .. })));
}
/// A name server that knows `api.corp.test` (TTL 1 s) and nothing else, and counts questions for its address.
async fn name_server() -> (SocketAddr, Arc<AtomicU64>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet).await {
            // RFC 1035 4.1: a header of 12 bytes, then the name, type and class of the question.
            let question_end = 12 + packet[12..length].iter().position(|b| *b == 0).unwrap() + 5;
            let question = &packet[12..question_end];
            let known = question.to_ascii_lowercase().starts_with(b"\x03api\x04corp\x04test\0");
            let wants_a = question[question.len() - 3] == 1;
            let has_answer = known && wants_a;
            counter.fetch_add(u64::from(has_answer), Ordering::SeqCst);
            let mut answer = packet[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
            answer.extend(question);
            if has_answer {
                // The same name, type A, class IN, TTL 1 s, four bytes.
                answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, client).await.unwrap();
        }
    });
    (address, asked)
}

#[tokio::test]
async fn search_domains_ttls_and_the_hosts_file_are_honoured() {
    let (address, asked) = name_server().await;
    let mut connection = ConnectionConfig::udp();
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let search = vec![Name::from_ascii("corp.test.").unwrap()];
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let builder = || TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
    let mut resolvers = Resolvers::finish(builder(), builder()).unwrap();
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf("192.0.2.9 legacy.test\n127.0.0.1 api.corp.test\n".as_bytes()).unwrap();
    resolvers.system.resolver.set_hosts(Arc::new(hosts));
    let resolver = Resolver(Arc::new(ArcSwap::from_pointee(resolvers)));
    let lookup = async |host: &str, names| resolver.resolve(&Host::parse(host).unwrap(), names).await;

    assert_eq!(lookup("legacy.test", Names::System).await.unwrap()[..], [IpAddr::from([192, 0, 2, 9])]);
    assert_eq!(lookup("api.corp.test", Names::System).await.unwrap()[..], [IpAddr::from([127, 0, 0, 1])]);
    assert!(lookup("legacy.test", Names::PastHosts).await.is_err());
    let resolve = async |host: &str| lookup(host, Names::PastHosts).await;

    for name in ["api.corp.test", "api", "API", "api.corp.test"] {
        assert_eq!(resolve(name).await.unwrap()[..], [IpAddr::from([192, 0, 2, 7])], "{name}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "kept for its TTL");
    let known = |host: &str, names| resolver.known(&Host::parse(host).unwrap(), names).is_some();
    assert!(known("legacy.test", Names::System));
    assert!(!known("legacy.test", Names::PastHosts) && !known("never.asked.test", Names::System));
    // Its TTL of one second is over: asked again. Real time is the subject here.
    let deadline = Instant::now() + Duration::from_secs(5);
    while asked.load(Ordering::SeqCst) == 1 {
        assert!(Instant::now() < deadline, "never asked again");
        resolve("api.corp.test").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(resolve("nobody.corp.test").await, Err(DnsError::Unresolved { .. })));
}

#[test]
fn our_own_sockets_are_known_by_every_name() {
    let own: Vec<SocketAddr> = ["127.0.0.1:8080", "0.0.0.0:8081", "[::1]:8082"].map(|a| a.parse().unwrap()).into();
    for (address, expected) in [
        ("127.0.0.1:8080", true),
        ("127.0.0.2:8080", false),
        ("10.0.0.1:8080", false),
        ("127.0.0.9:8081", true),
        ("[::1]:8081", true),
        ("[::1]:8082", true),
        ("[::ffff:127.0.0.1]:8080", true),
        ("127.0.0.1:8083", false),
    ] {
        assert_eq!(is_own(address.parse().unwrap(), &own), expected, "{address}");
    }
}
