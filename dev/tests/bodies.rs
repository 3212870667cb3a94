//! Does an answer arrive whatever body came with the request? To a proxy, a connection reset looks like a dead instance.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use dev::{App, PATIENCE, Proxy, Request, pipeline};

const BANNED: &str = "203.0.113.7";
const CAPTCHA: &str = "198.51.100.9";
const FREE: &str = "233.252.0.1";
const UPLOAD: &str = "application/octet-stream";

/// The application with the example decisions of the debug profile, and no LAPI.
fn app() -> App {
    App::start(&[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.0/8")])
}

/// Sends this request and another behind it on one connection. Both must be answered; gives the first answer.
#[track_caller]
fn keeps_the_connection(app: &App, request: Request) -> dev::Answer {
    let next = app.get("/static/style.css").from(FREE);
    let mut answers = pipeline(&[request, next]);
    assert_eq!(answers[1].status, 200, "the next request on the connection");
    answers.remove(0)
}

// --- the method on the wire decides whether an answer has a body ---

#[test]
fn a_form_that_names_head_is_answered_with_a_body() {
    let app = app();
    for (address, status) in [(BANNED, 403), (CAPTCHA, 403), (FREE, 200)] {
        for body in ["_method=head", "_method=HEAD", "_method=head&x=y", "_method=head&_method=post"] {
            let request = app.request("POST", "/").from(address).body("application/x-www-form-urlencoded", body);
            let answer = keeps_the_connection(&app, request);
            assert_eq!(answer.status, status, "{body}");
            let length = answer.header("Content-Length").and_then(|length| length.parse().ok());
            assert_eq!(length, Some(answer.body.len()), "{body} of {address}");
            assert!(answer.text().contains("</html>"), "{body}: {}", answer.text());
        }
    }
}

#[test]
fn head_is_answered_without_a_body_whatever_it_brings_along() {
    let app = app();
    for (address, status) in [(BANNED, 403), (FREE, 200)] {
        for body in ["", "_method=head", "_method=post", "x"] {
            let request = app.request("HEAD", "/").from(address);
            let request = match body {
                "" => request,
                _ => request.body("application/x-www-form-urlencoded", body),
            };
            let answer = keeps_the_connection(&app, request);
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{body}");
            assert_ne!(answer.header("Content-Length"), Some("0"), "{body}");
        }
    }
}

// --- a body that nobody wants is read first ---

#[test]
fn a_refused_upload_is_answered_and_the_connection_goes_on() {
    let app = app();
    let upload = "x".repeat(3 << 20);
    for address in [BANNED, CAPTCHA] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"] {
            let answer = keeps_the_connection(&app, app.request(method, "/a").from(address).body(UPLOAD, &upload));
            assert_eq!(answer.status, 403, "{method}");
            assert!(answer.text().contains("</html>"), "{method}");
        }
    }
    let too_long = app.request("POST", &format!("/{}", "x".repeat(9_000))).from(FREE).body(UPLOAD, &upload);
    assert_eq!(keeps_the_connection(&app, too_long).status, 414);
}

#[test]
fn a_refused_upload_of_unknown_length_is_read_to_its_end() {
    let app = app();
    let mut stream = connect(app.address());
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {BANNED}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the head");
    for _ in 0..100 {
        stream.write_all(&[b"2710\r\n", "x".repeat(10_000).as_bytes(), b"\r\n"].concat()).expect("a chunk");
    }
    let next = format!("0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {FREE}\r\nConnection: close\r\n\r\n");
    stream.write_all(next.as_bytes()).expect("the end, and another request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("two answers");
    assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("HTTP/1.1 200 "), "{text}");
}

#[test]
fn who_never_sends_the_rest_of_a_body_is_answered_all_the_same() {
    let app = app();
    let mut stream = connect(app.address());
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {BANNED}\r\nContent-Length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the head");
    stream.write_all(&[b'x'; 1000]).expect("the beginning of the body");
    assert_eq!(first_line(&mut BufReader::new(stream)), "HTTP/1.1 403 Forbidden");
}

/// The application does not read the rest, however long the announced body is.
#[test]
fn who_sends_more_than_anybody_should_meets_a_closed_connection() {
    let app = app();
    for (target, address) in [("/", BANNED), ("/crowdsec/captcha", CAPTCHA), ("/no/route/leads/here", FREE)] {
        let mut stream = connect(app.address());
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n");
        let head = head + "Content-Length: 1000000000\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("the head");
        // Sends 64 MiB in all: besides what the application reads, the buffers of both ends hold some of it.
        let refused = (0..1024).find_map(|_| stream.write_all(&[b'x'; 1 << 16]).err());
        let kind = refused.expect("not all is taken").kind();
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{target}: {kind}");
    }
}

