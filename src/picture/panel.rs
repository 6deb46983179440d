//! The parts of the picture of a problem.

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::region::Region;
use super::style::{GRID, INK, label_colour, pale, rule_style, token_colour};
use super::{Area, Failed, text};
use crate::pmf::Token;
use crate::rule::Rule;

/// The width of all panels.
pub const PANEL_WIDTH: i32 = 820;
/// The sides of what is drawn in them.
const LEFT: i32 = 140;
const RIGHT: i32 = PANEL_WIDTH - 40;
/// The height of [`Panel::density`], heading and axis included.
pub const DENSITY_HEIGHT: i32 = 330;
/// The height of [`Panel::masses`], heading and axis included.
pub const MASS_HEIGHT: i32 = 270;
/// The height of [`Panel::acceptances`] without the bars of the rules.
pub const ACCEPTANCE_HEIGHT: i32 = 120;
/// The height of a rule's bar, and of what is between it and the next.
pub(super) const RULE_HEIGHT: i32 = 34;
/// The narrowest segment with a label of one character in it, and the room of each further character.
const LABEL_WIDTH: (i32, i32) = (12, 8);
/// The most tokens whose bars carry their values.
const MAX_VALUES: usize = 7;

/// Where a number of `[0, 1]` is, in pixels from the left.
fn across(value: f64) -> i32 {
    LEFT + (value * f64::from(RIGHT - LEFT)).round() as i32
}

/// A token's colour: that of the first token of its region.
fn colour(token: usize, region: &Region) -> RGBColor {
    token_colour(region.shares_with.map_or(token, |first| first as usize))
}

/// Where panels are drawn, one below the other.
pub struct Panel<'a, DB: DrawingBackend> {
    root: &'a Area<DB>,
}

impl<'a, DB: DrawingBackend> Panel<'a, DB> {
    /// Panels on an area of [`PANEL_WIDTH`].
    pub fn new(root: &'a Area<DB>) -> Self {
        Panel { root }
    }

    /// Where a number of `[0, 1]` is in a panel, in pixels from the left.
    pub fn across(&self, value: f64) -> i32 {
        across(value)
    }

    pub(super) fn write(&self, words: &str, size: i32, h: HPos, v: VPos, at: (i32, i32)) -> Result<(), Failed<DB>> {
        self.root.draw_text(words, &text(size, h, v), at)
    }

    fn line(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), Failed<DB>> {
        self.root.draw(&PathElement::new(vec![from, to], colour))
    }

    /// A box with an outline.
    fn block(&self, corners: [(i32, i32); 2], fill: RGBColor, edge: RGBColor) -> Result<(), Failed<DB>> {
        self.root.draw(&Rectangle::new(corners, fill.filled()))?;
        self.root.draw(&Rectangle::new(corners, edge.stroke_width(1)))
    }

    /// A panel's title and what it shows.
    ///
    /// # Errors
    /// What the backend says.
    pub fn heading(&self, top: i32, title: &str, explanation: &str) -> Result<(), Failed<DB>> {
        self.write(title, 18, HPos::Left, VPos::Top, (16, top + 12))?;
        self.write(explanation, 13, HPos::Left, VPos::Top, (16, top + 38))
    }

    /// The unit interval cut into regions, and above it the density of the largest of `k` labels. At most twelve regions.
    ///
    /// # Errors
    /// What the backend says.
    pub fn density(&self, top: i32, k: usize, regions: &[Region]) -> Result<(), Failed<DB>> {
        let largest = match k {
            1 => "A uniform label has density 1".into(),
            2 => "The larger of 2 uniform labels has density 2·u".into(),
            k => format!("The largest of {k} uniform labels has density {k}·u^{}", k - 1),
        };
        self.heading(
            top,
            "Layout: every token owns as much of [0, 1] as it is drafted",
            &format!("{largest}; the area over a token's region is m, the probability that it is selected."),
        )?;
        let (ceiling, floor) = (top + 76, top + 260);
        let at = |u: f64| u.powi(k as i32 - 1);
        let up = |share: f64| floor - (share * f64::from(floor - ceiling)).round() as i32;
        for (share, label) in [(0.0, "0".to_string()), (0.5, format!("{}", k as f64 / 2.0)), (1.0, k.to_string())] {
            self.line((LEFT, up(share)), (RIGHT, up(share)), GRID)?;
            self.write(&label, 13, HPos::Right, VPos::Center, (LEFT - 10, up(share)))?;
        }
        self.write("density", 13, HPos::Right, VPos::Center, (LEFT - 34, up(0.75)))?;
        self.write("regions", 13, HPos::Right, VPos::Center, (LEFT - 34, floor + 18))?;
        for (token, region) in regions.iter().enumerate().filter(|(_, region)| region.shares_with.is_none()) {
            let fill = colour(token, region);
            let sharers = regions.iter().filter(|other| other.shares_with == Some(token as Token));
            let names: Vec<&str> = [region].into_iter().chain(sharers).map(|region| &region.name[..]).collect();
            let label = names.join("+");
            for &(lo, hi) in &region.segments {
                let (from, to) = (across(lo), across(hi));
                let (start, end) = ((from, floor), (to, floor));
                let width = f64::from(RIGHT - LEFT);
                let curve = (from..=to).map(|x| (x, up(at(f64::from(x - LEFT) / width))));
                let outline: Vec<(i32, i32)> = [start].into_iter().chain(curve).chain([end]).collect();
                self.root.draw(&Polygon::new(outline.clone(), fill.mix(0.55).filled()))?;
                self.root.draw(&PathElement::new(outline, WHITE))?;
                self.block([(from, floor + 4), (to, floor + 32)], fill, WHITE)?;
                if to - from >= LABEL_WIDTH.0 + LABEL_WIDTH.1 * (label.len() as i32 - 1) {
                    let ink = label_colour(fill);
                    let style = text(14, HPos::Center, VPos::Center).color(&ink);
                    self.root.draw_text(&label, &style, ((from + to) / 2, floor + 18))?;
                }
            }
        }
        let curve = (LEFT..=RIGHT).map(|x| (x, up(at(f64::from(x - LEFT) / f64::from(RIGHT - LEFT)))));
        self.root.draw(&PathElement::new(curve.collect::<Vec<_>>(), INK.stroke_width(2)))?;
        self.ticks(floor + 32)
    }

