//! Sums that stay exact to a rounding however many terms they have.

/// A running sum with the rounding of each addition kept aside (Neumaier 1974): the error does not grow with the
/// number of terms, where the plain sum of 128,000 equal terms is off by 1e-12.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: f64,
    rest: f64,
}

impl Sum {
    pub fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        self.rest += if self.sum.abs() >= term.abs() { (self.sum - sum) + term } else { (term - sum) + self.sum };
        self.sum = sum;
    }

    pub fn value(self) -> f64 {
        self.sum + self.rest
    }

    /// The sum of all terms.
    pub fn of(terms: impl IntoIterator<Item = f64>) -> f64 {
        let mut sum = Sum::default();
        terms.into_iter().for_each(|term| sum.add(term));
        sum.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_terms_add_up() {
        let share = 1.0 / 128_256.0;
        assert!((Sum::of(std::iter::repeat_n(share, 128_256)) - 1.0).abs() <= f64::EPSILON);
        assert_eq!(Sum::of([1.0, 1e100, 1.0, -1e100]), 2.0);
    }
}
