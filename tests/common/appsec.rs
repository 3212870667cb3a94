//! An AppSec that is as strict as the real one: a server that keeps every byte it was sent.
//!
//! Its rules: a path that ends in `.env`, and the word `ATTACK` in the query, in a header or in the body, are banned;
//! `/word/WORD` gets WORD. Its key is `KEY`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub const KEY: &str = "a-key-of-the-tests";
pub const ATTACK: &str = "ATTACK";

#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// What the rules say.
    Rules,
    /// This status and this body, whatever is asked.
    Always(u16, String),
    /// The head of an answer and the beginning of its body, and then nothing but the end of the connection.
    Half(u16),
    /// The same, and the connection stays open.
    HalfAndHang(u16),
    Hang,
    Close,
    Late(Duration),
    /// One question at a time, each takes so long.
    Queue(Duration),
    /// Challenges everybody who has no cookie.
    Challenge,
    /// Gives everybody the cookie without a challenge.
    Grant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Version {
    /// Up to 1.7.7: reads as many bytes as `Content-Length` says, and none without it.
    Old,
    New,
}

/// One question as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub raw: Vec<u8>,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The number of its connection.
    pub connection: usize,
}

impl Seen {
    /// The first value counts, as in Go.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
    }

    pub fn told(&self, name: &str) -> String {
        self.header(&format!("x-crowdsec-appsec-{name}")).unwrap_or_default().to_owned()
    }
}

pub struct State {
    pub says: Mutex<Says>,
    pub version: Mutex<Version>,
    /// The statuses of its answers to us: what is let in, and what is not.
    pub codes: Mutex<(u16, u16)>,
    pub max_body: AtomicUsize,
    /// Closes each connection after one answer, without saying so.
    pub closes: Mutex<bool>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    turn: Mutex<()>,
}

pub struct Stub {
    pub url: String,
    pub state: Arc<State>,
}

impl Stub {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/appsec", listener.local_addr().unwrap());
        let state = Arc::new(State {
            says: Mutex::new(Says::Rules),
            version: Mutex::new(Version::Old),
            codes: Mutex::new((200, 403)),
            max_body: AtomicUsize::new(10 << 20),
            closes: Mutex::new(false),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            turn: Mutex::default(),
        });
        let serving = state.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = serving.clone();
                thread::spawn(move || {
                    let number = state.connections.fetch_add(1, Ordering::SeqCst);
                    let open = state.open.fetch_add(1, Ordering::SeqCst) + 1;
                    state.most_open.fetch_max(open, Ordering::SeqCst);
                    state.serve(connection, number);
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, state }
    }

    pub fn says(&self, says: Says) {
        *self.state.says.lock().unwrap() = says;
    }

