//! Who asks? One HTTP/1.1 request, byte for byte as a test wants it, and the answer to it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::PATIENCE;

/// A request that is sent exactly as a test built it. Only `Host`, `Content-Length` and `Connection: close` are added.
#[derive(Clone, Debug)]
pub struct Request {
    server: SocketAddr,
    peer: Option<IpAddr>,
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(server: SocketAddr, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_string(), target.to_string());
        Self { server, peer: None, method, target, version: "HTTP/1.1", headers: vec![], body: vec![] }
    }

    /// Makes the request come from this address through a proxy: adds the header that a proxy would add.
    pub fn from(self, address: &str) -> Self {
        self.header("X-Forwarded-For", address)
    }

    /// Makes the connection come from this loopback address, which the server sees as its peer.
    pub fn peer(mut self, address: &str) -> Self {
        self.peer = Some(address.parse().expect("a peer's address"));
        self
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_string(), value.as_ref().to_vec()));
        self
    }

    /// Whether all its headers are text.
    pub fn is_utf_8(&self) -> bool {
        self.headers.iter().all(|(_, value)| std::str::from_utf8(value).is_ok())
    }

    pub fn accept(self, types: &str) -> Self {
        self.header("Accept", types)
    }

    pub fn cookie(self, pair: &str) -> Self {
        self.header("Cookie", pair)
    }

    pub fn body(mut self, content_type: &str, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.header("Content-Type", content_type)
    }

    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> = fields.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
        self.body("application/x-www-form-urlencoded", &pairs.join("&"))
    }

    pub fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    pub fn send(&self) -> Answer {
        pipeline(std::slice::from_ref(self)).remove(0)
    }

    /// A connection from this visitor, for bytes that a [`Request`] cannot express.
    pub fn connect(&self) -> TcpStream {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None).expect("a socket");
        if let Some(peer) = self.peer {
            socket.bind(&SocketAddr::new(peer, 0).into()).expect("binding the peer's address");
        }
        socket.connect(&self.server.into()).unwrap_or_else(|e| panic!("connecting to {}: {e}", self.server));
        socket.set_read_timeout(Some(PATIENCE)).expect("setting a timeout");
        socket.into()
    }

    fn bytes(&self, last: bool) -> Vec<u8> {
        let mut bytes =
            format!("{} {} {}\r\nHost: {}\r\n", self.method, self.target, self.version, self.server).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value.as_slice(), b"\r\n"].concat());
        }
        if !self.body.is_empty() {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).into_bytes());
        }
        if last && self.version == "HTTP/1.1" {
            bytes.extend(b"Connection: close\r\n");
        }
        [bytes.as_slice(), b"\r\n", self.body.as_slice()].concat()
    }
}

/// Sends all requests at once over the first one's connection, and reads the answers in the same order.
#[track_caller]
pub fn pipeline(requests: &[Request]) -> Vec<Answer> {
    let mut stream = requests[0].connect();
    let last = requests.len() - 1;
    let bytes: Vec<u8> = requests.iter().enumerate().flat_map(|(i, r)| r.bytes(i == last)).collect();
    // A server may answer and close before it has read everything, so an error here says nothing: the answer counts.
    let _ = stream.write_all(&bytes);
    let mut reader = BufReader::new(stream);
    let mut answers: Vec<Answer> = requests
        .iter()
        .map(|r| {
            Answer::read(&mut reader, r.method == "HEAD")
                .unwrap_or_else(|e| panic!("no answer to {} {}: {e}", r.method, r.target))
        })
        .collect();
    let _ = reader.read_to_end(&mut answers[last].surplus);
    answers
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What the server sent after the end of its last answer: a correct server sends nothing.
    pub surplus: Vec<u8>,
}

impl Answer {
    /// The header's only value; a header that came twice fails the test.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} came more than once: {:?}", self.headers);
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }

    /// The `name=value` of the one cookie that the answer sets.
    #[track_caller]
    pub fn set_cookie(&self) -> String {
        let cookie = self.header("Set-Cookie").expect("a cookie");
        cookie.split(';').next().expect("a name and a value").to_string()
    }

    /// The whole answer as one text, in which tests look for what must not be there.
    pub fn everything(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{}\n{headers}\n{}", self.status, self.text())
    }

    pub(crate) fn read(reader: &mut impl BufRead, to_head: bool) -> std::io::Result<Self> {
        let (first, headers) = read_head(reader)?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| invalid(&first))?;
        let mut answer = Self { status, headers, body: vec![], surplus: vec![] };
        let chunked = answer.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        let length = answer.header("Content-Length").map(|v| v.parse::<usize>().map_err(|_| invalid(v))).transpose()?;
        if to_head || status == 204 || status == 304 {
            return Ok(answer);
        }
        match length {
            _ if chunked => answer.body = read_chunks(reader)?,
            Some(length) => {
                answer.body = vec![0; length];
                reader.read_exact(&mut answer.body)?;
            }
            None => _ = reader.read_to_end(&mut answer.body)?,
        }
        Ok(answer)
    }
}

/// The first line and the headers of a request or an answer.
pub(crate) fn read_head(reader: &mut impl BufRead) -> std::io::Result<(String, Vec<(String, String)>)> {
    let first = read_line(reader)?;
    let mut headers = vec![];
    loop {
        let line = read_line(reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_string(), value.trim().to_string())),
            None if line.is_empty() => return Ok((first, headers)),
            None => return Err(invalid(&line)),
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = vec![];
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_string())
}

fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = vec![];
    loop {
        let line = read_line(reader)?;
        let length = usize::from_str_radix(&line, 16).map_err(|_| invalid(&line))?;
        let mut chunk = vec![0; length];
        reader.read_exact(&mut chunk)?;
        read_line(reader)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend(chunk);
    }
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}

/// Percent-encodes everything but letters and digits.
pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Undoes the encoding of a form's field.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let coded = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match coded.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).1,
            None => (bytes.push(if *first == b'+' { b' ' } else { *first }), rest = tail).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
