//! A picture of acceptance against the number of drafts, and what all pictures share.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Once;

use anyhow::{anyhow, bail};
use draftpick::Rule;
use draftpick::path::Verifier;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const CURVES_SIZE: (u32, u32) = (900, 540);
/// The part of the width that the legend takes.
const LEGEND_WIDTH: i32 = 180;
const FONT: &str = "sans-serif";
pub const INK: RGBColor = RGBColor(34, 34, 34);
pub const GRID: RGBColor = RGBColor(226, 226, 226);

/// A picture's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    Svg,
    Png,
}

impl Image {
    /// By the extension of the file.
    pub fn from_path(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Image::Svg),
            Some("png") => Ok(Image::Png),
            _ => bail!("--plot: '{}' must end in .svg or .png", path.display()),
        }
    }
}

/// A named curve of values against numbers of drafts, in order.
pub struct Curve {
    pub name: String,
    pub style: Style,
    pub points: Vec<(usize, f64)>,
}

/// What a picture of curves is about.
pub struct Axes {
    pub title: String,
    /// What the values are.
    pub values: &'static str,
    /// The highest value there can be.
    pub highest: Option<f64>,
}

/// How a curve looks: told apart by colour, and by dash and marker where there is none.
#[derive(Clone, Copy)]
pub struct Style {
    pub colour: RGBColor,
    width: u32,
    /// The lengths of dash and gap; a gap of 0 is a solid line.
    dash: (i32, i32),
    marker: Option<Marker>,
}

#[derive(Clone, Copy)]
enum Marker {
    Disc,
    Ring,
    Square,
    Triangle,
    Cross,
    Diamond,
}

/// A wide pale band, so that a curve that attains the optimum is seen on it.
pub fn optimum_style() -> Style {
    Style { colour: RGBColor(200, 200, 200), width: 9, dash: (1, 0), marker: None }
}

/// Colours after Okabe and Ito, apart for colour-blind eyes as well.
pub fn rule_style(rule: Rule) -> Style {
    let style = |colour: (u8, u8, u8), dash, marker| Style {
        colour: RGBColor(colour.0, colour.1, colour.2),
        width: 2,
        dash,
        marker: Some(marker),
    };
    match rule.name() {
        "maximal" => style((34, 34, 34), (1, 0), Marker::Diamond),
        "rrs" => style((213, 94, 0), (10, 5), Marker::Triangle),
        "rrs-wor" => style((170, 68, 153), (3, 4), Marker::Cross),
        "kseq" => style((0, 114, 178), (14, 6), Marker::Disc),
        "optimal" => style((0, 128, 96), (1, 0), Marker::Square),
        _ => style((120, 80, 0), (2, 6), Marker::Ring),
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
        Verifier::Path(_) => own((200, 30, 30), Marker::Disc),
        _ => own((0, 90, 160), Marker::Disc),
    }
}

/// Draws curves into a file: a logarithmic axis for the number of drafts, a legend on the right.
pub fn curves(image: Image, path: &Path, axes: &Axes, curves: &[Curve]) -> anyhow::Result<()> {
    register_font();
    match image {
        Image::Svg => draw_curves(&SVGBackend::new(path, CURVES_SIZE).into_drawing_area(), axes, curves),
        Image::Png => draw_curves(&BitMapBackend::new(path, CURVES_SIZE).into_drawing_area(), axes, curves),
    }
}

/// Makes the embedded font known.
pub fn register_font() {
    static ONCE: Once = Once::new();
    // The bitmap backend has no fonts of its own, and the SVG backend measures text with this one.
    ONCE.call_once(|| {
        let font = include_bytes!("../../../assets/DejaVuSans-subset.ttf");
        let registered = plotters::style::register_font(FONT, FontStyle::Normal, font);
        assert!(registered.is_ok(), "the embedded font is a font");
    });
}

/// What is drawn on.
pub type Area<DB> = DrawingArea<DB, Shift>;

/// A style of text: its size, and which point of it is where it is put.
pub fn text(size: i32, h: HPos, v: VPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK).pos(Pos::new(h, v))
}

