//! Where chance comes in: drafts drawn from the draft model's scores, rounds verified against the target model's.

use super::error::SampleError;
use crate::path::{Coins, LogitRow, Outcome, PathVerifier, Purpose, Round, RoundCoins, Row, Verifier};
use crate::pmf::{Sampling, Token};

/// Draws drafts from rows of scores and verifies rounds, wherever the rows `R` are: [`HostSampler`] where they are on the
/// host; on a device, what never copies them.
///
/// The contract, for independent uniform coins:
///
/// 1. The law of a row is the softmax of its logits after `source.sampling`, over `source.vocab` tokens. What `draw`
///    draws from it has this law, and `verify` takes it for what the drafts were drawn from, or what the text is to
///    have: both are handed the same [`Law`](Sampler::Law), made once from the row.
/// 2. Each outcome has the law that the verifier's [`law`](PathVerifier::law) names, within the accuracy of f32 logits.
/// 3. Nothing depends on what else is asked in the same call.
///
/// The loop calls for all texts of a batch at once, so that a device is asked once a level and once a round.
pub trait Sampler<R> {
    /// A row as a law. The drafted trees keep it, on the host or as a handle of what is on a device.
    type Law;

    /// The laws of some rows of one model, in order.
    ///
    /// # Errors
    /// A row is too short or no law; the sampling is refused; the device fails.
    fn laws(&mut self, rows: Vec<R>, source: &Source<'_>) -> Result<Vec<Self::Law>, SampleError>;

    /// For each leaf the next token of each of its paths, in order: the `i`-th path of a round with the round's coin
    /// ([`Purpose::Draft`], the leaf's depth, `i`).
    ///
    /// # Errors
    /// The device fails.
    fn draw(&mut self, leaves: &[Leaf<'_, Self::Law>]) -> Result<Vec<Vec<Token>>, SampleError>;

    /// Decides some rounds, each with its coins.
    ///
    /// # Errors
    /// The verifier refuses a round; it cannot be run where the rows are; the device fails.
    fn verify(
        &mut self,
        rounds: &[(&Round<Self::Law>, RoundCoins)],
        verifier: Verifier,
    ) -> Result<Vec<Outcome>, SampleError>;
}

/// Which model's rows, and how they become laws.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `"draft"` or `"target"`.
    pub model: &'static str,
    /// The number of logits in a row.
    pub logits: usize,
    /// The number of tokens of the laws. What a row lacks of them has probability 0, what it has beyond is left out.
    pub vocab: usize,
    /// Temperature and filters.
    pub sampling: &'a Sampling,
}

/// A leaf of a tree from which paths go on.
#[derive(Debug)]
pub struct Leaf<'a, L> {
    /// The law after it.
    pub law: &'a L,
    /// The number of tokens from the root to it.
    pub depth: usize,
    /// The paths at it, ascending.
    pub paths: &'a [usize],
    /// The round's coins.
    pub coins: RoundCoins,
}

/// Draws and verifies on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSampler;

impl<R: AsRef<[f32]>> Sampler<R> for HostSampler {
    type Law = LogitRow;

    fn laws(&mut self, rows: Vec<R>, source: &Source<'_>) -> Result<Vec<LogitRow>, SampleError> {
        rows.into_iter().map(|row| law(row.as_ref(), source)).collect()
    }

    fn draw(&mut self, leaves: &[Leaf<'_, LogitRow>]) -> Result<Vec<Vec<Token>>, SampleError> {
        let draw = |leaf: &Leaf<'_, LogitRow>| {
            let coins = leaf.paths.iter().map(|&path| leaf.coins.coin(Purpose::Draft, leaf.depth, path));
            coins.map(|coin| leaf.law.draw(coin)).collect()
        };
        Ok(leaves.iter().map(draw).collect())
    }

    fn verify(
        &mut self,
        rounds: &[(&Round<LogitRow>, RoundCoins)],
        verifier: Verifier,
    ) -> Result<Vec<Outcome>, SampleError> {
        rounds.iter().map(|(round, coins)| verifier.verify(round, coins).map_err(SampleError::Path)).collect()
    }
}

/// A row on the host as a law.
pub(super) fn law(row: &[f32], source: &Source<'_>) -> Result<LogitRow, SampleError> {
    let &Source { model, logits, vocab, sampling } = source;
    if row.len() != logits {
        return Err(SampleError::RowLength { model, expected: logits, given: row.len() });
    }
    let known = &row[..logits.min(vocab)];
    // Without temperature or filters the row is what it is.
    let mut scores = if *sampling == Sampling::default() {
        known.to_vec()
    } else {
        sampling.apply(known).map_err(|error| SampleError::Sampling { model, error })?
    };
    scores.resize(vocab, f32::NEG_INFINITY);
    LogitRow::new(model, scores).map_err(SampleError::Scores)
}
