//! What a log says of one law: all of it, or its most probable tokens and the mass of the rest.

use std::borrow::Cow;
use std::fmt;

use crate::pmf::{MAX_VOCAB, Pmf, PmfError, SUM_TOLERANCE, Token};
use crate::sum::Sum;

/// A law as far as a log tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum LoggedLaw {
    /// The probability of every token.
    Full(Pmf),
    /// Some tokens, and the mass of all others together.
    Top(TopLaw),
}

/// Some tokens of a law with their probabilities, and the mass of all other tokens together.
#[derive(Clone, Debug, PartialEq)]
pub struct TopLaw {
    vocab: usize,
    /// Ascending.
    tokens: Box<[Token]>,
    masses: Box<[f64]>,
    tail: f64,
}

/// Why a [`TopLaw`] was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TopLawError {
    /// The vocabulary is empty or larger than [`MAX_VOCAB`].
    Vocabulary {
        /// Its size.
        vocab: usize,
    },
    /// There are not as many probabilities as tokens.
    Length {
        /// The number of tokens.
        tokens: usize,
        /// The number of probabilities.
        masses: usize,
    },
    /// A token is outside the vocabulary.
    OutOfVocabulary {
        /// The token.
        token: Token,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A token is listed twice.
    Repeated {
        /// The token.
        token: Token,
    },
    /// A probability is negative, infinite or NaN.
    Mass {
        /// The token.
        token: Token,
        /// The offending value.
        value: f64,
    },
    /// The mass of the rest is no probability.
    Tail {
        /// The offending value.
        value: f64,
    },
    /// All tokens are listed and yet there is mass left.
    NoTail {
        /// The mass of the rest.
        value: f64,
    },
    /// Probabilities and rest do not add up to 1.
    Sum {
        /// What they add up to.
        sum: f64,
        /// How far that may be from 1.
        tolerance: f64,
    },
    /// No token is listed and the rest is all there is.
    Empty,
}

impl fmt::Display for TopLawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopLawError::Vocabulary { vocab } => {
                write!(f, "a vocabulary of {vocab}; it must be 1 to {MAX_VOCAB} tokens")
            }
            TopLawError::Length { tokens, masses } => write!(f, "{tokens} tokens are listed with {masses} values"),
            TopLawError::OutOfVocabulary { token, vocab } => {
                write!(f, "token {token} is outside the vocabulary of {vocab}")
            }
            TopLawError::Repeated { token } => write!(f, "token {token} is listed twice"),
            TopLawError::Mass { token, value } => {
                write!(f, "the probability of token {token} is {value}; it must be finite and not negative")
            }
            TopLawError::Tail { value } => write!(f, "the mass of the other tokens is {value}; it must be in [0, 1)"),
            TopLawError::NoTail { value } => {
                write!(f, "all tokens are listed, and a mass of {value} is said to be on others")
            }
            TopLawError::Sum { sum, tolerance } => write!(
                f,
                "the probabilities and the mass of the other tokens add up to {sum}, not to 1 within {tolerance}"
            ),
            TopLawError::Empty => write!(f, "no token is listed"),
        }
    }
}

impl std::error::Error for TopLawError {}

impl TopLaw {
    /// Takes the probabilities of some tokens, in any order, and the mass `tail` of all others. The listed
    /// probabilities are scaled to `1 − tail`, from which they may be `tolerance` away.
    ///
    /// # Errors
    /// The vocabulary is out of range; no token is listed, one twice, or one outside the vocabulary; a probability is
    /// negative, infinite or NaN; the rest is not in `[0, 1)`, or positive with all tokens listed; the sum is not 1.
    pub fn new(vocab: usize, tokens: &[Token], masses: &[f64], tail: f64, tolerance: f64) -> Result<Self, TopLawError> {
        if !(1..=MAX_VOCAB).contains(&vocab) {
            return Err(TopLawError::Vocabulary { vocab });
        }
        if tokens.len() != masses.len() {
            return Err(TopLawError::Length { tokens: tokens.len(), masses: masses.len() });
        }
        if tokens.is_empty() {
            return Err(TopLawError::Empty);
        }
        if !(0.0..1.0).contains(&tail) {
            return Err(TopLawError::Tail { value: tail });
        }
        let mut listed: Vec<(Token, f64)> = tokens.iter().copied().zip(masses.iter().copied()).collect();
        listed.sort_unstable_by_key(|(token, _)| *token);
        for (i, &(token, value)) in listed.iter().enumerate() {
            if token as usize >= vocab {
                return Err(TopLawError::OutOfVocabulary { token, vocab });
            }
            if i > 0 && listed[i - 1].0 == token {
                return Err(TopLawError::Repeated { token });
            }
            if !(value >= 0.0 && value.is_finite()) {
                return Err(TopLawError::Mass { token, value });
            }
        }
        if tail > 0.0 && listed.len() == vocab {
            return Err(TopLawError::NoTail { value: tail });
        }
        let sum = Sum::of(listed.iter().map(|(_, mass)| *mass));
        if !((sum + tail - 1.0).abs() <= tolerance && sum > 0.0) {
            return Err(TopLawError::Sum { sum: sum + tail, tolerance });
        }
        let scale = (1.0 - tail) / sum;
        let tokens = listed.iter().map(|(token, _)| *token).collect();
        let masses = listed.iter().map(|(_, mass)| mass * scale).collect();
        Ok(TopLaw { vocab, tokens, masses, tail })
    }

