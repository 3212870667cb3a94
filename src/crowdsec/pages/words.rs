//! Which words are on the pages? The texts of `templates/texts.toml`, in the visitor's language.

use std::collections::BTreeMap;
use std::path::{self, Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::magic::RelativePathBuf;
use figment::value::{Dict, Value};
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel};
use serde::Serialize;

use super::config::Config;
use super::language::{Language, best};
use crate::crowdsec::guards::has_no_bouncer;

/// For your own pages: the words of `templates/texts.toml` in the language of the visitor, and the name of the site. A
/// template gets `lang`, `dir`, `text` and `site` of it. Never refuses anybody.
#[derive(Serialize)]
pub struct Words {
    #[serde(flatten)]
    language: Language,
    site: String,
}

impl Words {
    /// The words of this key; `None` where no language has any.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.language.words.get(key).map(String::as_str)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Words {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let (texts, site) = (request.rocket().state::<Texts>(), request.rocket().state::<Config>());
        let (Some(texts), Some(site)) = (texts, site) else {
            return Outcome::Error((Status::InternalServerError, ()));
        };
        Outcome::Success(Self { language: texts.with(request, None, Language::clone), site: site.site_name.clone() })
    }
}

impl Sentinel for Words {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        has_no_bouncer(rocket)
    }
}

pub struct Texts {
    path: PathBuf,
    /// All of them, as they were read at first; the default one comes first.
    pub languages: Vec<Language>,
}

/// The language of a table `[default]`, which a file may have in place of `default = "…"`.
const ENGLISH: &str = "en";

/// Where the templates lie: as the fairing of rocket_dyn_templates has it.
pub fn template_dir(figment: &Figment) -> PathBuf {
    let set = figment.extract_inner::<RelativePathBuf>("template_dir");
    let folder = set.map_or(PathBuf::from("templates"), |folder| folder.relative());
    path::absolute(&folder).unwrap_or(folder)
}

impl Texts {
    /// Reads the file. Each table is a language, and falls back to the default language key by key.
    pub fn read(templates: &Path) -> Result<Self, String> {
        let path = templates.join("texts.toml");
        let languages = languages(&path)?;
        Ok(Self { path, languages })
    }

    /// `Err` says why the file cannot be read any more, for whoever edits it.
    pub fn check(&self) -> Result<(), String> {
        languages(&self.path).map(drop).map_err(|reason| format!("{} cannot be read: {reason}", self.path.display()))
    }

    /// Calls `page` with the language that was `wished` for, else with the first one that the visitor's browser asks for and
    /// the file has.
    pub fn with<T>(&self, request: &Request<'_>, wished: Option<&str>, page: impl FnOnce(&Language) -> T) -> T {
        let wishes = wished.or_else(|| request.headers().get_one("Accept-Language")).unwrap_or_default();
        // Templates, too, are read anew where the application was built for debugging: for an owner who is editing them.
        let read = cfg!(debug_assertions).then(|| languages(&self.path));
        if let Some(Err(reason)) = &read {
            log::error!("{} cannot be read, so the words are those of the launch: {reason}", self.path.display());
        }
        let read = read.and_then(Result::ok);
        page(best(read.as_ref().unwrap_or(&self.languages), wishes))
    }
}

/// Never empty: the default language comes first.
fn languages(path: &Path) -> Result<Vec<Language>, String> {
    // Of a file that is no TOML the first line says where; the rest would show it.
    let place = |error: figment::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let mut tables: Dict = Figment::from(Toml::file_exact(path)).extract().map_err(place)?;
    let (default, mut shared) = match tables.remove("default") {
        Some(Value::String(_, tag)) if tables.contains_key(&tag) => (tag, BTreeMap::new()),
        Some(Value::String(_, tag)) => {
            return Err(format!("`default` is \"{tag}\", and there is no table [{tag}]: name one that is there"));
        }
        // A file that says nothing of it speaks English first, and may call that table [default].
        Some(table) => (ENGLISH.to_owned(), words("default", table)?),
        None => (ENGLISH.to_owned(), BTreeMap::new()),
    };
    if let Some(table) = tables.remove(&default) {
        shared.extend(words(&default, table)?);
    }
    let mut all = vec![Language::new(&default, shared.clone())];
    for (tag, table) in tables {
        let mut own = shared.clone();
        own.extend(words(&tag, table)?);
        all.push(Language::new(&tag, own));
    }
    Ok(all)
}

/// The words of one table.
fn words(tag: &str, table: Value) -> Result<BTreeMap<String, String>, String> {
    let Value::Dict(_, table) = table else {
        return Err(format!("`{tag}` is neither a table nor default = \"…\": write the words beneath a table, [en]"));
    };
    let text = |(key, value)| match value {
        Value::String(_, text) => Ok((key, text)),
        _ => Err(format!("`{tag}.{key}` is no text: put it in quotes")),
    };
    table.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process, thread};

    use super::*;

    /// What is read of a file with this text; the first line of the error where nothing can be.
    fn read(text: &str) -> Result<Vec<Language>, String> {
        let folder = env::temp_dir().join(format!("words-{}-{:?}", process::id(), thread::current().id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("texts.toml"), text).expect("a file");
        let read = Texts::read(&folder);
        fs::remove_dir_all(&folder).expect("removing the folder");
        read.map(|texts| texts.languages)
    }

    #[test]
    fn the_owner_says_which_language_is_for_everybody_else_and_it_fills_the_gaps_of_the_others() {
        let german = "default = 'de'\n[de]\na = 'eins'\nb = 'zwei'\n[en]\na = 'one'\n";
        let as_it_was = "[default]\na = 'one'\nb = 'two'\n[de]\na = 'eins'\n";
        let unsaid = "[de]\na = 'eins'\n[en]\na = 'one'\nb = 'two'\n";
        for (text, first, other) in [
            (german, ("de", "eins", "zwei"), ("en", "one", "zwei")),
            (as_it_was, ("en", "one", "two"), ("de", "eins", "two")),
            (unsaid, ("en", "one", "two"), ("de", "eins", "two")),
        ] {
            let languages = read(text).expect(text);
            let seen = languages.iter().map(|it| (it.tag.as_str(), it.words["a"].as_str(), it.words["b"].as_str()));
            assert_eq!(seen.collect::<Vec<_>>(), [first, other], "{text}");
            assert_eq!(best(&languages, "it").tag, first.0, "{text}");
        }
    }

    #[test]
    fn a_default_language_that_is_not_there_and_words_that_are_none_are_named() {
        for (text, named) in [
            ("default = 'it'\n[en]\na = 'one'", "no table [it]"),
            ("default = 'default'\n[en]\na = 'one'", "no table [default]"),
            ("default = 7\n[en]\na = 'one'", "`default`"),
            ("default = 'en'\nfallback = 'de'\n[en]\na = 'one'", "`fallback`"),
            ("default = 'en'\n[en]\na = 1", "`en.a`"),
            ("default = 'en'\n[default]\na = 'one'", "line 2"),
        ] {
            let said = read(text).err().expect(text);
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
