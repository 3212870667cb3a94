//! Are networks and durations read right, whatever LAPI or somebody in its place sends? `PROPTEST_CASES` says how many
//! cases are tried.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::string::string_regex;

use crate::crowdsec::decisions::{go_duration, network};

/// Texts of this pattern. A bare pattern would be parsed anew for each text, which takes most of the time.
fn like(pattern: &str) -> impl Strategy<Value = String> {
    string_regex(pattern).unwrap()
}

proptest! {
    #[test]
    fn any_text_is_a_network_or_none(text in like("\\PC{0,40}")) {
        network(&text);
    }

    #[test]
    fn text_like_an_address_is_a_canonical_network_or_none(text in like("[0-9a-fA-F:./]{0,45}")) {
        if let Some(net) = network(&text) {
            prop_assert_eq!(net, net.trunc());
            prop_assert_eq!(network(&net.to_string()), Some(net));
            prop_assert_eq!(net.addr().to_canonical(), net.addr());
        }
    }

    #[test]
    fn an_address_is_itself_in_every_spelling(bits in any::<u128>(), v4 in any::<bool>()) {
        let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
        let canonical = Some(IpNet::from(address.to_canonical()));
        prop_assert_eq!(network(&address.to_string()), canonical);
        prop_assert_eq!(network(&format!(" {address}\n")), canonical);
        let v6 = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let long = v6.segments().map(|segment| format!("{segment:04X}")).join(":");
        prop_assert_eq!(network(&long), canonical);
        prop_assert_eq!(network(&format!("{long}/128")), canonical);
    }

    #[test]
    fn any_text_is_a_duration_or_none(text in like("\\PC{0,40}")) {
        go_duration(&text);
    }

    #[test]
    fn text_like_a_duration_is_one_of_at_most_292_years_or_none(text in like("[-+]?([0-9.]{0,25}(h|m|s|ms|us|µs|ns|)){0,5}")) {
        if let Some(duration) = go_duration(&text) {
            prop_assert!(duration <= Duration::from_secs(293 * 366 * 86_400));
        }
    }

    #[test]
    fn a_duration_of_go_is_read_to_the_microsecond(nanoseconds in 0..9_000_000_000_000_000_000u64) {
        let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let text = format!("{}h{}m{}.{rest:09}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let read = go_duration(&text).unwrap();
        let off = read.abs_diff(Duration::from_nanos(nanoseconds));
        // A float holds 292 years to a microsecond or two.
        prop_assert!(off < Duration::from_micros(3), "{} is off by {:?}", text, off);
        prop_assert_eq!(go_duration(&format!("-{text}")), Some(Duration::ZERO));
    }
}
