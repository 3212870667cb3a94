//! What is read of a GeoIP database, what in it is not believed, and how is it replaced?

mod mmdb;

use std::fs;
use std::path::Path;

use figment::Figment;
use mmdb::{file, in_country, map, number, short, text};
use rocket::http::Header;
use rocket::local::blocking::Client;

use crate::crowdsec::decisions::Scopes;
use crate::crowdsec::setting::Reading;
use crate::crowdsec::visitor::{ClientIp, Config, Database};

fn country(database: &Database, address: &str) -> String {
    database.country(address.parse().unwrap()).map(|country| country.to_string()).unwrap_or_default()
}

#[test]
fn a_country_is_found_in_each_field_that_crowdsec_knows_and_in_a_flat_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("city.mmdb");
    let both =
        map(&[("registered_country", map(&[("iso_code", text("US"))])), ("country", map(&[("iso_code", text("DE"))]))]);
    let records = [
        ("192.0.2.0/25", in_country("country", "fr")),
        ("192.0.2.128/25", in_country("registered_country", "GB")),
        ("198.51.100.0/24", in_country("represented_country", "US")),
        ("203.0.113.0/25", both),
        ("203.0.113.128/26", map(&[("country_code", text("JP"))])),
        // As IPinfo writes it.
        ("172.16.0.0/13", map(&[("country", text("Japan")), ("country_code", text("JP"))])),
        ("172.24.0.0/13", map(&[("country", text("KR"))])),
        ("203.0.113.192/26", in_country("country", "?")),
        ("2001:db8::/33", in_country("country", "NZ")),
        ("2001:db8:8000::/33", map(&[])),
    ];
    fs::write(&path, file("GeoLite2-City", 6, &records)).unwrap();
    let database = Database::open(path).unwrap();
    for (address, meant) in [
        ("192.0.2.1", "FR"),
        ("::ffff:192.0.2.1", "FR"),
        ("192.0.2.200", "GB"),
        ("198.51.100.7", "US"),
        ("203.0.113.1", "DE"),
        ("203.0.113.130", "JP"),
        ("172.16.0.1", "JP"),
        ("172.24.0.1", "KR"),
        ("203.0.113.200", ""),
        ("2001:db8::1", "NZ"),
        ("2001:db8:8000::1", ""),
        ("10.0.0.1", ""),
        ("::1", ""),
    ] {
        assert_eq!(country(&database, address), meant, "{address}");
    }
    assert!(database.has("country") && !database.has("as"));
}

#[test]
fn the_number_of_a_system_is_found_and_a_file_of_ipv4_alone_knows_nothing_of_ipv6() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asn.mmdb");
    let system = |number| map(&[("autonomous_system_number", number)]);
    let records = [
        ("192.0.2.0/25", system(number(64500))),
        ("192.0.2.128/25", system(short(64501))),
        ("198.51.100.0/25", system(number(0))),
        ("198.51.100.128/25", system(text("AS64502"))),
        // A number of 64 bits, which is of an extended type.
        ("203.0.113.0/25", system([&[4, 2][..], &64503_u32.to_be_bytes()].concat())),
        ("203.0.113.128/26", map(&[("asn", text("AS64504")), ("country_code", text("JP"))])),
        ("203.0.113.192/26", map(&[("autonomous_system_number", number(64505)), ("asn", number(1))])),
    ];
    fs::write(&path, file("GeoLite2-ASN", 4, &records)).unwrap();
    let database = Database::open(path).unwrap();
    let of = |address: &str| database.system(address.parse().unwrap());
    assert_eq!((of("203.0.113.130"), of("203.0.113.200"), of("198.51.100.1")), (Some(64504), Some(64505), None));
    assert_eq!((of("203.0.113.1"), of("192.0.2.200"), of("198.51.100.200")), (Some(64503), Some(64501), Some(64502)));
    assert_eq!((of("192.0.2.1"), of("::ffff:192.0.2.1"), of("2001:db8::1")), (Some(64500), Some(64500), None));
    assert!(database.has("as") && !database.has("country"));
}

