//! The figures of one run, what they are per, and their medians over several runs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::process::Process;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// What it is, in words; a figure is its name and unit.
    pub(super) name: String,
    /// Empty for a count.
    pub(super) unit: &'static str,
    pub(super) value: f64,
}

impl Figure {
    /// Its name in JSON: `latency p99.9` in `ms` is `latency_p99_9_ms`.
    fn key(&self) -> String {
        let words = format!("{} {}", self.name, self.unit.replace('%', "percent"));
        let words = words.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("_").to_ascii_lowercase()
    }
}

/// One run of one side.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// In the order of the table.
    pub(super) figures: Vec<Figure>,
    /// What went wrong with deliveries: the figures are shown, and the command fails.
    pub(super) fault: Option<String>,
}

impl Run {
    /// The value of the figure with that one's name and unit.
    pub(super) fn value(&self, figure: &Figure) -> Option<f64> {
        value(&self.figures, figure)
    }

    /// Adds a number.
    pub(super) fn figure(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.figures.push(Figure { name: name.into(), unit, value });
    }

    /// Adds the percentiles of times in nanoseconds.
    pub(super) fn latencies(&mut self, name: &str, times: &Histogram<u64>) {
        for (label, quantile) in
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
        {
            let value = times.value_at_quantile(quantile) as f64 / 1e6;
            self.figure(format!("{name} {label}"), "ms", value);
        }
    }

    /// Adds the CPU time of the measured processes, together and each, per unit of work and as a
    /// share of one core. No processes, no figures.
    pub(super) fn cpu(
        &mut self,
        processes: &[Process],
        before: &[Duration],
        after: &[Duration],
        work: &Work,
    ) {
        let used: Vec<_> =
            before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).collect();
        if used.is_empty() {
            return;
        }
        let Work { unit, doing, .. } = work;
        let total: Duration = used.iter().sum();
        self.figure(format!("CPU per {unit}"), "us", work.each(total));
        if used.len() > 1 {
            for (process, used) in processes.iter().zip(&used) {
                self.figure(format!("CPU per {unit}, {}", process.name), "us", work.each(*used));
            }
        }
        self.figure(format!("CPU while {doing}"), "%", work.share(total));
    }

    /// Adds the CPU time of this process.
    pub(super) fn generator_cpu(&mut self, used: Duration, work: &Work) {
        self.figure(format!("generator CPU per {}", work.unit), "us", work.each(used));
        self.figure(GENERATOR_SHARE, "%", work.share(used));
    }

    pub(super) fn to_json(&self) -> Value {
        let mut figures = to_map(&self.figures);
        if let Some(fault) = &self.fault {
            figures.insert("fault".to_owned(), json!(fault));
        }
        figures.into()
    }
}

/// What the figure is called that says how busy this process was.
pub(super) const GENERATOR_SHARE: &str = "generator CPU";

/// What CPU time was spent on.
#[derive(Debug)]
pub(super) struct Work {
    /// What was being done: `sending`.
    pub(super) doing: &'static str,
    /// What it is counted in: `delivery`.
    pub(super) unit: &'static str,
    /// How many of those.
    pub(super) amount: f64,
    /// How long it took.
    pub(super) elapsed: Duration,
}

impl Work {
    /// Microseconds per unit.
    fn each(&self, used: Duration) -> f64 {
        used.as_secs_f64() * 1e6 / self.amount
    }

    /// Percent of one core.
    fn share(&self, used: Duration) -> f64 {
        used.as_secs_f64() / self.elapsed.as_secs_f64() * 100.0
    }
}

/// The median of each figure of the first run.
pub(super) fn medians(runs: &[Run]) -> Vec<Figure> {
    let first = runs.first().map(|run| run.figures.as_slice()).unwrap_or_default();
    let of = |figure: &Figure| median(runs.iter().filter_map(|run| run.value(figure)).collect());
    first.iter().filter_map(|f| Some(Figure { value: of(f)?, ..f.clone() })).collect()
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        Some(values[middle])
    } else {
        Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0)
    }
}

pub(super) fn to_map(figures: &[Figure]) -> Map<String, Value> {
    figures.iter().map(|figure| (figure.key(), json!(figure.value))).collect()
}

/// The value among `figures` of the one with that one's name and unit.
pub(super) fn value(figures: &[Figure], figure: &Figure) -> Option<f64> {
    let found = figures.iter().find(|f| f.name == figure.name && f.unit == figure.unit)?;
    Some(found.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_figure_has_a_key_for_programs() {
        let mut run = Run::default();
        run.figure("latency p99.9", "ms", 1.0);
        run.figure("generator CPU", "%", 1.0);
        run.figure("lost", "", 1.0);
        let keys: Vec<_> = run.figures.iter().map(Figure::key).collect();
        assert_eq!(keys, ["latency_p99_9_ms", "generator_cpu_percent", "lost"]);
    }
}
