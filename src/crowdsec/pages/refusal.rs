//! What does the bouncer answer to a visitor whom it refuses?

use std::io::Cursor;
use std::time::{Duration, Instant};

use rocket::Request;
use rocket::http::{Header, RawStr, Status};
use rocket::response::{self, Responder, Response};
use rocket::serde::json::{Value, json};
use serde::Serialize;

use super::negotiation::{FORMAT_HEADERS, asks_for_part, is_from_htmx, wants_json};
use super::return_to::{back_by_referer, only_reads, safe_place};
use crate::crowdsec::bouncer::{Asked, Bouncer, Verdict, Visit};

/// One answer of the bouncer's own, as a page or as `application/problem+json`. Templates see it.
#[derive(Serialize)]
pub struct Refusal {
    pub status: Status,
    /// A verdict that has a page. Names the template, and the `type` in JSON.
    #[serde(skip)]
    pub verdict: Verdict,
    /// What went wrong with the last try at the captcha: `missing`, `wrong`, `away`, `too_many`, `expired`, `cookie_lost`.
    pub problem: Option<&'static str>,
    /// In seconds.
    pub retry_after: Option<u64>,
    /// Where the visitor goes on to; `None` for where the request itself wanted to go.
    #[serde(skip)]
    pub back: Option<String>,
    /// Whether the visitor sent something, such as a form, that did not arrive.
    pub not_sent: bool,
    /// What a preview shows around the page; `None` for a refused visitor.
    pub preview: Option<Value>,
}

impl Refusal {
    pub fn new(status: Status, verdict: Verdict) -> Self {
        Self { status, verdict, problem: None, retry_after: None, back: None, not_sent: false, preview: None }
    }

    /// The answer to a request that is refused; `None` for one that is not, or whose answer is no page.
    pub fn of(request: &Request<'_>, bouncer: &Bouncer, verdict: Verdict) -> Option<Self> {
        let visit = bouncer.visit(request);
        let status = bouncer.status_of(verdict);
        Some(match verdict {
            Verdict::Admit | Verdict::TooLarge(_) | Verdict::Answered => return None,
            Verdict::Ban(_) | Verdict::Hidden => Self::new(status, Verdict::BAN),
            Verdict::Throttle(wait) => Self { retry_after: Some(whole_seconds(wait)), ..Self::new(status, verdict) },
            Verdict::NotYet => Self { retry_after: Some(5), ..Self::new(status, verdict) },
            Verdict::Captcha => Self { not_sent: !only_reads(visit.asked.method), ..Self::new(status, verdict) },
        })
    }

    fn title(&self) -> &'static str {
        match self.verdict {
            Verdict::Captcha => "Captcha required",
            Verdict::Throttle(_) => "Too many requests",
            Verdict::NotYet => "Not ready yet",
            _ => "Access denied",
        }
    }

    /// Where the visitor goes on to: what they asked for, or, if a script or a form sent the request, the page that it
    /// came from.
    pub fn way_back(&self, request: &Request<'_>, visit: &Visit, prefix: &str) -> String {
        let wanted = || match &visit.asked {
            Asked { method, uri } if only_reads(*method) && !asks_for_part(request) => safe_place(uri),
            _ => back_by_referer(request, prefix),
        };
        format!("{prefix}{}", self.back.clone().unwrap_or_else(wanted))
    }

    fn captcha_url(&self, request: &Request<'_>, visit: &Visit, prefix: &str) -> String {
        let back = self.way_back(request, visit, prefix);
        // Without `anew` a visitor whom no decision asks for a captcha would be led on.
        let anew = if visit.judgement.verdict == Verdict::Captcha { "" } else { "&anew=1" };
        format!("{prefix}/crowdsec/captcha?return_to={}{anew}", RawStr::new(&back).percent_encode())
    }

    /// A slip in a template must not undo a refusal: bare words stand in for the page, and load nothing.
    fn bare_words(&self) -> (String, String) {
        let slip = format!("The template `{}` cannot be rendered", self.verdict.name());
        log::error!("{slip}; see the lines above.");
        let words = if self.preview.is_some() { format!("{slip}: the log says why.") } else { self.title().into() };
        (words, "default-src 'none'; frame-ancestors 'self'".into())
    }

    /// Does not say why: a refused visitor must not learn how to be refused less.
    fn json(&self, captcha_url: Option<&str>) -> Value {
        let mut json = json!({
            "type": format!("urn:crowdsec:{}", self.verdict.name()),
            "title": self.title(),
            "status": self.status.code,
        });
        if let Some(captcha_url) = captcha_url {
            json["captcha_url"] = captcha_url.into();
        }
        json
    }
}

/// Rounded up: a visitor who comes back after this time must not be refused again.
pub fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_millis().div_ceil(1000) as u64).max(1)
}

