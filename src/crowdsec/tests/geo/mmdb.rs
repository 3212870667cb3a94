//! How is a database written in MaxMind's format?

use std::net::IpAddr;

use ipnet::IpNet;

/// A text as MaxMind's format writes it.
pub fn text(text: &str) -> Vec<u8> {
    [&[2 << 5 | text.len() as u8], text.as_bytes()].concat()
}

pub fn short(number: u16) -> Vec<u8> {
    [&[5 << 5 | 2][..], &number.to_be_bytes()].concat()
}

pub fn number(number: u32) -> Vec<u8> {
    [&[6 << 5 | 4][..], &number.to_be_bytes()].concat()
}

pub fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| [text(name), value.clone()].concat());
    [vec![7 << 5 | fields.len() as u8], fields.collect::<Vec<_>>().concat()].concat()
}

/// A record that names a country, in one of the three fields that CrowdSec reads: `country`, `registered_country` or
/// `represented_country`.
pub fn in_country(field: &str, code: &str) -> Vec<u8> {
    map(&[(field, map(&[("iso_code", text(code))]))])
}

/// A whole file with these records, of networks that do not overlap.
pub fn file(name: &str, version: u16, records: &[(&str, Vec<u8>)]) -> Vec<u8> {
    #[derive(Clone, Copy)]
    enum Next {
        Nothing,
        Node(usize),
        Record(usize),
    }
    let (mut nodes, mut data) = (vec![[Next::Nothing; 2]], Vec::new());
    for (network, record) in records {
        let net: IpNet = network.parse().unwrap();
        let (bits, length) = match net.addr() {
            IpAddr::V4(address) if version == 4 => (u128::from(u32::from(address)) << 96, net.prefix_len()),
            IpAddr::V4(address) => (u32::from(address).into(), 96 + net.prefix_len()),
            IpAddr::V6(address) => (address.into(), net.prefix_len()),
        };
        let mut at = 0;
        for place in 0..length {
            let bit = (bits >> (127 - place) & 1) as usize;
            at = match nodes[at][bit] {
                _ if place + 1 == length => {
                    nodes[at][bit] = Next::Record(data.len());
                    break;
                }
                Next::Node(next) => next,
                _ => {
                    nodes.push([Next::Nothing; 2]);
                    nodes[at][bit] = Next::Node(nodes.len() - 1);
                    nodes.len() - 1
                }
            };
        }
        data.extend_from_slice(record);
    }
    let count = nodes.len();
    let next = |next: &Next| match next {
        Next::Nothing => count,
        Next::Node(node) => *node,
        Next::Record(offset) => count + 16 + offset,
    };
    let tree = nodes.iter().flatten().flat_map(|to| (next(to) as u32).to_be_bytes().into_iter().skip(1));
    let metadata = map(&[
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        // An integer of zero bytes, which means 0.
        ("build_epoch", vec![0, 2]),
        ("database_type", text(name)),
        ("description", map(&[])),
        ("ip_version", short(version)),
        // An empty list.
        ("languages", vec![0, 4]),
        ("node_count", number(count as u32)),
        ("record_size", short(24)),
    ]);
    [tree.collect(), vec![0; 16], data, b"\xab\xcd\xefMaxMind.com".to_vec(), metadata].concat()
}
