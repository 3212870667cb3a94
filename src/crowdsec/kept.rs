//! What does a flood of banned visitors cost? Little: where their page says the same to all, it is made once a second.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::field;

/// A page that differs from visitor to visitor in their address and the nonce alone, cut where those belong.
#[derive(Default)]
pub struct Kept(Mutex<Option<(Instant, Arc<[String]>)>>);

/// A page may show the time.
const LONGEST: Duration = Duration::from_secs(1);
/// Around the two places, as no page has it.
const MARK: char = '\u{1}';

impl Kept {
    /// The page for this visitor. `make` is asked for a new one with marks for address and nonce.
    pub fn page(
        &self,
        address: IpAddr,
        nonce: &str,
        make: impl FnOnce(&str, &str) -> Option<String>,
    ) -> Option<String> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().clone().filter(|(made, _)| made.elapsed() < LONGEST);
        let pieces = match kept {
            Some((_, pieces)) => pieces,
            None => {
                let page = make(&format!("{MARK}address{MARK}"), &format!("{MARK}nonce{MARK}"))?;
                let pieces: Arc<[String]> = page.split(MARK).map(str::to_owned).collect();
                *lock() = Some((Instant::now(), pieces.clone()));
                pieces
            }
        };
        let mut text = Vec::with_capacity(40);
        field::address(&mut text, address);
        let address = String::from_utf8_lossy(&text);
        let mut page = String::with_capacity(pieces.iter().map(|piece| piece.len() + 64).sum());
        for (number, piece) in pieces.iter().enumerate() {
            // Every second piece stood between two marks.
            page.push_str(match piece.as_str() {
                "address" if number % 2 == 1 => &address,
                "nonce" if number % 2 == 1 => nonce,
                _ => piece,
            });
        }
        Some(page)
    }
}

/// Variables of the ban page that differ from visitor to visitor, and what could hide them or change their marks.
const VARYING: [&str; 7] = ["address", "nonce", "return_to", "decision", "__tera_context", "filter", "raw"];

/// Whether a template and all that it is made of names nothing that varies, but for a plain `{{ address }}` and
/// `{{ nonce }}`. Tera knows no other way to a variable than its name, so what is not named makes no difference. When in
/// doubt it is not: then the page is made for each visitor, which only costs more.
pub fn is_same_for_all(templates: &Path, name: &str) -> bool {
    is_same(templates, name, MOST)
}

/// So many templates within one another; one that includes itself has no end.
const MOST: u32 = 8;

fn is_same(templates: &Path, name: &str, most: u32) -> bool {
    let Some(most) = most.checked_sub(1) else { return false };
    let Ok(source) = fs::read_to_string(templates.join(format!("{name}.html.tera"))) else { return false };
    let Some(tags) = tags(&source) else { return false };
    tags.iter().all(|tag| {
        let words: Vec<&str> = tag.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            ["address" | "nonce"] | ["if", "address"] => true,
            ["extends" | "include" | "import", ..] => match tag.split('"').collect::<Vec<_>>().as_slice() {
                [_, name, _] => is_same(templates, name, most),
                _ => false,
            },
            words => !words.iter().any(|word| VARYING.contains(&word.split('.').next().unwrap_or(word))),
        }
    })
}

/// What stands between `{{ }}` and `{% %}`, comments left out; `None` where a template is not well-formed.
fn tags(source: &str) -> Option<Vec<&str>> {
    let (mut tags, mut rest) = (Vec::new(), source);
    while let Some(at) = rest.find('{') {
        let inside = rest.get(at + 2..).unwrap_or_default();
        let close = match rest.as_bytes().get(at + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                rest = inside.split_once("#}")?.1;
                continue;
            }
            _ => {
                rest = &rest[at + 1..];
                continue;
            }
        };
        let mut quote = None;
        let end = inside.char_indices().find(|(at, c)| {
            match quote {
                Some(open) if open == *c => quote = None,
                None if matches!(c, '"' | '\'' | '`') => quote = Some(*c),
                _ => {}
            }
            quote.is_none() && inside[*at..].starts_with(close)
        });
        let (end, _) = end?;
        tags.push(&inside[..end]);
        rest = &inside[end + 2..];
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(templates: &[(&str, &str)]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        for (name, source) in templates {
            fs::write(dir.path().join(format!("{name}.html.tera")), source).unwrap();
        }
        is_same_for_all(dir.path(), "ban")
    }

    #[test]
    fn a_page_that_names_nothing_of_a_visitor_is_the_same_for_all() {
        for source in [
            "",
            "<p>{{ text.ban_title }}</p> { decision } {# {{ decision.scenario }} #}",
            "{% if address %}{{ address }}{% endif %}<style nonce=\"{{nonce}}\">{{- nonce -}}</style>",
            "{{ text.address }}, {{ now(utc=true) | date(format=\"%H:%M\") }}, {{ \"}}\" }}",
        ] {
            assert!(same(&[("ban", source)]), "{source}");
        }
    }

    #[test]
    fn a_page_that_may_differ_is_not() {
        for source in [
            "{{ decision.scenario }}",
            "{% if decision %}!{% endif %}",
            "<a href=\"{{ return_to }}\">",
            "{{ address | upper }}",
            "{% if address == \"192.0.2.1\" %}!{% endif %}",
            "{% filter upper %}{{ nonce }}{% endfilter %}",
            "{{ __tera_context }}",
            "{{ \"}}\" ~ decision.id }}",
            "{{ '{#' ~ decision.id }}",
            "{% for x in [1] %}{{-decision.id-}}{% endfor %}",
            "{% include \"missing\" %}",
            "{{ address",
            "{% include \"ban\" %}",
            "{% raw %}{#{% endraw %}{{ decision.id }}{# #}",
        ] {
            assert!(!same(&[("ban", source)]), "{source}");
        }
        assert!(!is_same_for_all(Path::new("/nowhere"), "ban"));
    }

    #[test]
    fn what_a_page_is_made_of_counts_too() {
        let with =
            |inner| same(&[("ban", "{% extends \"layout\" %}"), ("layout", "{% include \"part\" %}"), ("part", inner)]);
        assert!(with("{{ address }}"));
        assert!(!with("{{ decision.id }}"));
        // Its name is all that stands in the quotes.
        let other = [("ban", "{% include \"part-two\" %}"), ("part", ""), ("part-two", "{{ decision.id }}")];
        assert!(!same(&other));
        assert!(same(&[other[0], ("part-two", "")]));
    }

    #[test]
    fn each_visitor_gets_their_own_address_and_nonce() {
        let kept = Kept::default();
        let page = |address: &str, nonce| {
            kept.page(address.parse().unwrap(), nonce, |address, nonce| Some(format!("<{nonce}> {address} <{nonce}>")))
        };
        assert_eq!(page("192.0.2.1", "n1").unwrap(), "<n1> 192.0.2.1 <n1>");
        assert_eq!(page("2001:db8::1", "n2").unwrap(), "<n2> 2001:db8::1 <n2>");
    }
}
