//! What do the refused see? The ban and captcha pages, their answers to programs, and the routes around them.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Cursor;
use std::time::{Duration, Instant};

use figment::Figment;
use rand::Rng;
use rocket::form::{Form, FromForm};
use rocket::http::uri::Origin;
use rocket::http::{Accept, ContentType, CookieJar, Header, MediaType, Method, RawStr, Status};
use rocket::outcome::IntoOutcome;
use rocket::request::{FromRequest, Outcome};
use rocket::response::{self, Redirect, Responder, Response};
use rocket::serde::json::{Json, Value, json};
use rocket::{Request, Route, State, get, head, post, routes, uri};
use rocket_dyn_templates::{Engines, Template, context, tera};
use serde::Serialize;

use super::bouncer::{Asked, Bouncer, Judgement, OUR_RANK, Verdict};
use super::captcha::{self, Captcha, Widget};
use super::config::template_dir;
use super::guard::DecisionView;
use super::path::return_to;
use super::poller::Health;
use super::session;
use super::texts::{Language, Texts};

/// Where the fairing sends a refused request. Nobody else finds anything there.
pub fn refused_uri() -> Origin<'static> {
    uri!("/crowdsec/refused")
}

pub fn routes(debug: bool) -> Vec<Route> {
    let always = routes![refused, refused_head, show_captcha, check_captcha, health];
    let for_owners = routes![preview_ban, preview_captcha];
    let mut routes = if debug { [always, for_owners].concat() } else { always };
    routes.iter_mut().for_each(|route| route.rank = OUR_RANK);
    routes
}

/// The request as it came in, wherever it is by now.
fn asked<'r>(request: &'r Request<'_>, judgement: &'r Judgement) -> &'r Asked {
    judgement.asked.get().unwrap_or_else(|| request.local_cache(|| Asked::now(request)))
}

/// One answer of the bouncer's own, as a page or as `application/problem+json`.
pub struct Refusal {
    status: Status,
    kind: Kind,
    /// What went wrong with the last try at the captcha: `missing`, `wrong`, `away`, `too_many`, `expired`, `no_cookie`.
    problem: Option<&'static str>,
    retry_after: Option<Duration>,
    /// `None`: where the request itself wanted to go.
    return_to: Option<String>,
    /// Whether something was sent along that did not arrive.
    not_sent: bool,
    preview: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ban,
    Captcha,
    Starting,
}

impl Kind {
    /// The name of the template, and of the problem's type.
    fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Captcha => "captcha",
            Self::Starting => "starting",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Ban => "Access denied",
            Self::Captcha => "Captcha required",
            Self::Starting => "Not ready yet",
        }
    }
}

impl Refusal {
    fn new(status: Status, kind: Kind) -> Self {
        Self { status, kind, problem: None, retry_after: None, return_to: None, not_sent: false, preview: false }
    }

    /// The answer to a request that the judgement refuses; `None` for one that it admits.
    pub fn of(request: &Request<'_>, bouncer: &Bouncer, judgement: &Judgement) -> Option<Self> {
        Some(match judgement.verdict {
            Verdict::Admit => return None,
            Verdict::Ban | Verdict::Hidden => Self::new(Status::Forbidden, Kind::Ban),
            Verdict::NotYet => Self {
                retry_after: Some(Duration::from_secs(5)),
                ..Self::new(Status::ServiceUnavailable, Kind::Starting)
            },
            Verdict::Captcha => {
                let lately = bouncer.solved.is_spent(judgement.subject(), Instant::now());
                let (problem, not_sent) = (lately.then_some("no_cookie"), !is_safe(asked(request, judgement).method));
                Self { problem, not_sent, ..Self::new(Status::Forbidden, Kind::Captcha) }
            }
        })
    }

    fn captcha(status: Status, problem: &'static str, return_to: String) -> Self {
        Self { problem: Some(problem), return_to: Some(return_to), ..Self::new(status, Kind::Captcha) }
    }

    fn return_to(&self, request: &Request<'_>, judgement: &Judgement) -> String {
        let wanted = || match asked(request, judgement) {
            Asked { method, uri, .. } if is_safe(*method) => return_to(uri),
            _ => back_by_referer(request),
        };
        self.return_to.clone().unwrap_or_else(wanted)
    }

