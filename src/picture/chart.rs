//! Curves and dots over two axes.

use std::ops::Range;

use plotters::prelude::*;

use super::{Area, Failed, Frame, Labels, Marker, Picture, Style, draw_line, draw_marker};

/// Colours after Okabe and Ito, apart for colour-blind eyes as well, and dashes for those who see none.
const STYLES: [(RGBColor, (i32, i32)); 6] = [
    (RGBColor(150, 150, 150), (1, 0)),
    (RGBColor(0, 114, 178), (14, 6)),
    (RGBColor(213, 94, 0), (7, 4)),
    (RGBColor(0, 128, 96), (1, 0)),
    (RGBColor(170, 68, 153), (3, 4)),
    (RGBColor(34, 34, 34), (10, 5)),
];

/// Some points with a name.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    joined: bool,
}

impl Series {
    /// Points joined by a line.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Series { name: name.into(), points, joined: true }
    }

    /// Points on their own.
    pub fn dots(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Series { name: name.into(), points, joined: false }
    }
}

/// Series over two axes, with a legend on the right.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// Above the picture.
    pub title: String,
    /// The names of the axes, x first.
    pub axes: [&'a str; 2],
    /// In the order of the legend; the last is on top.
    pub series: Vec<Series>,
    /// The width left for the legend.
    pub legend: i32,
}

/// Up to how many points of a line are marked.
const MARKED: usize = 12;

impl Picture for Chart<'_> {
    fn size(&self) -> (u32, u32) {
        (900, 540)
    }

    fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Result<(), Failed<DB>> {
        let frame = Frame {
            title: &self.title,
            names: self.axes,
            x: self.range(|point| point.0),
            y: self.range(|point| point.1),
            labels: [Labels::Plain; 2],
            legend: self.legend,
        };
        let scale = frame.draw(root)?;
        for (row, Series { name, points, joined }) in self.series.iter().enumerate() {
            let (colour, dash) = STYLES[row % STYLES.len()];
            let marked = !joined || points.len() <= MARKED;
            let style =
                Style { colour, width: if *joined { 2 } else { 0 }, dash, marker: marked.then_some(Marker::Disc) };
            let pixels: Vec<_> = points.iter().map(|&(x, y)| scale.at(x, y)).collect();
            draw_line(root, style, &pixels)?;
            if let Some(marker) = style.marker {
                for &at in &pixels {
                    draw_marker(root, marker, style.colour, at)?;
                }
            }
            frame.name(root, row, style, name)?;
        }
        Ok(())
    }
}

impl Chart<'_> {
    fn range(&self, of: fn(&(f64, f64)) -> f64) -> Range<f64> {
        let values = || self.series.iter().flat_map(|series| series.points.iter().map(of));
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let margin = (0.05 * (most - least)).max(0.01);
        least - margin..most + margin
    }
}
