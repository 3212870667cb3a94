//! Is the right visitor named, whatever a proxy's header says? `PROPTEST_CASES` says how many cases are tried.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::string::string_regex;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::crowdsec::visitor::{self, client_ip};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// What a stranger may write into the header: any text, mixed with pieces that mean something to the bouncer.
fn any_lie() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        string_regex("\\PC{0,6}").unwrap(),
        proptest::sample::select(vec![
            ",",
            ", ",
            ";",
            "\"",
            "\\\"",
            "[",
            "]",
            ":",
            "=",
            "for=",
            "For=",
            "by=",
            "proto=https",
            "unknown",
            "_hidden",
            "10.0.0.7",
            "10.0.0.7:80",
            "192.0.2.66",
            "[2001:db8::1]:4711",
            "::ffff:10.0.0.1",
            "%",
            "\t",
        ])
        .prop_map(str::to_owned),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    (any::<u128>(), any::<bool>())
        .prop_map(|(bits, v4)| if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) })
}

/// The address as a proxy writes it into this header.
fn element(header: &str, address: IpAddr) -> String {
    match (header, address) {
        ("Forwarded", IpAddr::V6(v6)) => format!("for=\"[{v6}]\""),
        ("Forwarded", IpAddr::V4(v4)) => format!("for={v4}"),
        _ => address.to_string(),
    }
}

proptest! {
    #[test]
    fn any_header_names_somebody_without_a_panic(lines in vec(any_lie(), 0..5), forwarded in any::<bool>()) {
        let header = if forwarded { "Forwarded" } else { "X-Forwarded-For" };
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (visitor, _) = client_ip(header).behind(PEER, &lines);
        prop_assert_eq!(visitor, visitor.to_canonical());
    }

    #[test]
    fn what_a_proxy_adds_on_the_right_outweighs_every_lie_on_the_left(
        lines in vec(any_lie(), 0..4), visitor in any_address(), forwarded in any::<bool>(), same_line in any::<bool>(),
    ) {
        let header = if forwarded { "Forwarded" } else { "X-Forwarded-For" };
        let client_ip = client_ip(header);
        prop_assume!(!client_ip.trusts(visitor.to_canonical()));
        let (mut lines, added) = (lines, element(header, visitor));
        match lines.last_mut() {
            Some(last) if same_line => *last = format!("{last}, {added}"),
            _ => lines.push(added),
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(client_ip.behind(PEER, &lines), (visitor.to_canonical(), None), "{:?}", lines);
    }

    #[test]
    fn behind_two_proxies_the_outer_ones_word_counts_whatever_stands_left_of_it(
        lie in any_lie(), visitor in any_address(), forwarded in any::<bool>(), proxy in any::<u8>(),
    ) {
        let header = if forwarded { "Forwarded" } else { "X-Forwarded-For" };
        let client_ip = client_ip(header);
        prop_assume!(!client_ip.trusts(visitor.to_canonical()));
        let proxy = IpAddr::V4(Ipv4Addr::new(10, 1, 2, proxy));
        let line = format!("{lie}, {}, {}", element(header, visitor), element(header, proxy));
        prop_assert_eq!(client_ip.behind(PEER, &[&line]), (visitor.to_canonical(), None), "{}", line);
    }

    /// So a proxy's own address is never taken for a visitor's, whatever strangers and proxies write.
    #[test]
    fn a_visitor_who_is_named_is_never_a_trusted_proxy_and_an_unnamed_one_always_is(lines in vec(any_lie(), 0..5), forwarded in any::<bool>()) {
        let client_ip = client_ip(if forwarded { "Forwarded" } else { "X-Forwarded-For" });
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (address, unnamed) = client_ip.behind(PEER, &lines);
        prop_assert_eq!(client_ip.trusts(address), unnamed.is_some());
    }

    #[test]
    fn nobody_is_named_whom_the_header_does_not_name(line in any_lie(), stranger in any_address()) {
        let (found, _) = client_ip("X-Forwarded-For").behind(PEER, &[&line]);
        prop_assert!(found != stranger.to_canonical() || line.contains(&found.to_string()));
    }

    #[test]
    fn a_written_address_is_read_back(address in any_address(), port in any::<u16>()) {
        let canonical = Some(address.to_canonical());
        prop_assert_eq!(visitor::address(&address.to_string()), canonical);
        prop_assert_eq!(visitor::address(&SocketAddr::new(address, port).to_string()), canonical);
        prop_assert_eq!(visitor::address(&format!("[{address}]")), canonical);
    }
}