#[test]
fn who_asks_whether_to_send_a_body_is_answered_at_once() {
    let app = app();
    let stream = connect(app.address());
    let (mut to, mut from) = (&stream, BufReader::new(&stream));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {BANNED}\r\nExpect: 100-Continue\r\nContent-Length: 500000\r\n\r\n"
    );
    to.write_all(head.as_bytes()).expect("the head");
    // Rocket itself answers this: it wants to see a few bytes of every body.
    assert_eq!(first_line(&mut from), "HTTP/1.1 100 Continue");
    to.write_all(&[b'x'; 20]).expect("the beginning of the body");
    assert_eq!(first_line(&mut from), "");
    assert_eq!(first_line(&mut from), "HTTP/1.1 403 Forbidden", "the answer, while the body is still to come");
    // A visitor who sends the body nevertheless is not cut off.
    to.write_all(&vec![b'x'; 500_000 - 20]).expect("the rest of the body");
    let next = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {FREE}\r\nConnection: close\r\n\r\n");
    to.write_all(next.as_bytes()).expect("another request");
    let mut text = String::new();
    from.read_to_string(&mut text).expect("the rest of the page, and another one");
    assert!(text.contains("</html>") && text.contains("HTTP/1.1 200 OK"), "{text}");
}

#[test]
fn who_asks_whether_to_send_a_body_gets_an_answer_of_known_length_and_need_not_send_it() {
    let app = app();
    for (address, accept) in [(BANNED, "text/html"), (BANNED, "application/json"), (CAPTCHA, "text/html")] {
        let stream = connect(app.address());
        let (mut to, mut from) = (&stream, BufReader::new(&stream));
        let head = format!(
            "PUT /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nAccept: {accept}\r\nExpect: 100-continue\r\n\
             Content-Length: 500000\r\n\r\n"
        );
        to.write_all(&[head.as_bytes(), &[b'x'; 20]].concat()).expect("the head, and the beginning of the body");
        assert_eq!(first_line(&mut from), "HTTP/1.1 100 Continue");
        assert_eq!(first_line(&mut from), "");
        assert_eq!(first_line(&mut from), "HTTP/1.1 403 Forbidden");
        let headers: Vec<String> = std::iter::repeat_with(|| first_line(&mut from).to_lowercase())
            .take_while(|line| !line.is_empty())
            .collect();
        let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or_else(|| panic!("no Content-Length: {headers:#?}"));
        assert!(!headers.iter().any(|line| line.starts_with("transfer-encoding")), "{headers:#?}");
        let mut page = vec![0; length];
        from.read_exact(&mut page).expect("the whole answer, while nothing more is sent");
        let end = if accept == "text/html" { "</html>" } else { "}" };
        assert!(String::from_utf8_lossy(&page).trim_end().ends_with(end), "{}", String::from_utf8_lossy(&page));
    }
}

#[test]
fn the_captchas_own_form_may_be_as_large_as_anybody_likes() {
    let app = app();
    let large = "x".repeat(2 << 20);
    for (address, status) in [(CAPTCHA, 403), (FREE, 303)] {
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain"] {
            let form = app.request("POST", "/crowdsec/captcha").from(address).body(kind, &format!("altcha={large}"));
            assert_eq!(keeps_the_connection(&app, form).status, status, "{kind} of {address}");
        }
    }
}

#[test]
fn an_upload_that_no_route_takes_is_read_before_it_is_404() {
    let app = app();
    let upload = "x".repeat(3 << 20);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for target in ["/no/route/leads/here", "/members/only", "/static/style.css"] {
            let answer = keeps_the_connection(&app, app.request(method, target).from(FREE).body(UPLOAD, &upload));
            assert_eq!(answer.status, 404, "{method} {target}");
            let own = answer.text().contains(r#"<div class="symbol">404</div>"#);
            assert!(own, "the application's own page: {}", answer.text());
        }
    }
    // This route exists and wants another kind of body: its own 415 counts.
    assert_eq!(app.request("POST", "/sign-in").from(FREE).body(UPLOAD, &upload).send().status, 415);
}

