//! Whether what the GPU chose is what the CPU chooses.

use draftpick::gpu::TokenRule;
use draftpick::scan::Scan;
use draftpick::{Coin, Laws, Selection, Selector};

use crate::cases::Case;

/// What came out of a pair: the draft accepted or −1, and the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub selected: i32,
    pub output: i32,
}

/// What the comparison came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The same.
    Same,
    /// Another token, and a coin within the rounding bound of the edge that decides: how far, over the bound.
    Near(f64),
    /// Another token for no such reason.
    Wrong(String),
}

/// The counts of all comparisons.
#[derive(Debug, Default)]
pub struct Tally {
    same: usize,
    near: Vec<String>,
    wrong: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, place: &str, verdict: Verdict) {
        match verdict {
            Verdict::Same => self.same += 1,
            Verdict::Near(share) => self.near.push(format!("{place}: {share:.2} of the bound")),
            Verdict::Wrong(why) => self.wrong.push(format!("{place}: {why}")),
        }
    }

    /// Prints the counts; panics on a wrong token, or if more than one in a hundred is excused: in a third of the cases every coin
    /// is at an end of its range, where cells end too.
    pub fn report(&self) {
        println!(
            "{} tokens the same, {} coins within the bound, {} wrong",
            self.same,
            self.near.len(),
            self.wrong.len()
        );
        self.near.iter().chain(self.wrong.iter().take(40)).for_each(|line| println!("  {line}"));
        assert!(self.wrong.is_empty(), "{} tokens are wrong", self.wrong.len());
        assert!(100 * self.near.len() <= self.same + 100, "too many coins near an edge");
    }
}

/// The stated rounding of a probability from f32 logits, for `k` drafts.
fn bound(k: usize) -> f64 {
    1e-6 + k as f64 * 2e-7
}

/// Steps of a coin to either side, up to the bound.
const STEPS: i32 = 64;

/// The same with coins moved by a part of the bound, which comes first: each to either side, and all of them inwards.
fn moved(case: &Case, share: f64) -> Vec<(f64, Case)> {
    let k = case.drafts.len();
    let coin = |coin: Coin, by: f64| Coin::new((coin.get() + by * share * bound(k)).max(0.0)).unwrap_or(Coin::LAST);
    let one = |place: usize, by: f64| {
        let mut coins = case.coins.clone();
        coins[place] = coin(coins[place], by);
        coins
    };
    let inwards = case.coins.iter().map(|&c| coin(c, if c.get() < 0.5 { 1.0 } else { -1.0 })).collect();
    let each = (0..case.coins.len()).flat_map(|place| [one(place, -1.0), one(place, 1.0)]);
    each.chain([inwards]).map(|coins| (share, Case { coins, ..case.clone() })).collect()
}

/// As [`judge`]; but the device's cells have edges too, where its rounding has put them: a coin within the bound of one of
/// them is one for which the device chooses as the CPU does once the coin is moved away. `again` is what the device chooses
/// for other coins.
pub fn judge_both(rule: TokenRule, case: &Case, found: Chosen, again: impl FnOnce(&[Case]) -> Vec<Chosen>) -> Verdict {
    let verdict = judge(rule, case, found);
    if !matches!(verdict, Verdict::Wrong(_)) {
        return verdict;
    }
    let (shares, cases): (Vec<f64>, Vec<Case>) =
        [0.0625, 0.25, 1.0].into_iter().flat_map(|share| moved(case, share)).unzip();
    let found = again(&cases);
    assert_eq!(found.len(), cases.len());
    let expected = chosen_by_cpu(rule, case);
    shares
        .into_iter()
        .zip(found)
        .find(|(_, found)| *found == expected)
        .map_or(verdict, |(share, _)| Verdict::Near(share))
}

/// What the CPU chooses.
fn chosen_by_cpu(rule: TokenRule, case: &Case) -> Chosen {
    let scan = Scan::new(&case.draft, &case.target, case.drafts.len().max(1)).expect("finite rows");
    choice(&*selector(rule, &scan), case, &case.coins)
}

