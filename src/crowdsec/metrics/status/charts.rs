//! What was let in and refused, as two charts and a table beside them. Only the page has them.

use serde::Serialize;

use super::history::{Bin, Totals};

/// The two charts of a span of time, and the numbers in them.
#[derive(Serialize)]
pub struct Charts {
    /// `hour` or `day`.
    name: &'static str,
    /// In the units of a chart: its height is `HEIGHT`.
    width: usize,
    let_in: Chart,
    refused: Chart,
    /// The newest first.
    rows: Vec<Row>,
    total: Row,
    /// When the first bar begins, and the last.
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Chart {
    total: u64,
    most: u64,
    bars: Vec<Bar>,
}

#[derive(Serialize)]
struct Bar {
    x: usize,
    y: u64,
    height: u64,
    title: String,
}

#[derive(Serialize)]
struct Row {
    time: String,
    counted: Option<Totals>,
    refused: u64,
}

const HEIGHT: u64 = 100;
/// The width of a bar and the space beside it.
const STEP: usize = 10;

impl Charts {
    pub fn of(name: &'static str, bins: &[Bin]) -> Self {
        let row = |bin: &Bin| Row {
            time: clock(bin.begin),
            counted: bin.counted,
            refused: bin.counted.map_or(0, Totals::refused),
        };
        let total = bins.iter().filter_map(|bin| bin.counted).fold(Totals::default(), Totals::plus);
        let end = |bin: Option<&Bin>| bin.map(|bin| clock(bin.begin)).unwrap_or_default();
        Self {
            name,
            width: bins.len() * STEP,
            let_in: Chart::of(bins, |totals| totals.let_in),
            refused: Chart::of(bins, Totals::refused),
            rows: bins.iter().rev().map(row).collect(),
            total: Row { time: String::new(), counted: Some(total), refused: total.refused() },
            from: end(bins.first()),
            to: end(bins.last()),
        }
    }
}

impl Chart {
    fn of(bins: &[Bin], number: impl Fn(Totals) -> u64) -> Self {
        let numbers: Vec<u64> = bins.iter().map(|bin| bin.counted.map_or(0, &number)).collect();
        let most = numbers.iter().copied().max().unwrap_or(0);
        let bar = |(place, number): (usize, &u64)| {
            // One of a million is still seen.
            let height = if *number == 0 { 0 } else { (number * HEIGHT / most).max(3) };
            let title = format!("{} · {number}", clock(bins[place].begin));
            Bar { x: place * STEP + 1, y: HEIGHT - height, height, title }
        };
        Self { total: numbers.iter().sum(), most, bars: numbers.iter().enumerate().map(bar).collect() }
    }
}

/// Hour and minute, in UTC.
fn clock(seconds: u64) -> String {
    let minutes = seconds / 60;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