impl<'r> Responder<'r, 'static> for Refusal {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let bouncer = Bouncer::of(request).ok_or(Status::InternalServerError)?;
        let visit = bouncer.visit(request);
        let mut response = Response::build();
        let flood = || self.verdict == Verdict::BAN && bouncer.ban_pages.count((), Instant::now()).is_err();
        let prefix = bouncer.client_ip.prefix(request);
        let captcha_url = (self.verdict == Verdict::Captcha).then(|| self.captcha_url(request, visit, prefix));
        if is_from_htmx(request) {
            // htmx does not swap a refusal into the page, so the whole page has to go. For a ban it goes to what was
            // asked for, where the ban page stands: the page around may be served, and if it was loaded again it would
            // ask again.
            let Asked { method, uri } = &visit.asked;
            let banned = (self.verdict == Verdict::BAN).then_some(only_reads(*method));
            match (&captcha_url, banned) {
                (Some(captcha_url), _) => _ = response.header(Header::new("HX-Redirect", captcha_url.clone())),
                (None, Some(true)) if safe_place(uri) == *uri => {
                    response.header(Header::new("HX-Redirect", format!("{prefix}{uri}")));
                }
                (None, Some(false)) if visit.is_refused() => _ = response.header(Header::new("HX-Refresh", "true")),
                _ => {}
            }
        }
        let mut vary = FORMAT_HEADERS.to_owned();
        let (kind, body) = if wants_json(request) {
            ("application/problem+json", self.json(captcha_url.as_deref()).to_string())
        } else if flood() {
            ("text/html; charset=utf-8", self.title().into())
        } else {
            let (body, policy) = self.page(request, bouncer, prefix).unwrap_or_else(|| self.bare_words());
            response.header(Header::new("Content-Security-Policy", policy));
            // A captcha's provider must not learn which page was asked for. A ban page asks nobody, and is made often.
            if self.verdict == Verdict::Captcha {
                response.header(Header::new("Referrer-Policy", "same-origin"));
            }
            vary += ", Accept-Language";
            ("text/html; charset=utf-8", body)
        };
        response.status(self.status).header(Header::new("Content-Type", kind)).header(Header::new("Vary", vary));
        // A cache must neither keep a refusal nor hand it to somebody else.
        response.header(Header::new("Cache-Control", "no-store"));
        if self.verdict != Verdict::NotYet {
            response.header(Header::new("Crowdsec-Remediation", self.verdict.name()));
        }
        if let Some(seconds) = self.retry_after {
            response.header(Header::new("Retry-After", seconds.to_string()));
        }
        // Sent in one chunk, since each further chunk is a system call. The chunk has one byte more than the body, or
        // Rocket makes its buffer grow to see the end. It is set after the body, which resets it.
        let size = body.len();
        response.sized_body(size, Cursor::new(body)).max_chunk_size(size + 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::net::SocketAddr;

    use rocket::Config;
    use rocket::figment::Figment;
    use rocket::http::StatusClass;
    use rocket::local::blocking::Client;
    use rocket_dyn_templates::Template;

    use super::*;

    #[test]
    fn in_a_flood_of_bans_only_the_ban_page_gives_way_to_bare_words() {
        let decision = |value, kind| BTreeMap::from([("value", value), ("type", kind)]);
        let kinds = [("192.0.2.1", "ban"), ("192.0.2.2", "captcha"), ("192.0.2.3", "throttle")];
        let decisions = kinds.map(|(value, kind)| decision(value, kind));
        // Pages of the test's own: the application's templates may lie anywhere.
        let templates = tempfile::tempdir().expect("a folder");
        for page in ["ban.html.tera", "captcha.html.tera", "starting.html.tera", "throttle.html.tera"] {
            fs::write(templates.path().join(page), "<h1>").expect("a page");
        }
        fs::write(templates.path().join("texts.toml"), "[default]").expect("words");
        let figment = Figment::from(Config::debug_default()).merge(("log_level", "off"));
        let figment = figment.merge(("template_dir", templates.path())).merge(("crowdsec.throttle", "1/10m"));
        let figment = figment.merge(("crowdsec.decisions", decisions)).merge(("crowdsec.captcha.provider", "altcha"));
        let rocket = rocket::custom(figment).attach(crate::crowdsec::fairing()).attach(Template::fairing());
        let client = Client::tracked(rocket).expect("a client");
        let get = |visitor: [u8; 4], accept| {
            let request =
                client.get("/").remote(SocketAddr::from((visitor, 4711))).header(Header::new("Accept", accept));
            let response = request.dispatch();
            assert_ne!(response.status().class(), StatusClass::Success);
            response.into_string().expect("a body")
        };
        let bouncer = client.rocket().state::<Bouncer>().expect("the bouncer");
        let flooded = || while bouncer.ban_pages.count((), Instant::now()).is_ok() {};
        assert!(get([192, 0, 2, 1], "text/html").contains("<h1>"));
        // The one request that the throttled may send: this application has no route.
        get([192, 0, 2, 3], "text/html");
        // The second that a flood is counted in may end between these two lines.
        let bare = (0..20).any(|_| {
            flooded();
            get([192, 0, 2, 1], "text/html") == "Access denied"
        });
        assert!(bare);
        flooded();
        assert!(get([192, 0, 2, 2], "text/html").contains("<h1>"), "a captcha has to be solved in a flood as well");
        assert!(get([192, 0, 2, 3], "text/html").contains("<h1>"), "of the throttled there is no such flood");
        assert!(get([192, 0, 2, 1], "application/json").contains("urn:crowdsec:ban"), "JSON costs little");
    }
}
