//! The audit against engines that are known: honest ones pass at the level stated, wrong ones are found.

#[path = "common/chains.rs"]
#[allow(dead_code)] // Enumerates what other tests want.
mod chains;

use chains::{SHAPES, chain, round};
use draftpick::audit::simulate::{Chain, Engine, Mistake, records};
use draftpick::audit::{Audit, KnownRule, LoggedLaw, Record, Settings, Test};
use draftpick::path::{PathVerifier, Verifier};
use draftpick::{Drawn, Pmf, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Eight pairs of laws over 40 tokens that resemble those of models: peaked, and apart by noise.
fn models(seed: u64) -> Chain {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut draft, mut target) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let logits: Vec<f64> = (0..40).map(|_| -3.0 * rng.random::<f64>().ln()).collect();
        for (laws, noise) in [(&mut draft, 1.5), (&mut target, 0.5)] {
            let weights = logits.iter().map(|logit| (logit + noise * (rng.random::<f64>() - 0.5) * 2.0).exp());
            laws.push(Pmf::from_weights(weights.collect::<Vec<_>>()).unwrap());
        }
    }
    Chain::new(draft, target).unwrap()
}

fn settings(level: f64, rule: Option<KnownRule>) -> Settings {
    let drawn = if rule == Some(KnownRule::Distinct) { Drawn::WithoutReplacement } else { Drawn::Independent };
    Settings { level, rule, drawn, compared: 0, ..Settings::default() }
}

fn add(audit: &mut Audit, record: &Record) {
    let look = audit.plan().look(audit.rounds(), record).unwrap();
    audit.add(look);
}

/// Audits `rounds` rounds.
fn audited(chain: &Chain, engine: Engine, (paths, length): (usize, usize), seed: u64, rounds: usize) -> Audit {
    let rule = match engine {
        Engine::Honest(rule) => Some(rule),
        Engine::Mistaken(_) => None,
    };
    let mut audit = Audit::new(settings(0.05, rule));
    for record in records(chain, engine, paths, length, seed).take(rounds) {
        add(&mut audit, &record.unwrap());
    }
    audit
}

fn rejected_after(audit: &Audit, test: Test) -> Option<u64> {
    audit.tested().into_iter().find(|tested| tested.test == test).and_then(|tested| tested.rejected_after)
}

/// Every verifier, and the number and length of its paths.
fn honest() -> Vec<(KnownRule, (usize, usize))> {
    let named = |(name, shape): (&str, _)| (name.parse().unwrap(), shape);
    [
        ("maximal", (1, 1)),
        ("maximal", (1, 3)),
        ("block", (1, 3)),
        ("rrs", (3, 1)),
        ("rrs-wor", (3, 1)),
        ("kseq", (4, 1)),
        ("kseq", (3, 2)),
        ("optimal", (2, 2)),
        ("optimal-linear", (4, 1)),
        ("traversal", (3, 2)),
        ("path", (3, 2)),
        ("path", (1, 2)),
    ]
    .map(named)
    .to_vec()
}

/// 120 logs at level 0.05, so that 6 false alarms are to be expected at most; 17 or more have a probability of 1e-4.
#[test]
fn honest_logs_pass_at_the_stated_level() {
    let (mut alarms, mut logs) = (0, 0);
    for seed in 0..10 {
        let chain = models(seed);
        for (rule, shape) in honest() {
            let audit = audited(&chain, Engine::Honest(rule), shape, seed, 150);
            assert_eq!(audit.without_rule(), 0, "{rule}");
            alarms += usize::from(!audit.is_lossless());
            logs += 1;
        }
    }
    println!("{alarms} false alarms in {logs} logs at level 0.05");
    assert_eq!(logs, 120);
    assert!(alarms < 17, "{alarms} false alarms");
}

