//! The plot: CPU per I/O as horizontal bars on a logarithmic scale, one group for each case. SVG, written by hand.

use std::fmt::Write as _;

use super::stats::{Results, Spread};

const LABEL: f64 = 210.0;
const WIDTH: f64 = 620.0;
const BAR: f64 = 15.0;
const HEAD: f64 = 26.0;
const COLOURS: [(&str, &str); 5] =
    [("scstd", "#1b6ca8"), ("tgt", "#c05a3a"), ("nbdkit", "#a08030"), ("limit", "#3a8a4a"), ("", "#777777")];

/// The whole picture.
pub(super) fn render(results: &Results) -> String {
    let costs: Vec<(usize, &str, Spread)> = results
        .series
        .iter()
        .filter_map(|one| {
            let cost = Spread::of(one.reports.iter().map(|report| report.target_cpu))?;
            (cost.median > 0.0).then_some((one.case, results.contenders[one.contender].role.name(), cost))
        })
        .collect();
    let least = costs.iter().map(|(_, _, cost)| cost.least).fold(f64::INFINITY, f64::min).max(1e-3);
    let greatest = costs.iter().map(|(_, _, cost)| cost.greatest).fold(1e-2, f64::max);
    // Whole powers of ten.
    let (low, high) = (least.log10().floor(), greatest.log10().ceil());
    let x = |value: f64| LABEL + (value.max(1e-3).log10() - low).max(0.0) / (high - low).max(1.0) * WIDTH;
    let mut body = String::new();
    let mut y = 30.0;
    // Writing into a String cannot fail.
    for (number, case) in results.cases.iter().enumerate() {
        let group: Vec<_> = costs.iter().filter(|(of, _, _)| *of == number).collect();
        if group.is_empty() {
            continue;
        }
        let _ = writeln!(body, r#"<text x="4" y="{:.0}" font-weight="bold">{}</text>"#, y + 16.0, case.name());
        y += HEAD;
        for (_, name, cost) in group {
            let colour =
                COLOURS.iter().find(|(start, _)| name.starts_with(start)).map_or("black", |(_, colour)| colour);
            let (end, middle) = (x(cost.median), y + BAR / 2.0);
            let _ = writeln!(
                body,
                r#"<text x="{:.0}" y="{:.0}" text-anchor="end">{name}</text>
<rect x="{LABEL}" y="{y:.0}" width="{:.1}" height="{:.0}" fill="{colour}"/>
<path d="M{:.1} {middle:.1}H{:.1}" stroke="black"/>
<text x="{:.1}" y="{:.0}">{:.2}</text>"#,
                LABEL - 6.0,
                y + 11.0,
                end - LABEL,
                BAR - 3.0,
                x(cost.least),
                x(cost.greatest),
                x(cost.greatest) + 6.0,
                y + 11.0,
                cost.median,
            );
            y += BAR;
        }
    }
    let (width, height) = (LABEL + WIDTH + 60.0, y + 20.0);
    let mut text = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
<text x="4" y="16" font-size="13">CPU of the target per I/O in us (median; the line is least to greatest; logarithmic)</text>
"##
    );
    for power in low as i32..=high as i32 {
        let at = x(10_f64.powi(power));
        let _ = writeln!(text, r##"<path d="M{at:.1} 24V{:.0}" stroke="#dddddd"/>"##, height - 14.0);
        let _ = writeln!(
            text,
            r#"<text x="{at:.1}" y="{:.0}" text-anchor="middle">{}</text>"#,
            height - 3.0,
            10_f64.powi(power)
        );
    }
    text.push_str(&body);
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::contenders::Role;
    use super::super::stats::tests::{READ, results};
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_logarithm() {
        let text =
            render(&results(READ, &[(Role::Limit, &[1.0]), (Role::ScstdNull, &[10.0]), (Role::TgtNull, &[100.0])]));
        // One to a hundred: two powers of ten over the whole width.
        assert!(text.contains(r##"width="0.0" height="12" fill="#3a8a4a""##), "{text}");
        assert!(text.contains(r##"width="310.0" height="12" fill="#1b6ca8""##), "{text}");
        assert!(text.contains(r##"width="620.0" height="12" fill="#c05a3a""##), "{text}");
        assert!(text.contains("4 KiB READ QD 32") && text.ends_with("</svg>\n"));
    }
}
