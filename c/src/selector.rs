//! Rules by name, prepared for one position, and selections for a batch of positions.

use draftpick::engine::{self, PairSampling};
use draftpick::path::{Coins, Purpose};
use draftpick::scan::Scan;
use draftpick::{Coin, Pmf, Problem, Rule, Selection, Selector, Token, bound};
use self_cell::self_cell;

use crate::error::Failure;

type Prepared<'a> = Box<dyn Selector + Send + Sync + 'a>;

/// What a rule is prepared for.
enum Laws {
    Probabilities(Problem),
    Logits { draft: Vec<f32>, target: Vec<f32> },
}

self_cell!(
    /// A rule with the laws that it reads.
    struct Cell {
        owner: Laws,
        #[covariant]
        dependent: Prepared,
    }
);

/// A rule prepared for one position; may be used by several threads at once.
pub struct DraftpickSelector {
    cell: Cell,
    vocab: usize,
}

/// A rule by its name, which takes `k` drafts.
pub fn rule(name: &str, k: usize) -> Result<Rule, Failure> {
    let rule: Rule = name.parse().map_err(Failure::argument)?;
    match rule.takes(k) {
        true => Ok(rule),
        false => Err(Failure::input(format!("{rule} takes one draft, not {k}"))),
    }
}

/// A problem of two laws.
fn problem(draft: &[f64], target: &[f64], k: usize) -> Result<Problem, Failure> {
    let law = |name: &str, masses: &[f64]| Pmf::new(masses).map_err(|error| Failure::input(format!("{name}: {error}")));
    Problem::new(law("draft", draft)?, law("target", target)?, k).map_err(Failure::input)
}

/// `α*` of two laws.
pub fn alpha_star(draft: &[f64], target: &[f64], k: usize) -> Result<f64, Failure> {
    Ok(bound::alpha_star(&problem(draft, target, k)?))
}

/// The coins of a selection: those of the first level of a round.
fn coins(source: &dyn Coins, k: usize) -> Vec<Coin> {
    let labels = (0..k).map(|draft| source.coin(Purpose::Label, 0, draft));
    labels.chain([Purpose::Accept, Purpose::Residual].map(|purpose| source.coin(purpose, 0, 0))).collect()
}

/// The output token, and the draft that it is, if it is one.
pub type Selected = (Token, Option<usize>);

fn selected(selection: Selection, drafts: &[Token]) -> Selected {
    let draft = match selection {
        Selection::Draft(draft) => Some(draft),
        Selection::Residual(_) => None,
    };
    (selection.token(drafts), draft)
}

/// Prepares a rule for one position and selects; the rows are read in place.
pub fn select(
    rule: Rule,
    rows: (&[f32], &[f32]),
    sampling: &PairSampling,
    drafts: &[Token],
    source: &dyn Coins,
) -> Result<Selected, Failure> {
    let selection = engine::select(rule, rows, sampling, drafts, &coins(source, drafts.len()))?;
    Ok(selected(selection, drafts))
}

impl DraftpickSelector {
    /// Over probabilities, which are copied.
    pub fn from_probabilities(name: &str, draft: &[f64], target: &[f64], k: usize) -> Result<Self, Failure> {
        let rule = rule(name, k)?;
        let laws = Laws::Probabilities(problem(draft, target, k)?);
        Self::prepare(draft.len(), laws, rule, k)
    }

    /// Over two rows of logits, which are copied.
    pub fn from_logits(
        name: &str,
        draft: &[f32],
        target: &[f32],
        sampling: &PairSampling,
        k: usize,
    ) -> Result<Self, Failure> {
        let rule = rule(name, k)?;
        let row = |name: &str, logits: &[f32], sampling: &draftpick::Sampling| match *sampling == Default::default() {
            true => Ok(logits.to_vec()),
            false => sampling.apply(logits).map_err(|error| Failure::input(format!("{name} row: {error}"))),
        };
        let laws = Laws::Logits {
            draft: row("draft", draft, &sampling.draft)?,
            target: row("target", target, &sampling.target)?,
        };
        Self::prepare(draft.len(), laws, rule, k)
    }

    fn prepare(vocab: usize, laws: Laws, rule: Rule, k: usize) -> Result<Self, Failure> {
        let cell = Cell::try_new(laws, |laws| match laws {
            Laws::Probabilities(problem) => Ok::<_, Failure>(rule.prepare(problem)),
            Laws::Logits { draft, target } => {
                Ok(rule.prepare_scan(&Scan::new(draft, target, k).map_err(Failure::input)?))
            }
        })?;
        Ok(DraftpickSelector { cell, vocab })
    }

    fn rule(&self) -> &dyn Selector {
        &**self.cell.borrow_dependent()
    }

    /// The number of drafts.
    pub fn drafts(&self) -> usize {
        self.rule().drafts()
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The probability that a draft is accepted, and its standard error.
    pub fn acceptance(&self) -> (f64, f64) {
        let acceptance = self.rule().acceptance();
        (acceptance.value, acceptance.standard_error)
    }

    /// The law of the output given the drafts.
    pub fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, Failure> {
        Ok(self.rule().law(drafts)?)
    }

    /// Selects among drafts.
    pub fn select(&self, drafts: &[Token], source: &dyn Coins) -> Result<Selected, Failure> {
        let selection = self.rule().select(drafts, &coins(source, self.drafts()))?;
        Ok(selected(selection, drafts))
    }
}
