//! The layout of the optimal coupling, token by token.

use draftpick::picture::{self, MAX_REGIONS};
use draftpick::{Problem, Token};
use serde::Serialize;

use crate::output;

/// The segments on one line of text.
const SEGMENTS_A_LINE: usize = 3;

/// A token and the labels it owns.
#[derive(Serialize)]
pub struct Region {
    pub token: Token,
    /// `p`, the probability of being drafted.
    pub draft: f64,
    /// `m`, that of being selected among the drafts.
    pub selected: f64,
    /// `q`, that of being put out.
    pub target: f64,
    /// The intervals of `[0, 1]` that its labels lie in; none if it is never drafted.
    pub segments: Vec<(f64, f64)>,
    /// The first token of the same ratio `p/q`: they share one region.
    pub shares_with: Option<Token>,
}

impl From<(usize, picture::Region)> for Region {
    fn from((token, region): (usize, picture::Region)) -> Self {
        let picture::Region { draft, selected, target, segments, shares_with, .. } = region;
        Region { token: token as Token, draft, selected, target, segments, shares_with }
    }
}

/// The regions of all tokens.
pub fn regions(problem: &Problem) -> Vec<Region> {
    picture::regions(problem).into_iter().enumerate().map(Region::from).collect()
}

/// For people to read.
pub fn text(regions: &[Region]) -> String {
    if regions.len() > MAX_REGIONS {
        return format!("The layout is left out: it is shown up to {MAX_REGIONS} tokens.\n");
    }
    let mut text =
        "Layout of 'optimal': a draft has a label uniform in its token's region, the largest is selected\n".to_string();
    let mut table = output::table(["token", "drafted", "selected", "target", "accepted", "region"], 0);
    if let Some(column) = table.column_mut(5) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for Region { token, draft, selected, target, segments, shares_with } in regions {
        let accepted = if *selected > 0.0 { format!("{:.4}", (target / selected).min(1.0)) } else { "–".into() };
        let segments: Vec<String> = segments.iter().map(|(lo, hi)| format!("{lo:.4}–{hi:.4}")).collect();
        let region = match shares_with {
            Some(other) => format!("that of token {other}"),
            None if segments.is_empty() => "never drafted".into(),
            None => segments.chunks(SEGMENTS_A_LINE).map(|line| line.join(", ")).collect::<Vec<_>>().join(",\n"),
        };
        let number = |value: &f64| format!("{value:.4}");
        table.add_row([token.to_string(), number(draft), number(selected), number(target), accepted, region]);
    }
    text += &format!("{table}\n");
    text
}
