//! Pearson's goodness-of-fit test.

/// The least count expected in a cell; smaller ones are taken together.
const LEAST_EXPECTED: f64 = 5.0;

/// The probability that counts fit the law no better than these do: Pearson's chi-square. 0 if a token of probability 0
/// was counted.
///
/// Far out, the tail of a cell that expects 5 is heavier than that of the chi-square law: a p-value of 1e-10 may be one
/// of 1e-8. That costs false alarms, which fixed seeds show at once, not power.
pub fn p_value(counts: &[u64], law: &[f64]) -> f64 {
    assert_eq!(counts.len(), law.len());
    if counts.iter().zip(law).any(|(&count, &share)| share == 0.0 && count > 0) {
        return 0.0;
    }
    let total = counts.iter().sum::<u64>() as f64;
    let mut cells: Vec<(f64, f64)> =
        counts.iter().zip(law).map(|(&count, &share)| (total * share, count as f64)).collect();
    cells.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // The small cells run together, from the smallest on, until they expect enough.
    let (mut pool, mut kept) = ((0.0, 0.0), Vec::new());
    for (expected, count) in cells {
        pool = (pool.0 + expected, pool.1 + count);
        if pool.0 >= LEAST_EXPECTED {
            kept.push(pool);
            pool = (0.0, 0.0);
        }
    }
    // Only if all of them together expect less: the law is no law, or there are no counts.
    assert!(pool.0 < 1e-9 * total && pool.1 == 0.0, "{pool:?} is left over");
    let statistic: f64 = kept.iter().map(|(expected, count)| (count - expected).powi(2) / expected).sum();
    match kept.len() {
        1 => 1.0,
        cells => tail(cells - 1, statistic),
    }
}

/// The probability that a chi-square variable of `degrees` degrees of freedom is above `x`: the regularised upper
/// incomplete gamma function `Q(degrees/2, x/2)`.
pub fn tail(degrees: usize, x: f64) -> f64 {
    let (a, x) = (degrees as f64 / 2.0, x / 2.0);
    let ln_gamma: f64 = match degrees % 2 {
        0 => (1..degrees / 2).map(|i| (i as f64).ln()).sum(),
        _ => (0..degrees / 2).map(|i| (i as f64 + 0.5).ln()).sum::<f64>() + std::f64::consts::PI.ln() / 2.0,
    };
    let front = (a * x.ln() - x - ln_gamma).exp();
    if x < a + 1.0 {
        // The series of 1 − Q.
        let (mut term, mut sum, mut n) = (1.0 / a, 0.0, a);
        while term > 1e-17 * sum {
            sum += term;
            n += 1.0;
            term *= x / n;
        }
        return 1.0 - front * sum;
    }
    // Legendre's continued fraction, from its far end.
    let level = |below: f64, i: u32| f64::from(i) * (f64::from(i) - a) / (x + f64::from(2 * i + 1) - a - below);
    front / (x + 1.0 - a - (1..=500).rev().fold(0.0, level))
}
