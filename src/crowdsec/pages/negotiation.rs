//! Does a visitor want a page, or JSON?

use rocket::Request;
use rocket::http::{Accept, ContentType, MediaType};

use crate::crowdsec::visitor::is_accept_too_dear;

/// The headers that `wants_json` goes by, for the `Vary` of the answer: otherwise a cache could hand a script's JSON to
/// a browser.
pub const FORMAT_HEADERS: &str = "Accept, Content-Type, HX-Request, Sec-Fetch-Dest";

/// JSON if `Accept` ranks a JSON type above HTML, which a wildcard stands for where no HTML type is named. Also if
/// `Accept` names no HTML type, and the request itself is JSON or comes from a script.
pub fn wants_json(request: &Request<'_>) -> bool {
    !is_accept_too_dear(request) && ranks_json(request.accept(), request.content_type(), is_from_script(request))
}

/// Whether a script on a page has sent the request: by `fetch`, as browsers say themselves, or by htmx. Nobody would
/// see a page in the answer.
fn is_from_script(request: &Request<'_>) -> bool {
    request.headers().get_one("Sec-Fetch-Dest") == Some("empty") || is_from_htmx(request)
}

pub fn is_from_htmx(request: &Request<'_>) -> bool {
    request.headers().get_one("HX-Request") == Some("true")
}

/// Whether a script asks for data, or for a part of the page that its visitor sees. Service workers, Turbo and htmx's
/// `hx-boost` ask for a whole page instead.
pub fn asks_for_part(request: &Request<'_>) -> bool {
    match is_from_htmx(request) {
        true => request.headers().get_one("HX-Boosted") != Some("true"),
        false => is_from_script(request) && wants_json(request),
    }
}

fn ranks_json(accept: Option<&Accept>, content_type: Option<&ContentType>, from_script: bool) -> bool {
    let is_json = |media: &MediaType| media.sub() == "json" || media.sub().as_str().to_lowercase().ends_with("+json");
    let is_html = |media: &MediaType| media.sub() == "html" || media.sub() == "xhtml+xml";
    // By weight, then in the order given.
    let rank = |wanted: &dyn Fn(&MediaType) -> bool| {
        let medias = accept?.iter().enumerate().filter(|(_, media)| wanted(media.media_type()));
        let ranks = medias.map(|(place, media)| (media.weight_or(1.0), std::cmp::Reverse(place)));
        ranks.filter(|(weight, _)| *weight > 0.0).max_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    };
    let prefers_json = from_script || content_type.is_some_and(|content_type| is_json(content_type.media_type()));
    match (rank(&is_json), rank(&is_html)) {
        (Some(json), Some(html)) => json > html,
        // A wildcard of greater weight puts HTML first.
        (Some((json, _)), None) => prefers_json || rank(&|media| media.sub() == "*").is_none_or(|(any, _)| json >= any),
        (None, Some(_)) => false,
        (None, None) => prefers_json,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wildcard_of_greater_weight_has_html_first() {
        for (accept, json) in [
            ("application/json", true),
            ("application/json, */*", true),
            ("application/json;q=0.5, */*", false),
            ("application/json;q=0", false),
            ("text/html, application/json", false),
            ("application/json, text/html", true),
        ] {
            assert_eq!(ranks_json(Some(&accept.parse().expect("types")), None, false), json, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn nobody_gets_json_who_names_no_json(
            accept in prop_oneof![any::<String>(), "((text/html|application/json|a/b\\+JSON|\\*/\\*|text/\\*)(;q=[0-9.eNainf+-]{0,5}|;x=\"y\")?,? ?){0,5}"],
            content_type in prop_oneof![any::<String>(), "(application|text)/(json|x\\+json|html|x);?"],
        ) {
            let (read, sends) = (accept.parse::<Accept>().ok(), content_type.parse::<ContentType>().ok());
            let json = ranks_json(read.as_ref(), sends.as_ref(), false);
            let named = [accept, content_type].concat().to_lowercase().contains("json");
            prop_assert!(named || !json);
        }
    }
}
