//! The loop over two models: its text has the target's law, and depends on the seed alone.

mod common;

use common::chi_square::p_value;
use draftpick::decode::{
    Extension, Finish, HostSampler, Leaf, Model, Request, SampleError, Sampler, Settings, Source, Speculative,
};
use draftpick::path::{DraftTree, LogitRow, Outcome, PathError, ROOT, Round, RoundCoins, Verifier};
use draftpick::{Pmf, Sampling, Token};

const VOCAB: usize = 3;

/// Scores after the last two tokens of the text; keeps the tokens of each tree and computes everything anew.
#[derive(Clone, Default)]
struct Markov {
    salt: u64,
    /// For each sequence the kept tokens, then the tree's tokens with their parents.
    sequences: Vec<(Vec<Token>, Tree)>,
}

/// The parent and token of each node but the root.
type Tree = Vec<(usize, Token)>;

fn scores(salt: u64, text: &[Token]) -> Vec<f32> {
    let mut state = salt;
    for &token in text.iter().rev().take(2).rev() {
        state = (state ^ u64::from(token + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..VOCAB).map(|_| 3.0 * next()).collect()
}

impl Model for Markov {
    type Row = Vec<f32>;
    type Error = std::fmt::Error;

    fn vocab(&self) -> usize {
        VOCAB
    }

    fn extend(&mut self, new: &[Extension]) -> Result<Vec<Vec<f32>>, Self::Error> {
        let mut rows = Vec::new();
        for new in new {
            if self.sequences.len() <= new.sequence {
                self.sequences.resize(new.sequence + 1, Default::default());
            }
            let (kept, tree) = &mut self.sequences[new.sequence];
            if new.parent > tree.len() {
                return Err(std::fmt::Error);
            }
            tree.push((new.parent, new.token));
            if new.scored {
                rows.push(scores(self.salt, &way(kept, tree, tree.len())));
            }
        }
        Ok(rows)
    }

    fn keep(&mut self, sequence: usize, node: Option<usize>) -> Result<(), Self::Error> {
        let Some((kept, tree)) = self.sequences.get_mut(sequence) else {
            return Ok(());
        };
        *kept = node.map(|node| way(kept, tree, node)).unwrap_or_default();
        tree.clear();
        Ok(())
    }
}

fn way(kept: &[Token], tree: &[(usize, Token)], mut node: usize) -> Vec<Token> {
    let mut way = Vec::new();
    while node > 0 {
        let (parent, token) = tree[node - 1];
        way.push(token);
        node = parent;
    }
    way.extend(kept.iter().rev());
    way.reverse();
    way
}

fn settings(verifier: &str, paths: usize) -> Settings {
    Settings {
        paths,
        length: 3,
        verifier: verifier.parse::<Verifier>().unwrap(),
        draft_sampling: Sampling { temperature: 1.3, ..Sampling::default() },
        ..Settings::default()
    }
}

fn engine(verifier: &str, paths: usize, target: u64) -> Speculative<Markov, Markov> {
    let model = |salt| Markov { salt, ..Markov::default() };
    Speculative::new(model(1), model(target), settings(verifier, paths)).unwrap()
}

/// How often each text of three tokens came out after [0], out of 20,000.
fn counts(verifier: &str, paths: usize, target: u64) -> Vec<u64> {
    let mut engine = engine(verifier, paths, target);
    let mut counts = vec![0; VOCAB.pow(3)];
    for seed in 0..20_000 {
        let text: Vec<Token> = engine
            .tokens(Request { prompt: vec![0], seed, limit: 3, ..Request::default() })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        counts[place(&text)] += 1;
    }
    counts
}

/// The number of a text of three tokens.
fn place(text: &[Token]) -> usize {
    text.iter().fold(0, |place, &token| place * VOCAB + token as usize)
}

fn law(target: u64) -> Vec<f64> {
    let mut law = Vec::new();
    for place in 0..VOCAB.pow(3) {
        let text = [0, place / 9, place / 3 % 3, place % 3].map(|token| token as Token);
        let step = |t: usize| {
            Pmf::from_logits(&scores(target, &text[..t]), &Sampling::default()).unwrap().as_slice()[text[t] as usize]
        };
        law.push(step(1) * step(2) * step(3));
    }
    law
}

/// Chi-square at level 1e-6, fixed seeds; another target's law must fail.
#[test]
fn the_text_has_the_targets_law() {
    for (verifier, paths) in [
        ("maximal", 1),
        ("block", 1),
        ("kseq", 3),
        ("rrs", 3),
        ("optimal", 2),
        ("traversal", 3),
        ("path", 3),
        ("path", 1),
    ] {
        let counts = counts(verifier, paths, 2);
        let p = p_value(&counts, &law(2));
        assert!(p > 1e-6, "{verifier}, K {paths}: p-value {p:e}");
        let control = p_value(&counts, &law(3));
        assert!(control < 1e-6, "{verifier}, K {paths}: another target's law passes with {control:e}");
    }
}

#[test]
fn a_text_depends_on_its_seed_and_not_on_the_batch() {
    for verifier in ["kseq", "traversal", "path"] {
        let request = |seed| Request {
            prompt: vec![0, seed as Token % 3],
            seed,
            limit: 10 + seed as usize,
            ..Request::default()
        };
        let alone: Vec<Vec<Token>> = (0..5)
            .map(|seed| engine(verifier, 4, 2).tokens(request(seed)).unwrap().collect::<Result<_, _>>().unwrap())
            .collect();
        let mut batch = engine(verifier, 4, 2);
        let numbers: Vec<usize> = (0..5).map(|seed| batch.add(request(seed)).unwrap()).collect();
        let mut together = vec![Vec::new(); 5];
        while !batch.is_idle() {
            for progress in batch.round().unwrap() {
                let i = numbers.iter().position(|&number| number == progress.request).unwrap();
                together[i].extend(progress.tokens);
            }
        }
        assert_eq!(alone, together);
        assert!(alone.iter().enumerate().all(|(i, text)| text.len() == 10 + i));
        let statistics = batch.statistics();
        assert_eq!(statistics.tokens, together.iter().map(Vec::len).sum::<usize>() as u64);
        assert!(statistics.block_efficiency() > 1.0 && statistics.target_calls < statistics.rounds);
    }
}

/// A number and a length of paths for each text of a batch: their own, or the settings'.
const SHAPES: [(Option<usize>, Option<usize>); 5] =
    [(None, None), (Some(1), Some(5)), (Some(2), Some(1)), (Some(5), Some(2)), (Some(1), Some(0))];

/// Texts with other numbers and lengths of paths in one batch: each is what it is alone, and all have the target's law.
#[test]
fn texts_of_one_batch_may_draft_differently() {
    let request = |seed: u64, limit| {
        let (paths, length) = SHAPES[seed as usize % SHAPES.len()];
        Request { prompt: vec![0], seed, limit, paths, length }
    };
    for verifier in ["kseq", "traversal", "path", "spread"] {
        let together = |engine: &mut Speculative<Markov, Markov>, seeds: std::ops::Range<u64>, limit| {
            let count = (seeds.end - seeds.start) as usize;
            let numbers: Vec<usize> = seeds.map(|seed| engine.add(request(seed, limit)).unwrap()).collect();
            let mut texts = vec![Vec::new(); count];
            while !engine.is_idle() {
                for progress in engine.round().unwrap() {
                    texts[numbers.iter().position(|&number| number == progress.request).unwrap()]
                        .extend(progress.tokens);
                }
            }
            texts
        };
        let alone: Vec<Vec<Token>> = (0..10)
            .map(|seed| engine(verifier, 4, 2).tokens(request(seed, 17)).unwrap().collect::<Result<_, _>>().unwrap())
            .collect();
        assert_eq!(together(&mut engine(verifier, 4, 2), 0..10, 17), alone, "{verifier}");

        let mut batch = engine(verifier, 3, 2);
        let mut counts = vec![0; VOCAB.pow(3)];
        for first in (0..20_000).step_by(10) {
            for text in together(&mut batch, first..first + 10, 3) {
                counts[place(&text)] += 1;
            }
        }
        let p = p_value(&counts, &law(2));
        assert!(p > 1e-6, "{verifier}: p-value {p:e}");
        let control = p_value(&counts, &law(3));
        assert!(control < 1e-6, "{verifier}: another target's law passes with {control:e}");
    }
    let mut engine = engine("path", 4, 2);
    let refused = |request| engine.add(request).unwrap_err().to_string();
    let [no_paths, too_long] = [(Some(0), None), (None, Some(65))]
        .map(|(paths, length)| Request { paths, length, ..request(0, 3) })
        .map(refused);
    assert_eq!(no_paths, "paths is 0; it must be 1 to 64");
    assert_eq!(too_long, "length is 65; it must be 0 to 64");
}

/// As a device would: the loop gets handles, the laws stay in a table of its own.
#[derive(Default)]
struct Remote {
    laws: Vec<LogitRow>,
    /// Whether to look a token up in the wrong row: what the test must notice.
    confused: bool,
}

impl Sampler<Vec<f32>> for Remote {
    type Law = usize;

    fn laws(&mut self, rows: Vec<Vec<f32>>, source: &Source<'_>) -> Result<Vec<usize>, SampleError> {
        let first = self.laws.len();
        self.laws.extend(HostSampler.laws(rows, source)?);
        Ok((first..self.laws.len()).collect())
    }

    fn draw(&mut self, leaves: &[Leaf<'_, usize>]) -> Result<Vec<Vec<Token>>, SampleError> {
        let law = |handle: usize| &self.laws[if self.confused { handle.saturating_sub(1) } else { handle }];
        let leaf = |&Leaf { law: &handle, depth, paths, coins }: &_| Leaf { law: law(handle), depth, paths, coins };
        <HostSampler as Sampler<Vec<f32>>>::draw(&mut HostSampler, &leaves.iter().map(leaf).collect::<Vec<_>>())
    }

    /// Builds each round anew from its paths. The nodes come in another order, so the outcome is found by its tokens.
    fn verify(
        &mut self,
        rounds: &[(&Round<usize>, RoundCoins)],
        verifier: Verifier,
    ) -> Result<Vec<Outcome>, SampleError> {
        let mut outcomes = Vec::new();
        for &(round, coins) in rounds {
            let tree = round.tree();
            let nodes = tree.paths();
            let tokens: Vec<_> = nodes.iter().map(|path| tree.tokens(path[path.len() - 1])).collect();
            let tokens: Vec<&[Token]> = tokens.iter().map(Vec::as_slice).collect();
            let find = |tokens: &[Token]| tokens.iter().fold(ROOT, |node, &token| tree.child(node, token).unwrap());
            let rebuilt = DraftTree::recorded(&tokens, |path, t| {
                Ok::<_, PathError>(self.laws[*round.pair(nodes[path][t]).unwrap().0].clone())
            });
            let mut rebuilt = rebuilt.map_err(SampleError::Path)?;
            for node in rebuilt.open().into_iter().filter(|&node| node != ROOT) {
                if tree.is_ended(find(&rebuilt.tokens(node))) {
                    rebuilt.end(node).map_err(SampleError::Path)?;
                }
            }
            let names: Vec<_> = (0..rebuilt.len()).map(|node| rebuilt.tokens(node)).collect();
            let rebuilt =
                rebuilt.score(|node| Ok::<_, PathError>(self.laws[*round.target(find(&names[node])).unwrap()].clone()));
            let rebuilt = rebuilt.map_err(SampleError::Path)?;
            let outcome =
                <HostSampler as Sampler<Vec<f32>>>::verify(&mut HostSampler, &[(&rebuilt, coins)], verifier)?[0];
            outcomes.push(Outcome { node: find(&names[outcome.node]), ..outcome });
        }
        Ok(outcomes)
    }
}

fn texts<S: Sampler<Vec<f32>>>(verifier: &str, paths: usize, sampler: S) -> Result<Vec<Vec<Token>>, String> {
    let model = |salt| Markov { salt, ..Markov::default() };
    let settings = Settings { stop: vec![2], length: 4, ..settings(verifier, paths) };
    let mut engine = Speculative::with_sampler(model(1), model(2), settings, sampler).unwrap();
    let mut texts = vec![Vec::new(); 8];
    for seed in 0..8 {
        engine.add(Request { prompt: vec![0, seed as Token % 3], seed, limit: 30, ..Request::default() }).unwrap();
    }
    while !engine.is_idle() {
        for progress in engine.round().map_err(|error| error.to_string())? {
            texts[progress.request].extend(progress.tokens);
        }
    }
    Ok(texts)
}

/// The loop sees handles only; the texts are those of the host, and a row mixed up shows.
#[test]
fn laws_may_stay_elsewhere() {
    for (verifier, paths) in [("kseq", 3), ("traversal", 3), ("path", 4), ("block", 1)] {
        let host = texts(verifier, paths, HostSampler).unwrap();
        assert_eq!(host, texts(verifier, paths, Remote::default()).unwrap(), "{verifier}, K {paths}");
        assert!(host.iter().any(|text| text.last() == Some(&2)) && host.iter().map(Vec::len).max() > Some(4));
        let control = texts(verifier, paths, Remote { confused: true, ..Remote::default() });
        assert!(control != Ok(host), "{verifier}, K {paths}: a mixed-up row passes");
    }
}

#[test]
fn a_stop_token_ends_the_text_and_bad_settings_are_refused() {
    let settings = Settings { stop: vec![2], ..Settings::default() };
    let mut stopping = Speculative::new(Markov { salt: 1, ..Markov::default() }, Markov::default(), settings).unwrap();
    let number = stopping.add(Request { prompt: vec![0], seed: 5, limit: 500, ..Request::default() }).unwrap();
    let mut text = Vec::new();
    let mut finish = None;
    while !stopping.is_idle() {
        let progress = stopping.round().unwrap().remove(0);
        assert_eq!(progress.request, number);
        text.extend(progress.tokens);
        finish = progress.finish;
    }
    assert_eq!(finish, Some(Finish::Stop));
    assert_eq!(text.iter().position(|&token| token == 2), Some(text.len() - 1));
    let refused =
        |settings| Speculative::new(Markov::default(), Markov::default(), settings).err().unwrap().to_string();
    assert_eq!(refused(Settings { paths: 0, ..Settings::default() }), "paths is 0; it must be 1 to 64");
    assert_eq!(refused(Settings { length: 65, ..Settings::default() }), "length is 65; it must be 0 to 64");
    assert!(stopping.add(Request { prompt: vec![], seed: 0, limit: 1, ..Request::default() }).is_err());
}
