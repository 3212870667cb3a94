//! In which words do we refuse? The texts of `templates/texts.toml`, in the visitor's language.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::magic::RelativePathBuf;
use rocket::Request;
use rocket::http::Header;

/// The words of one language, by key.
pub type Words = BTreeMap<String, String>;

/// A language of the file, and its words.
pub struct Language {
    pub tag: String,
    pub words: Words,
}

pub struct Texts {
    path: PathBuf,
    /// Whether to read the file anew for each page, for an owner who is editing it.
    live: bool,
    languages: Vec<Language>,
}

/// `[default]` is in English.
pub const DEFAULT: &str = "en";

/// Where the templates lie: as the fairing of rocket_dyn_templates has it.
pub fn template_dir(figment: &Figment) -> PathBuf {
    let set = figment.extract_inner::<RelativePathBuf>("template_dir");
    set.map_or(PathBuf::from("templates"), |folder| folder.relative())
}

impl Texts {
    /// Reads the file; `live` where templates, too, are read anew when they change. Each table but `[default]` is a
    /// language, and falls back to `[default]` key by key.
    pub fn read(templates: &Path, live: bool) -> Result<Self, String> {
        let path = templates.join("texts.toml");
        let languages = languages(&path)?;
        Ok(Self { path, live, languages })
    }

    /// All languages, as they were read at first.
    pub fn all(&self) -> &[Language] {
        &self.languages
    }

    /// Calls `page` with the first language that the visitor's browser asks for and the file has.
    pub fn with<T>(&self, request: &Request<'_>, page: impl FnOnce(&Language) -> T) -> T {
        let wishes = request.headers().iter().find(|header| header.name() == "Accept-Language");
        let wishes = wishes.as_ref().map_or("", Header::value);
        match self.live.then(|| languages(&self.path)) {
            Some(Ok(languages)) => page(best(&languages, wishes)),
            read => {
                if let Some(Err(reason)) = read {
                    log::error!(
                        "{} cannot be read, so the words are those of the launch: {reason}",
                        self.path.display()
                    );
                }
                page(best(&self.languages, wishes))
            }
        }
    }
}

/// Never empty: `[default]` comes first.
fn languages(path: &PathBuf) -> Result<Vec<Language>, String> {
    let file = Figment::from(Toml::file_exact(path).nested());
    let others = file.profiles().map(|profile| profile.as_str().as_str().to_owned());
    let tags = std::iter::once(DEFAULT.to_owned())
        .chain(others.filter(|tag| !["default", "global", DEFAULT].contains(&tag.as_str())));
    let read = |tag: String| {
        // Of a file that is no TOML the first line says where; the rest would show it.
        let place = |error: figment::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        let words = file.clone().select(tag.as_str()).extract().map_err(place)?;
        Ok(Language { tag, words })
    };
    tags.map(read).collect()
}

/// Reads `Accept-Language`: the greatest weight wins, and of equals the one named first. `fr-CH` is content with `fr`.
fn best<'a>(languages: &'a [Language], wishes: &str) -> &'a Language {
    let known = |tag: &str| languages.iter().find(|language| language.tag.eq_ignore_ascii_case(tag));
    let mut best = (&languages[0], 0.0);
    for wish in wishes.split(',') {
        let (tag, weight) = wish.split_once(';').unwrap_or((wish, "q=1"));
        let weight: f32 = weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok()).unwrap_or(0.0);
        let language = known(tag.trim()).or_else(|| known(tag.trim().split('-').next()?));
        if let Some(language) = language
            && weight > best.1
        {
            best = (language, weight);
        }
        // No valid weight is greater, and of equals the first one wins.
        if best.1 >= 1.0 {
            break;
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> [Language; 4] {
        ["en", "fr", "de", "pt-BR"].map(|tag| Language { tag: tag.into(), words: Words::new() })
    }

    #[test]
    fn the_visitors_first_language_that_we_speak_is_chosen() {
        let languages = languages();
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
            (";;;,,q=1", "en"),
        ] {
            assert_eq!(best(&languages, wishes).tag, tag, "{wishes}");
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
                let languages = languages();
                let tag = &best(&languages, &wishes).tag;
                prop_assert!(tag == "en" || wishes.to_lowercase().contains(&tag.to_lowercase()), "{}", tag);
            }
        }
    }
}
