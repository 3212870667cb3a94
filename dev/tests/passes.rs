//! Does a solved captcha count for the one who solved it, whatever cookies, crowds and other deployments do beside them?

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use altcha::{Challenge, Payload, SolveChallengeOptions, solve_challenge};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dev::{Answer, App, FakeServer, Folder, Reply, Seen, eventually};
use serde_json::json;

const VISITOR: &str = "198.51.100.9";
const OURS: &str = "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=";
const THEIRS: &str = "Gq7zXo3oSxrtw0j8CIkFk2hwmtbaIXjUTJZGXxGPSKA=";

/// An application that asks two networks for a captcha, behind a proxy on this machine.
fn asking(settings: &[(&str, &str)]) -> App {
    let both = r#"[{ value = "198.51.100.0/24", type = "captcha" }, { value = "2001:db8::/32", type = "captcha" }]"#;
    let usual = [
        ("CROWDSEC_DECISIONS", both),
        ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"),
        ("CROWDSEC_CAPTCHA_PROVIDER", "altcha"),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", "100"),
        ("ROCKET_SECRET_KEY", OURS),
    ];
    App::start(&[usual.as_slice(), settings].concat())
}

/// Solves what the captcha page asks this visitor, and gives the answer that its script would send.
fn solution(app: &App, address: &str) -> String {
    let page = app.get("/crowdsec/captcha").from(address).send().text();
    let json = page.split("data-challenge=\"").nth(1).expect("a challenge").split('"').next().expect("its end");
    let json = json.replace("&quot;", "\"").replace("&#x2F;", "/");
    let challenge: Challenge = serde_json::from_str(&json).expect("JSON");
    let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).expect("no error").expect("a solution");
    STANDARD.encode(serde_json::to_vec(&Payload { challenge, solution }).expect("JSON"))
}

fn send(app: &App, address: &str, solution: &str, headers: &[(&str, &str)]) -> Answer {
    let request = app.request("POST", "/crowdsec/captcha").from(address).form(&[("altcha", solution)]);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
}

/// The pass, as `name=value`.
#[track_caller]
fn pass(app: &App, address: &str, headers: &[(&str, &str)]) -> String {
    let answer = send(app, address, &solution(app, address), headers);
    assert_eq!(answer.status, 303, "{}", answer.everything());
    answer.set_cookie()
}

fn name(pass: &str) -> &str {
    pass.split('=').next().expect("a name")
}

fn enters(app: &App, address: &str, lines: &[&[u8]]) -> bool {
    let request = lines.iter().fold(app.get("/members").from(address), |request, line| request.header("Cookie", line));
    let answer = request.send();
    assert!(matches!(answer.status, 200 | 403), "{}", answer.everything());
    answer.status == 200
}

#[test]
fn a_junk_duplicate_on_the_wire_locks_nobody_out() {
    let app = asking(&[]);
    let pass = pass(&app, VISITOR, &[]);
    let name = name(&pass);
    let (value, long) = (&pass[name.len() + 1..], "A".repeat(9000));
    for junk in ["", "junk", "%ff%fe", "\"", &value[..value.len() - 8], &long] {
        let junk = format!("{name}={junk}");
        let around = format!("{junk}; {pass}; a=b; {junk}");
        let many = [vec![junk.as_str(); 50], vec![&pass], vec![junk.as_str(); 50]].concat();
        assert!(enters(&app, VISITOR, &[format!("{junk}; {pass}").as_bytes()]), "{junk:.50} before it");
        assert!(enters(&app, VISITOR, &[format!("{pass}; {junk}").as_bytes()]), "{junk:.50} behind it");
        assert!(enters(&app, VISITOR, &[around.as_bytes()]), "{junk:.50} around it");
        assert!(enters(&app, VISITOR, &[pass.as_bytes(), junk.as_bytes()]), "{junk:.50} in a line behind it");
        assert!(enters(&app, VISITOR, &[junk.as_bytes(), pass.as_bytes()]), "{junk:.50} in a line before it");
        if junk.len() < 1000 {
            assert!(enters(&app, VISITOR, &[many.join("; ").as_bytes()]), "{junk:.50} many times");
        }
        assert!(!enters(&app, VISITOR, &[junk.as_bytes()]), "{junk:.50} alone");
    }
    assert!(
        enters(&app, VISITOR, &[b"x=\xff", pass.as_bytes()]),
        "a line that nobody can read takes no other one along"
    );
}

#[test]
fn the_pass_of_https_has_a_name_that_plain_http_does_not_touch() {
    let app = asking(&[]);
    let https = send(&app, VISITOR, &solution(&app, VISITOR), &[("X-Forwarded-Proto", "https")]);
    let cookie = https.header("Set-Cookie").expect("a pass").to_owned();
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    for attribute in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "a browser would not take it: {cookie}");
    let (secure, plain) = (https.set_cookie(), pass(&app, VISITOR, &[("X-Forwarded-Proto", "http")]));
    assert_ne!(name(&secure), name(&plain));
    for kept in [&secure, &plain, &format!("{secure}; {plain}")] {
        assert!(enters(&app, VISITOR, &[kept.as_bytes()]), "{kept}");
    }
}

