//! Can each page be made? The launch tries them all, so that no visitor is the first to meet a mistake.

use std::collections::BTreeMap;
use std::error::Error;

use figment::Figment;
use rocket_dyn_templates::{Engines, tera};

use super::config::Config;
use super::page::Variables;
use super::preview::cases;
use super::texts::{Texts, template_dir};
use crate::crowdsec::bouncer::Verdict;
use crate::crowdsec::captcha::Widget;
use crate::crowdsec::guards::DecisionView;
use crate::crowdsec::setting::Reading;

/// Has `Template::try_custom` try each page of the bouncer's, in every language, with and without a decision. A mistake
/// stops the launch. In the debug profile it is a warning, at the launch and after each edit, since bare words stand in.
pub fn try_pages(figment: &Figment) -> impl Fn(&mut Engines) -> Result<(), Box<dyn Error>> + Send + Sync + 'static {
    let (templates, debug) = (template_dir(figment), figment.profile() == rocket::Config::DEBUG_PROFILE);
    let site = Reading::of(figment).room::<Config>();
    move |engines| {
        // Where the words cannot be read, the fairing reports it.
        let Ok(Ok(texts)) = site.as_ref().map(|site| Texts::read(&templates, site)) else { return Ok(()) };
        let mut problems = BTreeMap::new();
        for (case, refusal) in cases() {
            let page = refusal.verdict.name();
            let is_captcha = refusal.verdict == Verdict::Captcha;
            let widgets = if is_captcha { Widget::examples().map(Some).into() } else { vec![None] };
            for (words, widget) in texts.all.iter().flat_map(|it| widgets.iter().map(move |widget| (it, widget))) {
                let example = DecisionView::example(refusal.verdict);
                // Like a decision of the operator's own.
                let own = DecisionView { id: None, expires_in: None, ..example.clone() };
                for decision in [None, Some(example), Some(own)] {
                    let variables = Variables { decision, captcha: widget.as_ref(), ..Variables::of(&refusal) };
                    let context = tera::Context::from_serialize(words.with(variables));
                    if let Err(error) = context.and_then(|context| engines.tera.render(page, &context)) {
                        problems.entry(root_cause(&error)).or_insert((page, case, words.lang.clone()));
                    }
                }
            }
        }
        for (cause, (page, case, tag)) in &problems {
            let folder = templates.display();
            // Tera has a list of names for an include.
            let missing = cause.strip_prefix("Template '").and_then(|rest| rest.strip_suffix("' not found"));
            let remedy = match missing.map(|name| name.trim_matches(['[', ']'])) {
                Some(name) => format!("Put {folder}/{name}.html.tera back, or mend the name where it is included"),
                None => format!(
                    "Write a word that is missing into the default language's table of {folder}/texts.toml; mend anything \
                     else in {folder}/{page}.html.tera, or in what that extends or includes: refusal.html.tera lists the \
                     variables"
                ),
            };
            let told = format!(
                "The page `{page}` cannot be made with the words of [{tag}]: {cause}. {remedy}. Then look at it: the debug \
                 profile shows it at /crowdsec/preview/{case}."
            );
            if debug { log::warn!("{told}") } else { log::error!("{told}") }
        }
        if debug || problems.is_empty() { Ok(()) } else { Err("pages of the bouncer's cannot be made".into()) }
    }
}

/// Tera's outermost error names the template alone.
fn root_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
