//! Rows of logits, drafts and coins to select on, and what the CPU makes of them.

// Shared by several tests, each of which uses a part.
#![allow(dead_code)]

use draftpick::gpu::Format;
use draftpick::{Coin, Pmf, Token};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A pair of rows as the CPU sees it: f32 numbers that the format holds exactly.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub draft: Vec<f32>,
    pub target: Vec<f32>,
    pub drafts: Vec<Token>,
    pub coins: Vec<Coin>,
}

/// What a format makes of a number.
pub fn rounded(format: Format, x: f32) -> f32 {
    match format {
        Format::F32 => x,
        Format::F16 => f16::from_f32(x).to_f32(),
        Format::Bf16 => bf16::from_f32(x).to_f32(),
    }
}

/// The ordinary and the worst pairs of rows of a vocabulary, with `k` drafts each.
pub fn cases(format: Format, vocab: usize, k: usize, seed: u64) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut noise = |size: f64| size * ((0..4).map(|_| rng.random::<f64>()).sum::<f64>() - 2.0);
    let zipf: Vec<f64> = (0..vocab).map(|i| 9.0 - 1.1 * ((i * 7919 % vocab) as f64 + 3.0).ln()).collect();
    let near: Vec<f64> = zipf.iter().map(|x| x + noise(1.0)).collect();
    let other: Vec<f64> = near.iter().map(|x| x + noise(2.0)).collect();
    let wide: Vec<f64> = (0..vocab).map(|_| noise(6.0)).collect();
    let flat = vec![0.25; vocab];
    let far: Vec<f64> = near.iter().map(|x| x + 60.0).collect();
    let third = |row: &[f64], rest: usize| -> Vec<f64> {
        let keep = |i: usize| vocab < 3 || i % 3 != rest;
        row.iter().enumerate().map(|(i, x)| if keep(i) { *x } else { f64::NEG_INFINITY }).collect()
    };
    // Far below 0, where e^logit is 0 in f32, and behind a long stretch of masked tokens.
    let low = |row: &[f64]| -> Vec<f64> {
        row.iter().enumerate().map(|(i, x)| if i < vocab / 2 { f64::NEG_INFINITY } else { x - 200.0 }).collect()
    };
    let peaked: Vec<f64> = (0..vocab).map(|i| if i == vocab / 2 { 12.0 } else { -14.0 + noise(0.5) }).collect();
    let rows = [
        ("near", near.clone(), other.clone()),
        ("flat", flat.clone(), flat.clone()),
        ("equal", near.clone(), near.clone()),
        ("distinct", near.clone(), wide.clone()),
        ("masked", third(&near, 0), third(&other, 1)),
        ("peaked", peaked.clone(), other.clone()),
        ("peaked target", near.clone(), peaked),
        ("far apart", far, other.clone()),
        ("low after masked ones", low(&near), low(&other)),
    ];
    let extremes = [Coin::ZERO, Coin::LAST];
    let mut made = Vec::new();
    for (name, draft, target) in rows {
        let row = |row: Vec<f64>| -> Vec<f32> { row.into_iter().map(|x| rounded(format, x as f32)).collect() };
        let (draft, target) = (row(draft), row(target));
        let law = Pmf::from_logits(&draft, &draftpick::Sampling::default()).expect("finite rows");
        for round in 0..3 {
            let drafts = (0..k).map(|_| law.pick(rng_coin(&mut rng))).collect();
            let coins = (0..k + 2)
                .map(|i| if round == 0 { extremes[(i + made.len()) % 2] } else { rng_coin(&mut rng) })
                .collect();
            made.push(Case { name, draft: draft.clone(), target: target.clone(), drafts, coins });
        }
    }
    made
}

fn rng_coin(rng: &mut StdRng) -> Coin {
    rng.random()
}
