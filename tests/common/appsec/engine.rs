//! What does the stub's engine say to a question?

use std::sync::atomic::Ordering;

use super::wire::Reply;
use super::{ATTACK, GUIDES_PATH, KEY, Seen, State, Version};

impl State {
    /// The answer of an engine without a challenge.
    pub(super) fn rules(&self, seen: &Seen) -> Reply {
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
        if path == GUIDES_PATH && ["GET", "HEAD"].contains(&seen.told("verb").as_str()) {
            self.alerts.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(word) = path.strip_prefix("/word/") {
            return Reply(blocked, envelope(word, 403), false);
        }
        // The engine does not show these headers to its rules.
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

    pub(super) fn challenge(&self, seen: &Seen, grants: bool) -> Reply {
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

fn envelope(action: &str, status: u16) -> String {
    format!(r#"{{"action":"{action}","http_status":{status}}}"#)
}