    /// Nothing of why: whoever is refused must not learn how to be refused less.
    fn json(&self, request: &Request<'_>, judgement: &Judgement) -> Value {
        let mut json = json!({
            "type": format!("urn:crowdsec:{}", self.kind.name()),
            "title": self.kind.title(),
            "status": self.status.code,
        });
        if self.kind == Kind::Captcha {
            let back = RawStr::new(&self.return_to(request, judgement)).percent_encode().into_owned();
            json["captcha_url"] = format!("/crowdsec/captcha?return_to={back}").into();
        }
        json
    }

    /// The page, and the content security policy that fits it.
    fn page(&self, request: &Request<'_>, bouncer: &Bouncer, judgement: &Judgement) -> Option<(String, String)> {
        let mut nonce = [0; 32];
        rand::rng().fill_bytes(&mut nonce);
        // 128 bits of chance.
        let nonce = nonce.map(|byte| b'a' + byte % 16);
        let nonce = str::from_utf8(&nonce).ok()?;
        let (widget, sources) = match (self.kind, &bouncer.captcha) {
            (Kind::Captcha, Some(captcha)) => {
                let widget = captcha.widget(judgement.subject());
                let widget = widget.inspect_err(|reason| log::error!("No captcha can be made: {reason}.")).ok()?;
                (Some(widget), captcha.content_sources())
            }
            _ => (None, String::new()),
        };
        let policy = content_security_policy(nonce, &sources);
        let page = request.rocket().state::<Texts>()?.with(request, |language| {
            let make = |address: &str, nonce: &str| {
                let decision = match (&judgement.standing, self.preview) {
                    (Some(standing), _) => Some(DecisionView::from(standing)),
                    (None, true) => Some(DecisionView::example(self.kind.name())),
                    (None, false) => None,
                };
                let return_to = self.return_to(request, judgement);
                let variables = self.variables(language, address, return_to, decision, widget.as_ref(), nonce);
                Template::show(request.rocket(), self.kind.name(), variables)
            };
            match &language.ban_page {
                Some(kept) if self.kind == Kind::Ban => kept.page(judgement.address, nonce, make),
                _ => make(&judgement.address.to_string(), nonce),
            }
        });
        Some((page?, policy))
    }

    /// templates/refusal.html.tera has the list for those who edit the pages.
    fn variables(
        &self,
        language: &Language,
        address: &str,
        return_to: String,
        decision: Option<DecisionView>,
        widget: Option<&Widget>,
        nonce: &str,
    ) -> impl Serialize {
        context! {
            app: env!("CARGO_PKG_NAME"),
            lang: &language.tag,
            text: &language.words,
            address,
            return_to,
            status: self.status.code,
            decision,
            captcha: widget,
            problem: self.problem,
            retry_after: self.retry_after.map(|wait| wait.as_secs().max(1)),
            not_sent: self.not_sent,
            preview: self.preview,
            nonce,
        }
    }

    /// Every case that a page may tell apart, for a trial at the launch.
    fn trials() -> Vec<Self> {
        let ban = Self::new(Status::Forbidden, Kind::Ban);
        let starting =
            Self { retry_after: Some(Duration::from_secs(5)), ..Self::new(Status::ServiceUnavailable, Kind::Starting) };
        let captcha =
            |problem| Self { problem, not_sent: problem.is_none(), ..Self::new(Status::Forbidden, Kind::Captcha) };
        let problems = ["missing", "wrong", "away", "too_many", "expired", "no_cookie"];
        let later = [5, 120]
            .map(|seconds| Self { retry_after: Some(Duration::from_secs(seconds)), ..captcha(Some("too_many")) });
        let captchas = problems.map(|problem| captcha(Some(problem))).into_iter().chain(later).chain([captcha(None)]);
        [ban, starting].into_iter().chain(captchas).collect()
    }
}

