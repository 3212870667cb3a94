//! What can a page say to a visitor? The words of their language, and what the site is called.

use std::collections::BTreeMap;
use std::iter;

use serde::Serialize;

use super::config::Config;

/// For your own pages: the words of `templates/texts.toml` in the language of the visitor, and the name of the site. A
/// template gets `lang`, `dir`, `text`, `site` and `contact` from it. As a guard it never refuses anybody.
#[derive(Clone, Serialize)]
pub struct Words {
    /// The tag of the language, for the page's attribute `lang`.
    pub lang: String,
    /// `rtl` where the language is written from right to left, else `ltr`, for the page's attribute `dir`.
    dir: &'static str,
    text: BTreeMap<String, String>,
    #[serde(flatten)]
    site: Config,
}

impl Words {
    pub(super) fn new(lang: &str, text: BTreeMap<String, String>, site: &Config) -> Self {
        // Browsers know `pt-BR`, not `pt_BR`.
        Self { lang: lang.replace('_', "-"), dir: direction(lang), text, site: site.clone() }
    }

    /// The words of this key; `None` where neither this language nor the default one has any.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.text.get(key).map(String::as_str)
    }

    /// The variables of a template: those that the words give, and yours.
    pub fn with<T: Serialize>(&self, more: T) -> impl Serialize {
        #[derive(Serialize)]
        struct Both<'a, T> {
            #[serde(flatten)]
            words: &'a Words,
            #[serde(flatten)]
            more: T,
        }
        Both { words: self, more }
    }
}

/// By the script that a tag names (`az-Arab`), else by the one that its language is mostly written in.
fn direction(tag: &str) -> &'static str {
    const SCRIPTS: &str = "adlm arab aran hebr mand mend nkoo rohg samr syrc thaa yezi";
    const LANGUAGES: &str = "ar arc arz azb bal ckb dv fa glk he iw ji khw ks lrc mzn nqo pnb ps sd skr syr ug ur yi";
    let tag = tag.to_ascii_lowercase();
    let mut parts = tag.split(['-', '_']);
    let language = parts.next().unwrap_or_default();
    let is_in = |list: &str, part: &str| list.split(' ').any(|known| known == part);
    let from_the_right = match parts.find(|part| part.len() == 4) {
        Some(script) => is_in(SCRIPTS, script),
        None => is_in(LANGUAGES, language),
    };
    if from_the_right { "rtl" } else { "ltr" }
}

/// Reads `Accept-Language`: the greatest weight wins, and of equal weights the first. For `fr-CH`, `fr` will do.
pub fn best<'a>(all: &'a [Words], wishes: &str) -> &'a Words {
    let known = |tag: &str| all.iter().find(|words| words.lang.eq_ignore_ascii_case(tag));
    let wished = wishes.split(',').filter_map(|wish| {
        let (tag, weight) = wish.split_once(';').unwrap_or((wish, "q=1"));
        let weight: f32 = weight.trim().strip_prefix(['q', 'Q'])?.strip_prefix('=')?.parse().ok()?;
        let words = iter::successors(Some(tag.trim()), |tag| Some(tag.rsplit_once('-')?.0)).find_map(known)?;
        (weight > 0.0).then_some((words, weight))
    });
    // `max_by` would give the last of equals.
    let best = wished.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(&all[0], |(words, _)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Words; 5] {
        ["en", "fr", "de", "pt_BR", "zh-Hant"].map(|tag| Words::new(tag, BTreeMap::new(), &Config::default()))
    }

    #[test]
    fn the_visitors_first_language_that_we_speak_is_chosen() {
        let all = all();
        for (wishes, tag) in [
            ("", "en"),
            ("de", "de"),
            ("de-AT, en;q=0.8", "de"),
            ("it, fr;q=0.5, en;q=0.4", "fr"),
            ("en;q=0.4, fr;q=0.5", "fr"),
            ("fr;q=0", "en"),
            ("pt-BR,de;q=0.9", "pt-BR"),
            ("*", "en"),
            ("FR-ch", "fr"),
            ("zh-Hant-TW, de;q=0.9", "zh-Hant"),
            ("en;q=0.5, de;Q=0.9", "de"),
            (";;;,,q=1", "en"),
        ] {
            assert_eq!(best(&all, wishes).lang, tag, "{wishes}");
        }
    }

    #[test]
    fn languages_that_are_written_from_right_to_left_say_so() {
        for (tag, dir) in [
            ("ar", "rtl"),
            ("AR-eg", "rtl"),
            ("he", "rtl"),
            ("fa", "rtl"),
            ("ur-PK", "rtl"),
            ("az-Arab", "rtl"),
            ("pa_Arab_PK", "rtl"),
            ("en", "ltr"),
            ("ar-Latn", "ltr"),
            ("az", "ltr"),
            ("pt-BR", "ltr"),
            ("", "ltr"),
        ] {
            assert_eq!(direction(tag), dir, "{tag}");
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn any_wish_is_met_with_a_language_that_it_names_or_our_first(
                wishes in prop_oneof![any::<String>(), "(((fr|FR-ch|de|pt-BR|pt|it|\\*|)(;q=[0-9.eNainf+-]{0,5}|; q=1|;)?),? ?){0,6}"],
            ) {
                let all = all();
                let tag = &best(&all, &wishes).lang;
                prop_assert!(tag == "en" || wishes.to_lowercase().contains(&tag.to_lowercase()), "{}", tag);
            }
        }
    }
}
