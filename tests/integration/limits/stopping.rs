//! SIGTERM: what is in flight ends, nothing new begins, and then the process is gone.

use super::*;

/// A request that its upstream has seen.
async fn in_flight(lanyard: &Lanyard, upstream: &Upstream, path: &str) -> Wire {
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send(format!("GET http://api.example.test{path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    eventually("at the upstream", async || upstream.seen.requests().iter().any(|request| request.path == path)).await;
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_ends_and_nothing_new_begins() {
    let (mut lanyard, _idp, upstream) = start("drain_timeout = \"20s\"").await;
    let mut idle = Wire::open(lanyard.address()).await;
    idle.send(GOOD).await;
    assert_eq!(status_of(&idle.answer().await), 200);
    let silent = Wire::open(lanyard.address()).await;
    let mut wire = in_flight(&lanyard, &upstream, "/slow/1500").await;

    lanyard.signal("TERM");
    // Connections without a request are closed at once.
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
    eventually("new connections are refused", async || {
        tokio::net::TcpStream::connect(lanyard.address()).await.is_err()
    })
    .await;
    let answer = wire.answer().await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    let answered = Instant::now();
    assert_eq!(wire.closed().await, "");
    assert_eq!(lanyard.ended().await, Some(0));
    assert!(answered.elapsed() < Duration::from_secs(2), "it took {:?} to stop", answered.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_timeout_cuts_what_does_not_end() {
    let (mut lanyard, _idp, upstream) = start("drain_timeout = \"1s\"").await;
    let wire = in_flight(&lanyard, &upstream, "/slow/60000").await;
    let asked = Instant::now();
    lanyard.signal("TERM");
    let answer = wire.closed().await;
    assert!(status_of(&answer) != 200, "{answer}");
    assert_eq!(lanyard.ended().await, Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(900) && asked.elapsed() < Duration::from_secs(4));
}