/// Has `Template::try_custom` try each page of the bouncer's, in every language, with and without a decision. What is missing
/// stops the launch; in the debug profile it is a warning, at the launch and after each edit, since bare words stand in.
pub fn try_pages(figment: &Figment) -> impl Fn(&mut Engines) -> Result<(), Box<dyn Error>> + Send + Sync + 'static {
    let (templates, debug) = (template_dir(figment), figment.profile() == rocket::Config::DEBUG_PROFILE);
    move |engines| {
        // Where the words cannot be read, the fairing tells.
        let Ok(texts) = Texts::read(&templates, true) else { return Ok(()) };
        let mut problems = BTreeMap::new();
        for (refusal, language) in
            Refusal::trials().iter().flat_map(|trial| texts.all().iter().map(move |it| (trial, it)))
        {
            let page = refusal.kind.name();
            let widgets =
                if refusal.kind == Kind::Captcha { Vec::from(Widget::examples().map(Some)) } else { vec![None] };
            for (widget, decision) in
                widgets.iter().flat_map(|widget| [None, Some(DecisionView::example(page))].map(|it| (widget, it)))
            {
                let variables =
                    refusal.variables(language, "192.0.2.1", "/".into(), decision, widget.as_ref(), "nonce");
                let made =
                    tera::Context::from_serialize(variables).and_then(|context| engines.tera.render(page, &context));
                if let Err(error) = made {
                    problems.entry(root_cause(&error)).or_insert((page, &language.tag));
                }
            }
        }
        for (cause, (page, tag)) in &problems {
            let told = format!(
                "The page `{page}` cannot be made, in [{tag}] of texts.toml: {cause}. A missing word belongs into [default] there; templates/refusal.html.tera lists the variables."
            );
            if debug { log::warn!("{told}") } else { log::error!("{told}") }
        }
        if debug || problems.is_empty() { Ok(()) } else { Err("pages of the bouncer's cannot be made".into()) }
    }
}

/// Tera's outermost error names the template alone.
fn root_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

impl<'r> Responder<'r, 'static> for Refusal {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let bouncer = request.rocket().state::<Bouncer>().ok_or(Status::InternalServerError)?;
        let judgement = bouncer.judgement(request);
        let mut response = Response::build();
        let (kind, vary, body) = if wants_json(request) {
            ("application/problem+json", "Accept", self.json(request, judgement).to_string())
        } else {
            let body = match self.page(request, bouncer, judgement) {
                Some((page, policy)) => {
                    response.header(Header::new("Content-Security-Policy", policy));
                    // A captcha's provider must not learn which page it was. A ban page asks nobody, and is made often.
                    if self.kind == Kind::Captcha {
                        response.header(Header::new("Referrer-Policy", "same-origin"));
                    }
                    page
                }
                // A slip in a template must not make a refusal anything but a refusal: bare words stand in.
                None => {
                    let slip = format!("The template `{}` cannot be rendered", self.kind.name());
                    log::error!("{slip}; see the lines above.");
                    if self.preview { format!("{slip}: the log says why.") } else { self.kind.title().into() }
                }
            };
            ("text/html; charset=utf-8", "Accept, Accept-Language", body)
        };
        response.status(self.status).header(Header::new("Content-Type", kind)).header(Header::new("Vary", vary));
        // A cache must neither keep a refusal nor hand it to somebody else.
        response.header(Header::new("Cache-Control", "no-store"));
        if let Some(wait) = self.retry_after {
            response.header(Header::new("Retry-After", wait.as_secs().max(1).to_string()));
        }
        // In one piece: each further one is a system call, which a flood feels, and without the byte to spare Rocket makes
        // room for another one to see that there is none. A new body forgets the size of its pieces.
        let size = body.len();
        response.sized_body(size, Cursor::new(body)).max_chunk_size(size + 1).ok()
    }
}

/// Exactly what a page needs: its own style and script by nonce, the captcha provider's places, and no frame around it.
fn content_security_policy(nonce: &str, sources: &str) -> String {
    let own = [" 'nonce-", nonce, "' ", sources].concat();
    let own = own.trim_end();
    let frames = if sources.is_empty() { "'none'" } else { sources };
    let always =
        "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src 'self' data:";
    // `format!` takes four times as long.
    [always, "; style-src", own, "; script-src", own, "; connect-src ", frames, "; frame-src ", frames].concat()
}

/// The refused request's page, at the address that was asked for. HEAD has a route of its own: Rocket would try the
/// application's HEAD routes before a GET one.
#[get("/refused")]
fn refused(refusal: Refusal) -> Refusal {
    refusal
}

#[head("/refused")]
fn refused_head(refusal: Refusal) -> Refusal {
    refusal
}

