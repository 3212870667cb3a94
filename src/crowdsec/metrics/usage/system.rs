//! Which system does this run on?

use std::env::consts::OS;

use rocket::serde::json::{Value, json};

/// As the text of /etc/os-release names it; `None` where name or version is missing, since LAPI wants both.
pub fn named_by(release: &str) -> Option<Value> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let text: String = line.trim().trim_matches(['"', '\'']).chars().take(200).collect();
        (!text.is_empty()).then_some(text)
    };
    let (name, version) = (value("NAME")?, value("VERSION_ID")?);
    Some(json!({ "name": name, "version": version, "family": OS }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_named_whole_or_not_at_all() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";
        let named = named_by(debian).expect("a system");
        assert_eq!((&named["name"], &named["version"]), (&json!("Debian GNU/Linux"), &json!("12")));
        for half in ["", "NAME=Arch\n", "VERSION_ID=12\n", "NAME=\"\"\nVERSION_ID=12\n"] {
            assert_eq!(named_by(half), None, "{half}");
        }
    }
}
