//! Does a text hold a placeholder that a shell, Compose, Kubernetes or a template should have replaced, or stand in quotes?

/// What to say of a text with a placeholder: its form alone, since the rest of the text may be a secret.
pub fn placeholder(text: &str) -> Option<String> {
    let form = form(text)?;
    Some(format!("this holds what looks like a variable that nobody replaced, {form}: write the value itself"))
}

/// What to say of an environment variable's text that stands in quotes as a whole, without the text.
pub fn quotes(text: &str) -> Option<String> {
    let is_within = |quote: &char| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote);
    let told = "the quotes are part of the value: take them away (Compose's list and `--env-file` keep them)";
    ['"', '\''].iter().any(is_within).then(|| told.into())
}

fn form(text: &str) -> Option<&'static str> {
    let encloses = |open: &str, close: &str| text.split(open).skip(1).any(|rest| rest.contains(close));
    let is_name = |text: &str| text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // Capitals alone: in `/%C3%A4hre%20` nothing is a placeholder.
    let is_loud = |text: &&str| is_name(text) && !text.bytes().any(|byte| byte.is_ascii_lowercase());
    let between_percents: Vec<&str> = text.split('%').collect();
    match () {
        () if encloses("${", "}") => Some("${…}"),
        () if encloses("$(", ")") => Some("$(…)"),
        () if encloses("{{", "}}") => Some("{{…}}"),
        () if between_percents.iter().skip(1).rev().skip(1).any(is_loud) => Some("%…%"),
        () if text.split(['/', ':', ',', '@']).any(|part| part.strip_prefix('$').is_some_and(is_name)) => Some("$…"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_known_by_its_form_wherever_it_stands() {
        for (text, found) in [
            ("${KEY}", "${…}"),
            ("http://${HOST:-lapi}:8080/", "${…}"),
            ("$(KEY)", "$(…)"),
            ("{{ .Values.key }}", "{{…}}"),
            ("%KEY%", "%…%"),
            ("http://%LAPI_HOST%:8080/", "%…%"),
            ("$KEY", "$…"),
            ("http://$host:8080/", "$…"),
        ] {
            assert_eq!(form(text), Some(found), "{text}");
        }
    }

    #[test]
    fn what_only_resembles_a_variable_is_a_value() {
        for text in
            ["abc$def", "a%b%c", "100%", "{a}", "$", "$1", "a=b==", "(x)", "/%C3%A4hre%20", "%20%20", "}}{{", ")$("]
        {
            assert_eq!(form(text), None, "{text}");
        }
    }
}
