//! Does each setting that the application knows stand in Rocket.toml, and as a row of docs/configuration.md? (The compiler
//! warns of a field that nothing uses.)

use std::collections::BTreeSet;
use std::fs;

use dev::{App, root};

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("a file of the application's")
}

/// What the application says that it knows, `captcha.provider` for a key in a table.
fn known() -> BTreeSet<String> {
    let log = App::fails_to_start(&[("ROCKET_CROWDSEC", "{nosuch=1}")]).log;
    let list = log.split("no setting is called so: write one of ").nth(1).expect("a list of all keys");
    let list = list.lines().next().expect("its line").trim_end_matches('.');
    list.split(", ").map(str::to_owned).collect()
}

/// The keys of our tables in Rocket.toml, those that are commented out as well.
fn in_the_file() -> BTreeSet<String> {
    let (mut table, mut keys) = (None, BTreeSet::new());
    for line in read("Rocket.toml").lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) =
            line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).filter(|name| !name.contains('{'))
        {
            table = name.strip_prefix("default.crowdsec").map(|rest| rest.trim_start_matches('.').to_owned());
        }
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if let (Some(table), Some((key, _))) = (&table, line.split_once(" = "))
            && is_key(key)
        {
            keys.insert(if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") });
        }
    }
    keys
}

/// The keys in the first cells of the page's rows.
fn on_the_page() -> BTreeSet<String> {
    let page = read("docs/configuration.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let keys = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    keys.collect()
}

#[test]
fn every_key_stands_in_rocket_toml_and_in_the_documents_and_none_stands_there_that_is_none() {
    let known = known();
    assert!(known.len() > 30 && known.contains("api_key") && known.contains("captcha.provider"), "{known:?}");
    assert_eq!(in_the_file(), known, "Rocket.toml, and what the application knows");
    assert_eq!(on_the_page(), known, "docs/configuration.md, and what the application knows");
}
