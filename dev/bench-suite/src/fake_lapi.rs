//! Who tells the application of decisions? A LAPI of the benchmarks' own, which answers at once with what a benchmark sets.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// Listens on a unix socket, whose path is the same for an application that is started again: an application believes
/// only a snapshot of the LAPI that it asks.
#[derive(Clone)]
pub struct FakeLapi {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    everything: Arc<Vec<u8>>,
    changes: VecDeque<Arc<Vec<u8>>>,
    polls: usize,
    full_answers: usize,
}

impl FakeLapi {
    pub fn start(directory: &Path, everything: Vec<u8>) -> Self {
        let socket = directory.join("lapi");
        let listener = UnixListener::bind(&socket).expect("a socket in a directory of our own");
        let state = Arc::new(Mutex::new(State { everything: everything.into(), ..State::default() }));
        let lapi = Self { socket, state };
        let of_thread = lapi.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lapi = of_thread.clone();
                // An application that hangs up is about to end.
                thread::spawn(move || lapi.serve(stream).unwrap_or_default());
            }
        });
        lapi
    }

    pub fn socket(&self) -> &str {
        self.socket.to_str().expect("a plain path")
    }

    /// Sets what LAPI answers from now on when it is asked for everything.
    pub fn knows(&self, everything: Vec<u8>) {
        self.state.lock().unwrap().everything = everything.into();
    }

    /// Adds an answer that LAPI gives once when it is asked for changes.
    pub fn changes(&self, changes: Vec<u8>) {
        self.state.lock().unwrap().changes.push_back(changes.into());
    }

    /// Takes LAPI's socket away, or puts it back. After that, the bouncer asks for everything.
    pub fn down(&self, down: bool) {
        let away = self.socket.with_extension("away");
        let (from, to) = if down { (&self.socket, &away) } else { (&away, &self.socket) };
        if from.exists() {
            std::fs::rename(from, to).expect("a socket in a directory of our own");
        }
    }

    /// How many requests LAPI got. It counts a request before it answers.
    pub fn polls(&self) -> usize {
        self.state.lock().unwrap().polls
    }

    /// How many full answers LAPI began.
    pub fn full_answers(&self) -> usize {
        self.state.lock().unwrap().full_answers
    }

    fn serve(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let mut head = BufReader::new(stream.try_clone()?).lines();
        let first = head.next().transpose()?.unwrap_or_default();
        while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let mut state = self.state.lock().unwrap();
        state.polls += 1;
        let answer = if first.contains("startup=true") {
            state.full_answers += 1;
            state.everything.clone()
        } else {
            state.changes.pop_front().unwrap_or_else(|| Arc::new(br#"{"deleted":null,"new":null}"#.to_vec()))
        };
        drop(state);
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(&answer)
    }
}