    /// The listed tokens, ascending.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Their probabilities.
    pub fn masses(&self) -> &[f64] {
        &self.masses
    }

    /// The mass of all other tokens.
    pub fn tail(&self) -> f64 {
        self.tail
    }

    fn place(&self, token: Token) -> Option<usize> {
        self.tokens.binary_search(&token).ok()
    }
}

impl From<Pmf> for LoggedLaw {
    fn from(law: Pmf) -> Self {
        LoggedLaw::Full(law)
    }
}

impl LoggedLaw {
    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        match self {
            LoggedLaw::Full(law) => law.vocab(),
            LoggedLaw::Top(law) => law.vocab,
        }
    }

    /// The probability of a token of the vocabulary; `None` if it is part of a rest that has mass.
    pub fn mass(&self, token: Token) -> Option<f64> {
        match self {
            LoggedLaw::Full(law) => Some(law.as_slice()[token as usize]),
            LoggedLaw::Top(law) => match law.place(token) {
                Some(place) => Some(law.masses[place]),
                None => (law.tail == 0.0).then_some(0.0),
            },
        }
    }

    /// The mass of all tokens that are not listed.
    pub fn tail(&self) -> f64 {
        match self {
            LoggedLaw::Full(_) => 0.0,
            LoggedLaw::Top(law) => law.tail,
        }
    }

    /// The same law by its `most` most probable tokens and the mass of the others.
    pub fn top(&self, most: usize) -> Self {
        let mut listed: Vec<(Token, f64)> = self.listed().collect();
        if most == 0 || (listed.len() <= most && self.tail() == 0.0 && listed.len() == self.vocab()) {
            return self.clone();
        }
        listed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let rest = Sum::of(listed.drain(most.min(listed.len())..).map(|(_, mass)| mass));
        let tail = self.tail() + rest;
        listed.sort_unstable_by_key(|(token, _)| *token);
        let (tokens, masses) = listed.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        LoggedLaw::Top(TopLaw { vocab: self.vocab(), tokens: tokens.into(), masses: masses.into(), tail })
    }

    /// The listed tokens with their probabilities, ascending.
    pub fn listed(&self) -> Box<dyn Iterator<Item = (Token, f64)> + '_> {
        match self {
            LoggedLaw::Full(law) => Box::new((0..).zip(law.as_slice().iter().copied())),
            LoggedLaw::Top(law) => Box::new(law.tokens.iter().copied().zip(law.masses.iter().copied())),
        }
    }

    /// The law over its own symbols: the listed tokens, ascending, and one more for all others if they are not listed.
    pub(super) fn symbols(&self) -> Cow<'_, [f64]> {
        match self {
            LoggedLaw::Full(law) => Cow::Borrowed(law.as_slice()),
            LoggedLaw::Top(law) => Cow::Owned(law.masses.iter().copied().chain([law.tail]).collect()),
        }
    }

    /// The symbol of a token.
    pub(super) fn symbol(&self, token: Token) -> usize {
        match self {
            LoggedLaw::Full(_) => token as usize,
            LoggedLaw::Top(law) => law.place(token).unwrap_or(law.tokens.len()),
        }
    }

    /// Some law over another one's symbols: this one where it tells, its rest shared out in proportion to `other`.
    ///
    /// It is what is bet on, and never the law that is tested: a bet may be on any law.
    pub(super) fn over_symbols_of<'a>(&'a self, other: &LoggedLaw) -> Cow<'a, [f64]> {
        if let (LoggedLaw::Full(own), LoggedLaw::Full(_)) = (self, other) {
            return Cow::Borrowed(own.as_slice());
        }
        let theirs = other.symbols();
        let mut law = vec![0.0; theirs.len()];
        let mut told = vec![false; theirs.len()];
        for (token, mass) in self.listed() {
            let symbol = other.symbol(token);
            law[symbol] += mass;
            // What is the rest to the other may hold more than the tokens listed here.
            told[symbol] = matches!(other, LoggedLaw::Full(_)) || symbol + 1 < theirs.len();
        }
        let open: f64 = theirs.iter().zip(&told).filter(|(_, told)| !**told).map(|(mass, _)| mass).sum();
        if self.tail() > 0.0 && open > 0.0 {
            for ((mass, theirs), _) in law.iter_mut().zip(&*theirs).zip(&told).filter(|(_, told)| !**told) {
                *mass += self.tail() * theirs / open;
            }
        }
        let sum = Sum::of(law.iter().copied());
        law.iter_mut().for_each(|mass| *mass /= sum);
        Cow::Owned(law)
    }

    /// The law over a sorted list of tokens that holds every token it gives mass to.
    ///
    /// # Errors
    /// As [`Pmf::from_weights`].
    pub(super) fn on(&self, tokens: &[Token]) -> Result<Pmf, PmfError> {
        Pmf::from_weights(tokens.iter().map(|&token| self.mass(token).unwrap_or(0.0)).collect::<Vec<_>>())
    }
}

