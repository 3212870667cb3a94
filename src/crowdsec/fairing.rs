//! Where does it all come together? The fairing: wired at ignite, polling from liftoff, enforcing on every request.

use std::path::{self, Path};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io, process, thread};

use rocket::fairing::{Fairing, Info, Kind, Result};
use rocket::futures::future::BoxFuture;
use rocket::http::Method;
use rocket::response::{Responder, Response};
use rocket::{Build, Data, Orbit, Request, Rocket};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bouncer::{Asked, Bouncer, Verdict, done};
use super::captcha::Captcha;
use super::config::{Config, OnStartupFailure, Problems, template_dir};
use super::guard::is_refused_by_guard;
use super::journal::Logs;
use super::lapi::Error;
use super::pages::{self, Refusal};
use super::poller::Poller;
use super::sensor;
use super::texts::Texts;

/// Protects the application. Attach it first: a request fairing before it would see refused requests as they came, one
/// after it sees them on their way to the refusal.
pub fn fairing() -> impl Fairing {
    Crowdsec { poller: Mutex::new(None), polling: Mutex::new(None) }
}

struct Crowdsec {
    /// Between ignite and liftoff.
    poller: Mutex<Option<(Poller, PollerThread)>>,
    /// Between liftoff and shutdown.
    polling: Mutex<Option<(JoinHandle<()>, PollerThread)>>,
}

/// A runtime of the poller's own, of one thread. On Rocket's, each worker would have to arm a timer whenever it waits for
/// a request, and the memory of LAPI's answers would lie between that of requests, which makes both dearer to come by.
struct PollerThread {
    runtime: Handle,
    /// The thread ends with it.
    _end: oneshot::Sender<()>,
}

impl PollerThread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        thread::Builder::new().name("crowdsec".into()).spawn(move || runtime.block_on(ended))?;
        Ok(Self { runtime: handle, _end: end })
    }
}

#[rocket::async_trait]
impl Fairing for Crowdsec {
    fn info(&self) -> Info {
        let when = Kind::Ignite | Kind::Liftoff | Kind::Request | Kind::Response | Kind::Shutdown;
        Info { name: "CrowdSec", kind: when | Kind::Singleton }
    }

    /// Reads the configuration and asks LAPI for the first time, so that no request is served before the first answer
    /// stands, or `on_startup_failure` has decided.
    async fn on_ignite(&self, rocket: Rocket<Build>) -> Result {
        match set_up(&rocket).await {
            Ok((bouncer, texts, poller)) => {
                *self.poller.lock().unwrap_or_else(PoisonError::into_inner) = poller;
                let routes = pages::routes(bouncer.config.debug);
                let access_log = bouncer.logs.access.clone();
                let rocket = rocket.manage(bouncer).manage(texts).mount("/crowdsec", routes);
                Ok(match access_log {
                    Some(access_log) => rocket.attach(access_log),
                    None => rocket,
                })
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
        if let Some(bouncer) = rocket.state::<Bouncer>().filter(|bouncer| bouncer.config.lapi.is_none()) {
            without_crowdsec(&bouncer.config);
        }
        if let Some((poller, thread)) = self.poller.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let polling = thread.runtime.spawn(poller.run(rocket.shutdown()));
            *self.polling.lock().unwrap_or_else(PoisonError::into_inner) = Some((polling, thread));
        }
    }

    /// Waits for the poller's last snapshot, as long as a disk may reasonably take.
    async fn on_shutdown(&self, _: &Rocket<Orbit>) {
        let polling = self.polling.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((polling, _thread)) = polling {
            let _ = timeout(Duration::from_secs(5), polling).await;
        }
    }

    /// A fairing cannot answer, so a refused request is sent to a route of ours, with the one method that it has. The
    /// address in the visitor's browser stays what it was, and no handler of the owner's sees the request. HEAD keeps
    /// its method, by which Rocket knows to send no body.
    ///
    /// It is `async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>)`, written out to wait for nothing.
    fn on_request<'a, 'b, 'c, 'd, 'e, 'f>(
        &'a self,
        request: &'b mut Request<'c>,
        _: &'d mut Data<'e>,
    ) -> BoxFuture<'f, ()>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        'e: 'f,
    {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else { return done() };
        let judgement = bouncer.judge(request);
        let refused = judgement.verdict != Verdict::Admit && !bouncer.spares(request, judgement.verdict);
        if refused {
            bouncer.log(&judgement);
            let _ = request.local_cache(|| judgement).asked.set(Asked::now(request));
            request.set_uri(pages::refused_uri());
            if request.method() != Method::Head {
                request.set_method(Method::Get);
            }
            return done();
        }
        sensor::arrived(request, bouncer, judgement.address);
        // Nothing stands against most visitors: for them there is nothing to remember.
        if judgement.standing.is_some() {
            request.local_cache(|| judgement);
        }
        done()
    }

    /// Puts the refusal's page where a guard refused: on its own, that would be the catcher's.
    fn on_response<'r, 'a, 'b, 'c, 'f>(
        &'a self,
        request: &'r Request<'b>,
        response: &'c mut Response<'r>,
    ) -> BoxFuture<'f, ()>
    where
        'r: 'f,
        'a: 'f,
        'b: 'f,
        'c: 'f,
    {
        if is_refused_by_guard(request, response.status()) {
            let Some(bouncer) = request.rocket().state::<Bouncer>() else { return done() };
            let refusal = Refusal::of(request, bouncer, bouncer.judgement(request));
            if let Some(Ok(page)) = refusal.map(|refusal| refusal.respond_to(request)) {
                // Merged, so that the headers of other fairings and routes stay.
                response.merge(page);
            }
        }
        done()
    }
}

