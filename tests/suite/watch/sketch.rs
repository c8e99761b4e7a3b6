//! The dashboard as a drawing: its rows and panels where Grafana puts them, without data.

use std::fmt::Write as _;

use serde_json::Value;

/// A column and a row of Grafana's grid, in pixels.
const COLUMN: u64 = 40;
const ROW: u64 = 16;
const WIDTH: u64 = 24 * COLUMN;
const STYLE: &str = "\
<style>
svg { background: #fff; }
rect { fill: #f6f8fa; stroke: #d0d7de; }
text { fill: #24292f; }
.row { font-weight: bold; }
.axis { fill: none; stroke: #8c959f; }
.stat { stroke: #2da44e; stroke-width: 6; }
</style>";

/// One panel, in pixels.
struct Panel<'a> {
    title: String,
    kind: &'a str,
    left: u64,
    top: u64,
    width: u64,
    height: u64,
}

impl<'a> Panel<'a> {
    fn of(panel: &'a Value) -> Self {
        let cells = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let title = panel["title"].as_str().unwrap().replace('&', "&amp;").replace('<', "&lt;");
        Self {
            title,
            kind: panel["type"].as_str().unwrap(),
            left: cells("x") * COLUMN,
            top: cells("y") * ROW,
            width: cells("w") * COLUMN,
            height: cells("h") * ROW,
        }
    }

    fn bottom(&self) -> u64 {
        self.top + self.height
    }

    fn draw(&self, svg: &mut String) {
        let Self { title, kind, left, top, width, height } = self;
        let line = match *kind {
            "row" => format!(
                "<text x=\"{}\" y=\"{}\" class=\"row\">{title}</text><line x1=\"{left}\" y1=\"{}\" x2=\"{WIDTH}\" y2=\"{}\" class=\"axis\"/>",
                left + 6,
                top + 12,
                top + 15,
                top + 15
            ),
            _ => format!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/><text x=\"{}\" y=\"{}\" font-size=\"{}\">{title}</text>{}",
                left + 3,
                top + 3,
                width - 6,
                height - 6,
                left + 10,
                top + 18,
                self.size(),
                self.content()
            ),
        };
        let _ = writeln!(svg, "<g>{line}</g>");
    }

    /// The size of the title: a long one must fit.
    fn size(&self) -> u64 {
        // A letter is a little wider than half its size.
        let fitting = (self.width - 20) * 20 / (11 * self.title.chars().count() as u64);
        fitting.min(11)
    }

    /// A bar for a single figure, axes for a curve.
    fn content(&self) -> String {
        let (left, right, base) = (self.left + 14, self.left + self.width - 14, self.bottom() - 14);
        match self.kind {
            "stat" => {
                format!("<line x1=\"{left}\" y1=\"{}\" x2=\"{right}\" y2=\"{}\" class=\"stat\"/>", base - 6, base - 6)
            }
            _ => {
                format!("<polyline points=\"{left},{} {left},{base} {right},{base}\" class=\"axis\"/>", self.top + 26)
            }
        }
    }
}

/// The drawing of a dashboard.
pub(crate) fn sketch(dashboard: &Value) -> String {
    let panels: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(Panel::of).collect();
    let bottom = panels.iter().map(Panel::bottom).max().unwrap();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>A sketch of config/grafana/danelaw.json: its rows and panels, without data</title>\n{STYLE}\n",
        bottom + 24
    );
    for panel in &panels {
        panel.draw(&mut svg);
    }
    let note = "A sketch of the layout: no measured values.";
    svg + &format!("<text x=\"6\" y=\"{}\" font-style=\"italic\">{note}</text>\n</svg>\n", bottom + 16)
}
