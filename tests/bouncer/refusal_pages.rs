//! What do the refused get? A page or JSON that does not say why. The bouncer's other pages are tested here too.

use app::crowdsec::Human;
use rocket::fairing::AdHoc;
use rocket::http::{ContentType, Method, Status};
use rocket::{get, routes};

use crate::common::{Visitor, app_with, client, copied_templates, figment, header, with_decisions};

#[test]
fn programs_are_told_in_json_and_learn_nothing_of_why() {
    let client = app_with(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")]);
    let json = |visitor| {
        let response = client.get("/a?b=c").header(header("Accept", "application/json")).visitor(visitor).dispatch();
        assert_eq!(response.status(), Status::Forbidden);
        assert_eq!(response.content_type(), Some(ContentType::new("application", "problem+json")));
        assert!(response.headers().get_one("Vary").unwrap().contains("Accept"));
        assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
        response.into_json::<rocket::serde::json::Value>().unwrap()
    };
    let keys = |json: &rocket::serde::json::Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let ban = json("192.0.2.1");
    assert_eq!(keys(&ban), ["status", "title", "type"]);
    assert_eq!(ban["status"], 403);
    let captcha = json("192.0.2.2");
    assert_eq!(keys(&captcha), ["captcha_url", "status", "title", "type"]);
    assert_eq!(captcha["captcha_url"], "/crowdsec/captcha?return_to=%2Fa%3Fb%3Dc");
    let there = client.get("/crowdsec/captcha?return_to=%2Fa%3Fb%3Dc").visitor("192.0.2.2").dispatch();
    assert!(there.into_string().unwrap().contains("value=\"&#x2F;a?b=c\""));
}

#[test]
fn a_refusal_is_written_in_one_piece() {
    let tell = AdHoc::on_response("Tells how long a piece may be", |_, response| {
        Box::pin(async move {
            let longest = response.body().max_chunk_size();
            response.set_raw_header("Longest-Piece", longest.to_string());
        })
    });
    let client = client(app::app(with_decisions(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")])).attach(tell));
    for visitor in ["192.0.2.1", "192.0.2.2"] {
        let response = client.get("/").visitor(visitor).dispatch();
        let longest: usize = response.headers().get_one("Longest-Piece").unwrap().parse().unwrap();
        let page = response.into_string().unwrap();
        assert_eq!(longest, page.len() + 1);
    }
}

#[test]
fn json_is_for_whom_it_ranks_above_html() {
    let client = app_with(&[("192.0.2.1", "ban")]);
    let is_json = |accept: Option<&'static str>, content_type: Option<ContentType>| {
        let mut request = client.post("/").visitor("192.0.2.1");
        if let Some(accept) = accept {
            request.add_header(header("Accept", accept));
        }
        if let Some(content_type) = content_type {
            request.add_header(content_type);
        }
        request.dispatch().content_type() == Some(ContentType::new("application", "problem+json"))
    };
    for accept in [
        "application/json",
        "application/json, text/plain, */*",
        "application/problem+json",
        "application/json, text/html;q=0.9",
        "application/json;q=0.5",
        "application/vnd.api+json",
    ] {
        assert!(is_json(Some(accept), None), "{accept}");
    }
    for accept in [
        "text/html",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html, application/json;q=0.9",
        "text/html, application/json",
        "*/*",
        "text/plain",
        "image/png",
        "",
        "application/json;q=0",
        "text/html;q=0.5, application/json;q=0.4",
    ] {
        assert!(!is_json(Some(accept), None), "{accept}");
    }
    assert!(is_json(None, Some(ContentType::JSON)));
    assert!(is_json(Some("*/*"), Some(ContentType::JSON)));
    assert!(!is_json(Some("text/html"), Some(ContentType::JSON)));
    assert!(!is_json(None, Some(ContentType::Form)));
    assert!(!is_json(None, None));
}

#[test]
fn a_refused_page_stands_alone_and_in_no_frame() {
    let client = app_with(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")]);
    for visitor in ["192.0.2.1", "192.0.2.2"] {
        let response = client.get("/").visitor(visitor).dispatch();
        let policy = response.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'self'"), "{policy}");
        let page = response.into_string().unwrap();
        assert_eq!(blocked(&page), [""; 0], "in the page for {visitor}");
    }
}

/// What the page's policy blocks: everything that the page would load from outside itself.
fn blocked(page: &str) -> Vec<&str> {
    let sheets = page.match_indices("@import").chain(page.match_indices("rel=\"stylesheet\"")).map(|(at, _)| at);
    let sources = ["src=", "srcset=", "url("].into_iter().flat_map(|start| {
        let after = page.match_indices(start).map(move |(at, _)| (at, &page[at + start.len()..]));
        after.filter(|(_, source)| {
            let source = source.trim_start_matches(['"', '\'', ' ']);
            // The picture of `url(#…)` stands in the page as well.
            !source.starts_with("data:") && !source.starts_with('#')
        })
    });
    let found = sheets.chain(sources.map(|(at, _)| at));
    found.map(|at| page[at..].split(['>', '\n']).next().unwrap_or_default()).collect()
}

#[test]
fn a_page_may_show_pictures_that_stand_in_it_and_none_that_its_policy_blocks() {
    for shown in
        ["<img src=\"data:image/gif;base64,R0\">", "<img src=data:,>", "a { background: url('data:,') }", "url(#shade)"]
    {
        assert_eq!(blocked(shown), [""; 0], "{shown}");
    }
    for not in [
        "<img src=\"https://a.example/b.png\">",
        "<img src=/static/logo.png>",
        "<img srcset=\"b.png 2x\" src=\"data:,\">",
        "a { background: url(/b.png) }",
        "@import \"b.css\";",
        "<link href=\"/b.css\" rel=\"stylesheet\">",
    ] {
        assert_eq!(blocked(not).len(), 1, "{not}");
    }
}

#[test]
fn a_slip_in_a_template_leaves_a_refusal_a_refusal() {
    let dir = copied_templates();
    std::fs::write(dir.path().join("ban.html.tera"), "{{ nothing_is_called_so }}").unwrap();
    let client = client(app::app(with_decisions(&[("192.0.2.1", "ban")]).merge(("template_dir", dir.path()))));
    let response = client.get("/").visitor("192.0.2.1").dispatch();
    assert_eq!(response.status(), Status::Forbidden);
    assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
    let policy = response.headers().get_one("Content-Security-Policy");
    assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'self'"), "bare words load nothing");
    let preview = || client.get("/crowdsec/preview/ban").dispatch().into_string().unwrap();
    assert!(preview().contains("`ban` cannot be rendered"), "whoever edits it is told: {}", preview());
    // A slip in the words is told as well. The pages themselves go on with the words from before it.
    std::fs::write(dir.path().join("texts.toml"), "[en]\nban_title = \"a\nban_text = b\"").unwrap();
    assert!(preview().contains("texts.toml cannot be read"), "{}", preview());
    assert_eq!(client.get("/").visitor("192.0.2.1").dispatch().status(), Status::Forbidden);
}

/// `Human` asks for a captcha whatever stands against the visitor.
#[test]
fn a_captcha_that_a_route_asks_of_everybody_names_no_decision_that_lets_its_visitor_in() {
    #[get("/human")]
    fn human(_human: Human) {}
    let dir = copied_templates();
    std::fs::write(dir.path().join("captcha.html.tera"), "{{ decision | json_encode | safe }}").unwrap();
    let figment =
        with_decisions(&[("192.0.2.1", "pass"), ("192.0.2.2", "captcha")]).merge(("template_dir", dir.path()));
    let client = client(app::app(figment).mount("/pages", routes![human]));
    let page = |visitor| client.get("/pages/human").visitor(visitor).dispatch().into_string().unwrap();
    assert!(page("192.0.2.1").starts_with("null"), "{}", page("192.0.2.1"));
    assert!(page("192.0.2.2").contains(r#""remediation":"captcha""#), "{}", page("192.0.2.2"));
}

/// The links of one preview lead to all others. What the refused could not load is not loaded here either.
#[test]
fn every_page_can_be_looked_at_in_every_state_and_language() {
    let client = client(app::app(with_decisions(&[]).merge(("crowdsec.captcha.difficulty", 20))));
    let page = |path: &str| {
        let response = client.get(path.to_owned()).dispatch();
        assert_eq!(response.status(), Status::Ok, "{path}");
        let policy = response.headers().get_one("Content-Security-Policy").expect("a policy").to_owned();
        assert!(policy.contains("img-src data:;"), "{path}: {policy}");
        response.into_string().expect("a page")
    };
    let links = |page: &str| {
        let links =
            page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default().replace("&#x2F;", "/"));
        links.filter(|link| link.starts_with("/crowdsec/preview/")).collect::<std::collections::BTreeSet<_>>()
    };
    let cases =
        ["ban", "captcha", "captcha-wrong", "captcha-too-many", "captcha-cookie-lost", "captcha-not-sent", "starting"];
    // A page that is all your own, without the layout of refusal.html.tera, may have no links.
    let shown = cases.iter().map(|case| links(&page(&format!("/crowdsec/preview/{case}")))).find(|all| !all.is_empty());
    let all = shown.expect("a page with links to all others");
    for case in cases {
        assert!(all.contains(&format!("/crowdsec/preview/{case}")), "{case} in {all:?}");
    }
    // One of the languages of texts.toml, whichever it is.
    let (chosen, (_, tag)) =
        all.iter().filter_map(|link| Some((link, link.split_once("?lang=")?))).next_back().expect("a language");
    let in_it = links(&page(chosen));
    assert!(in_it.iter().filter(|link| link.ends_with(&format!("?lang={tag}"))).count() > 8, "{in_it:?}");
    for link in all.iter().chain(&in_it) {
        assert!(!page(link).contains("cannot be rendered"), "{link}");
    }
    assert!(page(chosen).contains(&format!(" lang=\"{tag}\"")));
    assert_eq!(client.get("/crowdsec/preview/nowhere").dispatch().status(), Status::NotFound);
}

#[test]
fn a_nonce_is_for_one_answer_only() {
    let client = app_with(&[("192.0.2.1", "ban")]);
    let policy = || {
        let response = client.get("/").visitor("192.0.2.1").dispatch();
        response.headers().get_one("Content-Security-Policy").unwrap().to_owned()
    };
    assert_ne!(policy(), policy());
}

#[test]
fn the_health_probe_is_answered_to_everybody() {
    let client = app_with(&[("192.0.2.1", "ban"), ("192.0.2.3", "captcha")]);
    for visitor in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert_eq!(client.head("/crowdsec/health").visitor(visitor).dispatch().status(), Status::Ok);
        let response = client.get("/crowdsec/health").visitor(visitor).dispatch();
        assert_eq!(response.status(), Status::Ok);
        assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
        assert_eq!(response.into_string().unwrap(), r#"{"status":"ok"}"#);
    }
    assert_eq!(client.post("/crowdsec/health").visitor("192.0.2.1").dispatch().status(), Status::Forbidden);
    for path in ["//crowdsec/health", "/crowdsec/health/", "/crowdsec/health/x", "/crowdsec/%68ealth"] {
        assert_eq!(client.get(path).visitor("192.0.2.1").dispatch().status(), Status::Forbidden, "{path}");
    }
}

#[test]
fn pages_can_be_previewed_in_the_debug_profile_only() {
    let debug = client(app::protected(with_decisions(&[])));
    let live = figment().select("production").merge(("crowdsec.api_key", "a-key-of-the-tests"));
    let live = client(app::protected(live.merge(("crowdsec.api_url", "http://127.0.0.1:1"))));
    for page in ["ban", "captcha"] {
        let path = format!("/crowdsec/preview/{page}");
        assert_eq!(debug.get(&path).visitor("192.0.2.1").dispatch().status(), Status::Ok, "{path}");
        assert_eq!(live.get(&path).visitor("192.0.2.1").dispatch().status(), Status::NotFound, "{path}");
    }
}

#[test]
fn nobody_reaches_the_refusals_own_route() {
    let client = client(app::protected(figment()));
    for method in [Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete, Method::Options, Method::Trace]
    {
        let response = client.req(method, "/crowdsec/refused").visitor("192.0.2.1").dispatch();
        assert_eq!(response.status(), Status::NotFound, "{method}");
    }
}
