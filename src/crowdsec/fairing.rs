//! Where do the bouncer's parts meet? In the fairing: wired at ignite, polling from liftoff, enforcing on each request.

mod protection;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use log::info;
use rocket::fairing::{Fairing, Info, Kind, Result};
use rocket::http::uri::Origin;
use rocket::http::{Method, Status, StatusClass};
use rocket::response::{Responder, Response};
use rocket::{Build, Data, Orbit, Request, Rocket};

use super::background::Background;
use super::bouncer::{Bouncer, REFUSED, Verdict, is_ours};
use super::captcha::Captcha;
use super::config::Config;
use super::lapi::{Live, Poller};
use super::pages::{self, Refusal, Texts, template_dir};
use super::setting::Problems;
use super::visitor::{ClientIp, Head};
use protection::{protection, without_crowdsec};

/// Protects the application. Attach it first: a request fairing that is attached before it sees a refused request as it
/// came; one that is attached after it sees the request already rerouted to the refusal.
pub fn fairing() -> impl Fairing {
    Enforcement::default()
}

#[derive(Default)]
struct Enforcement {
    /// Shared with each refused request until its answer has left.
    refusing: Arc<()>,
}

/// Kept with a refused request: the method with which it reaches our route, and a clone of `refusing`, which counts it.
struct Rerouted(Option<(Method, Arc<()>)>);

/// Headers that describe the body of an answer. They are removed where a page of ours replaces that body.
const OF_THE_BODY: [&str; 6] =
    ["Content-Disposition", "Content-Encoding", "Content-Language", "Content-Range", "ETag", "Last-Modified"];

#[rocket::async_trait]
impl Fairing for Enforcement {
    fn info(&self) -> Info {
        let when = Kind::Ignite | Kind::Liftoff | Kind::Request | Kind::Response;
        Info { name: "CrowdSec", kind: when | Kind::Singleton }
    }

    /// Reads the configuration and asks LAPI for the first time, so that no request is served before LAPI has answered
    /// or `on_startup_failure` has decided.
    async fn on_ignite(&self, rocket: Rocket<Build>) -> Result {
        match set_up(&rocket).await {
            Ok((bouncer, texts, poller)) => {
                let rocket = pages::mount(rocket, bouncer.debug).manage(bouncer).manage(texts);
                let rocket = rocket.attach(super::logs::must_be_attached());
                let rocket = rocket.attach(LastWord { refusing: Arc::downgrade(&self.refusing) });
                let Some((poller, thread)) = poller else { return Ok(rocket) };
                // The shutdown waits until the last snapshot is written, but at most 5 seconds: a disk may take as long.
                let patience = Duration::from_secs(5);
                Ok(thread.work(rocket, "CrowdSec's polls", patience, |shutdown| poller.run(shutdown)))
            }
            Err(Problems(problems)) => {
                for problem in problems {
                    log::error!("Cannot start: {problem}.");
                }
                Err(rocket)
            }
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let Some(bouncer) = rocket.state::<Bouncer>() else { return };
        if bouncer.lapi.connection.is_none() {
            without_crowdsec(&bouncer.config.decisions);
        }
        bouncer.client_ip.watch_databases();
        let (address, port) = (rocket.config().address, rocket.config().port);
        // The log shows lines with this target in the release profile too.
        info!(target: "crowdsec", "Listening on {}. {}", SocketAddr::new(address, port), protection(bouncer));
    }

    /// A fairing cannot answer, so a refused request is sent to a route of ours.
    async fn on_request(&self, request: &mut Request<'_>, data: &mut Data<'_>) {
        let Some(bouncer) = Bouncer::of(request) else { return };
        // Rocket turns a POST whose form says `_method=head` into a HEAD, and would send no body, though the browser waits for
        // one. As a GET, the request gets its body. After a real HEAD that has a body, hyper removes the answer's body.
        if request.method() == Method::Head && !data.peek(1).await.is_empty() {
            request.set_method(Method::Get);
        }
        let head = Head::of(request, &bouncer.client_ip);
        let if_unanswered = bouncer.ask(request, &head).await;
        let judgement = bouncer.judge(request, &head, if_unanswered);
        bouncer.judged[usize::from(judgement.address.is_ipv6())].fetch_add(1, Ordering::Relaxed);
        if let Some(header) = head.sign {
            bouncer.client_ip.look_for_forgotten(request, head.visitor, header);
        }
        if head.too_large.is_none() && bouncer.forgets(&judgement) {
            return pages::send_upload_on(request, data);
        }
        let visit = bouncer.remember(request, judgement);
        // The banned get the ban, however much they send.
        let refused = visit.is_refused().then_some(visit.judgement.verdict);
        let Some(verdict) = refused.or(head.too_large.map(Verdict::TooLarge)) else {
            if let Some(trial) = visit.judgement.trial.filter(|_| !visit.spared) {
                bouncer.note_trial(visit, visit.judgement.with(trial));
            }
            return pages::send_upload_on(request, data);
        };
        bouncer.refuse(visit, visit.judgement.with(verdict));
        pages::send_to_refusal(request);
        request.local_cache(|| Rerouted(Some((request.method(), self.refusing.clone()))));
    }

    /// Where a guard refused, puts the bouncer's page in place of the catcher's. Counts what the application refuses by
    /// itself: after a burst of such refusals CrowdSec is about to decide, so LAPI is asked sooner.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        // Some proxies take a connection for a WebSocket before we have said so, and hand on what comes next as the visitor
        // writes it, with an address of their choice. Where it becomes one, Rocket replaces this.
        if request.headers().contains("Upgrade") {
            response.set_raw_header("Connection", "close");
        }
        let status = response.status();
        if status.class() != StatusClass::ClientError && status != Status::ServiceUnavailable {
            return;
        }
        let Some(bouncer) = Bouncer::of(request) else { return };
        let visit = bouncer.visit(request);
        let Some((judgement, is_told)) = visit.wanted_by_guard() else {
            if visit.refusal().is_none() && status != Status::ServiceUnavailable && !is_ours(request) {
                bouncer.note_suspicion(&visit.judgement);
            }
            return;
        };
        let verdict = judgement.verdict;
        // With any other status the handler has answered itself: it took `Option<Cleared>`, or the like.
        if status != bouncer.status_of(verdict) {
            return;
        }
        let refused = visit.refused.get_or_init(|| judgement);
        if !is_told {
            bouncer.log(&visit.asked, refused);
        }
        // Where another judge answers, there is no page of ours: that judge's fairing puts its answer here.
        if let Some(Ok(page)) = Refusal::of(request, bouncer, verdict).map(|refusal| refusal.respond_to(request)) {
            OF_THE_BODY.iter().for_each(|name| response.remove_header(name));
            // Merged, so that the headers of other fairings and routes stay.
            response.merge(page);
        }
    }
}