    /// The numbers 0 to 1 below `bottom`.
    fn ticks(&self, bottom: i32) -> Result<(), Failed<DB>> {
        for tenths in (0..=10).step_by(2) {
            let value = f64::from(tenths) / 10.0;
            self.line((across(value), bottom), (across(value), bottom + 5), INK)?;
            self.write(&format!("{value:.1}"), 13, HPos::Center, VPos::Top, (across(value), bottom + 8))?;
        }
        Ok(())
    }

    /// For every token, `m` beside `q`, below a heading: its title, and what it shows.
    ///
    /// # Errors
    /// What the backend says.
    pub fn masses(&self, top: i32, heading: [&str; 2], regions: &[Region]) -> Result<(), Failed<DB>> {
        self.heading(top, heading[0], heading[1])?;
        let (ceiling, floor) = (top + 88, top + MASS_HEIGHT - 38);
        let most = regions.iter().flat_map(|region| [region.selected, region.target]).fold(0.0, f64::max);
        let up = |value: f64| floor - (value / most * f64::from(floor - ceiling)).round() as i32;
        // The fewest round steps that make no more than five lines.
        let step = [0.01, 0.02, 0.05, 0.1, 0.2].into_iter().find(|step| most / step < 5.5).unwrap_or(0.5);
        for i in 0..=(most / step + 1e-9) as i32 {
            let value = f64::from(i) * step;
            self.line((LEFT, up(value)), (RIGHT, up(value)), GRID)?;
            self.write(&format!("{value:.2}"), 13, HPos::Right, VPos::Center, (LEFT - 10, up(value)))?;
        }
        self.write("probability", 13, HPos::Right, VPos::Center, (LEFT - 48, (ceiling + floor) / 2))?;
        let room = f64::from(RIGHT - LEFT) / regions.len() as f64;
        let bar = (0.36 * room).min(60.0) as i32;
        for (i, region) in regions.iter().enumerate() {
            let middle = LEFT + ((i as f64 + 0.5) * room) as i32;
            let (fill, accepted) = (colour(i, region), region.selected.min(region.target));
            for (x, value, rest) in
                [(middle - bar - 1, region.selected, pale(fill)), (middle + 1, region.target, WHITE)]
            {
                if value > accepted {
                    self.block([(x, up(value)), (x + bar, up(accepted))], rest, INK)?;
                }
                if accepted > 0.0 {
                    self.block([(x, up(accepted)), (x + bar, floor)], fill, INK)?;
                }
                if regions.len() <= MAX_VALUES {
                    let at = (x + bar / 2, up(value) - 5);
                    self.write(&format!("{value:.3}"), 12, HPos::Center, VPos::Bottom, at)?;
                }
            }
            let name = &region.name;
            let name = if regions.len() <= MAX_VALUES { format!("token {name}") } else { name.clone() };
            self.write(&name, 14, HPos::Center, VPos::Top, (middle, floor + 8))?;
        }
        self.line((LEFT, floor), (RIGHT, floor), INK)
    }

    /// The acceptance of each rule, beside the optimum.
    ///
    /// # Errors
    /// What the backend says.
    pub fn acceptances(&self, top: i32, k: usize, optimum: f64, values: &[(Rule, f64)]) -> Result<(), Failed<DB>> {
        let drafts = if k == 1 { "draft" } else { "drafts" };
        self.write(&format!("Acceptance of every rule with {k} {drafts}"), 18, HPos::Left, VPos::Top, (16, top + 12))?;
        let ceiling = top + 72;
        let floor = ceiling + RULE_HEIGHT * values.len() as i32 + 6;
        for tenths in (0..=10).step_by(2) {
            let x = across(f64::from(tenths) / 10.0);
            self.line((x, ceiling), (x, floor), GRID)?;
        }
        self.ticks(floor)?;
        for (i, (rule, value)) in values.iter().enumerate() {
            let y = ceiling + 8 + RULE_HEIGHT * i as i32;
            let fill = rule_style(*rule).colour;
            self.root.draw(&Rectangle::new([(LEFT, y), (across(*value), y + 22)], fill.mix(0.8).filled()))?;
            self.write(rule.name(), 15, HPos::Right, VPos::Center, (LEFT - 10, y + 11))?;
            // White on the bar where it has room, else beside it.
            let inside = *value > 0.12;
            let style = text(14, if inside { HPos::Right } else { HPos::Left }, VPos::Center);
            let style = if inside { style.color(&WHITE) } else { style };
            let x = across(*value) + if inside { -8 } else { 8 };
            self.root.draw_text(&format!("{value:.4}"), &style, (x, y + 11))?;
        }
        let mark = vec![(across(optimum), ceiling - 6), (across(optimum), floor)];
        self.root.draw(&DashedPathElement::new(mark, 5, 4, INK.stroke_width(2)))?;
        // At the far right the label would be cut off.
        let anchor = if optimum > 0.9 { HPos::Right } else { HPos::Center };
        self.write(&format!("α* = {optimum:.4}"), 14, anchor, VPos::Bottom, (across(optimum), ceiling - 8))
    }
}
