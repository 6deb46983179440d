//! Two axes with a grid, and room for a legend.

use std::ops::Range;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::coord::{CoordTranslate, ranged1d::Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Area, Failed, GRID, INK, Style, draw_line, draw_marker, text};

/// What an axis is labelled with.
#[derive(Clone, Copy)]
pub enum Labels<'a> {
    /// Nothing, and no grid either: the caller draws its own.
    None,
    /// Round numbers.
    Plain,
    /// Round numbers, written in a way of one's own.
    Written(&'a dyn Fn(f64) -> String),
}

/// The axes of a chart.
pub struct Frame<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// The names of the axes, x first.
    pub names: [&'a str; 2],
    /// What the x axis covers.
    pub x: Range<f64>,
    /// What the y axis covers.
    pub y: Range<f64>,
    /// The labels of the axes, x first.
    pub labels: [Labels<'a>; 2],
    /// The width left for a legend on the right.
    pub legend: i32,
}

/// Where values are in pixels.
pub struct Scale(Cartesian2d<RangedCoordf64, RangedCoordf64>);

impl Scale {
    /// The pixel of a point.
    pub fn at(&self, x: f64, y: f64) -> (i32, i32) {
        self.0.translate(&(x, y))
    }
}

impl Frame<'_> {
    /// Draws title, grid and axes.
    ///
    /// # Errors
    /// What the backend says.
    pub fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Result<Scale, Failed<DB>> {
        let width = root.dim_in_pixel().0 as i32;
        let (area, _) = root.split_horizontally(width - self.legend);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, text(19, HPos::Left, VPos::Top))
            .margin_top(14)
            .margin_left(14)
            .margin_right(10)
            .margin_bottom(12)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let write = |axis: usize| {
            move |value: &f64| match self.labels[axis] {
                Labels::Written(write) => write(*value),
                _ => <RangedCoordf64 as ValueFormatter<<RangedCoordf64 as Ranged>::ValueType>>::format(value),
            }
        };
        let (x_format, y_format) = (write(0), write(1));
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .x_labels(8)
            .y_labels(8)
            .x_label_formatter(&x_format)
            .y_label_formatter(&y_format)
            .label_style(text(14, HPos::Left, VPos::Top))
            .axis_desc_style(text(15, HPos::Left, VPos::Top))
            .x_desc(self.names[0])
            .y_desc(self.names[1]);
        if matches!(self.labels[0], Labels::None) {
            mesh.disable_x_mesh().x_labels(0);
        }
        if matches!(self.labels[1], Labels::None) {
            mesh.disable_y_mesh().y_labels(0);
        }
        mesh.draw()?;
        Ok(Scale(chart.as_coord_spec().clone()))
    }

    /// Names a style in the legend.
    ///
    /// # Errors
    /// What the backend says.
    pub fn name<DB: DrawingBackend>(
        &self,
        root: &Area<DB>,
        row: usize,
        style: Style,
        name: &str,
    ) -> Result<(), Failed<DB>> {
        let (x, y) = (root.dim_in_pixel().0 as i32 - self.legend + 6, 64 + 28 * row as i32);
        draw_line(root, style, &[(x, y), (x + 44, y)])?;
        if let Some(marker) = style.marker {
            draw_marker(root, marker, style.colour, (x + 22, y))?;
        }
        root.draw_text(name, &text(15, HPos::Left, VPos::Center), (x + 54, y))
    }
}
