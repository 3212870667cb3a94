//! Is each line written once and whole, and in how much memory?

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::*;

/// More than a socket holds.
fn many_lines() -> String {
    (0..50_000).map(|n| format!("a line like many others, number {n}\n")).collect()
}

fn shared(path: &Path, lines: &str) -> Arc<Shared> {
    let waiting = Waiting { lines: lines.into(), ..Waiting::default() };
    Arc::new(Shared { path: path.into(), lost: Arc::default(), waiting: Mutex::new(waiting) })
}

/// The writer of a log whose socket is full in the middle of a line, what the socket's other end has got so far, and that
/// other end.
fn half_written() -> (Writer, String, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("an option");
    theirs.set_nonblocking(true).expect("an option");
    let path = format!("/proc/self/fd/{}", ours.as_raw_fd());
    let shared = shared(Path::new(&path), &many_lines());
    let mut writer = Writer { shared, file: OwnedFd::from(ours).into(), lines: Vec::new(), written: 0 };
    assert!(writer.round().is_err());
    let text = read(&theirs);
    writer.written += writer.file.write(&writer.lines[writer.written..][..10]).expect("room again");
    assert_ne!(writer.lines[writer.written - 1], b'\n');
    (writer, text, theirs)
}

fn read(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8(bytes).expect("text")
}

#[test]
fn after_an_error_each_line_is_written_once_and_whole() {
    let (mut writer, mut text, reader) = half_written();
    while writer.round().is_err() {
        text += &read(&reader);
    }
    text += &read(&reader);
    assert!(text == many_lines());
}

#[test]
fn where_a_full_disk_cut_a_line_and_the_file_was_moved_away_the_new_one_begins_with_that_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.log");
    let file = open(&path).expect("the log");
    let lines = b"192.0.2.6 a\n192.0.2.7 b\n".to_vec();
    let mut writer = Writer { shared: shared(&path, ""), file, lines, written: 14 };
    fs::rename(&path, folder.path().join("a.log.1")).expect("rotated");
    writer.write().expect("a disk with room");
    assert_eq!(fs::read_to_string(&path).expect("the log"), "192.0.2.7 b\n");
}

#[test]
fn a_line_is_written_in_one_piece_however_long_it_is() {
    let long = "x".repeat(3 * LONGEST_LINE) + "\n";
    let piece = |lines: &str| end_of_piece(lines.as_bytes());
    assert_eq!(piece(&[&long, "a\n"].concat()), long.len());
    assert_eq!(piece(&["a\nb\n", &long].concat()), 4);
    assert_eq!(piece("a\nb\n"), 4);
    assert_eq!(piece("no end"), 6);
    let many = "a\n".repeat(LONGEST_LINE);
    assert_eq!(piece(&many), LONGEST_LINE);
}

#[test]
fn a_burst_takes_no_more_than_it_may_and_gives_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.log");
    let lost = Arc::<AtomicU64>::default();
    let mut journal = Journal::open(&path, lost.clone()).expect("a log");
    // A thread that is stuck takes nothing.
    let stuck = thread::spawn(|| ());
    let thread = mem::replace(&mut journal.thread, stuck);
    lock(&journal.shared.waiting).closed = true;
    thread.thread().unpark();
    thread.join().expect("its end");
    for _ in 0..100_000 {
        journal.append(|line| line.extend_from_slice("a hundred letters\n".repeat(5).as_bytes()));
    }
    let most = lock(&journal.shared.waiting).lines.capacity();
    assert_eq!(most, MOST_WAITING);
    let kept = lock(&journal.shared.waiting).lines.len() / "a hundred letters\n".repeat(5).len();
    assert!(lock(&journal.shared.waiting).dropped > 0);
    assert_eq!(kept as u64 + lost.load(Ordering::Relaxed), 100_000);
    let file = open(&path).expect("the log");
    let mut writer = Writer { shared: journal.shared.clone(), file, lines: Vec::new(), written: 0 };
    writer.round().expect("a disk with room");
    writer.round().expect("a disk with room");
    assert!(writer.lines.capacity() + lock(&journal.shared.waiting).lines.capacity() <= 2 * KEPT);
}