#[test]
fn a_body_that_comes_with_get_options_or_trace_where_no_route_is_is_read_too() {
    let app = app();
    let upload = "x".repeat(3 << 20);
    for method in ["GET", "OPTIONS", "TRACE"] {
        let request = app.request(method, "/no/route/leads/here").from(FREE).body(UPLOAD, &upload);
        assert_eq!(keeps_the_connection(&app, request).status, 404, "{method}");
    }
}

#[test]
fn what_the_bouncer_answers_to_everybody_is_answered_whatever_body_comes_along() {
    let app = app();
    let upload = "x".repeat(3 << 20);
    for (target, address, status) in [
        ("/crowdsec/health", BANNED, 200),
        ("/crowdsec/health", FREE, 200),
        ("/crowdsec/captcha", CAPTCHA, 403),
        ("/crowdsec/captcha", FREE, 303),
    ] {
        let request = app.request("GET", target).from(address).body(UPLOAD, &upload);
        assert_eq!(keeps_the_connection(&app, request).status, status, "{target} of {address}");
    }
}

#[test]
fn a_body_that_comes_with_get_to_a_page_of_the_bouncers_is_read_for_operators_and_for_all_others() {
    let app = App::start(&[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.0/8"), ("CROWDSEC_METRICS_FROM", FREE)]);
    let upload = "x".repeat(3 << 20);
    for (target, address, status) in [
        ("/crowdsec/refused", FREE, 404),
        ("/crowdsec/metrics", "192.0.2.77", 404),
        ("/crowdsec/status", "192.0.2.77", 404),
        ("/crowdsec/metrics", FREE, 200),
        ("/crowdsec/status", FREE, 200),
    ] {
        let request = app.request("GET", target).from(address).body(UPLOAD, &upload);
        assert_eq!(keeps_the_connection(&app, request).status, status, "{target} of {address}");
    }
}

// --- behind a proxy ---

/// Makes a banned visitor upload, four uploads at a time, and gives the statuses.
fn uploads(server: SocketAddr) -> Vec<u16> {
    let upload = "x".repeat(3 << 20);
    let post = |kind, body| Request::new(server, "POST", "/").peer("127.0.0.2").body(kind, body).send().status;
    let once = || [post(UPLOAD, &upload), post("application/x-www-form-urlencoded", "_method=head")];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..5).flat_map(|_| once()).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its answers")).collect()
    })
}

/// Two instances that trust proxies on 127.0.0.1, and have a ban on 127.0.0.2.
fn two_instances() -> [App; 2] {
    let ban = r#"[{ value = "127.0.0.2", type = "ban" }]"#;
    [0, 1].map(|_| App::start(&[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"), ("CROWDSEC_DECISIONS", ban)]))
}

/// While the banned upload, every free visitor is served.
#[track_caller]
fn the_site_stays_up(server: SocketAddr) {
    let free = || Request::new(server, "GET", "/").peer("127.0.0.3").send().status;
    thread::scope(|scope| {
        let uploading = scope.spawn(|| uploads(server));
        let mut served = Vec::new();
        while !uploading.is_finished() {
            served.push(free());
        }
        served.extend((0..20).map(|_| free()));
        let failed = served.iter().filter(|status| **status != 200).count();
        assert_eq!(failed, 0, "of {} free visitors", served.len());
        let refused = uploading.join().expect("their answers");
        assert!(refused.iter().all(|status| *status == 403), "{refused:?}");
    });
}

#[test]
fn uploads_of_the_banned_take_no_instance_out_behind_nginx() {
    let [one, two] = two_instances();
    let global = "client_max_body_size 20m;";
    for local in ["", "proxy_http_version 1.1; proxy_set_header Connection \"\";", "proxy_request_buffering off;"] {
        let local = format!("proxy_set_header X-Forwarded-For $remote_addr; {local}");
        let nginx = Proxy::nginx_among(&[one.address(), two.address()], "fail_timeout=60s", global, &local);
        the_site_stays_up(nginx.v4());
    }
}

#[test]
fn uploads_of_the_banned_take_no_instance_out_behind_haproxy() {
    let [one, two] = two_instances();
    let options = "observe layer7 error-limit 1 on-error mark-down check inter 60s";
    let haproxy = Proxy::haproxy(&[one.address(), two.address()], "option forwardfor", options);
    the_site_stays_up(haproxy.v4());
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn first_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}
