//! A picture of the evidence along a log.

use std::path::Path;

use anyhow::anyhow;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::audit::TestReport;
use crate::plot::{Area, GRID, INK, Image, register_font, text};

const SIZE: (u32, u32) = (900, 480);
const LEGEND_WIDTH: i32 = 130;
/// How far above the threshold and below nothing the evidence is drawn, in powers of ten.
const ABOVE: f64 = 6.0;
const BELOW: f64 = 6.0;

/// After Okabe and Ito, as all pictures.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 128, 96)];

/// Draws the wealth of each test and the threshold.
pub fn draw(image: Image, path: &Path, title: &str, tests: &[TestReport]) -> anyhow::Result<()> {
    register_font();
    match image {
        Image::Svg => draw_on(&SVGBackend::new(path, SIZE).into_drawing_area(), title, tests),
        Image::Png => draw_on(&BitMapBackend::new(path, SIZE).into_drawing_area(), title, tests),
    }
}

fn draw_on<DB: DrawingBackend>(root: &Area<DB>, title: &str, tests: &[TestReport]) -> anyhow::Result<()> {
    let failed = |error: DrawingAreaErrorKind<DB::ErrorType>| anyhow!("{error}");
    root.fill(&WHITE).map_err(failed)?;
    let width = root.dim_in_pixel().0 as i32;
    let (area, _) = root.split_horizontally(width - LEGEND_WIDTH);
    let threshold = tests.iter().map(|test| test.threshold).fold(0.0, f64::max);
    let points = || tests.iter().flat_map(|test| &test.curve);
    let last = points().map(|(at, _)| *at).max().unwrap_or(1).max(1);
    let lowest = points().map(|(_, value)| *value).fold(0.0, f64::min).max(-BELOW);
    let highest = tests.iter().map(|test| test.highest).fold(threshold, f64::max).min(threshold + ABOVE);
    let (bottom, top) = (lowest - 0.3, highest + 0.5);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, text(19, HPos::Left, VPos::Top))
        .margin_top(14)
        .margin_left(14)
        .margin_right(10)
        .margin_bottom(12)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0..last, bottom..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_labels(8)
        .y_labels(8)
        .y_label_formatter(&|y| format!("{y:.1}"))
        .label_style(text(14, HPos::Left, VPos::Top))
        .axis_desc_style(text(15, HPos::Left, VPos::Top))
        .x_desc("tokens output")
        .y_desc("log10 e")
        .draw()
        .map_err(failed)?;
    let at = |x: u64, y: f64| chart.backend_coord(&(x, y.clamp(bottom, top)));
    let dashed = |from, to| DashedPathElement::new([from, to], 8, 5, INK.stroke_width(1));
    root.draw(&dashed(at(0, threshold), at(last, threshold))).map_err(failed)?;
    let legend = |row: i32| (width - LEGEND_WIDTH + 6, 64 + 28 * row);
    let label = |name: &str, row: i32| {
        let (x, y) = legend(row);
        root.draw_text(name, &text(15, HPos::Left, VPos::Center), (x + 44, y))
    };
    let (x, y) = legend(0);
    root.draw(&dashed((x, y), (x + 36, y))).map_err(failed)?;
    label("refused", 0).map_err(failed)?;
    for ((test, colour), row) in tests.iter().zip(COLOURS).zip(1..) {
        let stroke = colour.stroke_width(2);
        let start = [(0, 0.0)];
        let pixels: Vec<(i32, i32)> = start.iter().chain(&test.curve).map(|&(x, y)| at(x, y)).collect();
        root.draw(&PathElement::new(pixels, stroke)).map_err(failed)?;
        let (x, y) = legend(row);
        root.draw(&PathElement::new(vec![(x, y), (x + 36, y)], stroke)).map_err(failed)?;
        label(test.test, row).map_err(failed)?;
    }
    root.present().map_err(failed)
}