/// Only for requests that the fairing sent here: for all others this route does not exist.
#[rocket::async_trait]
impl<'r> FromRequest<'r> for Refusal {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let refusal = request.rocket().state::<Bouncer>().and_then(|bouncer| {
            let judgement = bouncer.judgement(request);
            judgement.asked.get().and_then(|_| Self::of(request, bouncer, judgement))
        });
        refusal.or_forward(Status::NotFound)
    }
}

/// The captcha at an address of its own, for programs that were told `captcha_url`.
#[get("/captcha?<return_to>")]
fn show_captcha(return_to: Option<&str>, caller: Caller<'_>) -> Result<Leading, Refusal> {
    let back = super::path::return_to(return_to.unwrap_or("/"));
    match caller.judgement.verdict {
        Verdict::Captcha => Err(Refusal { return_to: Some(back), ..Refusal::new(Status::Forbidden, Kind::Captcha) }),
        _ => Ok(Leading::new(Redirect::to(back))),
    }
}

/// An answer to the captcha. Forging one from another site (CSRF) gains nothing: whoever makes a visitor's browser send
/// a right answer has solved the captcha for them, and all it does is let that visitor in.
#[derive(FromForm)]
struct Answer<'r> {
    #[field(default = "/")]
    return_to: &'r str,
    #[field(name = "g-recaptcha-response")]
    recaptcha: Option<&'r str>,
    #[field(name = "h-captcha-response")]
    hcaptcha: Option<&'r str>,
    #[field(name = "cf-turnstile-response")]
    turnstile: Option<&'r str>,
    altcha: Option<&'r str>,
}

impl<'r> Answer<'r> {
    fn to(&self, captcha: &Captcha) -> Option<&'r str> {
        let answer = match captcha.field() {
            "g-recaptcha-response" => self.recaptcha,
            "h-captcha-response" => self.hcaptcha,
            "cf-turnstile-response" => self.turnstile,
            _ => self.altcha,
        };
        answer.filter(|answer| !answer.is_empty())
    }
}

/// Judges an answer. The order spares the provider: nothing to solve, then too many tries, then no answer at all.
#[post("/captcha", data = "<answer>")]
async fn check_captcha(
    answer: Option<Form<Answer<'_>>>,
    caller: Caller<'_>,
    bouncer: &State<Bouncer>,
    cookies: &CookieJar<'_>,
) -> Result<Leading, Refusal> {
    let judgement = caller.judgement;
    let back = return_to(answer.as_ref().map_or("/", |answer| answer.return_to));
    // Solved in another tab, lifted meanwhile, or never asked: there is nothing to prove.
    let (Verdict::Captcha, Some(captcha)) = (judgement.verdict, &bouncer.captcha) else {
        return Ok(Leading::new(Redirect::to(back)));
    };
    let subject = judgement.subject();
    if let Err(wait) = bouncer.attempts.count(subject, Instant::now()) {
        let refusal = Refusal::captcha(Status::TooManyRequests, "too_many", back);
        return Err(Refusal { retry_after: Some(wait), ..refusal });
    }
    let Some(answer) = answer.as_ref().and_then(|answer| answer.to(captcha)) else {
        return Err(Refusal::captcha(Status::Forbidden, "missing", back));
    };
    match captcha.verify(answer, judgement.address).await {
        captcha::Verdict::Human => {
            let _ = bouncer.solved.count(subject, Instant::now());
            session::grant(cookies, subject, bouncer.config.captcha_expiration(), caller.https);
            Ok(Leading::new(Redirect::to(back)))
        }
        captcha::Verdict::Wrong => Err(Refusal::captcha(Status::Forbidden, "wrong", back)),
        captcha::Verdict::Expired => Err(Refusal::captcha(Status::Forbidden, "expired", back)),
        // Fails closed: nobody could tell, so nobody is let in; but it is not the visitor's fault, and it is said.
        captcha::Verdict::Away => {
            let refusal = Refusal::captcha(Status::ServiceUnavailable, "away", back);
            Err(Refusal { retry_after: Some(Duration::from_secs(30)), ..refusal })
        }
    }
}

/// An answer that no cache keeps.
#[derive(Responder)]
struct Uncached<T> {
    answer: T,
    cache: Header<'static>,
}

impl<T> Uncached<T> {
    fn new(answer: T) -> Self {
        Self { answer, cache: Header::new("Cache-Control", "no-store") }
    }
}

/// 303 to a place of this application.
type Leading = Uncached<Redirect>;

