//! Sampling parameters as a C struct.

use draftpick::Sampling;
use draftpick::engine::PairSampling;

/// How logits become a law: temperature, then the filters, in this order. {1, 0, 1, 0} leaves logits as they are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DraftpickSampling {
    /// Divides the logits; finite and at least 0. 0 is greedy.
    pub temperature: f64,
    /// Keeps the tokens whose logit is at least the top_k-th largest; 0 keeps all.
    pub top_k: u32,
    /// Keeps the most probable tokens until their mass reaches top_p, in [0, 1]; 1 keeps all.
    pub top_p: f64,
    /// Keeps the tokens at least min_p times as probable as the most probable one, in [0, 1]; 0 keeps all.
    pub min_p: f64,
}

impl DraftpickSampling {
    fn read(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: (self.top_k > 0).then_some(self.top_k as usize),
            // Out of range, NaN too, is the library's to refuse.
            top_p: (self.top_p != 1.0).then_some(self.top_p),
            min_p: (self.min_p != 0.0).then_some(self.min_p),
        }
    }
}

/// The parameters of a request: one for each, or none for all.
pub fn sampling(all: Option<&[DraftpickSampling]>, request: usize) -> Sampling {
    all.map_or_else(Sampling::default, |all| all[request].read())
}

/// Those of both models.
pub fn pair(draft: Option<&[DraftpickSampling]>, target: Option<&[DraftpickSampling]>, request: usize) -> PairSampling {
    PairSampling { draft: sampling(draft, request), target: sampling(target, request) }
}
