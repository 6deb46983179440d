//! A chain `X – T – Y` of given marginals through a code of limited rate.

use super::MecError;
use super::coupling::Coupling;
use super::encoder::Encoder;
use super::greedy::greedy;
use crate::pmf::Pmf;

/// The composite coupling of Ebrahimi et al. 2024 (arXiv 2410.21666): `X` is encoded into `T` with `H(T) ≤ R` by an
/// [`Encoder`], and `T` is decoded into `Y` of a prescribed law by a minimum-entropy coupling.
///
/// `I(X; Y) ≥ I(X; T) + I(T; Y) − H(T)`, so that what either part loses is all that the chain loses.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    encoder: Encoder,
    decoder: Coupling,
}

impl Bottleneck {
    /// The chain from `source` to `output` through at most `rate` bits. `O(n log n)`.
    ///
    /// # Errors
    /// The rate is negative or not a number.
    pub fn new(source: &Pmf, output: &Pmf, rate: f64) -> Result<Self, MecError> {
        let encoder = Encoder::new(source, rate)?;
        let code = Pmf::new(encoder.code_law()).expect("the marginal of a coupling adds up to 1");
        let decoder = greedy(&[&code, output])?;
        Ok(Bottleneck { encoder, decoder })
    }

    /// `X` to `T`.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The joint law of `T` and `Y`.
    pub fn decoder(&self) -> &Coupling {
        &self.decoder
    }

    /// The joint law of `X` and `Y`: `Σ_t p(x, t)·p(y | t)`. `O(V_X · V_Y)` at most.
    pub fn joint(&self) -> Coupling {
        let code = self.decoder.marginal(0);
        let mut of_code: Vec<Vec<(u32, f64)>> = vec![Vec::new(); code.len()];
        for (symbols, mass) in self.decoder.cells() {
            of_code[symbols[0] as usize].push((symbols[1], mass / code[symbols[0] as usize]));
        }
        let mut cells = std::collections::BTreeMap::new();
        for (symbols, mass) in self.encoder.joint().cells() {
            for &(output, share) in &of_code[symbols[1] as usize] {
                *cells.entry((symbols[0], output)).or_insert(0.0) += mass * share;
            }
        }
        let mut joint = Coupling::empty(vec![self.encoder.joint().vocab(0), self.decoder.vocab(1)]);
        for ((x, y), mass) in cells {
            joint.push([x, y], mass);
        }
        joint
    }

    /// `I(X; Y)`, in bits.
    pub fn information(&self) -> f64 {
        self.joint().information()
    }
}
