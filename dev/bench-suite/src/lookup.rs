//! How long does a look-up take? The decision set's, beside one bare probe of a hash map and beside other structures.

use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use criterion::Criterion;
use hashbrown::HashMap;
use ip_network_table::IpNetworkTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::crowdsec::answer::read_answer;
use crate::crowdsec::decisions::{DecisionSet, Remediation, Types};
use crate::decisions::{self, Chance, answer};
use crate::report::Report;

const MILLION: u64 = 1_000_000;
pub const TYPES: Types = Types { captcha: false, fallback: Remediation::Ban };

const BARE: &str = "one probe of a hash map, by address";

pub fn run(directory: &Path) {
    let decisions: Vec<(IpNet, u64)> =
        decisions::many(MILLION).map(|decision| (decision.network(), decision.id)).collect();
    let now = Instant::now();
    let set = Arc::new(DecisionSet::new(now));
    let mut everything = set.everything(TYPES, now);
    let json = answer(decisions::many(MILLION));
    read_answer(&*json, &mut |entry| everything.take(entry)).expect("an answer like LAPI's");
    everything.take_over(now, Duration::ZERO).settle(true);
    assert_eq!(set.len() as u64, MILLION);

    let bare: HashMap<IpAddr, u64> = decisions.iter().map(|(network, id)| (network.addr(), *id)).collect();
    let lengths = Lengths::new(&decisions);
    let segments = Segments::new(&decisions);
    let mut v4: PrefixMap<Ipv4Net, u64> = PrefixMap::new();
    let mut v6: PrefixMap<Ipv6Net, u64> = PrefixMap::new();
    let mut treebitmap: IpNetworkTable<u64> = IpNetworkTable::new();
    for (network, id) in &decisions {
        match network {
            IpNet::V4(net) => drop(v4.insert(*net, *id)),
            IpNet::V6(net) => drop(v6.insert(*net, *id)),
        }
        let same = ip_network::IpNetwork::new(network.addr(), network.prefix_len()).expect("no host bits");
        treebitmap.insert(same, *id);
    }
    let in_trie = |address: IpAddr| match address {
        IpAddr::V4(address) => v4.cover_values(&address.into()).max().is_some(),
        IpAddr::V6(address) => v6.cover_values(&address.into()).max().is_some(),
    };
    let in_treebitmap = |address: IpAddr| match address {
        IpAddr::V4(address) => treebitmap.matches_ipv4(address).map(|(_, id)| id).max().is_some(),
        IpAddr::V6(address) => treebitmap.matches_ipv6(address).map(|(_, id)| id).max().is_some(),
    };

    let visitors = Visitors::new(&decisions, |address| lengths.find(address));
    let mut bench = Bench {
        criterion: Criterion::default()
            .without_plots()
            .output_directory(directory)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .sample_size(40),
        directory,
        visitors,
        measured: 0,
        rows: Vec::new(),
    };
    // A probe finds no network, so it is not asked whether it is right.
    bench.measure(BARE, |address| bare.contains_key(&address));
    // What no map can do without that is written while it is read.
    let locked = RwLock::new(&bare);
    bench.measure("the same behind a lock", |address| locked.read().expect("no panic").contains_key(&address));
    bench.check_and_measure("**the decision set**", |address| set.strongest(address, now).is_some());
    bench.check_and_measure("a table for each prefix length", |address| lengths.find(address));
    bench.check_and_measure("a sorted array, binary search", |address| segments.find(address));
    bench.check_and_measure("a prefix trie (prefix-trie)", in_trie);
    bench.check_and_measure("a tree bitmap (ip_network_table)", in_treebitmap);

    let mut report = Report::new("lookup", "A look-up among 1,000,000 decisions");
    report.columns(&["structure", "hit, hot", "hit, cold", "miss, hot", "miss, cold"]);
    let floor = bench.rows[0].1;
    for (name, nanoseconds) in &bench.rows {
        let cell = |(this, floor): (&f64, &f64)| format!("{this:.0} ns ({:.2})", this / floor);
        let cells: Vec<String> = nanoseconds.iter().zip(&floor).map(cell).collect();
        report.row(&[[(*name).to_owned()].as_slice(), &cells].concat());
    }
    report.note(
        "The target of the decision set is 500 ns. In brackets: times the bare probe. Nine of ten addresses are IPv4, two of a hundred \
         decisions are networks of every length. Each look-up waits for the one before it; hot: 64 addresses over and over, cold: a \
         million at random. Every structure but the bare probe finds all that stands against an address, and the set tells id, origin \
         and scenario besides.",
    );
    report.finish();
}

struct Visitors {
    hits: Vec<IpAddr>,
    misses: Vec<IpAddr>,
}

/// Powers of two, so that going round costs next to nothing.
const HOT: usize = 1 << 6;
const COLD: usize = 1 << 20;

