//! Curves and dots over two axes.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::plot::{Area, GRID, INK, Image, register_font, text};

const SIZE: (u32, u32) = (900, 540);
const LEGEND_WIDTH: i32 = 240;
/// Colours after Okabe and Ito, apart for colour-blind eyes as well.
const COLOURS: [RGBColor; 6] = [
    RGBColor(150, 150, 150),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 128, 96),
    RGBColor(170, 68, 153),
    RGBColor(34, 34, 34),
];

/// Some points with a name.
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    joined: bool,
}

impl Series {
    /// Points joined by a line.
    pub fn line(name: &str, points: Vec<(f64, f64)>) -> Self {
        Series { name: name.into(), points, joined: true }
    }

    /// Points on their own.
    pub fn dots(name: &str, points: Vec<(f64, f64)>) -> Self {
        Series { name: name.into(), points, joined: false }
    }
}

/// Draws series into a file, with a legend on the right.
pub fn draw(image: Image, path: &Path, title: &str, axes: [&str; 2], series: &[Series]) -> anyhow::Result<()> {
    register_font();
    match image {
        Image::Svg => draw_on(&SVGBackend::new(path, SIZE).into_drawing_area(), title, axes, series),
        Image::Png => draw_on(&BitMapBackend::new(path, SIZE).into_drawing_area(), title, axes, series),
    }
}

fn draw_on<DB: DrawingBackend>(
    root: &Area<DB>,
    title: &str,
    [x, y]: [&str; 2],
    series: &[Series],
) -> anyhow::Result<()> {
    let failed = |error: DrawingAreaErrorKind<DB::ErrorType>| anyhow!("{error}");
    let width = root.dim_in_pixel().0 as i32;
    root.fill(&WHITE).map_err(failed)?;
    let (area, _) = root.split_horizontally(width - LEGEND_WIDTH);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = || series.iter().flat_map(|series| series.points.iter().map(of));
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let margin = (0.05 * (most - least)).max(0.01);
        least - margin..most + margin
    };
    let mut chart = ChartBuilder::on(&area)
        .caption(title, text(19, HPos::Left, VPos::Top))
        .margin(14)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(range(|point| point.0), range(|point| point.1))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_labels(8)
        .y_labels(8)
        .label_style(text(14, HPos::Left, VPos::Top))
        .axis_desc_style(text(15, HPos::Left, VPos::Top))
        .x_desc(x)
        .y_desc(y)
        .draw()
        .map_err(failed)?;
    for (i, Series { name, points, joined }) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let at = (width - LEGEND_WIDTH + 6, 64 + 28 * i as i32);
        if *joined {
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2))).map_err(failed)?;
            root.draw(&PathElement::new(vec![at, (at.0 + 36, at.1)], colour.stroke_width(2))).map_err(failed)?;
        }
        if !joined || points.len() <= 12 {
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 4, colour.filled()))).map_err(failed)?;
            root.draw(&Circle::new((at.0 + 18, at.1), 4, colour.filled())).map_err(failed)?;
        }
        root.draw_text(name, &text(15, HPos::Left, VPos::Center), (at.0 + 46, at.1)).map_err(failed)?;
    }
    root.present().map_err(failed)
}
