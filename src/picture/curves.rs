//! Values against the number of drafts.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Failed, Frame, GRID, Labels, Picture, Style, draw_line, draw_marker, text};

/// A named curve of values against numbers of drafts, in order.
#[derive(Clone, Debug)]
pub struct Curve {
    /// In the legend.
    pub name: String,
    /// How it looks.
    pub style: Style,
    /// Numbers of drafts, and the values.
    pub points: Vec<(usize, f64)>,
}

/// Curves over a logarithmic axis for the number of drafts, a legend on the right.
#[derive(Clone, Debug)]
pub struct Curves {
    /// Above the picture.
    pub title: String,
    /// What the values are.
    pub values: &'static str,
    /// The highest value there can be.
    pub highest: Option<f64>,
    /// The first one is drawn below the others.
    pub curves: Vec<Curve>,
}

/// The part of the width that the legend takes.
const LEGEND_WIDTH: i32 = 180;

impl Picture for Curves {
    fn size(&self) -> (u32, u32) {
        (900, 540)
    }

    fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Result<(), Failed<DB>> {
        let mut ks: Vec<usize> = self.curves.iter().flat_map(|curve| curve.points.iter().map(|(k, _)| *k)).collect();
        ks.sort_unstable();
        ks.dedup();
        let log = |k: usize| (k as f64).log2();
        let (first, last) = match ks[..] {
            [] => (0.0, 0.0),
            [first, ..] => (log(first), log(ks[ks.len() - 1])),
        };
        let margin = if last > first { 0.06 * (last - first) } else { 0.5 };
        let values = || self.curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
        let (bottom, top) =
            value_range(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max), self.highest);
        let digits = |y: f64| if top - bottom < 0.1 { format!("{y:.3}") } else { format!("{y:.2}") };
        let frame = Frame {
            title: &self.title,
            names: ["drafts k", self.values],
            x: first - margin..last + margin,
            y: bottom..top,
            labels: [Labels::None, Labels::Written(&digits)],
            legend: LEGEND_WIDTH,
        };
        let scale = frame.draw(root)?;

        // Labels at the numbers of drafts there are, where there is room.
        let mut taken = i32::MIN;
        for &k in &ks {
            let ((x, floor), (_, ceiling)) = (scale.at(log(k), bottom), scale.at(log(k), top));
            if x >= taken {
                root.draw(&PathElement::new(vec![(x, ceiling), (x, floor)], GRID))?;
                root.draw_text(&k.to_string(), &text(14, HPos::Center, VPos::Top), (x, floor + 8))?;
                taken = x + 26;
            }
        }
        for (row, Curve { name, style, points }) in self.curves.iter().enumerate() {
            let pixels: Vec<(i32, i32)> = points.iter().map(|&(k, value)| scale.at(log(k), value)).collect();
            draw_line(root, *style, &pixels)?;
            if let Some(marker) = style.marker {
                for &at in &pixels {
                    draw_marker(root, marker, style.colour, at)?;
                }
            }
            frame.name(root, row, *style, name)?;
        }
        Ok(())
    }
}

/// A range around the values: a little wider, and hardly more than up to the highest there can be.
fn value_range(least: f64, most: f64, highest: Option<f64>) -> (f64, f64) {
    let margin = (0.06 * (most - least)).max(0.005);
    ((least - margin).max(0.0), (most + margin).min(highest.unwrap_or(f64::INFINITY) + margin / 2.0))
}