impl Visitors {
    fn new(decisions: &[(IpNet, u64)], stands: impl Fn(IpAddr) -> bool) -> Self {
        let mut chance = Chance(4711);
        let hit = |chance: &mut Chance| {
            let (network, _) = decisions[chance.below(MILLION) as usize];
            match (network.addr(), network.hostmask()) {
                (IpAddr::V4(base), IpAddr::V4(mask)) => {
                    Ipv4Addr::from_bits(base.to_bits() | mask.to_bits() & chance.next() as u32).into()
                }
                (IpAddr::V6(base), IpAddr::V6(mask)) => {
                    Ipv6Addr::from_bits(base.to_bits() | mask.to_bits() & u128::from(chance.next())).into()
                }
                _ => unreachable!("address and mask are of one family"),
            }
        };
        let any = |chance: &mut Chance| if chance.below(10) == 0 { chance.v6().into() } else { chance.v4().into() };
        let hits = (0..COLD).map(|_| hit(&mut chance)).collect();
        let misses =
            std::iter::repeat_with(|| any(&mut chance)).filter(|address| !stands(*address)).take(COLD).collect();
        Self { hits, misses }
    }
}

struct Bench<'a> {
    criterion: Criterion,
    directory: &'a Path,
    visitors: Visitors,
    measured: usize,
    rows: Vec<(&'static str, [f64; 4])>,
}

impl Bench<'_> {
    fn check_and_measure(&mut self, name: &'static str, find: impl Fn(IpAddr) -> bool) {
        assert!(self.visitors.hits.iter().all(|address| find(*address)), "{name} misses what stands");
        assert!(!self.visitors.misses.iter().any(|address| find(*address)), "{name} finds what does not stand");
        self.measure(name, find);
    }

    fn measure(&mut self, name: &'static str, find: impl Fn(IpAddr) -> bool) {
        let Visitors { hits, misses } = &self.visitors;
        let row = [&hits[..HOT], &hits[..], &misses[..HOT], &misses[..]].map(|visitors| {
            self.measured += 1;
            let id = format!("lookup-{}", self.measured);
            self.criterion.bench_function(&id, |bencher| {
                bencher.iter_custom(|times| {
                    let (mut at, start) = (0, Instant::now());
                    for _ in 0..times {
                        let found = find(black_box(visitors[at & (visitors.len() - 1)]));
                        // Adds nothing, but nobody knows before the look-up has ended.
                        at += 1 + (usize::from(found) & black_box(0));
                    }
                    start.elapsed()
                });
            });
            let estimates =
                fs::read(self.directory.join(id).join("new/estimates.json")).expect("criterion's estimates");
            let estimates: serde_json::Value = serde_json::from_slice(&estimates).expect("criterion's JSON");
            estimates["median"]["point_estimate"].as_f64().expect("criterion's median")
        });
        self.rows.push((name, row));
    }
}

/// Candidate: a hash map for each prefix length that occurs, all of them asked.
struct Lengths {
    v4: Vec<(u32, HashMap<u32, u64>)>,
    v6: Vec<(u32, HashMap<u128, u64>)>,
}

impl Lengths {
    fn new(decisions: &[(IpNet, u64)]) -> Self {
        let mut lengths = Self { v4: Vec::new(), v6: Vec::new() };
        for (network, id) in decisions {
            let length = u32::from(network.prefix_len());
            match network.addr() {
                IpAddr::V4(address) => {
                    table(&mut lengths.v4, 32 - length).insert(address.to_bits() >> (32 - length), *id)
                }
                IpAddr::V6(address) => {
                    table(&mut lengths.v6, 128 - length).insert(address.to_bits() >> (128 - length), *id)
                }
            };
        }
        lengths
    }

    fn find(&self, address: IpAddr) -> bool {
        let found = match address {
            IpAddr::V4(v4) => self.v4.iter().filter_map(|(shift, map)| map.get(&(v4.to_bits() >> shift))).max(),
            IpAddr::V6(v6) => self.v6.iter().filter_map(|(shift, map)| map.get(&(v6.to_bits() >> shift))).max(),
        };
        found.is_some()
    }
}

fn table<K>(tables: &mut Vec<(u32, HashMap<K, u64>)>, shift: u32) -> &mut HashMap<K, u64> {
    let at = tables.iter().position(|(known, _)| *known == shift).unwrap_or_else(|| {
        tables.push((shift, HashMap::new()));
        tables.len() - 1
    });
    &mut tables[at].1
}

/// Candidate: the whole address space cut where something begins or ends, sorted; IPv4 as mapped into IPv6.
struct Segments(Vec<(u128, Option<u64>)>);

impl Segments {
    fn new(decisions: &[(IpNet, u64)]) -> Self {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let mut spans: Vec<_> =
            decisions.iter().map(|(net, id)| (bits(net.network()), bits(net.broadcast()), *id)).collect();
        // Networks either hold one another or share nothing: the wider one comes first.
        spans.sort_by_key(|(first, last, _)| (*first, u128::MAX - last));
        let mut cuts: Vec<(u128, Option<u64>)> = vec![(0, None)];
        let mut open: Vec<(u128, u64)> = Vec::new();
        let close = |open: &mut Vec<(u128, u64)>, cuts: &mut Vec<(u128, Option<u64>)>, before: u128| {
            while let Some((last, _)) = open.pop_if(|(last, _)| *last < before) {
                cuts.push((last + 1, open.last().map(|(_, id)| *id)));
            }
        };
        for (first, last, id) in spans {
            close(&mut open, &mut cuts, first);
            cuts.push((first, Some(id)));
            open.push((last, id));
        }
        close(&mut open, &mut cuts, u128::MAX);
        Self(cuts)
    }

    fn find(&self, address: IpAddr) -> bool {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        // Of several cuts at one place the last one counts.
        let after = self.0.partition_point(|(first, _)| *first <= bits);
        self.0[after - 1].1.is_some()
    }
}
