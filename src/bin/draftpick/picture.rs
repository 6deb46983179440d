//! The picture of one problem: the layout of the optimal coupling, what it selects and accepts, and every rule's
//! acceptance, one below the other.

use anyhow::anyhow;
use draftpick::Rule;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::plot::{Area, GRID, INK, register_font, rule_style, text};
use crate::regions::{MAX_REGIONS, Region};

const WIDTH: i32 = 820;
/// The sides of every panel.
const LEFT: i32 = 140;
const RIGHT: i32 = WIDTH - 40;
/// The heights of the panels, headings and axes included.
const DENSITY_HEIGHT: i32 = 330;
const MASS_HEIGHT: i32 = 270;
const NOTE_HEIGHT: i32 = 40;
const RULE_HEIGHT: i32 = 34;
/// The narrowest segment with a label of one character in it, and the room of each further character.
const LABEL_WIDTH: (i32, i32) = (12, 8);
/// The most tokens whose bars carry their values.
const MAX_VALUES: usize = 7;

/// Dark and light by turns, so that tokens next to each other differ in grey as well; the first ones after Okabe and
/// Ito.
const COLOURS: [RGBColor; MAX_REGIONS] = [
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

/// An SVG picture.
pub fn solve(k: usize, optimum: f64, values: &[(Rule, f64)], regions: &[Region]) -> anyhow::Result<String> {
    register_font();
    let shown = regions.len() <= MAX_REGIONS;
    let layout = if shown { DENSITY_HEIGHT + MASS_HEIGHT } else { NOTE_HEIGHT };
    let height = layout + 120 + RULE_HEIGHT * values.len() as i32;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        let panels = || -> Result<(), Failed<SVGBackend>> {
            root.fill(&WHITE)?;
            let panel = Panel { root: &root };
            if shown {
                panel.density(0, k, regions)?;
                panel.masses(DENSITY_HEIGHT, regions)?;
            } else {
                let note = format!("The layout is drawn up to {MAX_REGIONS} tokens; these are {}.", regions.len());
                panel.write(&note, 15, HPos::Left, VPos::Top, (16, 16))?;
            }
            panel.acceptances(layout, k, optimum, values)?;
            root.present()
        };
        panels().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(svg)
}

type Failed<DB> = DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>;

fn across(value: f64) -> i32 {
    LEFT + (value * f64::from(RIGHT - LEFT)).round() as i32
}

/// A token's colour: that of the first token of its region.
fn colour(region: &Region) -> RGBColor {
    COLOURS[region.shares_with.unwrap_or(region.token) as usize]
}

/// White on what is dark.
fn label_colour(ground: RGBColor) -> RGBColor {
    let luminance = 0.3 * f64::from(ground.0) + 0.59 * f64::from(ground.1) + 0.11 * f64::from(ground.2);
    if luminance < 130.0 { WHITE } else { INK }
}

struct Panel<'a, DB: DrawingBackend> {
    root: &'a Area<DB>,
}

impl<DB: DrawingBackend> Panel<'_, DB> {
    fn write(&self, words: &str, size: i32, h: HPos, v: VPos, at: (i32, i32)) -> Result<(), Failed<DB>> {
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

    fn heading(&self, top: i32, title: &str, explanation: &str) -> Result<(), Failed<DB>> {
        self.write(title, 18, HPos::Left, VPos::Top, (16, top + 12))?;
        self.write(explanation, 13, HPos::Left, VPos::Top, (16, top + 38))
    }

    /// The unit interval cut into regions, and above it the density of the largest label.
    fn density(&self, top: i32, k: usize, regions: &[Region]) -> Result<(), Failed<DB>> {
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
        for region in regions.iter().filter(|region| region.shares_with.is_none()) {
            let fill = colour(region);
            let sharers = regions.iter().filter(|other| other.shares_with == Some(region.token));
            let tokens: Vec<String> =
                [region].into_iter().chain(sharers).map(|region| region.token.to_string()).collect();
            let label = tokens.join("+");
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

    /// For every token, `m` beside `q`.
    fn masses(&self, top: i32, regions: &[Region]) -> Result<(), Failed<DB>> {
        self.heading(
            top,
            "Selected and wanted: m (left bars) against the target law q (right bars)",
            "Full colour: accepted, min(m, q). Pale: selected too often, rejected. White: not selected enough, resampled.",
        )?;
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
            let (fill, accepted) = (colour(region), region.selected.min(region.target));
            let pale = |channel: u8| 255 - (255 - channel) / 3;
            let pale = RGBColor(pale(fill.0), pale(fill.1), pale(fill.2));
            for (x, value, rest) in [(middle - bar - 1, region.selected, pale), (middle + 1, region.target, WHITE)] {
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
            let name = if regions.len() <= MAX_VALUES { format!("token {i}") } else { i.to_string() };
            self.write(&name, 14, HPos::Center, VPos::Top, (middle, floor + 8))?;
        }
        self.line((LEFT, floor), (RIGHT, floor), INK)
    }

    /// The acceptance of each rule, beside the optimum.
    fn acceptances(&self, top: i32, k: usize, optimum: f64, values: &[(Rule, f64)]) -> Result<(), Failed<DB>> {
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
