//! Is what could break in front of a visitor tried at the launch?

use std::fs;

use rocket::local::blocking::Client;

use crate::common::{client, copied_templates, figment};

/// Your templates, with another ban page.
fn with_ban_page(source: &str) -> tempfile::TempDir {
    let folder = copied_templates();
    fs::write(folder.path().join("ban.html.tera"), source).expect("a template");
    folder
}

#[test]
fn outside_the_debug_profile_a_page_that_cannot_be_made_stops_the_launch() {
    for (source, launches) in [
        ("{{ text.there_is_no_such_word }}", false),
        ("{% if decision %}{{ decision.no_such_thing }}{% endif %}", false),
        // A decision of the operator's own has no end.
        ("{% if decision %}{{ decision.expires_in / 60 }}{% endif %}", false),
        ("{% if decision and decision.expires_in %}{{ decision.expires_in / 60 }}{% endif %}", true),
        ("{{ no_such_variable }}", false),
        ("{% include \"no-such-template\" %}", false),
        ("{{ address }} {{ lang }}", true),
    ] {
        let folder = with_ban_page(source);
        let release =
            figment().merge(("crowdsec.api_key", "a-key-of-the-tests")).merge(("template_dir", folder.path()));
        let release = release.merge(("crowdsec.api_url", "http://127.0.0.1:1")).select("production");
        let stopped = Client::tracked(app::app(release)).err().map(|error| format!("{:?}", error.kind()));
        assert_eq!(stopped.is_none(), launches, "{source}: {stopped:?}");
        assert!(launches || stopped.is_some_and(|kind| kind.contains("Templating")), "{source}");
    }
}

#[test]
fn in_the_debug_profile_it_does_not() {
    let folder = with_ban_page("{{ text.there_is_no_such_word }}");
    client(app::app(figment().merge(("template_dir", folder.path()))));
}