#[test]
fn a_file_that_is_replaced_is_taken_up_and_one_that_is_broken_or_of_another_kind_leaves_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("country.mmdb");
    let put = |bytes: &[u8]| {
        let beside = folder.path().join("new");
        fs::write(&beside, bytes).unwrap();
        fs::rename(beside, &path).unwrap();
    };
    let of = |code| file("Country", 6, &[("192.0.2.0/24", in_country("country", code))]);
    put(&of("FR"));
    let database = Database::open(path.clone()).unwrap();
    database.refresh();
    assert_eq!(country(&database, "192.0.2.1"), "FR");
    put(&of("DE"));
    assert_eq!(country(&database, "192.0.2.1"), "FR", "it was not looked at yet");
    database.refresh();
    assert_eq!(country(&database, "192.0.2.1"), "DE");
    let whole = of("GB");
    let systems = file("GeoLite2-ASN", 6, &[("192.0.2.0/24", map(&[]))]);
    for bad in [&whole[..whole.len() - 9], b"", b"junk", &systems] {
        put(bad);
        database.refresh();
        assert_eq!(country(&database, "192.0.2.1"), "DE");
    }
    fs::remove_file(&path).unwrap();
    database.refresh();
    assert_eq!(country(&database, "192.0.2.1"), "DE");
    put(&whole);
    database.refresh();
    assert_eq!(country(&database, "192.0.2.1"), "GB");
}

#[test]
fn damage_within_a_file_panics_in_no_look_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("country.mmdb");
    let whole = file("Country", 6, &[("192.0.2.0/24", in_country("country", "FR"))]);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs::write(&path, damaged).unwrap();
        if let Ok(database) = Database::open(path.clone()) {
            for address in ["192.0.2.1", "2001:db8::1", "255.255.255.255"] {
                country(&database, address);
                database.system(address.parse().unwrap());
            }
        }
    }
}

#[test]
fn a_record_that_holds_itself_makes_an_address_unknown_and_nothing_worse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asn.mmdb");
    // A pointer to where the data begins: to the map that holds this pointer.
    let itself = map(&[("autonomous_system_number", vec![1 << 5, 0])]);
    fs::write(&path, file("GeoLite2-ASN", 4, &[("192.0.2.0/24", itself)])).unwrap();
    let database = Database::open(path).unwrap();
    let look_up = move || database.system("192.0.2.1".parse().unwrap());
    let on_a_small_stack = std::thread::Builder::new().stack_size(256 << 10).spawn(look_up).unwrap();
    assert_eq!(on_a_small_stack.join().unwrap(), None);
}

#[test]
fn where_no_trusted_proxy_says_where_a_visitor_is_the_databases_do() {
    let folder = tempfile::tempdir().unwrap();
    let database = |name: &str, record| {
        let path = folder.path().join(name);
        fs::write(&path, file(name, 6, &[("192.0.2.0/24", record)])).unwrap();
        Database::open(path).unwrap()
    };
    let client_ip = ClientIp::new(Config {
        trusted_proxies: vec!["10.0.0.1/32".parse().unwrap()],
        country_header: Some("CF-IPCountry".into()),
        as_header: Some("CF-ASN".into()),
        // The first of two does not know of countries.
        geoip: [
            database("GeoLite2-ASN", map(&[("autonomous_system_number", number(64500))])),
            database("GeoLite2-Country", in_country("country", "FR")),
        ]
        .into(),
        ..Config::default()
    });
    let figment = Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
    let client = Client::untracked(rocket::custom(figment)).unwrap();
    let found = |peer: [u8; 4], named: [&'static str; 2]| {
        let request = client.get("/").remote((peer, 4711).into());
        let request = request.header(Header::new("CF-IPCountry", named[0])).header(Header::new("CF-ASN", named[1]));
        let at = |address: &str| {
            let (request, address) = (request.inner(), address.parse().unwrap());
            let country = client_ip.country(request, address).map(|country| country.to_string());
            (country.unwrap_or_default(), client_ip.system(request, address))
        };
        (at("192.0.2.1"), at("198.51.100.1"))
    };
    let (france, nowhere) = (("FR".to_owned(), Some(64500)), (String::new(), None));
    let by_the_proxy = ("DE".to_owned(), Some(64501));
    assert_eq!(found([10, 0, 0, 1], ["DE", "64501"]), (by_the_proxy.clone(), by_the_proxy));
    for unknown in [["XX", "0"], ["T1", ""], ["", "nonsense"]] {
        assert_eq!(found([10, 0, 0, 1], unknown), (france.clone(), nowhere.clone()), "{unknown:?}");
    }
    assert_eq!(found([192, 0, 2, 1], ["DE", "64501"]), (france, nowhere), "no visitor says where they are");
}

