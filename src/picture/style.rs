//! Colours, lines and markers.

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::{Area, Failed};
use crate::path::Verifier;
use crate::rule::Rule;

/// Text and axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// The lines of a grid.
pub const GRID: RGBColor = RGBColor(226, 226, 226);

/// The colours of tokens. Dark and light by turns, so that tokens next to each other differ in grey as well; the first ones
/// after Okabe and Ito.
pub const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(245, 205, 90),
    RGBColor(190, 75, 0),
    RGBColor(150, 210, 245),
    RGBColor(0, 120, 90),
    RGBColor(240, 180, 210),
    RGBColor(105, 60, 140),
    RGBColor(185, 225, 150),
    RGBColor(120, 75, 30),
    RGBColor(215, 215, 215),
    RGBColor(45, 50, 110),
    RGBColor(255, 235, 190),
];

/// The colour of a token; the colours come again after twelve.
pub fn token_colour(token: usize) -> RGBColor {
    COLOURS[token % COLOURS.len()]
}

/// What is read on a ground: white on what is dark.
pub fn label_colour(ground: RGBColor) -> RGBColor {
    let luminance = 0.3 * f64::from(ground.0) + 0.59 * f64::from(ground.1) + 0.11 * f64::from(ground.2);
    if luminance < 130.0 { WHITE } else { INK }
}

/// A third of a colour on white.
pub fn pale(colour: RGBColor) -> RGBColor {
    let pale = |channel: u8| 255 - (255 - channel) / 3;
    RGBColor(pale(colour.0), pale(colour.1), pale(colour.2))
}

/// How a curve looks: told apart by colour, and by dash and marker where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Of line and marker.
    pub colour: RGBColor,
    /// Of the line, in pixels; 0 for markers alone.
    pub width: u32,
    /// The lengths of dash and gap; a gap of 0 is a solid line.
    pub dash: (i32, i32),
    /// At the points.
    pub marker: Option<Marker>,
}

/// What is put at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A filled circle.
    Disc,
    /// A circle, wide enough for another marker inside.
    Ring,
    /// A filled square.
    Square,
    /// A filled triangle on its base.
    Triangle,
    /// An ×.
    Cross,
    /// A filled square on its corner.
    Diamond,
}

/// A wide pale band, so that a curve that attains the optimum is seen on it.
pub fn optimum_style() -> Style {
    Style { colour: RGBColor(200, 200, 200), width: 9, dash: (1, 0), marker: None }
}

/// The style of a rule: colours after Okabe and Ito, apart for colour-blind eyes as well.
pub fn rule_style(rule: Rule) -> Style {
    let style = |colour: (u8, u8, u8), dash, marker| Style {
        colour: RGBColor(colour.0, colour.1, colour.2),
        width: 2,
        dash,
        marker: Some(marker),
    };
    match rule {
        Rule::Maximal => style((34, 34, 34), (1, 0), Marker::Diamond),
        Rule::Recursive => style((213, 94, 0), (10, 5), Marker::Triangle),
        Rule::RecursiveDistinct => style((170, 68, 153), (3, 4), Marker::Cross),
        Rule::KSeq => style((0, 114, 178), (14, 6), Marker::Disc),
        Rule::Optimal => style((0, 128, 96), (1, 0), Marker::Square),
        Rule::OptimalLinear => style((120, 80, 0), (2, 6), Marker::Ring),
    }
}

/// The style of a path verifier: that of the token rule it repeats, or one of its own.
pub fn verifier_style(verifier: Verifier) -> Style {
    let own = |colour: (u8, u8, u8), marker| Style {
        colour: RGBColor(colour.0, colour.1, colour.2),
        width: 3,
        dash: (1, 0),
        marker: Some(marker),
    };
    match verifier {
        Verifier::Token(recursion) => rule_style(recursion.rule()),
        Verifier::Block(_) => own((120, 120, 120), Marker::Diamond),
        Verifier::Traversal(_) => own((204, 121, 167), Marker::Cross),
        Verifier::Path(_) => Style { dash: (9, 4), ..own((200, 30, 30), Marker::Disc) },
        Verifier::Spread(_) => own((0, 90, 160), Marker::Square),
    }
}

/// Draws a line through some pixels, without markers.
///
/// # Errors
/// What the backend says.
pub fn draw_line<DB: DrawingBackend>(root: &Area<DB>, style: Style, pixels: &[(i32, i32)]) -> Result<(), Failed<DB>> {
    let stroke = style.colour.stroke_width(style.width);
    match style.dash {
        _ if style.width == 0 => Ok(()),
        (_, 0) => root.draw(&PathElement::new(pixels.to_vec(), stroke)),
        (dash, gap) => root.draw(&DashedPathElement::new(pixels.iter().copied(), dash, gap, stroke)),
    }
}

/// Draws a marker.
///
/// # Errors
/// What the backend says.
pub fn draw_marker<DB: DrawingBackend>(
    root: &Area<DB>,
    marker: Marker,
    colour: RGBColor,
    (x, y): (i32, i32),
) -> Result<(), Failed<DB>> {
    let fill = colour.filled();
    match marker {
        Marker::Disc => root.draw(&Circle::new((x, y), 5, fill)),
        Marker::Ring => root.draw(&Circle::new((x, y), 9, colour.stroke_width(2))),
        Marker::Square => root.draw(&Rectangle::new([(x - 4, y - 4), (x + 5, y + 5)], fill)),
        Marker::Triangle => root.draw(&Polygon::new(vec![(x, y - 7), (x + 6, y + 5), (x - 6, y + 5)], fill)),
        Marker::Cross => root.draw(&Cross::new((x, y), 6, colour.stroke_width(2))),
        Marker::Diamond => root.draw(&Polygon::new(vec![(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], fill)),
    }
}