fn draw_curves<DB: DrawingBackend>(root: &Area<DB>, axes: &Axes, curves: &[Curve]) -> anyhow::Result<()> {
    let failed = |error: DrawingAreaErrorKind<DB::ErrorType>| anyhow!("{error}");
    let width = root.dim_in_pixel().0 as i32;
    root.fill(&WHITE).map_err(failed)?;
    let (area, _) = root.split_horizontally(width - LEGEND_WIDTH);

    let mut ks: Vec<usize> = curves.iter().flat_map(|curve| curve.points.iter().map(|(k, _)| *k)).collect();
    ks.sort_unstable();
    ks.dedup();
    let log = |k: usize| (k as f64).log2();
    let (first, last) = (log(ks[0]), log(ks[ks.len() - 1]));
    let margin = if last > first { 0.06 * (last - first) } else { 0.5 };
    let values = || curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let (bottom, top) = value_range(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max), axes.highest);

    let mut chart = ChartBuilder::on(&area)
        .caption(&axes.title, text(19, HPos::Left, VPos::Top))
        .margin_top(14)
        .margin_left(14)
        .margin_right(10)
        .margin_bottom(12)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(first - margin..last + margin, bottom..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .disable_x_mesh()
        .x_labels(0)
        .y_label_formatter(&|y| if top - bottom < 0.1 { format!("{y:.3}") } else { format!("{y:.2}") })
        .y_labels(8)
        .label_style(text(14, HPos::Left, VPos::Top))
        .axis_desc_style(text(15, HPos::Left, VPos::Top))
        .x_desc("drafts k")
        .y_desc(axes.values)
        .draw()
        .map_err(failed)?;

    // Labels at the numbers of drafts there are, where there is room.
    let mut taken = i32::MIN;
    for &k in &ks {
        let ((x, floor), (_, ceiling)) = (chart.backend_coord(&(log(k), bottom)), chart.backend_coord(&(log(k), top)));
        if x >= taken {
            root.draw(&PathElement::new(vec![(x, ceiling), (x, floor)], GRID)).map_err(failed)?;
            let label = k.to_string();
            root.draw_text(&label, &text(14, HPos::Center, VPos::Top), (x, floor + 8)).map_err(failed)?;
            taken = x + 26;
        }
    }
    for (i, Curve { name, style, points }) in curves.iter().enumerate() {
        let pixels: Vec<(i32, i32)> = points.iter().map(|&(k, value)| chart.backend_coord(&(log(k), value))).collect();
        draw_line(root, *style, &pixels)?;
        let (x, y) = (width - LEGEND_WIDTH + 6, 64 + 28 * i as i32);
        let sample = [(x, y), (x + 44, y)];
        draw_line(root, *style, &sample)?;
        if let Some(marker) = style.marker {
            for &at in pixels.iter().chain([&(x + 22, y)]) {
                draw_marker(root, marker, style.colour, at)?;
            }
        }
        root.draw_text(name, &text(15, HPos::Left, VPos::Center), (x + 54, y)).map_err(failed)?;
    }
    root.present().map_err(failed)
}

/// A range around the values: a little wider, and hardly more than up to the highest there can be.
fn value_range(least: f64, most: f64, highest: Option<f64>) -> (f64, f64) {
    let margin = (0.06 * (most - least)).max(0.005);
    ((least - margin).max(0.0), (most + margin).min(highest.unwrap_or(f64::INFINITY) + margin / 2.0))
}

fn draw_line<DB: DrawingBackend>(root: &Area<DB>, style: Style, pixels: &[(i32, i32)]) -> anyhow::Result<()> {
    let stroke = style.colour.stroke_width(style.width);
    let drawn = match style.dash {
        (_, 0) => root.draw(&PathElement::new(pixels.to_vec(), stroke)),
        (dash, gap) => root.draw(&DashedPathElement::new(pixels.iter().copied(), dash, gap, stroke)),
    };
    drawn.map_err(|error| anyhow!("{error}"))
}

fn draw_marker<DB: DrawingBackend>(
    root: &Area<DB>,
    marker: Marker,
    colour: RGBColor,
    (x, y): (i32, i32),
) -> anyhow::Result<()> {
    let fill = colour.filled();
    let drawn = match marker {
        Marker::Disc => root.draw(&Circle::new((x, y), 5, fill)),
        Marker::Ring => root.draw(&Circle::new((x, y), 9, colour.stroke_width(2))),
        Marker::Square => root.draw(&Rectangle::new([(x - 4, y - 4), (x + 5, y + 5)], fill)),
        Marker::Triangle => root.draw(&Polygon::new(vec![(x, y - 7), (x + 6, y + 5), (x - 6, y + 5)], fill)),
        Marker::Cross => root.draw(&Cross::new((x, y), 6, colour.stroke_width(2))),
        Marker::Diamond => root.draw(&Polygon::new(vec![(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], fill)),
    };
    drawn.map_err(|error| anyhow!("{error}"))
}
