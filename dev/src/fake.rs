//! What can the real servers not be made to do? An HTTP server of the tests' own, which fails, lies and hangs on demand.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::visitor::{escape, read_head, unescape};

/// A server on a loopback port of its own, which remembers every request and answers as the test told it last.
pub struct FakeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Answering = dyn Fn(&Seen) -> Reply + Send + Sync;

struct Shared {
    answer: Mutex<Arc<Answering>>,
    seen: Mutex<Vec<Seen>>,
    closing: AtomicBool,
}

impl FakeServer {
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port just bound");
        let shared = Arc::new(Shared {
            answer: Mutex::new(Arc::new(answer)),
            seen: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if of_thread.closing.load(Ordering::SeqCst) {
                    break;
                }
                let shared = of_thread.clone();
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Answers each request by this function from now on.
    pub fn answers(&self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Arc::new(answer);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Every request so far, in the order of their arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // The listening thread reads `closing` only when a connection comes.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Some(seen) = Seen::read(&stream) else { return };
        self.seen.lock().unwrap().push(seen.clone());
        let answer = self.answer.lock().unwrap().clone();
        answer(&seen).send(&mut stream);
    }
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let (first, headers) = read_head(&mut reader).ok()?;
        let mut seen = Self { target: first.split(' ').nth(1)?.to_string(), headers, body: vec![] };
        let length = seen.header("Content-Length").and_then(|v| v.parse().ok()).unwrap_or(0);
        seen.body = vec![0; length];
        reader.read_exact(&mut seen.body).ok()?;
        Some(seen)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A field of the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        field(self.target.split_once('?')?.1, name)
    }

    /// A field of a posted form, decoded.
    pub fn form(&self, name: &str) -> Option<String> {
        field(std::str::from_utf8(&self.body).ok()?, name)
    }

    /// Whether a bouncer asked about one address or network, instead of polling.
    pub fn is_question(&self) -> bool {
        self.target.starts_with("/v1/decisions?")
    }

    /// Whether a bouncer asked for all decisions instead of the changes.
    pub fn asks_for_all(&self) -> bool {
        self.query("startup").as_deref() == Some("true")
    }
}

fn field(pairs: &str, name: &str) -> Option<String> {
    let (_, value) =
        pairs.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == escape(name) || *n == name)?;
    Some(unescape(value))
}

/// A ban as LAPI writes it.
pub fn ban(id: u32, address: &str) -> Value {
    json!({ "duration": "3h59m59.6s", "id": id, "origin": "cscli", "scenario": "end-to-end", "scope": "Ip", "type": "ban", "value": address })
}

/// Answers like a LAPI whose decisions are these, for ever.
pub fn standing(bans: Vec<Value>) -> impl Fn(&Seen) -> Reply {
    move |seen| Reply::standing(seen, &bans)
}

/// What the server does with a request.
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    after: Duration,
    fault: Option<Fault>,
}

enum Fault {
    CutBody,
    HangUp,
    Silence,
    Script(Box<Script>),
}

type Script = dyn FnOnce(&mut TcpStream) -> std::io::Result<()> + Send;

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_string(), content_type.to_string())];
        Self { status, headers, body: body.into(), after: Duration::ZERO, fault: None }
    }

    pub fn json(body: &Value) -> Self {
        Self::new(200, "application/json; charset=utf-8", body.to_string())
    }

    pub fn html(body: &str) -> Self {
        Self::new(200, "text/html; charset=utf-8", body)
    }

    pub fn error(status: u16) -> Self {
        Self::new(status, "application/json", r#"{"message":"no"}"#)
    }

    pub fn redirect(to: &str) -> Self {
        let mut reply = Self::new(302, "text/plain", "");
        reply.headers.push(("Location".to_string(), to.to_string()));
        reply
    }

    /// LAPI's answer to a poll.
    pub fn decisions(new: &[Value], deleted: &[Value]) -> Self {
        Self::json(&json!({ "deleted": deleted, "new": new }))
    }

    /// What a LAPI whose decisions are these, for ever, answers to a poll or to a question about one address or network.
    pub fn standing(seen: &Seen, decisions: &[Value]) -> Self {
        if seen.is_question() {
            let value = seen.query("ip").or(seen.query("range")).unwrap_or_default();
            let on_it: Vec<&Value> = decisions.iter().filter(|decision| decision["value"] == value.as_str()).collect();
            return Self::json(&if on_it.is_empty() { Value::Null } else { json!(on_it) });
        }
        Self::decisions(if seen.asks_for_all() { decisions } else { &[] }, &[])
    }

    /// Takes the request and never answers.
    pub fn silence() -> Self {
        Self { fault: Some(Fault::Silence), ..Self::error(500) }
    }

    /// Takes the request and closes the connection.
    pub fn hang_up() -> Self {
        Self { fault: Some(Fault::HangUp), ..Self::error(500) }
    }

    /// Takes the request and lets `script` write to the connection; an error of writing is ignored.
    pub fn script(script: impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> Self {
        Self { fault: Some(Fault::Script(Box::new(script))), ..Self::error(500) }
    }

    /// Announces the whole body, sends half of it, and closes the connection.
    pub fn cut(mut self) -> Self {
        self.fault = Some(Fault::CutBody);
        self
    }

    pub fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }

    fn send(self, stream: &mut TcpStream) {
        thread::sleep(self.after);
        let mut head =
            format!("HTTP/1.1 {} Fake\r\nContent-Length: {}\r\nConnection: close\r\n", self.status, self.body.len());
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        // The client may be gone by now, and then there is nobody to answer.
        let _ = match self.fault {
            None => stream.write_all(&[head.as_bytes(), b"\r\n", &self.body].concat()),
            Some(Fault::CutBody) => {
                stream.write_all(&[head.as_bytes(), b"\r\n", &self.body[..self.body.len() / 2]].concat())
            }
            Some(Fault::HangUp) => Ok(()),
            // Reading ends when the client gives up.
            Some(Fault::Silence) => stream.read(&mut [0]).map(drop),
            Some(Fault::Script(script)) => script(stream),
        };
    }
}
