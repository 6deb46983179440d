//! Couplings as heat maps.

use std::error::Error;

use draftpick::coupling::Coupling;
use draftpick::maximal::Maximal;
use draftpick::optimal::Optimal;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{At, Canvas, Drawn, ORANGE, picture};
use crate::running::{NAMES, P, Q, laws, problem};

/// A table of masses.
struct Heat<'a> {
    /// The upper left corner of the first cell.
    at: At,
    /// The width and height of a cell.
    cell: At,
    rows: Vec<String>,
    /// `None` for a row that is no draft.
    joint: Vec<Vec<f64>>,
    /// The mass of the darkest cell.
    most: f64,
    /// Whether the output of a cell is one of the drafts.
    accepted: &'a dyn Fn(usize, usize) -> bool,
}

impl Heat<'_> {
    fn draw(&self, canvas: &Canvas) -> Drawn {
        let ((left, top), (width, height)) = (self.at, self.cell);
        let corner = |row: usize, column: usize| (left + width * column as i32, top + height * row as i32);
        for (column, name) in NAMES.iter().enumerate() {
            let at = (corner(0, column).0 + width / 2, top - 8);
            canvas.words(name, 14, (HPos::Center, VPos::Bottom), at)?;
        }
        for (row, masses) in self.joint.iter().enumerate() {
            let at = (left - 10, corner(row, 0).1 + height / 2);
            canvas.words(&self.rows[row], 14, (HPos::Right, VPos::Center), at)?;
            for (column, &mass) in masses.iter().enumerate() {
                let fill = shade(mass / self.most);
                let (x, y) = corner(row, column);
                canvas.block([(x, y), (x + width, y + height)], fill, RGBColor(190, 190, 190))?;
                let words = if mass > 0.0 { number(mass) } else { "0".into() };
                canvas.on(fill, &words, 14, (x + width / 2, y + height / 2))?;
            }
        }
        for row in 0..self.joint.len() {
            for column in (0..NAMES.len()).filter(|&column| (self.accepted)(row, column)) {
                let (x, y) = corner(row, column);
                canvas.frame([(x + 2, y + 2), (x + width - 2, y + height - 2)], ORANGE, 2)?;
            }
        }
        // The sums.
        let bottom = corner(self.joint.len(), 0).1;
        for column in 0..NAMES.len() {
            let sum: f64 = self.joint.iter().map(|row| row[column]).sum();
            let at = (corner(0, column).0 + width / 2, bottom + 8);
            canvas.words(&number(sum), 13, (HPos::Center, VPos::Top), at)?;
        }
        for (row, masses) in self.joint.iter().enumerate() {
            let at = (corner(0, NAMES.len()).0 + 8, corner(row, 0).1 + height / 2);
            canvas.words(&number(masses.iter().sum()), 13, (HPos::Left, VPos::Center), at)?;
        }
        canvas.words("sum", 13, (HPos::Right, VPos::Top), (left - 10, bottom + 8))
    }
}

/// Four digits at most, and no zeros behind them.
fn number(value: f64) -> String {
    let digits = format!("{value:.4}");
    digits.trim_end_matches('0').trim_end_matches('.').into()
}

/// White to a dark blue.
fn shade(share: f64) -> RGBColor {
    let mix = |light: f64, dark: f64| (light + (dark - light) * share.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(255.0, 0.0), mix(255.0, 84.0), mix(255.0, 140.0))
}

fn rows(coupling: &Coupling) -> Vec<Vec<f64>> {
    coupling.joint().rows().into_iter().map(|row| row.to_vec()).collect()
}

/// One draft, twice.
pub fn couplings() -> Result<String, Box<dyn Error>> {
    let independent = P.iter().map(|p| Q.iter().map(|q| p * q).collect()).collect();
    let maximal = rows(&Coupling::enumerate(&Maximal::new(problem(1)?), &laws()?.0)?);
    picture((820, 360), |canvas| {
        canvas.title(
            "Two couplings of the same laws",
            "Rows: the draft. Columns: the output. Framed: they agree. Both tables have the same sums.",
        )?;
        for (x, name, joint, agree) in
            [(60, "independent: they agree with 0.29", independent, 0.29), (470, "maximal: 0.7", maximal, 0.7)]
        {
            let diagonal: f64 = (0..NAMES.len()).map(|y| joint[y][y]).sum();
            assert!((diagonal - agree).abs() < 1e-12, "the tables agree otherwise than the picture says");
            canvas.words(name, 15, (HPos::Left, VPos::Top), (x, 74))?;
            let rows = NAMES.map(String::from).to_vec();
            let accepted = |row: usize, column: usize| row == column;
            Heat { at: (x, 128), cell: (86, 58), rows, joint, most: 0.35, accepted: &accepted }.draw(canvas)?;
        }
        Ok(())
    })
}

/// Two drafts.
pub fn transport() -> Result<String, Box<dyn Error>> {
    let coupling = Coupling::enumerate(&Optimal::new(problem(2)?), &laws()?.0)?;
    let drafts = coupling.drafts();
    let accepted = |row: usize, column: usize| drafts[row].contains(&(column as u32));
    let joint = rows(&coupling);
    let cells = |row: usize| (0..NAMES.len()).filter(move |&column| accepted(row, column));
    let kept: f64 =
        (0..joint.len()).flat_map(|row| cells(row).map(move |column| (row, column))).map(|(r, c)| joint[r][c]).sum();
    assert!((kept - 0.86).abs() < 1e-12, "the framed cells have {kept}");
    let rows = drafts.iter().map(|pair| pair.iter().map(|&token| NAMES[token as usize]).collect::<Vec<_>>().join(" "));
    let rows = rows.collect();
    picture((560, 540), |canvas| {
        canvas.title(
            "The optimal coupling of two drafts with the output",
            "Rows: the drafts. Framed: the output is one of them, 0.86 altogether.",
        )?;
        Heat { at: (120, 104), cell: (104, 42), rows, joint: joint.clone(), most: 0.25, accepted: &accepted }
            .draw(canvas)
    })
}