/// For load balancers: whether this instance is in step with CrowdSec, and nothing more.
#[get("/health")]
fn health(bouncer: &State<Bouncer>) -> Uncached<(Status, Json<Value>)> {
    let (status, word) = match bouncer.health() {
        Health::Ok => (Status::Ok, "ok"),
        Health::Starting => (Status::ServiceUnavailable, "starting"),
        Health::Stale => (Status::ServiceUnavailable, "stale"),
    };
    Uncached::new((status, Json(json!({ "status": word }))))
}

/// The pages for whoever edits them; a reload shows the change. Only in the debug profile.
#[get("/preview/ban")]
fn preview_ban() -> Refusal {
    Refusal { preview: true, ..Refusal::new(Status::Ok, Kind::Ban) }
}

#[get("/preview/captcha")]
fn preview_captcha() -> Refusal {
    Refusal { preview: true, ..Refusal::new(Status::Ok, Kind::Captcha) }
}

/// Who calls one of our own routes, and whether by HTTPS.
struct Caller<'r> {
    judgement: &'r Judgement,
    https: bool,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else {
            return Outcome::Error((Status::InternalServerError, ()));
        };
        Outcome::Success(Self { judgement: bouncer.judgement(request), https: bouncer.client_ip.is_https(request) })
    }
}

fn is_safe(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head)
}

/// The page a form was sent from, if it is one of this site's.
fn back_by_referer(request: &Request<'_>) -> String {
    let path = || {
        let referer = reqwest::Url::parse(request.headers().get_one("Referer")?).ok()?;
        let host = request.host()?;
        let same = referer.host_str()? == host.domain().as_str() && referer.port() == host.port();
        same.then(|| referer.path().to_owned())
    };
    return_to(&path().unwrap_or_default())
}

/// JSON when `Accept` ranks a JSON type above `text/html`, or names no HTML type while the request itself is JSON.
fn wants_json(request: &Request<'_>) -> bool {
    // Few speak of JSON at all, and reading the list takes longer than the rest of the answer. Rocket hashes a header's
    // name letter by letter, so that one walk over all is cheaper than two look-ups.
    let says_json = request.headers().iter().any(|header| {
        ["Accept", "Content-Type"].iter().any(|name| header.name() == *name)
            && header.value().to_ascii_lowercase().contains("json")
    });
    says_json && ranks_json(request.accept(), request.content_type())
}

fn ranks_json(accept: Option<&Accept>, content_type: Option<&ContentType>) -> bool {
    let is_json = |media: &MediaType| media.sub() == "json" || media.sub().as_str().to_lowercase().ends_with("+json");
    let is_html = |media: &MediaType| media.sub() == "html" || media.sub() == "xhtml+xml";
    // By weight, then named before wildcard, then the order given.
    let rank = |wanted: &dyn Fn(&MediaType) -> bool| {
        let medias = accept?.iter().enumerate().filter(|(_, media)| wanted(media.media_type()));
        let ranks = medias.map(|(place, media)| (media.weight_or(1.0), std::cmp::Reverse(place)));
        ranks.filter(|(weight, _)| *weight > 0.0).max_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    };
    let sends_json = content_type.is_some_and(|content_type| is_json(content_type.media_type()));
    match (rank(&is_json), rank(&is_html)) {
        (Some(json), Some(html)) => json > html,
        // A wildcard of greater weight would have HTML first.
        (Some((json, _)), None) => sends_json || rank(&|media| media.sub() == "*").is_none_or(|(any, _)| json >= any),
        (None, Some(_)) => false,
        (None, None) => sends_json,
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_gets_json_who_names_no_json(
            accept in prop_oneof![any::<String>(), "((text/html|application/json|a/b\\+JSON|\\*/\\*|text/\\*)(;q=[0-9.eNainf+-]{0,5}|;x=\"y\")?,? ?){0,5}"],
            content_type in prop_oneof![any::<String>(), "(application|text)/(json|x\\+json|html|x);?"],
        ) {
            let (read, sends) = (accept.parse::<Accept>().ok(), content_type.parse::<ContentType>().ok());
            let json = ranks_json(read.as_ref(), sends.as_ref());
            let named = [accept, content_type].concat().to_lowercase().contains("json");
            prop_assert!(named || !json);
        }
    }
}
