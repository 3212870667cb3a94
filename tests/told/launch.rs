//! What does the log tell of a launch that fails, and what to do about it?

use std::fs;

use rocket::figment::Figment;
use rocket::figment::providers::{Format, Toml};
use rocket::local::asynchronous::Client;

use crate::common::logger::{logged, logger};
use crate::common::{copied_templates, figment};

#[rocket::async_test]
async fn a_template_that_is_missing_is_to_be_put_back() {
    for missing in ["ban", "brand"] {
        let _turn = logger().await;
        let folder = copied_templates();
        let file = folder.path().join(format!("{missing}.html.tera"));
        fs::remove_file(&file).expect("removing it");
        let figment = figment().merge(("template_dir", folder.path()));
        let _client = Client::tracked(app::app(figment)).await.expect("the debug profile goes on without");
        assert_eq!(logged(&format!("not found. Put {} back", file.display())), 1, "{missing}");
        assert_eq!(logged("Write a word that is missing"), 0, "{missing}");
    }
}

#[rocket::async_test]
async fn a_table_that_stands_twice_is_told_as_one() {
    let _turn = logger().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("Rocket.toml");
    fs::write(&file, "[default]\n[default.crowdsec]\n[default.crowdsec]\n").expect("a file");
    let figment = Figment::from(rocket::Config::default()).merge(Toml::file(&file).nested());
    app::launch::run(rocket::custom(figment));
    assert_eq!(logged(&format!("{} cannot be read: at line 3, column 1 ", file.display())), 1);
    assert_eq!(logged("write each key and each table once"), 1);
}
