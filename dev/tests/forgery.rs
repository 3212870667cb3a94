//! Can a visitor make the log say what never happened? Forgers send their texts, and CrowdSec explains each line of the log.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};

use dev::{App, Request, Site};

/// A whole line about another address, which a forger would like to have in the log.
const FORGED: &str = r#"198.51.100.66 - - [22/Nov/2026:14:54:27 +0000] "GET /x HTTP/1.1" 404 153 "-" "-""#;

const FORGED_EVENT: &str = r#"{"crowdsec_event":"honeypot","time":"2026-11-22T20:19:56Z","address":"198.51.100.66"}"#;

#[test]
fn no_visitor_can_forge_a_line_or_a_field() {
    let site = Site::with_events_in("access.log");
    let forged_line = format!("\n{FORGED}\n");
    let long = "a\"\\\u{1}".repeat(25_000);
    let texts = [
        "\"",
        "\\",
        "\\\"",
        "' '",
        " ",
        "\t",
        "\u{b}",
        "\u{7f}",
        "\u{1b}[2J",
        "ü",
        "\u{2028}",
        "\u{85}",
        "%0a",
        "%22",
        "%",
        "] \"GET /",
        "\" 200 1 \"-\" \"-\"",
        "a",
        "-",
        "/",
        "..",
        "{",
        "}",
        "[",
        "]",
        "\\x22",
        FORGED,
        FORGED_EVENT,
    ];
    let bytes: [&[u8]; 4] = [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\x80"];
    let in_headers: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).chain(bytes).collect();
    let in_forms: Vec<&[u8]> =
        in_headers.iter().copied().chain([b"\n".as_slice(), b"\r\n", forged_line.as_bytes(), b"\0"]).collect();
    let in_paths: Vec<&[u8]> = in_headers.iter().copied().filter(|piece| !piece.contains(&b' ')).collect();

    let (mut dice, mut lines, mut events) = (Dice(0x5eed), HashMap::new(), HashMap::new());
    let mut expect = |n: usize, from: &str, status: u16| {
        // Rocket by itself answers 400 to what it cannot read, and no fairing sees that. 403 goes to an address that CrowdSec
        // has banned meanwhile, for its missing pages; a refusal is not logged, since its line would lengthen the ban.
        if ![400, 403].contains(&status) {
            lines.insert(n, from.to_owned());
        }
    };
    for n in 0..150 {
        let from = format!("127.6.0.{}", n + 1);
        let [agent, referer, user] = [&in_headers, &in_headers, &in_forms].map(|pieces| dice.nasty(pieces, 6));
        let mut request = match n % 3 {
            0 => app_form(&site.app, n, &user),
            _ => site.app.get(&format!("/missing?n={n}&")),
        };
        request = request.header("User-Agent", &agent).header("Referer", &referer);
        if n % 50 == 7 {
            request = request.header("User-Agent", &long);
        }
        let status = request.peer(&from).send().status;
        if n % 3 == 0 && status == 401 {
            events.insert(n, from.clone());
        }
        expect(n, &from, status);
    }
    for n in 150..300 {
        let path = if n % 50 == 7 { b"%41".repeat(20_000) } else { dice.nasty(&in_paths, 2) };
        let start = format!("GET /missing?n={n}&");
        let end = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        // Each request comes from an address of its own, so that a ban on one address takes no other line away.
        let from = format!("127.6.1.{}", n - 149);
        expect(n, &from, raw(&site.app, &from, &[start.as_bytes(), &path, end].concat()));
    }
    site.logs_settle();
    assert!(lines.len() > 150 && events.len() > 25, "{} lines, {} events", lines.len(), events.len());

    let text = fs::read(site.logs.path("access.log")).expect("the log");
    assert!(text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')), "nothing but plain text");
    assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() < 16 << 10), "every line has a bounded length");

    // What the agent reads in each line. The markers of `logs_settle` are left out.
    let log = site.logs.path("access.log");
    let said = site.lapi.cscli(&["explain", "-v", "--type", "nginx", "--file", log.to_str().expect("a plain path")]);
    let blocks: Vec<&str> =
        format!("\n{said}").leak().split("\nline: ").skip(1).filter(|b| !b.contains("favicon")).collect();
    assert_eq!(blocks.len(), lines.len() + events.len(), "one line for each request and each event");
    let mut seen = HashSet::new();
    for block in blocks {
        let line = block.lines().next().expect("a line");
        assert!(block.contains("parser success"), "not understood: {block}");
        let value = |name: &str| {
            let at = format!(" {name} : ");
            let mut values = block.lines().skip(1).filter_map(|line| Some(line.split_once(&at)?.1.trim()));
            (values.next().unwrap_or_else(|| panic!("no {name}: {block}")), values.next())
        };
        let number =
            |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok();
        let expected = if line.starts_with('{') {
            assert_eq!(value("evt.Meta.log_type").0, "application_event", "{block}");
            assert_eq!(value("evt.Meta.event").0, "failed-sign-in", "{block}");
            let user = value("evt.Meta.user").0;
            &events[&number(user.strip_prefix("user").expect("the name it began with")).expect("a number")]
        } else {
            assert_eq!(value("evt.Meta.log_type").0, "http_access-log", "{block}");
            let path = value("evt.Meta.http_path").0;
            &lines[&number(path.split_once("?n=").expect("the number it was asked with").1).expect("a number")]
        };
        assert_eq!(value("evt.Meta.source_ip"), (expected.as_str(), None), "{block}");
        assert!(seen.insert((line.starts_with('{'), line.to_owned())), "twice: {line}");
    }
}

/// A sign-in by a user of this name, sent as bytes.
fn app_form(app: &App, n: usize, user: &[u8]) -> Request {
    let user: String = user.iter().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!("user=user{n}+{user}&password=x");
    app.request("POST", &format!("/sign-in?n={n}&")).body("application/x-www-form-urlencoded", &body)
}

/// Sends these bytes from this address, and gives the answer's status.
fn raw(app: &App, from: &str, bytes: &[u8]) -> u16 {
    let mut stream = app.get("/").peer(from).connect();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Random numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    /// Up to `most` of these pieces, one behind the other.
    fn nasty(&mut self, pieces: &[&[u8]], most: usize) -> Vec<u8> {
        (0..self.roll(most + 1)).flat_map(|_| pieces[self.roll(pieces.len())].to_vec()).collect()
    }
}
