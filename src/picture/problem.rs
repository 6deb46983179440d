//! The picture of one problem: the layout of the optimal coupling, what it selects and accepts, and every rule's
//! acceptance, one below the other.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::panel::{ACCEPTANCE_HEIGHT, DENSITY_HEIGHT, MASS_HEIGHT, PANEL_WIDTH, Panel, RULE_HEIGHT};
use super::region::{MAX_REGIONS, Region, regions};
use super::{Area, Failed, Picture};
use crate::bound::alpha_star;
use crate::problem::Problem;
use crate::rule::Rule;

const NOTE_HEIGHT: i32 = 40;

/// The heading of the masses.
pub const MASSES: [&str; 2] = [
    "Selected and wanted: m (left bars) against the target law q (right bars)",
    "Full colour: accepted, min(m, q). Pale: selected too often, rejected. White: not selected enough, resampled.",
];

/// A problem, and what rules attain on it.
#[derive(Clone, Debug)]
pub struct ProblemPicture {
    k: usize,
    optimum: f64,
    values: Vec<(Rule, f64)>,
    vocab: usize,
    /// None if there are too many tokens.
    regions: Vec<Region>,
}

impl ProblemPicture {
    /// The picture of a problem with the acceptances of some rules. `O(V log V)`.
    pub fn new(problem: &Problem, values: Vec<(Rule, f64)>) -> Self {
        let vocab = problem.draft().vocab();
        let regions = if vocab <= MAX_REGIONS { regions(problem) } else { Vec::new() };
        ProblemPicture { k: problem.k(), optimum: alpha_star(problem), values, vocab, regions }
    }

    fn layout_height(&self) -> i32 {
        if self.regions.is_empty() { NOTE_HEIGHT } else { DENSITY_HEIGHT + MASS_HEIGHT }
    }
}

impl Picture for ProblemPicture {
    fn size(&self) -> (u32, u32) {
        let height = self.layout_height() + ACCEPTANCE_HEIGHT + RULE_HEIGHT * self.values.len() as i32;
        (PANEL_WIDTH as u32, height as u32)
    }

    fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Result<(), Failed<DB>> {
        let panel = Panel::new(root);
        if self.regions.is_empty() {
            let note = format!("The layout is drawn up to {MAX_REGIONS} tokens; these are {}.", self.vocab);
            panel.write(&note, 15, HPos::Left, VPos::Top, (16, 16))?;
        } else {
            panel.density(0, self.k, &self.regions)?;
            panel.masses(DENSITY_HEIGHT, MASSES, &self.regions)?;
        }
        panel.acceptances(self.layout_height(), self.k, self.optimum, &self.values)
    }
}