#[test]
fn two_deployments_on_one_host_leave_each_other_their_passes() {
    let (ours, theirs) = (asking(&[]), asking(&[("ROCKET_SECRET_KEY", THEIRS)]));
    let (pass_of_ours, pass_of_theirs) = (pass(&ours, VISITOR, &[]), pass(&theirs, VISITOR, &[]));
    assert_ne!(name(&pass_of_ours), name(&pass_of_theirs));
    let both = format!("{pass_of_ours}; {pass_of_theirs}");
    assert!(enters(&ours, VISITOR, &[both.as_bytes()]) && enters(&theirs, VISITOR, &[both.as_bytes()]));
    assert!(!enters(&ours, VISITOR, &[pass_of_theirs.as_bytes()]));
    assert!(!enters(&theirs, VISITOR, &[pass_of_ours.as_bytes()]));
    // A second instance of ours reads what the first one wrote, under the same name.
    let second = asking(&[]);
    assert_eq!(name(&pass(&second, VISITOR, &[])), name(&pass_of_ours));
    assert!(enters(&second, VISITOR, &[pass_of_ours.as_bytes()]));
}

#[test]
fn who_comes_by_ipv4_and_ipv6_keeps_both_passes() {
    let app = asking(&[]);
    let (v4, v6) = (pass(&app, VISITOR, &[]), pass(&app, "2001:db8::9", &[]));
    assert_ne!(name(&v4), name(&v6));
    let both = format!("{v4}; {v6}");
    assert!(enters(&app, VISITOR, &[both.as_bytes()]) && enters(&app, "2001:db8::9", &[both.as_bytes()]));
}

#[test]
fn a_challenge_that_is_answered_again_elsewhere_or_after_a_restart_gains_nothing() {
    // A challenge lives for half of that: time for a busy machine to launch once more.
    let settings = [("CROWDSEC_CAPTCHA_EXPIRATION", "50s")];
    let (one, other) = (asking(&settings), asking(&settings));
    let solution = solution(&one, VISITOR);
    let pass_of = |app: &App| {
        let answer = send(app, VISITOR, &solution, &[]);
        assert_eq!(answer.status, 303, "{}", answer.everything());
        answer.set_cookie()
    };
    let first = pass_of(&one);
    // The later passes would gain these 6 s, if they counted from when the answer came.
    sleep(Duration::from_secs(6));
    drop(one);
    let restarted = asking(&settings);
    let later = [pass_of(&other), pass_of(&restarted)];
    assert!(later.iter().all(|pass| enters(&other, VISITOR, &[pass.as_bytes()])));
    eventually("the first pass ends", || !enters(&other, VISITOR, &[first.as_bytes()]));
    for app in [&other, &restarted] {
        assert!(!later.iter().any(|pass| enters(app, VISITOR, &[pass.as_bytes()])), "all of them end with it");
        assert_eq!(send(app, VISITOR, &solution, &[]).status, 403, "nor does another one come of it");
    }
}

#[test]
fn junk_from_an_address_and_from_a_crowd_keeps_no_right_proof_of_work_out() {
    let app = asking(&[]);
    for n in 0..30 {
        assert_eq!(send(&app, VISITOR, "junk", &[]).status, 403);
        let of_the_crowd = format!("2001:db8:0:{n:x}::1");
        (0..30).for_each(|_| assert_eq!(send(&app, &of_the_crowd, "junk", &[]).status, 403));
    }
    for visitor in [VISITOR, "198.51.100.10", "2001:db8:0:3::2", "2001:db8:0:ffff::1"] {
        pass(&app, visitor, &[]);
    }
}

/// A provider that knows one right answer. It names the host of an answer only where `host` says one.
fn provider(host: Option<&'static str>) -> FakeServer {
    FakeServer::start(move |seen: &Seen| {
        let right = seen.form("response").as_deref() == Some("right");
        match host {
            Some(host) => Reply::json(&json!({ "success": right, "hostname": host })),
            None => Reply::json(&json!({ "success": right })),
        }
    })
}

fn third_party(verify_url: &str, hostnames: &str) -> App {
    asking(&[
        ("CROWDSEC_CAPTCHA_PROVIDER", "turnstile"),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", ""),
        ("CROWDSEC_CAPTCHA_SITE_KEY", "the-site-key"),
        ("CROWDSEC_CAPTCHA_SECRET_KEY", "the-secret-key"),
        ("CROWDSEC_CAPTCHA_VERIFY_URL", verify_url),
        ("CROWDSEC_CAPTCHA_HOSTNAMES", hostnames),
    ])
}