fn selector<'a>(rule: TokenRule, scan: &'a Scan<'_>) -> Box<dyn Selector + 'a> {
    match rule {
        TokenRule::Maximal => Box::new(scan.maximal()),
        TokenRule::KSeq => Box::new(scan.kseq()),
        TokenRule::OptimalLinear => Box::new(scan.optimal()),
        _ => unreachable!("every rule is above"),
    }
}

fn choice(selector: &dyn Selector, case: &Case, coins: &[Coin]) -> Chosen {
    let selection = selector.select(&case.drafts, coins).expect("the drafts were drawn from the draft row");
    let selected = match selection {
        Selection::Draft(i) => i as i32,
        Selection::Residual(_) => -1,
    };
    Chosen { selected, output: selection.token(&case.drafts) as i32 }
}

/// Holds what the GPU chose to the CPU's choice: the same, or the same for a coin moved by no more than the bound. The
/// residual coin picks from what is left of the target, so that its bound is a share of that.
pub fn judge(rule: TokenRule, case: &Case, found: Chosen) -> Verdict {
    let k = case.drafts.len();
    let scan = Scan::new(&case.draft, &case.target, k.max(1)).expect("finite rows");
    let selector = selector(rule, &scan);
    let choose = |coins: &[Coin]| choice(&*selector, case, coins);
    let expected = choose(&case.coins);
    if expected == found {
        return Verdict::Same;
    }
    let left = (1.0 - selector.acceptance().value).max(bound(k));
    for step in 1..=STEPS {
        for (place, coin) in case.coins.iter().enumerate() {
            let reach = if place == k + 1 { (bound(k) / left).min(1.0) } else { bound(k) };
            for sign in [-1.0, 1.0] {
                let moved = coin.get() + sign * reach * f64::from(step) / f64::from(STEPS);
                let mut coins = case.coins.clone();
                coins[place] = Coin::new(moved.max(0.0)).unwrap_or(Coin::LAST);
                if choose(&coins) == found {
                    return Verdict::Near(f64::from(step) / f64::from(STEPS));
                }
            }
        }
    }
    // Several coins at the same edge, or equal labels: the drafts' coins all to one side, or this one's to the other.
    let winner = usize::try_from(found.selected).unwrap_or(k);
    for (own, others) in [(-1.0, 1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, -1.0)] {
        let moved = |(place, coin): (usize, &Coin)| {
            let sign = if place == winner { own } else { others };
            let coin = if place < k { coin.get() + sign * bound(k) } else { coin.get() };
            Coin::new(coin.max(0.0)).unwrap_or(Coin::LAST)
        };
        if choose(&case.coins.iter().enumerate().map(moved).collect::<Vec<_>>()) == found {
            return Verdict::Near(1.0);
        }
    }
    // A residual coin next to 1 cannot be moved up: is there no more mass beyond the token than rounding?
    if found.selected < 0 && expected.selected < 0 && rule != TokenRule::OptimalLinear {
        let (rho, tries) = if rule == TokenRule::Maximal { (1.0, 1.0) } else { discount(&scan, k) };
        let mass = |token: i32| {
            let (p, q) = scan.laws().masses(token as u32);
            (q - p.min(q / rho) * tries).max(0.0)
        };
        let between: f64 = (expected.output + 1..=found.output).map(mass).sum();
        let beyond: f64 = (found.output..case.draft.len() as i32).map(mass).sum();
        if mass(found.output) > 0.0 && between.min(beyond) <= bound(k) && case.coins[k + 1] == Coin::LAST {
            return Verdict::Near(between.min(beyond) / bound(k));
        }
    }
    Verdict::Wrong(format!("{found:?} in place of {expected:?}, alpha {:.6}", 1.0 - left))
}

/// `rho` of k-SEQ, and what a draft's discounted mass is worth after `k` tries.
fn discount(scan: &Scan<'_>, k: usize) -> (f64, f64) {
    let kseq = scan.kseq();
    let any = kseq.acceptance().value;
    let beta = -f64::exp_m1(f64::ln_1p(-any) / k as f64);
    (kseq.rho(), if beta > 0.0 { any / beta } else { 0.0 })
}
