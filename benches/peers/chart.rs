//! Charts as SVG: one question, its median as a line and its spread as a bar at each point, a line a proxy.

use std::fmt::Write as _;

use crate::{proxies::Yard, report::Measured, scenarios::Chart};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 50.0;
const RIGHT: f64 = 120.0;
const BOTTOM: f64 = 60.0;
const COLOURS: [&str; 4] = ["#1f5fa8", "#c2571a", "#3a7d44", "#7a4ea3"];

/// `None`: nothing to draw.
pub(crate) fn draw(yard: &Yard, measured: &Measured, chart: &Chart) -> Option<String> {
    let cases = &measured.scenario.cases;
    let points: Vec<_> = (0..cases.len()).filter_map(|at| Some((at, measured.spread(at, chart.y)?))).collect();
    let top = round_up(points.iter().map(|(_, spread)| spread[2]).fold(0.0, f64::max));
    let place = |x: f64| if chart.logarithmic { x.max(1.0).log10() } else { x };
    let all: Vec<f64> = cases.iter().map(|case| place(case.x)).collect();
    let (first, last) = (all.iter().copied().reduce(f64::min)?, all.iter().copied().reduce(f64::max)?);
    let width = (last - first).max(f64::MIN_POSITIVE);
    let x = |value: f64| LEFT + (place(value) - first) / width * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"43\" fill=\"#555555\">{}, median; bars from least to most</text>\n",
        chart.question, chart.y
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let at = y(value);
        writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        )
        .ok()?;
    }
    let mut ticks: Vec<f64> = cases.iter().map(|case| case.x).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut free = 0.0;
    for tick in ticks {
        if x(tick) >= free {
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
                x(tick),
                HEIGHT - BOTTOM + 20.0
            )
            .ok()?;
            free = x(tick) + 34.0;
        }
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    writeln!(svg, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", HEIGHT - 16.0, chart.x)
        .ok()?;

    let mut names: Vec<String> = Vec::new();
    for case in cases {
        let name = yard.name(&case.who);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        let line: Vec<_> = points.iter().filter(|(at, _)| yard.name(&cases[*at].who) == *name).collect();
        let path: Vec<String> =
            line.iter().map(|(at, spread)| format!("{:.1},{:.1}", x(cases[*at].x), y(spread[1]))).collect();
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join(" "))
            .ok()?;
        for (at, [least, median, most]) in &line {
            let x = x(cases[*at].x);
            writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>",
                y(*least),
                y(*most),
                y(*median)
            )
            .ok()?;
        }
        let (at, spread) = line.last()?;
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            x(cases[*at].x) + 9.0,
            y(spread[1]) + 4.0
        )
        .ok()?;
    }
    svg += "</svg>\n";
    Some(svg)
}

/// To a number that can be divided by four and read.
fn round_up(value: f64) -> f64 {
    let scale = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * scale).find(|most| *most >= value).unwrap_or(value)
}
