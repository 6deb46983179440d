//! What the benchmarks run on: pairs of rows of logits, the selectors prepared from them, and drafts.

use draftpick::scan::Scan;
use draftpick::{Pmf, Rule, Selector, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Two rows of logits.
pub struct Input {
    pub name: &'static str,
    pub draft: Vec<f32>,
    pub target: Vec<f32>,
}

/// All inputs of a vocabulary; the first, `zipf`, is the ordinary one.
pub fn inputs(vocab: usize) -> Vec<Input> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut noise = move |size: f64| size * ((0..4).map(|_| rng.random::<f64>()).sum::<f64>() - 2.0);
    // Zipf's law over tokens in no order, seen by two models that differ.
    let zipf: Vec<f64> = (0..vocab).map(|i| -1.1 * ((i * 7919 % vocab) as f64 + 3.0).ln()).collect();
    let draft: Vec<f32> = zipf.iter().map(|x| (x + noise(1.0)) as f32).collect();
    let target: Vec<f32> = draft.iter().map(|x| (f64::from(*x) + noise(2.0)) as f32).collect();
    let wide: Vec<f32> = (0..vocab).map(|_| noise(6.0) as f32).collect();
    let uniform = vec![0.0; vocab];
    vec![
        Input { name: "zipf", draft: draft.clone(), target },
        Input { name: "uniform", draft: uniform.clone(), target: uniform },
        Input { name: "p = q", draft: draft.clone(), target: draft.clone() },
        Input { name: "distinct", draft, target: wide },
    ]
}

/// From the logits to a prepared selector.
pub fn prepare<'a>(rule: Rule, input: &'a Input, k: usize) -> Box<dyn Selector + 'a> {
    let scan = Scan::new(&input.draft, &input.target, k).expect("the inputs are finite");
    match rule {
        Rule::Maximal => Box::new(scan.maximal()),
        Rule::Recursive => Box::new(scan.recursive()),
        Rule::RecursiveDistinct => Box::new(scan.recursive_distinct()),
        Rule::KSeq => Box::new(scan.kseq()),
        Rule::Optimal => Box::new(scan.optimal_exact()),
        Rule::OptimalLinear => Box::new(scan.optimal()),
        _ => unreachable!("every rule has its constructor above"),
    }
}

/// Drafts as the rule wants them drawn.
pub fn draw(rule: Rule, law: &Pmf, k: usize, rng: &mut StdRng) -> Vec<Token> {
    let wanted = if rule == Rule::Maximal { 1 } else { k };
    let mut drafts = Vec::with_capacity(wanted);
    while drafts.len() < wanted {
        let token = law.pick(rng.random());
        if rule != Rule::RecursiveDistinct || !drafts.contains(&token) {
            drafts.push(token);
        }
    }
    drafts
}
