//! What did a benchmark measure? Tables in Markdown, and the few statistics that they need.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::server::root;

/// One part's tables.
pub struct Report {
    part: &'static str,
    text: String,
}

impl Report {
    pub fn new(part: &'static str, title: &str) -> Self {
        Self { part, text: format!("### {title}\n") }
    }

    /// Begins a table.
    pub fn columns(&mut self, names: &[&str]) {
        self.text.push('\n');
        self.row(names);
        self.row(&vec!["---"; names.len()]);
    }

    /// Shows the row at once, too, because a benchmark takes long.
    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        let row = format!("| {} |", cells.join(" | "));
        eprintln!("{row}");
        self.text.push_str(&(row + "\n"));
    }

    pub fn note(&mut self, text: &str) {
        let _ = write!(self.text, "\n{text}\n");
    }

    /// Prints the report and writes it to target/bench, with the machine and the commit.
    pub fn finish(mut self) {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models: Vec<&str> =
            cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).collect();
        let (cores, model) = (models.len(), models.first().unwrap_or(&"an unknown processor"));
        let commit = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root()).output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        self.note(&format!("`dev/bench {}` on {cores} cores of {model}, commit {commit}.", self.part));
        println!("\n{}", self.text);
        let directory = root().join("target/bench");
        fs::create_dir_all(&directory).expect("target/bench");
        fs::write(directory.join(self.part).with_extension("md"), self.text).expect("the table's file");
    }
}

/// The mean, and its standard error.
pub fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let number = values.len() as f64;
    let mean = values.iter().sum::<f64>() / number;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (number - 1.0) / number).sqrt())
}

/// The value below which this share of all values lies; a share of 0.5 gives the median.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// A number with its thousands set off.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    format!("{sign}{}", groups.join(","))
}
