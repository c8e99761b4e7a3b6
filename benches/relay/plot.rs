//! Draws the bars of [`table`](crate::table): the text of an earlier run becomes an SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// The line above the bars.
const TITLE: &str = "CPU of the relay, microseconds a message";

const LABELS: f64 = 210.0;
const LONGEST: f64 = 480.0;
const LINE: f64 = 22.0;
const TOP: f64 = 40.0;

/// One bar, and its colour.
struct Bar {
    label: String,
    value: f64,
    colour: &'static str,
}

/// Prints the drawing of the bars that are in the file.
pub(crate) fn draw(file: &Path) -> ExitCode {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let bars = bars(&text);
    if bars.is_empty() {
        eprintln!("{}: there are no bars below \"{TITLE}\"", file.display());
        return ExitCode::FAILURE;
    }
    print!("{}", svg(&bars));
    ExitCode::SUCCESS
}

/// The lines below the title, up to the end of the block.
fn bars(text: &str) -> Vec<Bar> {
    let lines = text.lines().skip_while(|line| *line != TITLE).skip(1);
    lines.take_while(|line| *line != "```").filter_map(bar).collect()
}

/// `danelaw 10 sessions ######### 114`.
fn bar(line: &str) -> Option<Bar> {
    let (label, value) = line.split_once('#')?;
    let label = label.split_whitespace().collect::<Vec<_>>().join(" ");
    let value = value.trim_start_matches('#').trim().parse().ok()?;
    let colour = if label.starts_with("danelaw") { "#2da44e" } else { "#8c959f" };
    Some(Bar { label, value, colour })
}

fn svg(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (LABELS + LONGEST + 60.0, TOP + LINE * bars.len() as f64 + 8.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>{TITLE}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"22\" font-weight=\"bold\">{TITLE}</text>\n"
    );
    for (row, Bar { label, value, colour }) in bars.iter().enumerate() {
        let top = TOP + LINE * row as f64;
        let (base, length) = (top + 12.0, value / most * LONGEST);
        let end = LABELS + length + 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"15\" fill=\"{colour}\"/>\
             <text x=\"{end:.1}\" y=\"{base}\">{value}</text>",
            LABELS - 8.0
        );
    }
    svg + "</svg>\n"
}
