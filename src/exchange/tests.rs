use super::*;
use crate::layout::mean_density;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Draft masses and `Q/P` of items: ordinary, spiky, sparse, tied, equal, disjoint, a point on either side.
fn items(seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = seed % 8;
    let vocab = rng.random_range(1..=if seed.is_multiple_of(5) { 300 } else { 12usize });
    let split = rng.random_range(1..=vocab);
    let mut law = |side: usize| -> Vec<f64> {
        let point = rng.random_range(0..vocab);
        let mut weight = |token: usize| match shape {
            1 => 10f64.powf(-9.0 * rng.random::<f64>()),
            2 if rng.random::<bool>() => 0.0,
            3 => f64::from(rng.random_range(1..=3u32)),
            4 if (token < split) == (side == 0) => 0.0,
            5 | 6 if (shape == 5) == (side == 0) && token != point => 0.0,
            _ => rng.random::<f64>() + 1e-3,
        };
        let mut law: Vec<f64> = (0..vocab).map(&mut weight).collect();
        law[point] += 1e-3;
        let total: f64 = law.iter().sum();
        law.iter().map(|w| w / total).collect()
    };
    let p = law(0);
    let q = if shape == 7 { p.clone() } else { law(1) };
    let mut tokens: Vec<(f64, f64)> = p.into_iter().zip(q).filter(|(p, _)| *p > 0.0).collect();
    tokens.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (mut drafted, mut inverses): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
    for (p, q) in tokens {
        if inverses.last() == Some(&(q / p)) {
            *drafted.last_mut().unwrap() += p;
        } else {
            drafted.push(p);
            inverses.push(q / p);
        }
    }
    (drafted, inverses)
}

fn cases() -> impl Iterator<Item = (u64, usize, ExchangeLayout)> {
    (0..1600u64).map(|seed| {
        let k = 1 + (seed / 8 % 16) as usize;
        let (drafted, inverses) = items(seed);
        (seed, k, ExchangeLayout::new(drafted, inverses, k))
    })
}

type Law = Vec<(Segment, f64)>;

/// How far the labels of all items are from even, and how far the items' masses from those claimed.
fn off(layout: &ExchangeLayout, k: usize, law: impl Fn(usize) -> Law) -> (f64, f64) {
    let mut total = vec![0.0; layout.len()];
    let mut masses = 0.0f64;
    for item in 0..layout.len() {
        let (mut mean, mut weights) = (0.0, 0.0);
        for (segment, weight) in law(item) {
            assert!(weight >= 0.0);
            // Intervals without length to speak of start at the same number: any of them will do.
            let place = layout.starts.partition_point(|&start| start <= segment.lo) - 1;
            total[place.min(layout.len() - 1)] += layout.length(item) * weight;
            mean += weight * segment.mean_density(k as u32);
            weights += weight;
        }
        assert!((weights - 1.0f64).abs() < 1e-14);
        masses = masses.max((layout.length(item) * mean - layout.drafted[item] * layout.density(item)).abs());
    }
    let even = total.iter().enumerate().map(|(i, mass)| (mass - layout.length(i)).abs()).fold(0.0, f64::max);
    (even, masses)
}

/// How far the densities are from one side of `Q/P` in `H` and from the other outside, and the acceptance from the
/// optimum.
fn short(layout: &ExchangeLayout, k: usize) -> (f64, f64) {
    let (mut sides, mut kept, mut least) = (0.0f64, 0.0, 0.0f64);
    let (mut p, mut q) = (0.0, 0.0);
    for item in 0..layout.len() {
        let (mass, target) = (layout.drafted[item], layout.drafted[item] * layout.inverses[item]);
        let excess = layout.density(item) - layout.inverses[item];
        sides = sides.max(if item < layout.head() { -excess } else { excess });
        kept += target.min(mass * layout.density(item));
        (p, q) = (p + mass, q + target);
        least = least.min(q - f64::powi(p, k as i32));
    }
    (sides, 1.0 + least - kept - (1.0 - p.powi(k as i32)))
}

#[test]
fn labels_are_even_masses_right_and_the_optimum_attained() {
    let (mut even, mut masses, mut gap, mut partners) = (0.0f64, 0.0f64, 0.0f64, 0);
    for (seed, k, layout) in cases() {
        let (uneven, wrong) = off(&layout, k, |item| layout.law(item));
        let (sides, short) = short(&layout, k);
        assert!(uneven <= 1e-13 && wrong <= 1e-13, "seed {seed}: {uneven:e}, {wrong:e}");
        assert!(sides <= 0.0, "seed {seed}: the wrong side of Q/P by {sides:e}");
        assert!(short.abs() <= 1e-13, "seed {seed}: off the optimum by {short:e}");
        (even, masses, gap) = (even.max(uneven), masses.max(wrong), gap.max(short.abs()));
        partners = (0..layout.len()).map(|item| layout.law(item).len() - 1).max().unwrap_or(0).max(partners);
    }
    println!("labels even to {even:.1e}, masses to {masses:.1e}, optimum to {gap:.1e}; up to {partners} partners");
    assert!(partners > 10);
}

