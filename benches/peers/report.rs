//! Tables in Markdown, goals and whether they were held, and the raw figures as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    measure::spread,
    proxies::{Who, Yard},
    run::Figures,
    scenarios::{CPU, Case, Goal, Scenario},
};

/// What was measured: for each case one set of figures a round.
pub(crate) struct Measured {
    pub(crate) scenario: Scenario,
    pub(crate) rounds: Vec<Vec<Figures>>,
}

/// In this order, where a scenario has them.
const COLUMNS: [&str; 18] = [
    CPU,
    "of it user %",
    "requests/s",
    "p50 us",
    "p99 us",
    "p999 us",
    "CPU ms/GiB",
    "GiB/s",
    "rejected %",
    "reloads/s",
    "refreshes/s",
    "idle MiB",
    "1,000 connections MiB",
    "after a request each MiB",
    "after a request each PSS MiB",
    "exec to served ms",
    "program MiB",
    "system calls/request",
];

impl Measured {
    fn values(&self, case: usize, figure: &str) -> Vec<f64> {
        self.rounds[case].iter().filter_map(|figures| figures.get(figure).copied()).collect()
    }

    pub(crate) fn spread(&self, case: usize, figure: &str) -> Option<[f64; 3]> {
        spread(self.values(case, figure))
    }

    /// Round by round, one case's figure divided by another's.
    fn ratio(&self, case: usize, to: usize, figure: &str) -> Option<[f64; 3]> {
        let (values, base) = (self.values(case, figure), self.values(to, figure));
        spread(values.iter().zip(&base).map(|(value, base)| value / base).collect())
    }

    fn find(&self, (who, label): &(Who, &str)) -> Option<usize> {
        self.scenario.cases.iter().position(|case| case.who == *who && case.label == *label)
    }

    pub(crate) fn markdown(&self, yard: &Yard) -> String {
        let mut text = format!("### {}: {}\n\n", self.scenario.name, self.scenario.title);
        let count = self.scenario.cases.len();
        let columns: Vec<&str> =
            COLUMNS.into_iter().filter(|name| (0..count).any(|case| self.spread(case, name).is_some())).collect();
        // The first row is lanyard: the ratio says how many times as much it has.
        let main = columns.first().copied().unwrap_or(CPU);
        writeln!(text, "| | {} | first row to it |", columns.join(" | ")).unwrap();
        writeln!(text, "|---|{}---|", "---|".repeat(columns.len())).unwrap();
        for (at, case) in self.scenario.cases.iter().enumerate() {
            let cells: Vec<String> = columns.iter().map(|name| cell(self.spread(at, name))).collect();
            let ratio = if at == 0 { "1".into() } else { cell(self.ratio(0, at, main)) };
            writeln!(text, "| {} | {} | {ratio} |", row(yard, case), cells.join(" | ")).unwrap();
        }
        for who in [Who::Nginx, Who::Haproxy, Who::Envoy] {
            let absent = self.scenario.cases.iter().all(|case| case.who != who);
            if absent
                && self.scenario.cases.iter().any(|case| crate::run::is_peer(&case.who))
                && self.scenario.chart.is_none()
            {
                writeln!(text, "| {} | {}- |", yard.name(&who), "- | ".repeat(columns.len())).unwrap();
            }
        }
        for goal in &self.scenario.goals {
            writeln!(text, "\nGoal: {}", self.judge(yard, goal)).unwrap();
        }
        text
    }

    /// The goals, with the scenario's name before each.
    pub(crate) fn verdicts(&self, yard: &Yard) -> Vec<String> {
        let name = self.scenario.name;
        self.scenario.goals.iter().map(|goal| format!("{name}: {}", self.judge(yard, goal))).collect()
    }

    fn judge(&self, yard: &Yard, goal: &Goal) -> String {
        let name = |(who, label): &(Who, &str)| {
            if label.is_empty() { yard.name(who) } else { format!("{}, {label}", yard.name(who)) }
        };
        let (sign, figure) = (if goal.at_least { "at least" } else { "at most" }, goal.figure);
        let (what, found) = match &goal.to {
            Some(to) => (
                format!("{figure} of {} {sign} {} x that of {}", name(&goal.of), goal.at_most, name(to)),
                self.find(&goal.of).zip(self.find(to)).and_then(|(case, to)| self.ratio(case, to, figure)),
            ),
            None => (
                format!("{figure} of {} {sign} {}", name(&goal.of), goal.at_most),
                self.find(&goal.of).and_then(|case| self.spread(case, figure)),
            ),
        };
        let Some(found) = found else { return format!("{what}: not measured.") };
        let held = if goal.at_least { found[1] >= goal.at_most } else { found[1] <= goal.at_most };
        format!("{what}: {} **{}**.", cell(Some(found)), if held { "held" } else { "missed" })
    }

    pub(crate) fn json(&self, yard: &Yard) -> Value {
        let cases = self.scenario.cases.iter().zip(&self.rounds);
        let cases = cases.map(|(case, rounds)| json!({ "row": row(yard, case), "x": case.x, "rounds": rounds }));
        json!({ "scenario": self.scenario.name, "title": self.scenario.title, "cases": cases.collect::<Vec<_>>() })
    }
}

fn row(yard: &Yard, case: &Case) -> String {
    let name = yard.name(&case.who);
    if case.label.is_empty() { name } else { format!("{name}, {}", case.label) }
}

/// Median (least to most).
fn cell(spread: Option<[f64; 3]>) -> String {
    let Some([least, median, most]) = spread else { return "-".into() };
    let digits = if median < 10.0 { 2 } else { usize::from(median < 100.0) };
    if least == most {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}
