use super::*;

/// A proxy that answers CONNECT with these pieces, and what a client reads behind the answer.
async fn behind(pieces: &'static [&'static str]) -> Result<String, Why> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut stream = open(&Proxy::parse("http://proxy").unwrap(), address, "api.test:443").await?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    Ok(rest)
}

#[tokio::test]
async fn not_a_byte_behind_the_answer_is_lost() {
    for (pieces, rest) in [
        (&["HTTP/1.1 200 OK\r\n\r\n220 hello\r\n"][..], "220 hello\r\n"),
        (&["HTTP/1.0 200 Connection established\r\nA: b\r\n\r\n", "220 hello\r\n"], "220 hello\r\n"),
        (&["HTT", "P/1.1 2", "00 OK\r", "\n\r", "\n\n\nabc"], "\n\nabc"),
        (&["HTTP/1.1 200\n\nabc"], "abc"),
        (&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"], "abc"),
        (&["HTTP/1.1 204 X\r\n\r\n"], ""),
    ] {
        assert_eq!(behind(pieces).await.unwrap(), rest, "{pieces:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_apart() {
    assert!(matches!(behind(&[]).await, Err(Why::Broken(_))));
    assert!(matches!(behind(&["HTTP/1.1 200 OK\r\n"]).await, Err(Why::Broken(_))));
    assert!(matches!(behind(&["HTTP/2 200 OK\r\n\r\n"]).await, Err(Why::NotHttp)));
    assert!(matches!(behind(&["\u{16}\u{3}\u{1}"]).await, Err(Why::NotHttp)));
    assert!(matches!(behind(&["HTTP/1.1 999 X\r\n\r\n"]).await, Err(Why::Answered(status)) if status == 999));
    assert!(matches!(behind(&["HTTP/1.1 407 X\r\n\r\n"]).await, Err(Why::Answered(status)) if status == 407));
    let fields: &'static str = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200)).leak();
    assert!(matches!(behind(vec![fields].leak()).await, Err(Why::TooLong)));
    let interim: &'static str = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000).leak();
    assert!(matches!(behind(vec![interim].leak()).await, Err(Why::TooLong)));
}
