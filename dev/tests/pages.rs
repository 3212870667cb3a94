//! What do the pages say, in which language, and what do programs get in their place?

use std::collections::BTreeSet;

use dev::{Answer, App, Folder, Request};
use serde_json::json;

const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
/// The visitors to whom the bouncer shows its pages.
const REFUSED: [&str; 2] = ["203.0.113.7", "198.51.100.9"];

/// The application as it comes, run in this folder.
fn app_in(folder: &Folder) -> App {
    let mut command = dev::command(&[]);
    command.current_dir(folder);
    App::launched(command).unwrap_or_else(|ended| panic!("{}", ended.log))
}

fn page(request: Request, language: &str) -> Answer {
    request.accept(HTML).header("Accept-Language", language).send()
}

/// A value of the page's `<html …>`.
fn attribute(page: &Answer, name: &str) -> String {
    let text = page.text();
    let html = text.split_once("<html ").expect("a page").1.split_once('>').expect("its first tag").0;
    let value = html.split_once(&format!("{name}=\"")).expect("the attribute").1;
    value.split('"').next().unwrap_or_default().to_owned()
}

/// A cache would answer the banned too, and the bouncer never sees such requests.
#[test]
fn no_cache_in_between_keeps_a_page_of_the_applications() {
    let app = App::start(&[]);
    for target in ["/", "/members", "/sign-in", "/nowhere"] {
        for accept in ["text/html", "application/json"] {
            let page = app.get(target).header("Accept", accept).send();
            assert_eq!(page.header("Cache-Control"), Some("private"), "{target} {accept}");
        }
    }
}

