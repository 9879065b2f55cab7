//! Streams: any size, any length of time, constant memory.

mod connections;
mod long_lived;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

const GIB: usize = 1 << 30;
const PIECE: usize = 64 * 1024;

/// Answers `GET /length` and `GET /chunked` with 1 GiB, and a POST with how many bytes it had, chunks' sizes included.
async fn bulk() -> ByHand {
    ByHand::start(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let chunked = head.contains("chunked"); // Its framing, or the one that it wants.
        if head.starts_with("GET") {
            // A client may leave.
            drop(pour(&mut stream, chunked).await);
            return;
        }
        let (head, body) = head.split_once("\r\n\r\n").unwrap();
        let (mut count, mut tail) = (body.len(), body.as_bytes().to_vec());
        let mut piece = vec![0; PIECE];
        let length: usize = field(&format!("{head}\r\n\r\n"), "content-length").map_or(0, |l| l.parse().unwrap());
        while if chunked { !tail.ends_with(b"0\r\n\r\n") } else { count < length } {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "it ended after {count} bytes");
            count += read;
            tail.extend_from_slice(&piece[..read]);
            tail.drain(..tail.len().saturating_sub(5));
        }
        let body = count.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

async fn pour(stream: &mut tokio::net::TcpStream, chunked: bool) -> std::io::Result<()> {
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {GIB}") };
    stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).await?;
    let piece = if chunked { chunk() } else { vec![b'x'; PIECE] };
    for _ in 0..GIB / PIECE {
        stream.write_all(&piece).await?;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

fn chunk() -> Vec<u8> {
    format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE)).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn gigabytes_go_both_ways_in_constant_memory() {
    let (idp, upstream) = (Idp::start().await, bulk().await);
    let lanyard = Arc::new(Lanyard::start(&format!("{}{}", idp.profile("p"), upstream.route("bulk.test", "p"))).await);
    lanyard.ready().await;
    let (most, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watching = tokio::spawn({
        let (lanyard, most, done) = (Arc::clone(&lanyard), Arc::clone(&most), Arc::clone(&done));
        async move {
            while !done.load(Ordering::SeqCst) {
                most.fetch_max(lanyard.memory_kib(), Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    });

    let down = async |field: &str| {
        let request = client(Some(lanyard.address())).get("http://bulk.test/").header("X-Framing", field);
        let mut answer = request.timeout(std::time::Duration::from_secs(300)).send().await.unwrap();
        let mut count = 0;
        while let Some(piece) = answer.chunk().await.unwrap() {
            count += piece.len();
        }
        count
    };
    let up = async |chunked: bool| {
        let mut wire = Wire::open(lanyard.address()).await;
        let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {GIB}") };
        wire.send(format!("POST http://bulk.test/ HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")).await;
        let piece = if chunked { chunk() } else { vec![b'x'; PIECE] };
        for _ in 0..GIB / PIECE {
            wire.send(&piece).await;
        }
        if chunked {
            wire.send("0\r\n\r\n").await;
        }
        let answer = wire.answer().await;
        answer.rsplit("\r\n").next().unwrap().parse::<usize>().unwrap()
    };
    let (a, b, c, d) = tokio::join!(down("length"), down("chunked"), up(false), up(true));
    assert_eq!((a, b, c), (GIB, GIB, GIB));
    assert!(d > GIB && d < GIB + GIB / 100, "{d}");
    done.store(true, Ordering::SeqCst);
    watching.await.unwrap();
    let most = most.load(Ordering::SeqCst);
    assert!(most > 0 || !cfg!(target_os = "linux"));
    assert!(most < 64 * 1024, "lanyard used {most} KiB");
    Arc::into_inner(lanyard).unwrap().finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_takes_its_upstream_connection_along() {
    let (idp, upstream) = (Idp::start().await, bulk().await);
    let lanyard = Lanyard::start(&format!("{}{}", idp.profile("p"), upstream.route("bulk.test", "p"))).await;
    for _ in 0..5 {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send("GET http://bulk.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
        wire.exactly(100_000).await;
        drop(wire);
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send("POST http://bulk.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc").await;
        drop(wire);
    }
    let series = format!("lanyard_connections{{listener=\"{}\"}}", lanyard.address());
    eventually("no connections", async || lanyard.metric(&series).await == 0.0).await;
    let answer = send(client(Some(lanyard.address())).post("http://bulk.test/").body("0123456789")).await;
    assert_eq!((answer.status, &*answer.body), (200, "10"));
    lanyard.finish().await;
}