#[test]
fn a_database_that_cannot_be_read_stops_the_launch_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let problems = |path: &Path| {
        let figment = Figment::from(rocket::Config::debug_default()).merge(("crowdsec.geoip", [path]));
        let mut reading = Reading::of(&figment);
        let config = Config::read(&mut reading).unwrap();
        (config.geoip.len(), reading.problems.join("; "))
    };
    let (good, junk) = (folder.path().join("good.mmdb"), folder.path().join("junk.mmdb"));
    fs::write(&good, file("GeoLite2-ASN", 6, &[])).unwrap();
    fs::write(&junk, "junk").unwrap();
    assert_eq!(problems(&good), (1, String::new()));
    // As an environment variable writes it.
    let list = format!("{0}, {0}", good.display());
    let figment = Figment::from(rocket::Config::debug_default()).merge(("crowdsec.geoip", list));
    assert_eq!(Config::read(&mut Reading::of(&figment)).unwrap().geoip.len(), 2);
    for (path, why) in [
        (junk, "junk.mmdb"),
        (folder.path().join("missing.mmdb"), "No such file"),
        (folder.path().to_owned(), "it is no file"),
    ] {
        let (count, problems) = problems(&path);
        assert_eq!(count, 0);
        assert!(problems.starts_with("`crowdsec.geoip`") && problems.contains(why), "{problems}");
        assert!(problems.contains("take it out"), "{problems}");
    }
}

#[test]
fn a_source_without_its_scope_and_a_scope_without_its_source_are_one_warning_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.mmdb");
    let warnings = |scopes: &[&str], database: Option<&str>, header: bool| {
        let mut figment = Figment::from(rocket::Config::debug_default());
        if let Some(name) = database {
            fs::write(&path, file(name, 6, &[])).unwrap();
            figment = figment.merge(("crowdsec.geoip", [&path]));
        }
        if header {
            figment = figment.merge(("crowdsec.country_header", "CF-IPCountry"));
        }
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let config = Config::read(&mut Reading::of(&figment)).unwrap();
        config.warn_of(&Scopes::new(&scopes).unwrap()).collect::<Vec<_>>()
    };
    let all = ["ip", "range", "country", "as"];
    assert_eq!(warnings(&all, None, false).len(), 2);
    let missing = warnings(&all, Some("GeoLite2-City"), false);
    assert!(missing.len() == 1 && missing[0].starts_with("`crowdsec.scopes` has \"as\""), "{missing:?}");
    assert_eq!(warnings(&all, Some("ipvAll of somebody"), false).len(), 0, "it may say both");
    assert_eq!(warnings(&["ip", "Country"], None, true).len(), 0);
    for (database, header, told) in [
        (None, true, "`crowdsec.country_header` is set, and `crowdsec.scopes` has no \"country\""),
        (Some("GeoLite2-ASN"), false, "`crowdsec.geoip` is set, and `crowdsec.scopes` has no \"as\""),
    ] {
        let warnings = warnings(&["ip", "range"], database, header);
        assert!(warnings.len() == 1 && warnings[0].starts_with(told), "{warnings:?}");
    }
}
