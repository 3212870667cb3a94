//! What do the pages look like? Each of them, in every state and language, for whoever edits them.

use std::time::Duration;

use rocket::http::Status;
use rocket::{State, get};
use serde::Serialize;

use super::refusal::Refusal;
use super::words::Texts;
use crate::crowdsec::bouncer::Verdict;

/// What a page shows around itself while it is looked at: the way to all others.
#[derive(Clone, Serialize)]
pub struct Preview {
    /// The language that was asked for; without one it is the browser's.
    pub lang: Option<String>,
    page: String,
    pages: Vec<Link>,
    languages: Vec<Link>,
}

#[derive(Clone, Serialize)]
struct Link {
    name: String,
    url: String,
}

/// Every case that a page may tell apart, by its name.
pub fn cases() -> Vec<(&'static str, Refusal)> {
    let later = |seconds, refusal| Refusal { retry_after: Some(seconds), ..refusal };
    let captcha = || Refusal::new(Status::Forbidden, Verdict::Captcha);
    let problem = |problem| Refusal { problem: Some(problem), ..captcha() };
    vec![
        ("ban", Refusal::new(Status::Forbidden, Verdict::Ban)),
        ("captcha", captcha()),
        ("captcha-not-sent", Refusal { not_sent: true, ..captcha() }),
        ("captcha-missing", problem("missing")),
        ("captcha-wrong", problem("wrong")),
        ("captcha-expired", problem("expired")),
        ("captcha-cookie-lost", problem("cookie_lost")),
        ("captcha-away", later(30, problem("away"))),
        ("captcha-too-many", later(5, problem("too_many"))),
        ("captcha-too-many-for-minutes", later(120, problem("too_many"))),
        ("throttle", later(20, Refusal::new(Status::TooManyRequests, Verdict::Throttle(Duration::ZERO)))),
        ("starting", later(5, Refusal::new(Status::ServiceUnavailable, Verdict::NotYet))),
    ]
}

/// One page; a reload shows what was edited. Only in the debug profile.
#[get("/preview/<name>?<lang>")]
pub fn preview(name: &str, lang: Option<&str>, texts: &State<Texts>) -> Option<Refusal> {
    let url = |name: &str, lang: Option<&str>| {
        let query = lang.map_or(String::new(), |lang| format!("?lang={lang}"));
        format!("/crowdsec/preview/{name}{query}")
    };
    let languages = texts.languages.iter().map(|language| language.tag.as_str());
    let lang = lang.and_then(|tag| languages.clone().find(|known| *known == tag));
    let link = |label: &str, url| Link { name: label.to_owned(), url };
    let pages = cases().into_iter().map(|(case, _)| link(case, url(case, lang))).collect();
    let languages = languages.map(|tag| link(tag, url(name, Some(tag)))).collect();
    let (_, refusal) = cases().into_iter().find(|(case, _)| *case == name)?;
    let preview = Preview { lang: lang.map(str::to_owned), page: name.to_owned(), pages, languages };
    Some(Refusal { status: Status::Ok, preview: Some(Box::new(preview)), ..refusal })
}
