//! Both ends of a proxied connection, blocking and without an allocation a request.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// A keep-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: [u8; 4096],
}

impl Client {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: [0; 4096] }
    }

    /// Sends a request and reads the answer, which has to be [`serve`]'s.
    pub fn ask(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        while !self.buffer[..length].ends_with(BODY.as_bytes()) {
            let read = self.stream.read(&mut self.buffer[length..]).unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&self.buffer[..length]));
            length += read;
        }
        assert!(self.buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.buffer[..length]));
    }
}

/// An upstream that is its own token endpoint. It allocates nothing after it has taken a connection.
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer_all(stream.unwrap()));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut buffer, mut length) = ([0; 16 * 1024], 0);
    loop {
        let head = loop {
            let end = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = end.filter(|end| length >= end + content_length(&buffer[..*end])) {
                break end;
            }
            match stream.read(&mut buffer[length..]) {
                Ok(0) | Err(_) => return,
                Ok(read) => length += read,
            }
        };
        assert_eq!(length, head + content_length(&buffer[..head]), "one request at a time");
        length = 0;
        let answer = if buffer.starts_with(b"POST /token ") { TOKEN } else { ANSWER };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let name = b"\r\ncontent-length: ";
    let at = head.windows(name.len()).position(|window| window.eq_ignore_ascii_case(name));
    let digits = at.map_or(&[][..], |at| &head[at + name.len()..]);
    digits.iter().take_while(|b| b.is_ascii_digit()).fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

const BODY: &str = "{\"message\":\"Access granted\"}\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.28.0\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 29\r\n\r\n{\"message\":\"Access granted\"}\n";
const TOKEN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 72\r\n\r\n\
    {\"access_token\":\"canary-token\",\"token_type\":\"Bearer\",\"expires_in\":36000}";
