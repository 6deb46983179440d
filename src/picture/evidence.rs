//! The evidence along a log.

use std::f64::consts::LN_10;

use plotters::prelude::*;

use super::{Area, Failed, Frame, INK, Labels, Picture, Style, draw_line};
use crate::audit::Tested;

/// The wealth of each test by the number of tokens output, and the threshold at which a hypothesis is refused.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Above the picture.
    pub title: String,
    /// What the legend says, and the test; three at most.
    pub tests: Vec<(String, Tested)>,
}

const LEGEND_WIDTH: i32 = 150;
/// How far above the threshold and below nothing the evidence is drawn, in powers of ten.
const ABOVE: f64 = 6.0;
const BELOW: f64 = 6.0;

/// After Okabe and Ito, as all pictures.
const STYLES: [(RGBColor, (i32, i32)); 3] =
    [(RGBColor(0, 114, 178), (1, 0)), (RGBColor(213, 94, 0), (14, 6)), (RGBColor(0, 128, 96), (3, 4))];

impl Picture for Evidence {
    fn size(&self) -> (u32, u32) {
        (900, 480)
    }

    fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Result<(), Failed<DB>> {
        let tests = || self.tests.iter().map(|(_, test)| test);
        let points = || tests().flat_map(|test| &test.curve);
        let threshold = tests().map(|test| test.log_threshold / LN_10).fold(0.0, f64::max);
        let last = points().map(|(at, _)| *at).max().unwrap_or(1).max(1);
        let lowest = points().map(|(_, ln)| ln / LN_10).fold(0.0, f64::min).max(-BELOW);
        let highest = tests().map(|test| test.peak / LN_10).fold(threshold, f64::max).min(threshold + ABOVE);
        let (bottom, top) = (lowest - 0.3, highest + 0.5);
        let frame = Frame {
            title: &self.title,
            names: ["tokens output", "log10 e"],
            x: 0.0..last as f64,
            y: bottom..top,
            labels: [Labels::Written(&|x| format!("{x:.0}")), Labels::Written(&|y| format!("{y:.1}"))],
            legend: LEGEND_WIDTH,
        };
        let scale = frame.draw(root)?;
        let at = |x: u64, y: f64| scale.at(x as f64, y.clamp(bottom, top));
        let refused = Style { colour: INK, width: 1, dash: (8, 5), marker: None };
        draw_line(root, refused, &[at(0, threshold), at(last, threshold)])?;
        frame.name(root, 0, refused, "refused")?;
        for (row, ((name, test), (colour, dash))) in self.tests.iter().zip(STYLES).enumerate() {
            let style = Style { colour, width: 2, dash, marker: None };
            let start = [(0, 0.0)];
            let curve = start.iter().chain(&test.curve);
            draw_line(root, style, &curve.map(|&(x, ln)| at(x, ln / LN_10)).collect::<Vec<_>>())?;
            frame.name(root, row + 1, style, name)?;
        }
        Ok(())
    }
}
