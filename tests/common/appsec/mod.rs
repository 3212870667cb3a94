//! An AppSec that is as strict as the real one: a server that keeps every byte it was sent.
//!
//! Its rules: a path that ends in `.env`, and the word `ATTACK` in the query, in a header or in the body, are banned;
//! `/word/WORD` gets the action WORD; [`GUIDES_PATH`] only raises an alert. Its key is `KEY`.

mod engine;
mod wire;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use wire::Reply;

pub const KEY: &str = "a-key-of-the-tests";
pub const ATTACK: &str = "ATTACK";
/// The path that CrowdSec's guides ask for to see AppSec work. Its rule is out of band, and changes no answer.
pub const GUIDES_PATH: &str = "/crowdsec-test-NtktlJHV4TfBSK3wvlhiOBnl";

/// Ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// What the rules say.
    Rules,
    /// This status and this body, whatever is asked.
    Always(u16, String),
    /// The head of an answer and the beginning of its body, and then the end of the connection.
    Half(u16),
    /// The same as `Half`, but the connection stays open for 10 seconds.
    HalfAndHang(u16),
    /// The same of an answer that lets in, after so long.
    LateAndHang(Duration),
    Hang,
    Close,
    Late(Duration),
    /// One question at a time; each takes this time.
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
    /// From 1.7.8 on: judges the part of a body that has come when `body_timeout` is over, without saying so.
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
    /// The statuses of its answers: for what is let in, and for what is not.
    pub codes: Mutex<(u16, u16)>,
    pub max_body: AtomicUsize,
    pub body_timeout: Duration,
    /// Closes each connection that has been idle for this time, without saying so.
    pub idle_timeout: Mutex<Duration>,
    alerts: AtomicUsize,
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
            body_timeout: Duration::from_secs(1),
            idle_timeout: Mutex::new(PATIENCE),
            alerts: AtomicUsize::new(0),
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

    /// The questions since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }

    pub fn port(&self) -> u16 {
        self.url.trim_end_matches("/appsec").rsplit(':').next().unwrap().parse().unwrap()
    }

    /// How often a rule has only raised an alert.
    pub fn alerts(&self) -> usize {
        self.state.alerts.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn most_open(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, connection: TcpStream, number: usize) {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let mut writer = connection;
        for answered in 0.. {
            let idle = if answered == 0 { PATIENCE } else { *self.idle_timeout.lock().unwrap() };
            writer.set_read_timeout(Some(idle)).unwrap();
            let Some((mut seen, is_fit)) = self.read(&mut reader, &mut writer) else { break };
            seen.connection = number;
            self.seen.lock().unwrap().push(seen.clone());
            let says = self.says.lock().unwrap().clone();
            let reply = match (&is_fit, &says) {
                (Err(status), _) => Reply(*status, String::new(), false),
                (_, Says::Always(status, body)) => Reply(*status, body.clone(), false),
                (_, Says::Half(_) | Says::HalfAndHang(_) | Says::LateAndHang(_)) => {
                    let (wait, status) = match says {
                        Says::Half(status) | Says::HalfAndHang(status) => (Duration::ZERO, status),
                        Says::LateAndHang(wait) => (wait, 200),
                        _ => unreachable!(),
                    };
                    thread::sleep(wait);
                    let _ = write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\n{{\"action\":");
                    if !matches!(says, Says::Half(_)) {
                        // Until the other side has had enough.
                        let _ = reader.read(&mut [0]);
                    }
                    break;
                }
                (_, Says::Hang) => {
                    // Until the other side hangs up.
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
            if wire::send(&mut writer, &reply, seen.method == "HEAD").is_err() || is_fit.is_err() {
                break;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
    }
}

/// Sends bytes as they stand, each piece after a while, and gives all that comes back.
pub fn raw(port: u16, pieces: &[&[u8]], wait: Duration) -> String {
    answer(sent(port, pieces, wait))
}

pub fn sent(port: u16, pieces: &[&[u8]], wait: Duration) -> TcpStream {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    for (place, piece) in pieces.iter().enumerate() {
        if place > 0 {
            thread::sleep(wait);
        }
        if connection.write_all(piece).is_err() {
            break;
        }
    }
    connection
}

pub fn answer(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    while Instant::now() < until {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