/// The four mistakes and a fifth, each caught by the test that it concerns.
#[test]
fn mistakes_are_found() {
    for (mistake, shape, test, most) in [
        (Mistake::LaxCoin { bits: 6 }, (1, 1), Test::Output, 4_000),
        (Mistake::BonusFromRowBefore, (1, 1), Test::Output, 400),
        (Mistake::BonusFromRowBefore, (3, 2), Test::Output, 400),
        (Mistake::DraftTemperature(1.5), (1, 1), Test::Drafts, 1_000),
        (Mistake::DraftTemperature(0.7), (3, 2), Test::Drafts, 1_000),
        (Mistake::ResidualFromTarget, (1, 1), Test::Output, 4_000),
        (Mistake::ResidualFromTarget, (3, 1), Test::Output, 4_000),
        (Mistake::Unchecked(0.3), (1, 1), Test::Output, 4_000),
    ] {
        // The lax coin needs tokens that the target rules out.
        let chain = match mistake {
            Mistake::LaxCoin { .. } => filtered(),
            _ => models(1),
        };
        let audit = audited(&chain, Engine::Mistaken(mistake), shape, 7, most);
        let after = rejected_after(&audit, test);
        println!("{mistake:?} with {shape:?}: after {after:?} tokens");
        assert!(after.is_some(), "{mistake:?} with {shape:?} passes {test:?} over {} tokens", audit.tokens());
        let finds = audit.findings().len();
        assert_eq!(finds > 0, matches!(mistake, Mistake::LaxCoin { .. }), "{finds} findings for {mistake:?}");
    }
}

/// Models of which the target leaves out tokens that the draft does not.
fn filtered() -> Chain {
    let draft = Pmf::from_weights([4.0, 3.0, 2.0, 1.0]).unwrap();
    let target = Pmf::from_weights([3.0, 4.0, 2.0, 0.0]).unwrap();
    Chain::new(vec![draft], vec![target]).unwrap()
}

/// A log of one rule under the name of another: the output is lossless, the rule is not what it is said to be.
#[test]
fn a_rule_under_a_wrong_name_is_found() {
    let chain = models(3);
    for (own, other, shape) in [
        ("rrs", "kseq", (4, 1)),
        ("kseq", "optimal", (4, 1)),
        ("path", "traversal", (3, 2)),
        ("block", "maximal", (1, 3)),
    ] {
        let mut audit = Audit::new(settings(0.001, Some(other.parse().unwrap())));
        for record in records(&chain, Engine::Honest(own.parse().unwrap()), shape.0, shape.1, 5).take(3_000) {
            add(&mut audit, &record.unwrap());
        }
        let after = rejected_after(&audit, Test::Rule);
        println!("{own} as {other}: after {after:?} tokens");
        assert!(after.is_some(), "{own} passes for {other}");
        assert_eq!((rejected_after(&audit, Test::Output), rejected_after(&audit, Test::Drafts)), (None, None));
    }
}

/// Cut off laws are no false alarm, and still enough to find mistakes by.
#[test]
fn the_most_probable_tokens_are_enough() {
    for most in [1, 5, 20] {
        let chain = models(2).logging_top(most);
        let mut alarms = 0;
        for (rule, shape) in honest().into_iter().filter(|(rule, _)| *rule != KnownRule::Distinct) {
            let audit = audited(&chain, Engine::Honest(rule), shape, 3, 150);
            assert_eq!(audit.without_rule(), 150, "the tail is not known");
            alarms += usize::from(!audit.is_lossless());
        }
        assert!(alarms < 4, "{alarms} false alarms among 11 logs at level 0.05");
    }
    let chain = models(1).logging_top(5);
    for (mistake, test) in [(Mistake::ResidualFromTarget, Test::Output), (Mistake::DraftTemperature(1.5), Test::Drafts)]
    {
        let audit = audited(&chain, Engine::Mistaken(mistake), (1, 1), 7, 6_000);
        assert!(rejected_after(&audit, test).is_some(), "{mistake:?}");
    }
}

/// What the output test rests on: given that a round's output reaches a token, and the tokens before it, the token has
/// the target's law. By enumeration of all drafts, for every verifier, also those that look at whole paths.
#[test]
fn every_token_of_a_round_has_the_targets_law() {
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let chain = chain(seed as u64, 3, 2, shape);
        for drafts in [1, 2] {
            for verifier in Verifier::all(drafts) {
                let reached = reached(&chain, drafts, &verifier);
                for (prefix, next) in reached {
                    let total: f64 = next.iter().sum();
                    for (mass, target) in next.iter().zip(chain.target(&prefix).as_slice()) {
                        assert!((mass - total * target).abs() < 1e-12, "{verifier}, {prefix:?}: {mass} of {total}");
                    }
                }
            }
        }
    }
}