type SetUp = (Bouncer, Texts, Option<(Poller, PollerThread)>);

async fn set_up(rocket: &Rocket<Build>) -> std::result::Result<SetUp, Problems> {
    let problem = |reason: &dyn ToString| Problems(vec![reason.to_string()]);
    let config = Config::read(rocket.figment())?;
    if !config.unknown_variables.is_empty() {
        log::warn!("Nothing here is called {}: check the spelling.", config.unknown_variables.join(", "));
    }
    let captcha = config.captcha.as_ref().map(|captcha| Captcha::new(captcha, &config)).transpose();
    let captcha = captcha.map_err(|reason| problem(&reason))?;
    let templates = template_dir(rocket.figment());
    let texts = Texts::read(&templates, config.debug || cfg!(debug_assertions)).map_err(|reason| {
        let at = path::absolute(&templates).unwrap_or(templates).join("texts.toml");
        problem(&format!("the words of the bouncer's pages cannot be read from {}: {reason}. Start the application in the folder that holds `templates` (systemd: WorkingDirectory=), or mend that file", at.display()))
    })?;
    if let Some(snapshot) = &config.snapshot {
        let told = |error| {
            format!(
                "`crowdsec.snapshot`: cannot write to {}: {error}. Make its folder, and let this user write there",
                snapshot.display()
            )
        };
        try_to_write(snapshot).map_err(|error| problem(&told(error)))?;
    }
    let logs = Logs::open(config.access_log.as_ref(), config.event_log.as_ref()).map_err(|reason| problem(&reason))?;
    let bouncer = Bouncer::new(config, captcha, logs);
    let Some(lapi) = &bouncer.config.lapi else { return Ok((bouncer, texts, None)) };
    let poller = Poller::new(lapi, &bouncer.config, bouncer.decisions.clone(), bouncer.status.clone());
    let poller = poller.map_err(|error| problem(&error))?;
    let thread = PollerThread::start();
    let thread = thread.map_err(|error| problem(&format!("the poller's thread cannot be started: {error}")))?;
    let answer = thread.runtime.spawn(async { (first_answer(poller, &bouncer).await, bouncer) });
    let (poller, bouncer) = answer.await.map_err(|panic| problem(&panic))?;
    Ok((bouncer, texts, Some((poller?, thread))))
}

/// Makes a file beside the one that is to be written later, and takes it away: what would fail in a minute fails now.
fn try_to_write(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".try-{}", process::id()));
    fs::File::create_new(&beside)?;
    fs::remove_file(&beside)
}

/// Waits for LAPI's first answer, as long as the operator said.
async fn first_answer(mut poller: Poller, bouncer: &Bouncer) -> std::result::Result<Poller, Problems> {
    let config = &bouncer.config;
    if poller.recall() {
        return Ok(poller);
    }
    let result = timeout(config.startup_timeout, poller.poll()).await.unwrap_or(Err(Error::TooSlow));
    let Err(error) = result else {
        let own = bouncer.config.decisions.len();
        let known = bouncer.decisions.len() - own;
        log::info!(
            "Connected to CrowdSec's LAPI at {}, which has {known} decisions. {own} are your own.",
            poller.address()
        );
        return Ok(poller);
    };
    let lapi = poller.address();
    if config.on_startup_failure == OnStartupFailure::Abort {
        return Err(Problems(vec![format!(
            "no first answer from LAPI at {lapi}: {error}. `on_startup_failure` is `abort`"
        )]));
    }
    poller.note(Err(error));
    match config.on_startup_failure {
        // Fails open, the default: an application that is down because its guard is late helps no visitor.
        OnStartupFailure::Open => log::warn!("Until it answers, visitors are let in: `on_startup_failure` is `open`."),
        // Fails closed, for those to whom an unprotected minute is worse than a minute without the application.
        _ => log::warn!("Until it answers, visitors get 503: `on_startup_failure` is `closed`."),
    }
    Ok(poller)
}

fn without_crowdsec(config: &Config) {
    log::warn!(
        "NOT CONNECTED TO CROWDSEC: no key is set, so only your own `crowdsec.decisions` are enforced. Beside CrowdSec run `cscli bouncers add {}`, and set CROWDSEC_API_KEY to the key it prints. Only the debug profile starts without.",
        env!("CARGO_PKG_NAME")
    );
    for own in &config.decisions {
        log::info!("{} meets: {}.", own.value.0, own.remediation);
    }
}
