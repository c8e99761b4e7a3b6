//! Draws the lines of [`growth`](crate::growth): the text of an earlier run becomes an SVG.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::growth::{self, Panel, Point};

const SIZE: (u32, u32) = (1000, 840);
const COLUMNS: usize = 2;
const FONT: &str = "sans-serif";
const DANELAW: RGBColor = RGBColor(0x2d, 0xa4, 0x4e);
const OTHERS: RGBColor = RGBColor(0x8c, 0x95, 0x9f);
/// A panel whose greatest cost is so many times the least one has powers of ten on both sides.
const WIDE: f64 = 20.0;

/// Prints the drawing of the lines that are in the file.
pub(crate) fn draw(file: &Path) -> ExitCode {
    let drawn = fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| {
        let panels: Vec<Panel> = growth::panels(&text).into_iter().filter(|panel| !panel.points.is_empty()).collect();
        if panels.is_empty() { Err("it has no lines of growth".to_owned()) } else { svg(&panels) }
    });
    match drawn {
        Ok(svg) => {
            print!("{svg}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

fn svg(panels: &[Panel]) -> Result<String, String> {
    let mut svg = String::new();
    let drawn = || -> Result<(), Box<dyn Error>> {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let areas = root.split_evenly((panels.len().div_ceil(COLUMNS), COLUMNS));
        for (panel, area) in panels.iter().zip(&areas) {
            draw_panel(panel, area)?;
        }
        root.present()?;
        Ok(())
    }();
    drawn.map_err(|error| error.to_string())?;
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_panel(Panel { title, points }: &Panel, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let (least, most) = points
        .iter()
        .map(|point| point.cost)
        .fold((f64::INFINITY, f64::MIN_POSITIVE), |(least, most), cost| (least.min(cost), most.max(cost)));
    let is_wide = most > WIDE * least;
    let (down, up) = if is_wide { (least.log10().floor(), most.log10().ceil()) } else { (0.0, most * 1.15) };
    let at = |point: &Point| {
        let height = if is_wide { point.cost.log10() } else { point.cost };
        ((point.count.max(1) as f64).log10(), height)
    };
    let left = points.iter().map(|point| at(point).0).fold(f64::INFINITY, f64::min).floor();
    let right = points.iter().map(|point| at(point).0).fold(left + 1.0, f64::max);
    let has_zero = points.iter().any(|point| point.count == 0);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 15))
        .margin(12)
        .margin_right(30)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(left..right, down..up)?;
    let power = |exponent: &f64| grouped(10f64.powf(*exponent));
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels((right - left) as usize + 1)
        .y_labels(if is_wide { (up - down) as usize + 1 } else { 6 })
        .x_label_formatter(&|at| if has_zero && *at == 0.0 { "0".to_owned() } else { power(at) })
        .y_label_formatter(&|at| if is_wide { power(at) } else { grouped(*at) })
        .label_style((FONT, 12))
        .draw()?;
    for (relay, colour) in [("null", OTHERS), ("danelaw", DANELAW)] {
        let line: Vec<_> = points.iter().filter(|point| point.relay == relay).map(at).collect();
        if line.is_empty() {
            continue;
        }
        let marks: Vec<_> = line.iter().map(|at| Circle::new(*at, 3, colour.filled())).collect();
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(relay)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(marks)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}

/// `10,000`, `0.1`.
fn grouped(number: f64) -> String {
    if number < 0.995 && number > 0.0 {
        return format!("{number:.2}").trim_end_matches('0').to_owned();
    }
    let mut text = format!("{number:.0}");
    let mut at = text.len();
    while at > 3 {
        at -= 3;
        text.insert(at, ',');
    }
    text
}