/// Sends refused requests to the refusal once more. Attached at ignition, it comes after all fairings that the application
/// attaches: one of these may have given a request another address, or the method that its visitor named in a header. So it
/// also finds the catchers of the application's stages, but not of stages that another stage attaches.
struct LastWord {
    refusing: Weak<()>,
}

#[rocket::async_trait]
impl Fairing for LastWord {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's last word", kind: Kind::Ignite | Kind::Request }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> Result {
        Ok(pages::before_catchers(rocket))
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        // Most requests come while nobody is being refused, and are not looked at.
        if self.refusing.strong_count() > 1
            && let &Rerouted(Some((method, _))) = request.local_cache(|| Rerouted(None))
        {
            request.set_uri(Origin::path_only(REFUSED));
            request.set_method(method);
        }
    }
}

/// Everything that the fairing needs, made from the configuration.
async fn set_up(rocket: &Rocket<Build>) -> Result<(Bouncer, Texts, Option<(Poller, Background)>), Problems> {
    let config = Config::read(rocket.figment())?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    let secret = config.shared_secret.as_ref();
    let captcha = config.captcha.as_ref().map(|captcha| Captcha::new(captcha, secret)).transpose()?;
    let texts = Texts::read(&template_dir(rocket.figment()), &config.pages)?;
    let Config { debug, bouncer, lapi, visitor, shared_secret, .. } = config;
    let mut bouncer = Bouncer::new(debug, bouncer, lapi, ClientIp::new(visitor), captcha);
    let Some(connection) = &bouncer.lapi.connection else {
        return Ok((bouncer, texts, None));
    };
    let (set, contact) = (bouncer.decisions.clone(), bouncer.contact.clone());
    let live = bouncer.lapi.live.as_ref();
    let live = live.map(|live| Live::new(connection, live, set.clone(), contact.clone())).transpose()?;
    let poller = Poller::new(connection, &bouncer.lapi, set, contact, shared_secret.as_ref(), live.clone())?;
    bouncer.live = live;
    let thread = Background::start("crowdsec")?;
    let poller = thread.runtime.spawn(poller.first_answer(bouncer.lapi.startup_timeout)).await??;
    Ok((bouncer, texts, Some((poller, thread))))
}