#[test]
fn wrong_layouts_are_found_out() {
    let (mut one_sided, mut at_home, mut ends) = (0, 0, 0);
    for (_, k, layout) in cases() {
        let lacks = |item: usize| layout.diff(item) > 0.0;
        let home = |item: usize| vec![(layout.interval(item), 1.0)];
        let (uneven, _) = off(&layout, k, |item| if lacks(item) { layout.law(item) } else { home(item) });
        one_sided += usize::from(uneven > 1e-3);
        let (uneven, masses) = off(&layout, k, home);
        assert!(uneven <= 1e-15);
        at_home += usize::from(masses > 1e-3);
        // H of one item more: matched and laid out as well as that can be.
        if layout.head() < layout.len() {
            let mut other = layout.clone();
            other.head += 1;
            (other.deficits[other.head], other.surpluses[other.head]) = (0.0, 0.0);
            other.match_up((0..other.len()).map(|item| other.diff(item)).collect());
            let (sides, gap) = short(&other, k);
            ends += usize::from(sides > 1e-3 || gap > 1e-3 || off(&other, k, |item| other.law(item)).1 > 1e-3);
        }
    }
    assert!(one_sided > 200 && at_home > 200 && ends > 200, "{one_sided} {at_home} {ends}");
}

/// The largest difference between the law of an item's labels and what evenly spaced coins give.
fn off_label(layout: &ExchangeLayout, item: usize) -> f64 {
    const COINS: usize = 2000;
    let label = |i: usize| layout.label(item, Coin::new((i as f64 + 0.5) / COINS as f64).unwrap());
    let mut labels: Vec<f64> = (0..COINS).map(label).collect();
    labels.sort_unstable_by(f64::total_cmp);
    let law = layout.law(item);
    // The distribution functions at the labels. Segments without digits of their own are points.
    let below = |at: f64| -> f64 {
        let share = |s: &Segment| if s.hi() > s.lo { ((at - s.lo) / (s.hi() - s.lo)).clamp(0.0, 1.0) } else { 0.5 };
        law.iter().map(|(s, weight)| weight * if at < s.lo { 0.0 } else { share(s) }).sum()
    };
    labels.iter().enumerate().map(|(i, &at)| (below(at) - (i as f64 + 0.5) / COINS as f64).abs()).fold(0.0, f64::max)
}

#[test]
fn labels_follow_their_law() {
    let mut worst = 0.0f64;
    for (seed, _, layout) in cases().step_by(7) {
        // Each piece of the law may be off by one coin at either end. Intervals shorter than the distance of
        // neighbouring numbers are points.
        for item in (0..layout.len()).step_by(1 + layout.len() / 20).filter(|&item| layout.length(item) > 1e-12) {
            let off = off_label(&layout, item);
            let bound = 1e-3 * layout.law(item).len() as f64 + 1e-3;
            assert!(off <= bound, "seed {seed}, item {item}: {off:e}");
            worst = worst.max(off);
        }
    }
    println!("labels are off their law by {worst:.1e}");
}

/// Items that lack or exceed less than the running sums have digits for. Places reckoned in those sums have no
/// digits there: such an item's labels would be a few points, or all with a partner.
#[test]
fn what_rounding_lacks_moves_no_labels() {
    let mut tiny = 0;
    for seed in 0..200u64 {
        let (n, k) = (40, 4);
        let mass = |i: u64| 1.0 + ((i * 7919 + seed * 104_729) % 97) as f64 / 97.0;
        let total: f64 = (0..n).map(mass).sum();
        let drafted: Vec<f64> = (0..n).map(|i| mass(i) / total).collect();
        let mut start = 0.0;
        let balanced = |&p: &f64| {
            start += p;
            mean_density(start - p, start, k as u32)
        };
        let mut inverses: Vec<f64> = drafted.iter().map(balanced).collect();
        // All are balanced within rounding, but for one that lacks and one that exceeds.
        (inverses[3], inverses[30]) = (inverses[4] * 0.999_999, inverses[29] * 1.000_000_1);
        let layout = ExchangeLayout::new(drafted, inverses, k);
        for item in 0..layout.len() {
            tiny += usize::from(layout.diff(item) != 0.0 && layout.diff(item).abs() < 1e-18);
            let off = off_label(&layout, item);
            assert!(off <= 1e-3 * layout.law(item).len() as f64 + 1e-3, "seed {seed}, item {item}: {off:e}");
        }
    }
    assert!(tiny > 100, "{tiny}");
}

#[test]
fn the_law_has_no_jumps() {
    // A millionth of a millionth of draft mass more or less moves it by about as much, also where H ends elsewhere.
    let (mut ends, mut worst) = (0, 0.0f64);
    for seed in 0..2000u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let k = rng.random_range(2..=8usize);
        let mut inverses: Vec<f64> =
            (0..8).map(|_| 0.2 * rng.random_range(1..=3u32 + seed as u32 % 8) as f64).collect();
        inverses.sort_unstable_by(f64::total_cmp);
        inverses.dedup();
        let drafted: Vec<f64> = inverses.iter().map(|_| rng.random::<f64>() + 0.05).collect();
        // Targets scaled so that H ends where it just begins to: the least sum is 0, at the empty H and at another.
        let excess = |scale: f64| {
            let scaled = inverses.iter().map(|inverse| inverse * scale).collect();
            let layout = ExchangeLayout::new(drafted.clone(), scaled, k);
            (layout.head(), layout)
        };
        let (mut low, mut high) = (1e-3, 1e3);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if excess(middle).0 > 0 { low = middle } else { high = middle }
        }
        let ((before, a), (after, b)) = (excess(low), excess(high));
        assert!(before > 0 && after == 0);
        ends += usize::from(before > 1);
        for item in 0..a.len() {
            let mean =
                |layout: &ExchangeLayout| layout.law(item).iter().map(|(s, w)| w * (s.lo + 0.5 * s.len)).sum::<f64>();
            worst = worst.max((mean(&a) - mean(&b)).abs()).max((a.density(item) - b.density(item)).abs());
        }
    }
    println!("{ends} ends of H moved by several items, the means of labels by {worst:.1e}");
    assert!(ends > 200 && worst < 1e-9, "{ends} {worst:e}");
}