/// For each prefix, the probability that the output begins with it and goes on with each token.
fn reached(
    chain: &draftpick::path::Chain,
    drafts: usize,
    verifier: &Verifier,
) -> std::collections::BTreeMap<Vec<Token>, Vec<f64>> {
    let paths = chain.sequences(2);
    let mut reached = std::collections::BTreeMap::<Vec<Token>, Vec<f64>>::new();
    for tuple in 0..paths.len().pow(drafts as u32) {
        let drafted: Vec<&[Token]> =
            (0..drafts as u32).map(|i| &paths[tuple / paths.len().pow(i) % paths.len()][..]).collect();
        let probability: f64 = drafted.iter().map(|path| chain.draft_probability(path)).product();
        if probability == 0.0 {
            continue;
        }
        let round = round(chain, &drafted, None).unwrap();
        for stop in verifier.law(&round).unwrap().stops() {
            let tokens = round.tree().tokens(stop.node);
            let mut add = |prefix: &[Token], token: Token, mass: f64| {
                reached.entry(prefix.to_vec()).or_insert_with(|| vec![0.0; 3])[token as usize] += mass;
            };
            for (at, &token) in tokens.iter().enumerate() {
                add(&tokens[..at], token, probability * stop.probability);
            }
            for (token, mass) in (0..).zip(&stop.next) {
                add(&tokens, token, probability * stop.probability * mass);
            }
        }
    }
    reached
}

/// With 800 rounds the comparison is a sample of the rounds, and says what `compare` would.
#[test]
fn the_engine_is_compared_with_the_optimum() {
    let chain = models(4);
    let engine = Engine::Honest("optimal".parse().unwrap());
    let mut audit = Audit::new(Settings { compared: 100, ..settings(0.001, None) });
    for record in records(&chain, engine, 3, 1, 2).take(800) {
        add(&mut audit, &record.unwrap());
    }
    let at = audit.at_first().remove(0);
    assert_eq!((at.k, at.rounds), (3, 800));
    assert!((100..=200).contains(&at.compared), "{}", at.compared);
    assert_eq!(at.optimum.0, at.optimum.1, "the laws are whole");
    let error = (at.engine.standard_error.powi(2) + at.optimum.0.standard_error.powi(2)).sqrt();
    assert!((at.engine.value - at.optimum.0.value).abs() < 5.0 * error, "{at:?}");
    let names: Vec<_> = at.rules.iter().map(|(name, low, _)| (*name, low.value)).collect();
    assert_eq!(names.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["rrs", "kseq", "optimal-linear"]);
    assert!(names.iter().all(|(_, value)| *value <= at.optimum.0.value + 1e-9));
    // The drafts' direction is the one that is found soonest; all are found some time.
    let power = audit.power();
    assert!(power.iter().all(|power| power.tokens > 100.0 && power.tokens < 1e7), "{power:?}");
}

/// Plain decoding, and drafts without a law, are audited as far as that goes.
#[test]
fn a_log_may_say_less() {
    let law = |weights: [f64; 3]| -> std::sync::Arc<LoggedLaw> {
        std::sync::Arc::new(Pmf::from_weights(weights).unwrap().into())
    };
    let target = law([1.0, 2.0, 3.0]);
    let plain = Record::new(3, &[], vec![], vec![vec![Some(target.clone())]], vec![2]).unwrap();
    let lawless = Record::new(3, &[vec![1]], vec![], vec![vec![Some(target), None]], vec![1]).unwrap();
    let mut audit = Audit::new(settings(0.05, Some("maximal".parse().unwrap())));
    add(&mut audit, &plain);
    add(&mut audit, &lawless);
    let outcomes: Vec<u64> = audit.tested().iter().map(|tested| tested.outcomes).collect();
    assert_eq!((outcomes, audit.without_rule(), audit.at_first().len()), (vec![2, 0, 0], 1, 1));
}
