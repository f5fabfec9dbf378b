//! What a measurement found: figures per run, medians over the runs, and their ratio to the floor.
//!
//! The sides are measured in turn (A B A B ...), because a machine's noise comes in stretches: the
//! ratio is the median of each pair's, not the ratio of two medians.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::run::{Figure, GENERATOR_SHARE, Run, median, medians, to_map, value};

/// From this share of one core on, the generator limits what it measures.
const BUSY_GENERATOR: f64 = 90.0;

/// One of the things that are compared.
pub(super) trait Named: Copy {
    /// What the report calls it.
    fn name(self) -> &'static str;
}

/// All runs of a command.
#[derive(Debug)]
pub(super) struct Report {
    command: &'static str,
    parameters: Value,
    sides: Vec<(&'static str, Vec<Run>)>,
}

impl Report {
    /// Measures each side in turn, `pairs` times.
    pub(super) async fn measure<Side: Named>(
        command: &'static str,
        parameters: &impl serde::Serialize,
        pairs: u32,
        sides: &[Side],
        mut measure: impl AsyncFnMut(Side) -> anyhow::Result<Run>,
    ) -> anyhow::Result<Self> {
        let parameters = serde_json::to_value(parameters)?;
        let mut runs: Vec<_> = sides.iter().map(|side| (side.name(), Vec::new())).collect();
        for _ in 0..pairs {
            for (side, (_, runs)) in sides.iter().zip(&mut runs) {
                runs.push(measure(*side).await?);
            }
        }
        Ok(Self { command, parameters, sides: runs })
    }

    /// Writes the table to standard output, and JSON to `file`; `-` is standard output, without
    /// the table.
    #[expect(clippy::print_stdout, reason = "the report is what the command is for")]
    pub(super) fn publish(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else {
            println!("{}", self.table());
            return Ok(());
        };
        let json = serde_json::to_string_pretty(&self.to_json())?;
        if file == Path::new("-") {
            println!("{json}");
            return Ok(());
        }
        println!("{}", self.table());
        std::fs::File::create(file)
            .and_then(|mut out| writeln!(out, "{json}"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// What went wrong with deliveries, in any run.
    pub(super) fn faults(&self) -> Vec<String> {
        let runs = self.sides.iter().flat_map(|(side, runs)| {
            runs.iter().enumerate().map(move |(index, run)| (side, index + 1, run))
        });
        runs.filter_map(|(side, run, found)| {
            found.fault.as_ref().map(|fault| format!("{side}, run {run}: {fault}"))
        })
        .collect()
    }

    fn to_json(&self) -> Value {
        let sides = self.sides.iter().map(|(name, runs)| {
            json!({
                "name": name,
                "runs": runs.iter().map(Run::to_json).collect::<Vec<_>>(),
                "median": to_map(&medians(runs)),
            })
        });
        let sides: Vec<_> = sides.collect();
        json!({
            "command": self.command,
            "version": env!("CARGO_PKG_VERSION"),
            "cores": cores(),
            "parameters": self.parameters,
            "sides": sides,
            "ratio": to_map(&self.ratios()),
        })
    }

    /// The first side's figures by the second's: the median of the pairs' ratios.
    fn ratios(&self) -> Vec<Figure> {
        let [(_, server), (_, floor)] = self.sides.as_slice() else { return Vec::new() };
        let ratio = |figure: &Figure, run: &Run, other: &Run| {
            Some(run.value(figure)? / other.value(figure)?).filter(|ratio| ratio.is_finite())
        };
        let names = server.first().map(|run| run.figures.as_slice()).unwrap_or_default();
        names
            .iter()
            .filter_map(|figure| {
                let pairs = server.iter().zip(floor);
                let ratios: Vec<_> =
                    pairs.filter_map(|(run, other)| ratio(figure, run, other)).collect();
                Some(Figure { value: median(ratios)?, ..figure.clone() })
            })
            .collect()
    }

    fn table(&self) -> String {
        let ratios = self.ratios();
        let mut rows = vec![vec![self.command.to_owned()]];
        for (name, runs) in &self.sides {
            rows[0].push((*name).to_owned());
            if runs.len() > 1 {
                rows[0].push(format!("of {} runs", runs.len()));
            }
        }
        rows[0].extend((!ratios.is_empty()).then(|| "ratio".to_owned()));
        let all: Vec<_> = self.sides.iter().map(|(_, runs)| (runs, medians(runs))).collect();
        let names = all.first().map(|(_, medians)| medians.as_slice()).unwrap_or_default();
        for figure in names {
            let mut row = vec![format!("{} {}", figure.name, figure.unit)];
            for (runs, medians) in &all {
                row.push(value(medians, figure).map(show).unwrap_or_default());
                if runs.len() > 1 {
                    let values = || runs.iter().filter_map(|run| run.value(figure));
                    let (least, most) = (values().reduce(f64::min), values().reduce(f64::max));
                    let spread = least.zip(most);
                    let spread =
                        spread.map(|(least, most)| format!("{}..{}", show(least), show(most)));
                    row.push(spread.unwrap_or_default());
                }
            }
            row.extend(value(&ratios, figure).map(|ratio| format!("{ratio:.2}")));
            rows.push(row);
        }
        let mut table = align(&rows);
        if names.iter().any(|f| f.name == GENERATOR_SHARE && f.value > BUSY_GENERATOR) {
            table.push_str(
                "\nThe generator was as busy as one thread can be: it, not the server, may have \
                 set the pace.",
            );
        }
        table
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Three digits at least, whole numbers from a hundred on.
fn show(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 || value.fract() == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell: &String| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A bar on standard error, gone when dropped; nothing when that is no terminal.
pub(super) fn progress(length: u64, message: String) -> ProgressBar {
    let template = "{msg} [{bar:40}] {human_pos}/{human_len} {elapsed}";
    let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(length).with_message(message).with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(figures: &[(&str, f64)]) -> Run {
        let mut run = Run::default();
        for (name, value) in figures {
            run.figure(*name, "us", *value);
        }
        run
    }

    #[test]
    fn the_ratio_is_the_median_of_the_pairs() {
        let report = Report {
            command: "fan-out",
            parameters: json!({}),
            sides: vec![
                ("server", vec![run(&[("a", 2.0)]), run(&[("a", 9.0)]), run(&[("a", 8.0)])]),
                ("floor", vec![run(&[("a", 1.0)]), run(&[("a", 3.0)]), run(&[("a", 8.0)])]),
            ],
        };
        assert_eq!(report.ratios(), run(&[("a", 2.0)]).figures);
        let json = report.to_json();
        assert_eq!(json["sides"][0]["median"]["a_us"], 8.0);
        assert_eq!(json["sides"][1]["runs"][2]["a_us"], 8.0);
        assert_eq!(json["ratio"]["a_us"], 2.0);
        let table = report.table();
        assert_eq!(
            table,
            "fan-out  server  of 3 runs  floor  of 3 runs  ratio\n\
             a us          8       2..9      3       1..8   2.00"
        );
    }

    #[test]
    fn a_fault_of_any_run_is_named() {
        let mut bad = run(&[("a", 1.0)]);
        bad.fault = Some("1 deliveries lost".to_owned());
        let report = Report {
            command: "fan-out",
            parameters: json!({}),
            sides: vec![("server", vec![run(&[("a", 1.0)]), bad])],
        };
        assert_eq!(report.faults(), ["server, run 2: 1 deliveries lost"]);
        assert_eq!(report.to_json()["sides"][0]["runs"][1]["fault"], "1 deliveries lost");
        assert!(report.ratios().is_empty());
    }
}