    pub fn always(&self, status: u16, body: &str) {
        self.says(Says::Always(status, body.into()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// What was asked since the last time.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn most_open(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }
}

/// What goes out: the status to the bouncer, the body, and whether in pieces without a length.
struct Reply(u16, String, bool);

fn envelope(action: &str, status: u16) -> String {
    format!(r#"{{"action":"{action}","http_status":{status}}}"#)
}

impl State {
    fn serve(&self, connection: TcpStream, number: usize) {
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let mut writer = connection;
        while let Some((mut seen, is_fit)) = self.read(&mut reader, &mut writer) {
            seen.connection = number;
            self.seen.lock().unwrap().push(seen.clone());
            let says = self.says.lock().unwrap().clone();
            let reply = match (&is_fit, &says) {
                (Err(status), _) => Reply(*status, String::new(), false),
                (_, Says::Always(status, body)) => Reply(*status, body.clone(), false),
                (_, Says::Half(status) | Says::HalfAndHang(status)) => {
                    let _ = write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\n{{\"action\":");
                    if says == Says::HalfAndHang(*status) {
                        thread::sleep(Duration::from_secs(10));
                    }
                    break;
                }
                (_, Says::Hang) => {
                    // Until the other side has had enough.
                    let _ = reader.read(&mut [0]);
                    break;
                }
                (_, Says::Close) => break,
                (_, Says::Late(wait)) => {
                    thread::sleep(*wait);
                    self.rules(&seen)
                }
                (_, Says::Queue(wait)) => {
                    let _turn = self.turn.lock().unwrap();
                    thread::sleep(*wait);
                    self.rules(&seen)
                }
                (_, Says::Challenge | Says::Grant) => self.challenge(&seen, says == Says::Grant),
                (_, Says::Rules) => self.rules(&seen),
            };
            if send(&mut writer, &reply, seen.method == "HEAD").is_err() || is_fit.is_err() {
                break;
            }
            if *self.closes.lock().unwrap() {
                break;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
    }

    /// A question, and the status by which Go's server would refuse it.
    fn read(&self, reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> Option<(Seen, Result<(), u16>)> {
        let mut seen = Seen::default();
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            seen.raw.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            if line.is_empty() {
                break;
            }
            match line.split_once(':').filter(|_| !seen.method.is_empty()) {
                Some((name, value)) => seen.headers.push((name.to_owned(), value.trim().to_owned())),
                None => {
                    let mut words = line.split(' ');
                    seen.method = words.next()?.to_owned();
                    seen.target = words.next()?.to_owned();
                }
            }
        }
        let is_bad = seen.all("Content-Length").len() > 1
            || seen.all("Host").len() != 1
            || seen.headers.iter().any(|(_, value)| value.chars().any(|c| c.is_control() && c != '\t'));
        let fit = match (seen.header("Expect"), seen.header("Transfer-Encoding")) {
            _ if is_bad => Err(400),
            (Some(wish), _) if !wish.eq_ignore_ascii_case("100-continue") => Err(417),
            (_, Some(coding)) if coding != "chunked" => Err(501),
            _ if seen.target != "/appsec" => Err(404),
            _ => Ok(()),
        };
        if fit.is_err() {
            return Some((seen, fit));
        }
        if seen.header("Expect").is_some() {
            let _ = writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if seen.header("Transfer-Encoding").is_some() {
            let body = chunked(reader)?;
            // The length is unknown, and an old engine judges as many bytes as it knows of.
            if *self.version.lock().unwrap() == Version::New {
                seen.body = body;
            }
        } else if let Some(length) = seen.header("Content-Length").and_then(|length| length.parse().ok()) {
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return Some((seen, Err(500)));
            }
            seen.raw.extend_from_slice(&body);
            seen.body = body;
        }
        Some((seen, Ok(())))
    }

    /// The answer of an engine without a challenge.
    fn rules(&self, seen: &Seen) -> Reply {
        if seen.told("api-key") != KEY {
            return Reply(401, String::new(), false);
        }
        let uri = seen.told("uri");
        if seen.told("ip").is_empty() || seen.told("verb").is_empty() || uri.is_empty() || !go_reads(&uri) {
            return Reply(500, String::new(), false);
        }
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        let (passed, blocked) = *self.codes.lock().unwrap();
        if *self.version.lock().unwrap() == Version::New && seen.body.len() > self.max_body.load(Ordering::SeqCst) {
            return Reply(blocked, envelope("ban", 403), false);
        }
        if let Some(word) = path.strip_prefix("/word/") {
            return Reply(blocked, envelope(word, 403), false);
        }
        // What the engine takes away is not shown to its rules.
        let of_the_engine =
            ["api-key", "ip", "uri", "verb", "host", "user-agent"].map(|name| format!("x-crowdsec-appsec-{name}"));
        let shown = seen.headers.iter().filter(|(name, _)| !of_the_engine.contains(&name.to_ascii_lowercase()));
        let in_headers = shown.into_iter().any(|(_, value)| value.contains(ATTACK));
        let in_body = String::from_utf8_lossy(&seen.body).contains(ATTACK);
        let is_attack = path.to_ascii_lowercase().ends_with(".env") || query.contains(ATTACK) || in_headers || in_body;
        match is_attack {
            true => Reply(blocked, envelope("ban", 403), false),
            false => Reply(passed, envelope("allow", 200), false),
        }
    }

    fn challenge(&self, seen: &Seen, grants: bool) -> Reply {
        let uri = seen.told("uri");
        let path = uri.split('?').next().unwrap_or_default();
        let is_known = seen
            .header("Cookie")
            .is_some_and(|cookies| cookies.contains(&format!("__crowdsec_challenge={}", seen.told("user-agent"))));
        let fields = ["f=", "r=", "ts=", "sig=", "n=", "p=", "m=", "d=", "u="];
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        let cookie = format!(
            r#""__crowdsec_challenge={}; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200""#,
            seen.told("user-agent")
        );
        const CSP: &str = "default-src 'self'; worker-src 'self' blob:;";
        let answer = |status, kind: &str, more: &str, cookies: &str, body: &str| {
            let body = body.replace('<', "\\u003c").replace('>', "\\u003e").replace('"', "\\\"");
            let json = format!(
                r#"{{"action":"challenge","http_status":{status},"user_body_content":"{body}","user_cookies":[{cookies}],"user_headers":{{"Content-Type":["{kind}"],{more}"Content-Security-Policy":["{CSP}"]}}}}"#
            );
            Reply(403, json, true)
        };
        let no_store = r#""Cache-Control":["no-cache, no-store"],"#;
        match path {
            "/crowdsec-internal/challenge/fpscanner.js" | "/crowdsec-internal/challenge/pow-worker.js" => {
                let cached = r#""Cache-Control":["public, max-age=3600"],"#;
                answer(200, "application/javascript", cached, "", &format!("// {}", "x".repeat(3000)))
            }
            "/crowdsec-internal/challenge/submit" if seen.told("verb") == "POST" => {
                if body.contains(ATTACK) {
                    answer(200, "application/json", no_store, "", r#"{"status":"rejected"}"#)
                } else if fields.iter().all(|field| body.split('&').any(|pair| pair.starts_with(field))) {
                    answer(200, "application/json", no_store, &cookie, r#"{"status":"ok"}"#)
                } else {
                    answer(200, "application/json", no_store, "", r#"{"status":"failed"}"#)
                }
            }
            _ if is_known => self.rules(seen),
            _ if grants => {
                let place = format!(r#""Location":["{uri}"],{no_store}"#);
                answer(307, "text/html", &place, &cookie, "<p>On</p>")
            }
            _ => answer(
                200,
                "text/html",
                no_store,
                "",
                &format!("<!doctype html><title>Check</title>{}", "x".repeat(4000)),
            ),
        }
    }
}

/// What Go's `url.Parse` takes for an address.
fn go_reads(uri: &str) -> bool {
    let path = uri.split('?').next().unwrap_or_default();
    let escapes =
        path.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    escapes && uri.bytes().all(|byte| byte > b' ' && byte != 0x7f) && (uri.starts_with('/') || uri == "*")
}

fn chunked(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut piece = vec![0; size + 2];
        reader.read_exact(&mut piece).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&piece[..size]);
    }
}

/// As Go does it: plain text by its type, and without a length where it is long.
fn send(writer: &mut TcpStream, Reply(status, body, in_pieces): &Reply, is_head: bool) -> std::io::Result<()> {
    let mut out = format!("HTTP/1.1 {status} X\r\nContent-Type: text/plain; charset=utf-8\r\n");
    let body = if is_head || *status == 204 { "" } else { body };
    if *in_pieces && body.len() > 2048 {
        out += "Transfer-Encoding: chunked\r\n\r\n";
        for piece in body.as_bytes().chunks(1000) {
            out += &format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
        }
        out += "0\r\n\r\n";
    } else if *status == 204 {
        out += "\r\n";
    } else {
        out += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    }
    writer.write_all(out.as_bytes())
}

/// Sends bytes as they stand, each piece after a while, and gives all that comes back.
pub fn raw(port: u16, pieces: &[&[u8]], wait: Duration) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut pieces: VecDeque<&[u8]> = pieces.iter().copied().collect();
    while let Some(piece) = pieces.pop_front() {
        if connection.write_all(piece).is_err() {
            break;
        }
        if !pieces.is_empty() {
            thread::sleep(wait);
        }
    }
    let mut answer = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    let mut buffer = [0; 4096];
    while Instant::now() < until {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
