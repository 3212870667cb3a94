//! In which languages do the pages speak? In those of `templates/texts.toml`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{self, Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::magic::RelativePathBuf;
use figment::value::{Dict, Value};
use rocket::http::Status;
use rocket::outcome::IntoOutcome;
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel};

use super::config::Config;
use super::words::{Words, best};
use crate::crowdsec::guards::has_no_bouncer;
use crate::crowdsec::printable::is_harmful;

/// What all pages can say, as Rocket's state.
pub struct Texts {
    path: PathBuf,
    site: Config,
    /// The words of each language, as they were read at the launch; the default language comes first.
    pub all: Vec<Words>,
}

/// The language of a table `[default]`, which a file may have in place of `default = "…"`.
const ENGLISH: &str = "en";

/// Where the templates lie, found as rocket_dyn_templates finds them.
pub fn template_dir(figment: &Figment) -> PathBuf {
    let set = figment.extract_inner::<RelativePathBuf>("template_dir");
    let folder = set.map_or(PathBuf::from("templates"), |folder| folder.relative());
    path::absolute(&folder).unwrap_or(folder)
}

impl Texts {
    /// Reads the file. Each table is a language, and falls back to the default language key by key.
    pub fn read(templates: &Path, site: &Config) -> Result<Self, String> {
        let path = templates.join("texts.toml");
        let advice = match path.exists() {
            true => "Mend that file",
            false => {
                "Start the application in the folder that holds its templates (systemd: WorkingDirectory=), or set template_dir"
            }
        };
        let all = read(&path, site).map_err(|reason| format!("{reason}. {advice}"))?;
        Ok(Self { path, site: site.clone(), all })
    }

    /// The words as the file has them now, for an owner who is editing them: a build for debugging reads them anew,
    /// like templates. `Err` says why they cannot be read any more.
    pub fn now(&self) -> Result<Cow<'_, [Words]>, String> {
        if cfg!(debug_assertions) { read(&self.path, &self.site).map(Cow::from) } else { Ok(Cow::from(&self.all)) }
    }

    /// The words in the language that was `wished` for, else in the language in the file that the visitor's browser wants most.
    pub fn words(&self, request: &Request<'_>, wished: Option<&str>) -> Cow<'_, Words> {
        let wishes = wished.or_else(|| request.headers().get_one("Accept-Language")).unwrap_or_default();
        let now = self.now().unwrap_or_else(|reason| {
            log::error!("{reason}. The words are those of the launch.");
            Cow::from(&self.all)
        });
        match now {
            Cow::Borrowed(all) => Cow::Borrowed(best(all, wishes)),
            Cow::Owned(all) => Cow::Owned(best(&all, wishes).clone()),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Words {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let texts = request.rocket().state::<Texts>();
        texts.map(|texts| texts.words(request, None).into_owned()).or_error((Status::InternalServerError, ()))
    }
}

impl Sentinel for Words {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        has_no_bouncer(rocket)
    }
}

/// The words in each language. Never empty: the default language comes first.
fn read(path: &Path, site: &Config) -> Result<Vec<Words>, String> {
    languages(path, site).map_err(|reason| format!("{} cannot be read: {reason}", path.display()))
}

fn languages(path: &Path, site: &Config) -> Result<Vec<Words>, String> {
    // For a file that is no TOML, the error's first line says where, the next three show that place, and the rest says why.
    let place = |error: figment::Error| {
        let told = error.kind.to_string();
        let lines: Vec<&str> = told.lines().take(1).chain(told.lines().skip(4)).collect();
        lines.join(": ").replace(is_harmful, "\u{fffd}")
    };
    let mut tables: Dict = Figment::from(Toml::file_exact(path)).extract().map_err(place)?;
    let (default, mut shared) = match tables.remove("default") {
        Some(Value::String(_, tag)) if tables.contains_key(&tag) => (tag, BTreeMap::new()),
        Some(Value::String(_, tag)) => {
            return Err(format!("`default` is \"{tag}\", and there is no table [{tag}]: name one that is there"));
        }
        // A file without `default = "…"` has English for its default language, and may call that table [default].
        Some(table) => (ENGLISH.to_owned(), words("default", table)?),
        None => (ENGLISH.to_owned(), BTreeMap::new()),
    };
    if let Some(table) = tables.remove(&default) {
        shared.extend(words(&default, table)?);
    }
    let mut all = vec![Words::new(&default, shared.clone(), site)];
    for (tag, table) in tables {
        let mut own = shared.clone();
        own.extend(words(&tag, table)?);
        all.push(Words::new(&tag, own, site));
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

    /// What is read from a file with this text, or the error.
    fn read(text: &str) -> Result<Vec<Words>, String> {
        let folder = env::temp_dir().join(format!("words-{}-{:?}", process::id(), thread::current().id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("texts.toml"), text).expect("a file");
        let read = Texts::read(&folder, &Config::default());
        fs::remove_dir_all(&folder).expect("removing the folder");
        read.map(|texts| texts.all)
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
            let all = read(text).expect(text);
            let seen = all.iter().map(|it| (it.lang.as_str(), it.get("a").unwrap(), it.get("b").unwrap()));
            assert_eq!(seen.collect::<Vec<_>>(), [first, other], "{text}");
            assert_eq!(best(&all, "it").lang, first.0, "{text}");
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
            ("default = 'en'\n[default]\na = 'one'", "line 2, column 1: invalid table header: duplicate key `default`"),
            ("[en]\na = one", "line 2, column 5: invalid string: expected `\"`, `'`. Mend that file"),
            ("[en]\n\"\\u0007\" = ''\n\"\\u0007\" = ''", "line 3, column 1: duplicate key `\u{fffd}` in table `en`"),
        ] {
            let said = read(text).err().expect(text);
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