#[test]
fn the_applications_own_errors_are_problems_in_json_for_programs_and_pages_for_people() {
    let folder = Folder::of_the_application();
    // A page that cannot be made is an error of the application's own.
    folder.write("templates/members.html.tera", "{{ no_such_variable }}");
    let app = app_in(&folder);
    let sign_in = || app.request("POST", "/sign-in").form(&[("user", "a")]).header("Sec-Fetch-Site", "same-origin");
    for (request, status, title) in [
        (&(|| app.get("/no/such/page")) as &dyn Fn() -> Request, 404, "Not Found"),
        (&sign_in, 422, "Unprocessable Entity"),
        (&|| app.get("/members"), 500, "Internal Server Error"),
    ] {
        let problem = request().accept("application/json").send();
        assert_eq!((problem.status, problem.header("Content-Type")), (status, Some("application/problem+json")));
        assert_eq!(problem.json(), json!({ "type": "about:blank", "title": title, "status": status }));
        assert_eq!(problem.header("Vary"), Some("Accept, Content-Type, HX-Request, Sec-Fetch-Dest"));
        // A cache may hand neither answer to a client that would have got the other.
        for (name, value) in [("Sec-Fetch-Dest", "empty"), ("HX-Request", "true"), ("Content-Type", "application/json")]
        {
            if status != 422 || name != "Content-Type" {
                assert_eq!(
                    request().header(name, value).send().header("Content-Type"),
                    Some("application/problem+json")
                );
            }
        }
        let page = page(request(), "de");
        assert_eq!(page.status, status);
        assert!(page.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")), "{}", page.text());
        assert_eq!(page.header("Vary"), Some("Accept, Content-Type, HX-Request, Sec-Fetch-Dest, Accept-Language"));
        assert_eq!(attribute(&page, "lang"), "de");
    }
}

#[test]
fn the_applications_own_pages_speak_every_language_that_the_bouncers_speak() {
    let app = App::start(&[]);
    for language in ["en", "fr", "de", "es"] {
        for target in ["/", "/members", "/sign-in", "/no/such/page"] {
            let page = page(app.get(target), language);
            assert_eq!(
                (attribute(&page, "lang"), attribute(&page, "dir")),
                (language.into(), "ltr".into()),
                "{target}"
            );
        }
        let refused = page(app.get("/").from(REFUSED[0]), language);
        assert_eq!(attribute(&refused, "lang"), language);
    }
    let texts = Folder::of_the_application().read("templates/texts.toml");
    let tables: Vec<&str> = texts.split("\n[").skip(1).collect();
    let keys = |table: &&str| table.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
    let keys: Vec<Vec<String>> = tables.iter().map(keys).collect();
    assert!(keys.len() == 4 && keys[0].len() > 50, "{keys:?}");
    for other in &keys[1..] {
        assert_eq!(other, &keys[0], "each language has each word, in the same order");
    }
}

#[test]
fn an_owner_chooses_the_default_language_and_adds_one_that_is_written_from_right_to_left() {
    let folder = Folder::of_the_application();
    folder.replace("templates/texts.toml", "default = \"en\"", "default = \"de\"");
    folder.replace("templates/texts.toml", "[fr]\n", "[ar]\nban_title = \"لا يمكنك الدخول الآن\"\n\n[fr]\n");
    let app = app_in(&folder);
    let visits = || [app.get("/").from(REFUSED[0]), app.get("/").from(REFUSED[1]), app.get("/sign-in"), app.get("/no")];
    for (wishes, language, direction) in
        [("it", "de", "ltr"), ("en", "en", "ltr"), ("ar-EG,en;q=0.5", "ar", "rtl"), ("*", "de", "ltr")]
    {
        for visit in visits() {
            let page = page(visit, wishes);
            assert_eq!((attribute(&page, "lang"), attribute(&page, "dir")), (language.into(), direction.into()));
        }
    }
    let ban = page(app.get("/").from(REFUSED[0]), "ar").text();
    assert!(ban.contains("لا يمكنك الدخول الآن") && ban.contains("Ihre Adresse"), "gaps are filled in German: {ban}");
}

#[test]
fn a_default_language_that_is_not_there_stops_the_launch_and_is_named() {
    let folder = Folder::of_the_application();
    folder.replace("templates/texts.toml", "default = \"en\"", "default = \"it\"");
    let mut command = dev::command(&[]);
    command.current_dir(&folder);
    let ended = App::launched(command).err().expect("it launched");
    assert!(ended.log.contains("`default` is \"it\", and there is no table [it]"), "{}", ended.log);
}

#[test]
fn the_accent_colour_is_changed_in_two_lines_for_all_pages() {
    let folder = Folder::of_the_application();
    let common = folder.read("templates/common.css.tera");
    for (shipped, own) in [("#1d5f5a", "#123456"), ("#82c9be", "#abcdef")] {
        assert_eq!(common.matches(shipped).count(), 1, "it stands in one place");
        folder.replace("templates/common.css.tera", shipped, own);
    }
    let app = app_in(&folder);
    let own = page(app.get("/common.css"), "en");
    assert!(own.header("Content-Type").is_some_and(|kind| kind.starts_with("text/css")), "{own:?}");
    let refused = REFUSED.map(|visitor| page(app.get("/").from(visitor), "en"));
    for styled in refused.iter().chain([&own]) {
        let text = styled.text();
        assert!(text.contains("#123456") && text.contains("#abcdef"), "{text}");
        assert!(!text.contains("#1d5f5a") && !text.contains("#82c9be"), "{text}");
    }
}

#[test]
fn a_page_of_the_bouncers_is_small_bears_everything_in_itself_and_its_policy_stays_strict() {
    let app = App::start(&[]);
    for visitor in REFUSED {
        let page = page(app.get("/members").from(visitor), "fr");
        let policy = page.header("Content-Security-Policy").expect("a policy").to_owned();
        let nonce = policy.split_once("style-src 'nonce-").expect("styles by nonce").1.split('\'').next().unwrap();
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; img-src data:; font-src data:; \
                 style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'none'; frame-src 'none'"
            )
        );
        let text = page.text();
        let before_the_script = text.split_once("</main>").expect("the end of what is seen").0;
        assert!(before_the_script.len() < 10_000, "{} bytes", before_the_script.len());
        for loaded in [" style=", " src=", "url(", "@import", "http:", "https:", "<img", " onclick="] {
            assert!(!text.contains(loaded), "{loaded}: {text}");
        }
        assert!(text.contains("<title>") && text.contains("rocket-crowdsec"), "the site's name is the brand");
    }
}

/// Owners learn from that list what their pages can say, and `src/crowdsec/CHANGELOG.md` has to name the same variables.
#[test]
fn a_page_can_say_exactly_what_the_layout_lists() {
    let folder = Folder::of_the_application();
    let layout = folder.read("templates/refusal.html.tera");
    let list = layout.split_once("the same variables:").expect("the list").1.split_once("-#}").expect("its end").0;
    let rows = list.lines().filter_map(|line| line.strip_prefix("     "));
    let rows = rows.filter(|row| row.starts_with(|first: char| first.is_ascii_lowercase()));
    // `lang, dir   what they are`: a comma stands between two names, and none behind the last.
    let listed: BTreeSet<&str> = rows
        .flat_map(|row| {
            row.split_inclusive(' ').scan(true, |more, word| {
                let name = more.then_some(word.trim_end().trim_end_matches(','));
                *more &= word.trim_end().ends_with(',');
                name
            })
        })
        .collect();
    folder.write("templates/ban.html.tera", "{{ __tera_context | safe }}");
    let seen = app_in(&folder).get("/crowdsec/preview/ban").send().json();
    let seen: BTreeSet<&str> = seen.as_object().expect("all variables").keys().map(String::as_str).collect();
    assert_eq!(seen, listed);
}
