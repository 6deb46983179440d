//! Pictures of problems, rules and logs, as SVG and PNG: what the command line and the book draw.
//!
//! A [`Picture`] knows its size and draws itself on any area of plotters; [`Picture::svg`] and [`Picture::save`] are what
//! callers use. The same input gives the same bytes.
//!
//! ```
//! use draftpick::picture::{Picture, ProblemPicture};
//! use draftpick::{Pmf, Problem, Rule, Selector};
//!
//! let problem = Problem::new(Pmf::new([0.5, 0.3, 0.2])?, Pmf::new([0.2, 0.3, 0.5])?, 2)?;
//! let value = Rule::KSeq.prepare(&problem).acceptance().value;
//! let svg = ProblemPicture::new(&problem, vec![(Rule::KSeq, value)]).svg()?;
//! assert!(svg.contains("α* = 0.8600"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chart;
mod curves;
mod evidence;
mod frame;
mod panel;
mod problem;
mod region;
mod style;

use std::error::Error;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

pub use chart::{Chart, Series};
pub use curves::{Curve, Curves};
pub use evidence::Evidence;
pub use frame::{Frame, Labels, Scale};
pub use panel::{ACCEPTANCE_HEIGHT, DENSITY_HEIGHT, MASS_HEIGHT, PANEL_WIDTH, Panel};
pub use problem::{MASSES, ProblemPicture};
pub use region::{MAX_REGIONS, Region, regions};
pub use style::{
    COLOURS, GRID, INK, Marker, Style, draw_line, draw_marker, label_colour, optimum_style, pale, rule_style,
    token_colour, verifier_style,
};

/// What is drawn on.
pub type Area<DB> = DrawingArea<DB, Shift>;

/// How drawing fails.
pub type Failed<DB> = DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>;

/// A picture that was not drawn.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The name of the file does not say what format it is to have.
    #[error("'{}' must end in .svg or .png", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be written, or the font not be used.
    #[error("{0}")]
    Draw(#[source] Box<dyn Error + Send + Sync>),
}

/// A picture's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Lines, areas and text.
    Svg,
    /// Pixels.
    Png,
}

impl Image {
    /// By the extension of the file.
    ///
    /// # Errors
    /// [`PictureError::Extension`] for any other than `.svg` and `.png`.
    pub fn from_path(path: &Path) -> Result<Self, PictureError> {
        match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Image::Svg),
            Some("png") => Ok(Image::Png),
            _ => Err(PictureError::Extension { path: path.into() }),
        }
    }
}

/// Something that can be drawn.
pub trait Picture {
    /// Its width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws it on an area of its size.
    ///
    /// # Errors
    /// What the backend says.
    fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Result<(), Failed<DB>>;

    /// The picture as the text of an SVG file.
    ///
    /// # Errors
    /// What the backend says.
    fn svg(&self) -> Result<String, PictureError> {
        svg(self.size(), |root| self.draw(root))
    }

    /// Draws the picture into a file.
    ///
    /// # Errors
    /// The file cannot be written.
    fn save(&self, image: Image, path: &Path) -> Result<(), PictureError> {
        match image {
            Image::Svg => draw_on(self, &SVGBackend::new(path, self.size()).into_drawing_area()),
            Image::Png => draw_on(self, &BitMapBackend::new(path, self.size()).into_drawing_area()),
        }
    }
}

/// A picture that needs no type of its own, as the text of an SVG file: what `draw` draws on an area of the size given.
///
/// # Errors
/// What the backend says.
pub fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&Area<SVGBackend>) -> Result<(), Failed<SVGBackend<'static>>>,
) -> Result<String, PictureError> {
    register_font();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = root.fill(&WHITE).and_then(|()| draw(&root)).and_then(|()| root.present());
        drawn.map_err(|error| PictureError::Draw(Box::new(error)))?;
    }
    Ok(svg)
}

fn draw_on<P: Picture + ?Sized, DB: DrawingBackend<ErrorType: 'static>>(
    picture: &P,
    root: &Area<DB>,
) -> Result<(), PictureError> {
    register_font();
    let drawn = root.fill(&WHITE).and_then(|()| picture.draw(root)).and_then(|()| root.present());
    drawn.map_err(|error| PictureError::Draw(Box::new(error)))
}

const FONT: &str = "sans-serif";

/// Makes the embedded font known.
fn register_font() {
    static ONCE: Once = Once::new();
    // The bitmap backend has no fonts of its own, and the SVG backend measures text with this one.
    ONCE.call_once(|| {
        let font = include_bytes!("../../assets/DejaVuSans-subset.ttf");
        let registered = plotters::style::register_font(FONT, FontStyle::Normal, font);
        assert!(registered.is_ok(), "the embedded font is a font");
    });
}

/// A style of text: its size, and which point of it is where it is put.
pub fn text(size: i32, h: HPos, v: VPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK).pos(Pos::new(h, v))
}
