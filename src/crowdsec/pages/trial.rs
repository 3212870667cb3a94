//! Can each page be made? The launch tries them all, so that no visitor is the first to meet a mistake.

use std::collections::BTreeMap;
use std::error::Error;

use figment::Figment;
use rocket_dyn_templates::{Engines, tera};

use super::config::Config;
use super::preview::cases;
use super::refusal::Kind;
use super::variables::Variables;
use super::words::{Texts, template_dir};
use crate::crowdsec::captcha::Widget;
use crate::crowdsec::guards::DecisionView;
use crate::crowdsec::setting::Reading;

/// Has `Template::try_custom` try each page of the bouncer's, in every language, with and without a decision. What is missing
/// stops the launch; in the debug profile it is a warning, at the launch and after each edit, since bare words stand in.
pub fn try_pages(figment: &Figment) -> impl Fn(&mut Engines) -> Result<(), Box<dyn Error>> + Send + Sync + 'static {
    let (templates, debug) = (template_dir(figment), figment.profile() == rocket::Config::DEBUG_PROFILE);
    let site = Config::read(&mut Reading::of(figment));
    move |engines| {
        // Where the words cannot be read, the fairing tells.
        let (Ok(texts), Ok(site)) = (Texts::read(&templates, true), &site) else { return Ok(()) };
        let mut problems = BTreeMap::new();
        for ((_, refusal), language) in cases().iter().flat_map(|case| texts.all().iter().map(move |it| (case, it))) {
            let page = refusal.kind.name();
            let widgets =
                if refusal.kind == Kind::Captcha { Vec::from(Widget::examples().map(Some)) } else { vec![None] };
            for (widget, decision) in
                widgets.iter().flat_map(|widget| [None, Some(DecisionView::example(page))].map(|it| (widget, it)))
            {
                let variables =
                    Variables { decision, captcha: widget.as_ref(), ..Variables::of(refusal, site, language) };
                let made =
                    tera::Context::from_serialize(variables).and_then(|context| engines.tera.render(page, &context));
                if let Err(error) = made {
                    problems.entry(root_cause(&error)).or_insert((page, &language.tag));
                }
            }
        }
        for (cause, (page, tag)) in &problems {
            let remedy = if cause.contains("`text.") {
                format!(
                    "Write the missing word into the default language's table of texts.toml, or correct its name in {page}.html.tera"
                )
            } else {
                format!(
                    "Mend {}, or the template that it extends or includes: refusal.html.tera lists the variables that a page gets",
                    templates.join(page).with_extension("html.tera").display()
                )
            };
            let told = format!("The page `{page}` cannot be made with the words of [{tag}]: {cause}. {remedy}.");
            if debug { log::warn!("{told}") } else { log::error!("{told}") }
        }
        if debug || problems.is_empty() { Ok(()) } else { Err("pages of the bouncer's cannot be made".into()) }
    }
}

/// Tera's outermost error names the template alone.
fn root_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
