//! Whom does a pass let in, and for how long?

use super::*;
use crate::crowdsec::captcha::provider::ALTCHA;
use crate::crowdsec::captcha::{Captcha, Config};
use crate::crowdsec::setting::Secret;

fn passes(secret: &str) -> Passes {
    Passes::new(secret, Duration::from_secs(60))
}

#[test]
fn cookies_that_could_fight_have_names_of_their_own() {
    let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let names = |secret| {
        let passes = passes(secret);
        [(v4, false), (v4, true), (v6, false), (v6, true)].map(|(address, https)| passes.name(address, https))
    };
    assert_eq!(names("a"), names("a"), "on every instance the same");
    let all: std::collections::BTreeSet<String> = [names("a"), names("b")].concat().into_iter().collect();
    assert_eq!(all.len(), 8, "{all:?}");
    assert_eq!(all.iter().filter(|name| name.starts_with("__Host-")).count(), 4);
}

#[test]
fn without_a_secret_nobody_elses_passes_hold() {
    let (provider, difficulty, expiration) = (&ALTCHA, 1, Duration::from_secs(60));
    let (site_key, verify_url, script_url, hostnames, sources) = Default::default();
    let secret_key = Secret(String::new());
    let config =
        Config { provider, site_key, secret_key, verify_url, script_url, hostnames, sources, difficulty, expiration };
    let name = || {
        let captcha = Captcha::new(&config, None).unwrap();
        captcha.passes.name("192.0.2.1".parse().unwrap(), false)
    };
    assert_ne!(name(), name());
}

#[test]
fn a_pass_is_for_one_address_until_its_end() {
    let subject = |address: &str| Subject::from(address.parse::<IpAddr>().unwrap());
    let holds = |pass: &str, whose, now| since(pass, subject(whose), now, Duration::from_secs(100)).is_some();
    let pass = value(subject("192.0.2.1"), 1000);
    assert!(holds(&pass, "192.0.2.1", 1099));
    assert!(!holds(&pass, "192.0.2.1", 1100));
    assert!(!holds(&pass, "192.0.2.2", 1099));
    assert!(holds(&pass, "192.0.2.1", 900), "the clock was set back");
    let pass = value(subject("2001:db8::1"), 1000);
    assert!(holds(&pass, "2001:db8::ffff", 1099));
    assert!(!holds(&pass, "2001:db8:0:1::1", 1099));
    for junk in ["", "100", " ", "x 192.0.2.1/32", "100 ", "-1 192.0.2.1/32", "99999999999999999999 192.0.2.1/32"] {
        assert!(!holds(junk, "192.0.2.1", 1), "{junk}");
    }
}

/// Instances that share the secret may differ in their expiration.
#[test]
fn a_pass_holds_no_longer_than_the_expiration_says_where_it_is_shown() {
    let subject = Subject::from("192.0.2.1".parse::<IpAddr>().unwrap());
    let pass = value(subject, 1000);
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    assert_eq!(since(&pass, subject, 5000, day), Some(1000));
    assert_eq!(since(&pass, subject, 5000, hour), None);
}

mod properties {
    use figment::Figment;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rocket::http::Header;
    use rocket::local::blocking::Client;
    use rocket::request::{FromRequest, Outcome};
    use rocket::{State, get, routes};

    use super::*;
    use crate::crowdsec::timestamp::unix_now;

    const VISITOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[get("/grant")]
    fn grants(cookies: &CookieJar<'_>, passes: &State<Passes>) {
        passes.grant(cookies, VISITOR, unix_now(), false);
    }

    struct Admitted(bool);

    #[rocket::async_trait]
    impl<'r> FromRequest<'r> for Admitted {
        type Error = ();

        async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
            let passes = request.rocket().state::<Passes>().expect("managed");
            Outcome::Success(Self(passes.since(request, VISITOR, unix_now()).is_some()))
        }
    }

    #[get("/admit")]
    fn asks(admitted: Admitted) -> String {
        admitted.0.to_string()
    }

    /// A client with no cookie, of an application that only grants passes and asks for them.
    fn somebody() -> Client {
        let config = Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
        let app = rocket::custom(config).manage(passes("a")).mount("/", routes![grants, asks]);
        Client::untracked(app).unwrap()
    }

    /// Sends one `Cookie` line, as a browser does.
    fn is_let_in(client: &Client, line: &str) -> bool {
        let request = client.get("/admit").header(Header::new("Cookie", line.to_owned()));
        request.dispatch().into_string().unwrap() == "true"
    }

    fn granted(client: &Client) -> Cookie<'static> {
        let name = passes("a").name(VISITOR, false);
        client.get("/grant").dispatch().cookies().get(&name).unwrap().clone()
    }

    #[test]
    fn no_cookie_but_a_granted_one_lets_anybody_in() {
        let client = somebody();
        let pass = granted(&client);
        let (name, pass) = (pass.name(), pass.value());
        let is_pass = |value: &str| is_let_in(&client, &[name, "=", value].concat());
        assert!(is_pass(pass));
        assert!(is_let_in(&client, &format!("__Host-other=x; {name}=junk; {name}={pass}; {name}=; a=b")));
        assert!(!is_let_in(&client, &format!("other={pass}")), "the value is bound to its name");
        // The words in a pass are no secret: a pass counts because they are encrypted with our key.
        let words = value(VISITOR.into(), unix_now());
        assert!(!is_pass(&words));
        proptest!(|(junk in any::<String>(), like in "[A-Za-z0-9+/]{40,120}={0,2}")| {
            prop_assert!(!is_let_in(&client, &junk));
            prop_assert!(!is_pass(&junk));
            prop_assert!(!is_pass(&like));
        });
        proptest!(|(at in any::<Index>(), other in "[A-Za-z0-9+/]")| {
            let at = at.index(pass.len());
            let cut = &pass[..at];
            let changed = format!("{cut}{other}{}", &pass[at + 1..]);
            prop_assert!(!is_pass(cut));
            prop_assert_eq!(is_pass(&changed), changed == pass);
        });
    }

    #[test]
    fn of_several_passes_the_newest_counts() {
        let (client, passes, now) = (somebody(), passes("a"), unix_now());
        let pass = |age| {
            let request = client.get("/grant");
            let cookies = request.inner().cookies();
            passes.grant(cookies, VISITOR, now - age, false);
            let pass = cookies.get_pending(&passes.name(VISITOR, false)).expect("a pass");
            pass.stripped().to_string()
        };
        let line = [pass(40), pass(10), pass(30)].join("; ");
        let request = client.get("/admit").header(Header::new("Cookie", line));
        assert_eq!(passes.since(request.inner(), VISITOR, now), Some(now - 10));
    }

    proptest! {
        #[test]
        fn a_pass_names_its_visitor_and_a_time_not_long_ago(
            text in prop_oneof![any::<String>(), "[+-]?[0-9]{0,21} ?(192.0.2.[12]|2001:db8::)(/32|/64)? ?"],
            now in 4000..2_000_000_000u64,
        ) {
            if since(&text, VISITOR.into(), now, Duration::from_secs(3600)).is_some() {
                let (since, whose) = text.split_once(' ').unwrap();
                prop_assert_eq!(whose, "192.0.2.1/32");
                prop_assert!(since.parse::<u64>().unwrap() > now - 3600);
            }
        }
    }
}
