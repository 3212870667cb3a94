//! What do the pages look like? Each of them, in every state and language, for whoever edits them.

use std::time::Duration;

use rocket::http::Status;
use rocket::serde::json::json;
use rocket::{State, get};

use super::refusal::Refusal;
use super::texts::Texts;
use crate::crowdsec::bouncer::Verdict;

/// Every case that a page may tell apart, by its name.
pub fn cases() -> Vec<(&'static str, Refusal)> {
    let later = |seconds, refusal| Refusal { retry_after: Some(seconds), ..refusal };
    let captcha = || Refusal::new(Status::Forbidden, Verdict::Captcha);
    let problem = |problem| Refusal { problem: Some(problem), ..captcha() };
    vec![
        ("ban", Refusal::new(Status::Forbidden, Verdict::BAN)),
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
#[get("/preview/<page>?<lang>")]
pub fn preview(page: &str, lang: Option<&str>, texts: &State<Texts>) -> Result<Option<Refusal>, String> {
    // Whoever edits the words sees their mistake here; the page alone would show the words of the launch.
    let languages: Vec<String> = texts.now()?.iter().map(|words| words.lang.clone()).collect();
    let lang = lang.filter(|tag| languages.iter().any(|known| known == tag));
    let cases = cases();
    let pages: Vec<&str> = cases.iter().map(|(case, _)| *case).collect();
    let refusal = cases.into_iter().find(|(case, _)| *case == page).map(|(_, refusal)| refusal);
    // The links to all other pages. Where no language was asked for, the browser's counts.
    let preview = json!({ "lang": lang, "page": page, "pages": pages, "languages": languages });
    Ok(refusal.map(|refusal| Refusal { status: Status::Ok, preview: Some(preview), ..refusal }))
}
