//! Who asks? A visitor who keeps one connection, and gets the status of each answer.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The headers that a browser sends to open a page.
pub const BROWSER: [(&str, &str); 13] = [
    ("Host", "localhost"),
    ("Connection", "keep-alive"),
    ("sec-ch-ua", r#""Chromium";v="140", "Not=A?Brand";v="24""#),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", r#""Linux""#),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
];

/// A browser's request; headers of the same name take the place of the browser's.
pub fn request(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let replaced = |name: &str| headers.iter().any(|(other, _)| *other == name);
    for (name, value) in BROWSER.iter().filter(|(name, _)| !replaced(name)).chain(headers) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    (request + "\r\n").into_bytes()
}

pub struct Visitor {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Visitor {
    /// A connection from this loopback address.
    pub fn connect(from: IpAddr, port: u16) -> std::io::Result<Self> {
        let domain = if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        let to = if from.is_ipv4() { V4 } else { V6 };
        socket.connect_timeout(&SocketAddr::new(to, port).into(), Duration::from_secs(5))?;
        socket.set_tcp_nodelay(true)?;
        // Far beyond any answer: a server that hangs ends the benchmark instead of holding it.
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: socket.into(), buffer: vec![0; 64 << 10] })
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("the server takes a request");
    }

    /// Waits for the whole answer to what was sent, and gives its status.
    pub fn status(&mut self) -> u16 {
        self.try_status().expect("a whole answer")
    }

    pub fn try_status(&mut self) -> std::io::Result<u16> {
        let (mut read, mut whole) = (0, None);
        while whole.is_none_or(|whole| read < whole) {
            match self.stream.read(&mut self.buffer[read..])? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
            whole = whole.or_else(|| whole_length(&self.buffer[..read]));
        }
        assert_eq!(whole, Some(read), "more than one answer to one request");
        let status = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        Ok(status.and_then(|digits| digits.parse().ok()).expect("a status line"))
    }

    pub fn ask(&mut self, request: &[u8]) -> u16 {
        self.send(request);
        self.status()
    }
}

/// The length of head and body in bytes, once the head is there. Every answer here has a content-length.
fn whole_length(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).expect("a readable head").to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    Some(end + length.expect("a content-length").trim().parse::<usize>().expect("a number"))
}
