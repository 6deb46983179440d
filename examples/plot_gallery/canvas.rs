//! Lines, boxes and words at places in pixels.

use std::error::Error;

use draftpick::picture::{Area, Failed, INK, label_colour, svg, text};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// What a drawing function returns.
pub type Drawn = Result<(), Failed<SVGBackend<'static>>>;
/// Where a point is.
pub type At = (i32, i32);

pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const ORANGE: RGBColor = RGBColor(190, 75, 0);
pub const GREY: RGBColor = RGBColor(120, 120, 120);

pub struct Canvas<'a, 'b> {
    pub root: &'a Area<SVGBackend<'b>>,
}

/// A picture drawn on a canvas.
pub fn picture(size: (u32, u32), draw: impl FnOnce(&Canvas) -> Drawn) -> Result<String, Box<dyn Error>> {
    Ok(svg(size, |root| draw(&Canvas { root }))?)
}

impl Canvas<'_, '_> {
    pub fn words(&self, words: &str, size: i32, (h, v): (HPos, VPos), at: At) -> Drawn {
        self.root.draw_text(words, &text(size, h, v), at)
    }

    /// Words in the middle of something dark or light.
    pub fn on(&self, ground: RGBColor, words: &str, size: i32, at: At) -> Drawn {
        self.root.draw_text(words, &text(size, HPos::Center, VPos::Center).color(&label_colour(ground)), at)
    }

    pub fn title(&self, title: &str, explanation: &str) -> Drawn {
        self.words(title, 18, (HPos::Left, VPos::Top), (16, 12))?;
        self.words(explanation, 13, (HPos::Left, VPos::Top), (16, 38))
    }

    pub fn line(&self, points: &[At], colour: RGBColor, width: u32) -> Drawn {
        self.root.draw(&PathElement::new(points.to_vec(), colour.stroke_width(width)))
    }

    pub fn dashed(&self, points: &[At], colour: RGBColor, width: u32) -> Drawn {
        self.root.draw(&DashedPathElement::new(points.iter().copied(), 7, 5, colour.stroke_width(width)))
    }

    pub fn arrow(&self, from: At, to: At, colour: RGBColor, width: u32) -> Drawn {
        self.line(&[from, to], colour, width)?;
        let (x, y) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let length = x.hypot(y).max(1.0);
        let (x, y) = (x / length, y / length);
        let point = |back: f64, aside: f64| {
            let at = (f64::from(to.0) - back * x - aside * y, f64::from(to.1) - back * y + aside * x);
            (at.0.round() as i32, at.1.round() as i32)
        };
        self.root.draw(&Polygon::new(vec![to, point(11.0, 5.0), point(11.0, -5.0)], colour.filled()))
    }

    /// A box with an outline.
    pub fn block(&self, corners: [At; 2], fill: RGBColor, edge: RGBColor) -> Drawn {
        self.root.draw(&Rectangle::new(corners, fill.filled()))?;
        self.root.draw(&Rectangle::new(corners, edge.stroke_width(1)))
    }

    pub fn frame(&self, corners: [At; 2], edge: RGBColor, width: u32) -> Drawn {
        self.root.draw(&Rectangle::new(corners, edge.stroke_width(width)))
    }

    pub fn disc(&self, at: At, radius: i32, fill: RGBColor) -> Drawn {
        self.root.draw(&Circle::new(at, radius, fill.filled()))?;
        self.root.draw(&Circle::new(at, radius, INK.stroke_width(1)))
    }

    pub fn ring(&self, at: At, radius: i32, edge: RGBColor, width: u32) -> Drawn {
        self.root.draw(&Circle::new(at, radius, edge.stroke_width(width)))
    }

    pub fn area(&self, corners: &[At], fill: RGBAColor) -> Drawn {
        self.root.draw(&Polygon::new(corners.to_vec(), fill.filled()))
    }
}