fn answer(app: &App, address: &str, answer: &str) -> Answer {
    let form = [("cf-turnstile-response", answer)];
    app.request("POST", "/crowdsec/captcha").from(address).form(&form).send()
}

#[test]
fn where_hosts_are_named_a_yes_without_a_host_is_none() {
    for (said, named, status) in [
        (None, "", 303),
        (None, "shop.example", 403),
        (Some(""), "shop.example", 403),
        (Some("evil.example"), "shop.example", 403),
        (Some("shop.example.evil.example"), "shop.example", 403),
        (Some("shop.example"), "shop.example", 303),
        (Some("evil.example"), "", 303),
    ] {
        let server = provider(said);
        let told = answer(&third_party(&server.url(), named), VISITOR, "right");
        assert_eq!(told.status, status, "{said:?} {named:?}: {}", told.everything());
        assert_eq!(told.header("Set-Cookie").is_some(), status == 303);
    }
}

#[test]
fn a_crowd_of_guessers_makes_no_newcomer_wait_and_right_answers_never_count() {
    let server = provider(None);
    let app = third_party(&server.url(), "");
    for n in 0..40 {
        let guesser = format!("2001:db8:0:{n:x}::1");
        let told = (0..40).map(|_| answer(&app, &guesser, "guess").status).find(|status| *status != 403);
        assert_eq!(told, Some(429), "{guesser}");
    }
    for n in 0x100..0x200 {
        let newcomer = format!("2001:db8:0:{n:x}::1");
        assert_eq!(answer(&app, &newcomer, "guess").status, 403, "their first one, which is wrong");
        assert_eq!(answer(&app, &newcomer, "right").status, 303, "and their second one, which is right");
    }
    for _ in 0..60 {
        assert_eq!(answer(&app, VISITOR, "right").status, 303);
    }
}

// --- the secret in a file, and another secret ---

#[test]
fn a_pass_holds_wherever_the_secret_comes_from_and_ends_with_it() {
    let folder = Folder::empty();
    let file = |name: &str, secret: &str| {
        folder.write(name, format!("{secret}\n"));
        folder.path(name).display().to_string()
    };
    let (ours, theirs) = (file("ours", OURS), file("theirs", THEIRS));
    let in_file = |path: &str| {
        asking(&[("ROCKET_SECRET_KEY", ""), ("CROWDSEC_ROCKET_SECRET_KEY_FILE", path), ("ROCKET_PROFILE", "debug")])
    };
    let by_variable = asking(&[]);
    let granted = pass(&by_variable, VISITOR, &[]);
    let by_file = in_file(&ours);
    assert!(enters(&by_file, VISITOR, &[granted.as_bytes()]), "another instance, with the same secret in a file");
    let bytes: Vec<String> = (b'0'..=b'9').map(|byte| byte.to_string()).collect();
    let listed = || {
        asking(&[("ROCKET_SECRET_KEY", &format!("[{}]", [&bytes[..], &bytes, &bytes, &bytes[..2]].concat().join(",")))])
    };
    let granted_by_list = pass(&listed(), VISITOR, &[]);
    assert!(enters(&listed(), VISITOR, &[granted_by_list.as_bytes()]), "another instance, with the same list of bytes");
    // After a rotation nobody's old pass counts; whoever solves the captcha again is in.
    let rotated = in_file(&theirs);
    assert!(!enters(&rotated, VISITOR, &[granted.as_bytes()]));
    let anew = pass(&rotated, VISITOR, &[]);
    assert!(
        enters(&rotated, VISITOR, &[anew.as_bytes()])
            && enters(&rotated, VISITOR, &[granted.as_bytes(), anew.as_bytes()])
    );
}

#[test]
fn a_file_that_holds_no_secret_key_stops_the_launch_without_showing_it() {
    let folder = Folder::empty();
    let path = folder.path("secret").display().to_string();
    let told = |text: Option<&str>, more: (&str, &str)| {
        match text {
            Some(text) => fs::write(&path, text).expect("a file"),
            None => fs::remove_file(&path).expect("it was there"),
        }
        let ended =
            App::fails_to_start(&[("CROWDSEC_ROCKET_SECRET_KEY_FILE", &path), ("ROCKET_PROFILE", "debug"), more]);
        assert!(!ended.status.success() && ended.log.contains("rocket_secret_key_file"), "{}", ended.log);
        assert!(text.is_none_or(|text| text.trim().is_empty() || !ended.log.contains(text.trim())), "{}", ended.log);
        ended.log
    };
    for text in ["too-short", "", "${SECRET_KEY}", "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"] {
        assert!(told(Some(text), ("ROCKET_SECRET_KEY", "")).contains("openssl rand -base64 32"), "{text}");
    }
    assert!(told(Some(OURS), ("ROCKET_SECRET_KEY", THEIRS)).contains("are both set, and differ"));
    assert!(told(None, ("ROCKET_SECRET_KEY", "")).contains("cannot read"));
}