/// How far a sum of probabilities may be from 1 where nothing is known of how they were rounded.
pub const DEFAULT_TOLERANCE: f64 = SUM_TOLERANCE;

#[cfg(test)]
mod tests {
    use super::*;

    fn top(tokens: &[Token], masses: &[f64], tail: f64) -> Result<TopLaw, TopLawError> {
        TopLaw::new(10, tokens, masses, tail, 1e-9)
    }

    #[test]
    fn a_top_law_is_checked() {
        let law = top(&[7, 2], &[0.3, 0.5], 0.2).unwrap();
        assert_eq!((law.tokens(), law.masses(), law.tail()), (&[2, 7][..], &[0.5, 0.3][..], 0.2));
        let law = LoggedLaw::Top(law);
        assert_eq!((law.mass(7), law.mass(3)), (Some(0.3), None));
        assert_eq!(LoggedLaw::Top(top(&[7, 2], &[0.5, 0.5], 0.0).unwrap()).mass(3), Some(0.0));
        assert_eq!(top(&[], &[], 0.5), Err(TopLawError::Empty));
        assert_eq!(top(&[1], &[], 0.5), Err(TopLawError::Length { tokens: 1, masses: 0 }));
        assert_eq!(top(&[10], &[1.0], 0.0), Err(TopLawError::OutOfVocabulary { token: 10, vocab: 10 }));
        assert_eq!(top(&[1, 1], &[0.5, 0.5], 0.0), Err(TopLawError::Repeated { token: 1 }));
        assert_eq!(top(&[1], &[-0.5], 0.5), Err(TopLawError::Mass { token: 1, value: -0.5 }));
        assert!(matches!(top(&[1], &[f64::NAN], 0.5), Err(TopLawError::Mass { token: 1, .. })));
        assert_eq!(top(&[1], &[0.5], 1.0), Err(TopLawError::Tail { value: 1.0 }));
        assert!(matches!(top(&[1], &[0.5], f64::NAN), Err(TopLawError::Tail { .. })));
        assert!(matches!(top(&[1], &[0.5], 0.4), Err(TopLawError::Sum { .. })));
        assert_eq!(TopLaw::new(1, &[0], &[0.5], 0.5, 1e-9), Err(TopLawError::NoTail { value: 0.5 }));
    }

    /// Whatever is listed, what is bet on adds up to 1 over the symbols, and full laws are what they are.
    #[test]
    fn laws_are_carried_over_to_other_symbols() {
        let full = |weights: &[f64]| LoggedLaw::Full(Pmf::from_weights(weights.to_vec()).unwrap());
        let (p, q) = (full(&[4.0, 3.0, 2.0, 1.0, 0.0]), full(&[0.0, 1.0, 2.0, 3.0, 4.0]));
        assert_eq!(&*p.over_symbols_of(&q), p.symbols().as_ref());
        for (own, other) in [(p.top(2), q.clone()), (p.clone(), q.top(2)), (p.top(2), q.top(2)), (p.top(1), q.top(4))] {
            let law = own.over_symbols_of(&other);
            assert_eq!(law.len(), other.symbols().len());
            approx::assert_abs_diff_eq!(law.iter().sum::<f64>(), 1.0, epsilon = 1e-15);
            assert!(law.iter().all(|mass| *mass >= 0.0));
        }
        // q lists 3 and 4; p gives them 0.1 and nothing.
        approx::assert_abs_diff_eq!(&*p.over_symbols_of(&q.top(2)), &[0.1, 0.0, 0.9][..], epsilon = 1e-15);
        approx::assert_abs_diff_eq!(q.top(2).tail(), 0.3, epsilon = 1e-15);
    }
}
