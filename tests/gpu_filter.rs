//! Filters on the device against the CPU's: the same tokens are left, row by row.
//!
//! Where there is no device, each test says so and does nothing.

#[path = "gpu/cases.rs"]
mod cases;
#[path = "gpu/device.rs"]
mod device;
#[path = "gpu/filters.rs"]
mod filters;
#[path = "gpu/judge.rs"]
mod judge;
#[path = "gpu/trees.rs"]
mod trees;

use cases::{Case, cases, rounded};
use device::{Uploaded, device, largest_vocab};
use draftpick::gpu::{
    CoinSource, Device, Draws, Each, Filter, Filtered, Filters, Forest, Format, GpuError, Pairs, Score, Selections,
    Shaping, TokenRule, TokenSelector, TreeVerifier, View,
};
use draftpick::path::{LogitRow, Row};
use draftpick::{Coin, Pmf, Sampling};
use filters::{Asked, KINDS, Verdict, judge, row};
use half::bf16;
use judge::Chosen;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const FORMATS: [Format; 3] = [Format::F32, Format::F16, Format::Bf16];
const VOCABS: [usize; 9] = [1, 2, 31, 33, 4_096, 50_257, 128_256, 151_936, 262_144];

/// What one filter is asked, and of which row.
#[derive(Clone, Copy, Debug)]
struct One {
    row: usize,
    scale: f32,
    asked: Asked,
}

/// Thresholds, ties and flags of filters with parameters of their own.
fn find(device: &Device, format: Format, rows: &[Vec<f32>], stride: usize, filters: &[One]) -> Vec<(f32, i32, i32)> {
    let vocab = rows[0].len();
    let uploaded = Uploaded::new(device, format, stride, rows.iter().map(|row| &row[..]));
    fn upload<T: draftpick::gpu::Plain>(
        device: &Device,
        filters: &[One],
        of: impl Fn(&One) -> T,
    ) -> draftpick::gpu::Buffer<T> {
        device.upload(&filters.iter().map(of).collect::<Vec<T>>()).expect("memory")
    }
    let numbers = upload(device, filters, |one| one.row as i32);
    let scale = upload(device, filters, |one| one.scale);
    let top_k = upload(device, filters, |one| one.asked.top_k as i32);
    let top_p = upload(device, filters, |one| one.asked.top_p);
    let min_p = upload(device, filters, |one| one.asked.min_p);
    let call = Filters {
        logits: uploaded.rows(),
        vocab,
        count: filters.len(),
        rows: Some(View::from(&numbers)),
        scale: Some(View::from(&scale)),
        top_k: Some(Each::One(View::from(&top_k))),
        top_p: Some(Each::One(View::from(&top_p))),
        min_p: Some(Each::One(View::from(&min_p))),
    };
    answers(device, format, &call)
}

fn answers(device: &Device, format: Format, call: &Filters<'_>) -> Vec<(f32, i32, i32)> {
    let filter = Filter::new(device, format, call.vocab).unwrap_or_else(|error| panic!("{error}"));
    let stream = device.stream().expect("a stream");
    let mut into = Filtered::new(device, call.count).expect("memory");
    filter.find(&stream, call, &mut into).unwrap_or_else(|error| panic!("{error}"));
    stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
    let (least, tie) = (into.least.read().expect("read"), into.tie.read().expect("read"));
    let flags = into.flags.read().expect("read");
    (0..call.count).map(|i| (least[i], tie[i], flags[i])).collect()
}

fn sampling(asked: Asked) -> Sampling {
    Sampling {
        temperature: 1.0,
        top_k: Some(asked.top_k),
        top_p: Some(asked.top_p.into()),
        min_p: Some(asked.min_p.into()),
    }
}

/// The filters of a row: each by itself, all together, at their ends and in between.
fn asked(rng: &mut StdRng, vocab: usize) -> Vec<Asked> {
    let none = Asked { top_k: vocab, top_p: 1.0, min_p: 0.0 };
    let k = rng.random_range(1..=vocab);
    let p: f32 = rng.random();
    vec![
        none,
        Asked { top_k: 1, ..none },
        Asked { top_k: 50.min(vocab), ..none },
        Asked { top_k: k, ..none },
        Asked { top_p: 0.0, ..none },
        Asked { top_p: 0.95, ..none },
        Asked { top_p: 0.5, ..none },
        Asked { top_p: p, ..none },
        Asked { top_p: 0.999_99, ..none },
        Asked { min_p: 0.05, ..none },
        Asked { min_p: 1.0, ..none },
        Asked { top_k: k, top_p: p, min_p: 0.0 },
        Asked { top_k: 50.min(vocab), top_p: 0.9, min_p: 0.02 },
        Asked { top_k: k, top_p: 0.5, min_p: 0.1 },
    ]
}

/// All formats, vocabularies and kinds of rows: the tokens left are the CPU's. A mass that comes within the stated accuracy of
/// top-p's limit may excuse one row in a thousand.
#[test]
fn thresholds_leave_what_the_cpu_leaves() {
    let Some(device) = device("filters") else { return };
    let (mut same, mut split, mut near, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for format in FORMATS {
        for vocab in VOCABS.into_iter().filter(|vocab| *vocab <= largest_vocab()) {
            let mut rng = StdRng::seed_from_u64(vocab as u64 + 3);
            let rows: Vec<Vec<f32>> =
                KINDS.iter().map(|kind| row(&mut rng, kind, vocab, |x| rounded(format, x))).collect();
            for scale in [1.0f32, 0.7] {
                let filters: Vec<One> = (0..rows.len())
                    .rev()
                    .flat_map(|row| asked(&mut rng, vocab).into_iter().map(move |asked| One { row, scale, asked }))
                    .collect();
                // Rows at multiples of 16 bytes and between; few filters a call, spread over more blocks, and many.
                let stride = if scale == 1.0 { vocab.next_multiple_of(8) } else { vocab + 3 };
                let calls: Vec<&[One]> = if scale == 1.0 { vec![&filters] } else { filters.chunks(3).collect() };
                for filters in calls {
                    for (one, (least, tie, flags)) in filters.iter().zip(find(&device, format, &rows, stride, filters))
                    {
                        let place = format!("{format:?} V={vocab} {} scale {scale} {:?}", KINDS[one.row], one.asked);
                        if flags != 0 {
                            wrong.push(format!("{place}: refused with {flags:#x}"));
                            continue;
                        }
                        let scaled: Vec<f32> = rows[one.row].iter().map(|x| x * scale).collect();
                        let left = sampling(one.asked).apply(&scaled).expect("finite rows");
                        split += usize::from(tie > 0);
                        match judge(&scaled, &left, one.asked, least, tie) {
                            Verdict::Same => same += 1,
                            Verdict::Near(share) => near.push(format!("{place}: {share:.2} of the bound")),
                            Verdict::Wrong(why) => wrong.push(format!("{place}: {why}")),
                        }
                    }
                }
            }
        }
    }
    println!("{same} rows the same, {split} ties split, {} cuts within the bound, {} wrong", near.len(), wrong.len());
    near.iter().chain(wrong.iter().take(40)).for_each(|line| println!("  {line}"));
    assert!(wrong.is_empty(), "{} rows are wrong", wrong.len());
    assert!(1000 * near.len() <= same + 1000, "too many cuts near their limit");
}

/// The same row has the same threshold whatever the batch and however it is spread.
#[test]
fn thresholds_do_not_depend_on_the_batch() {
    let Some(device) = device("batches") else { return };
    for (format, vocab) in [(Format::F32, 50_257), (Format::Bf16, 128_256)] {
        let vocab = vocab.min(largest_vocab());
        let mut rng = StdRng::seed_from_u64(5);
        let rows = vec![row(&mut rng, "random", vocab, |x| rounded(format, x))];
        let one = |top_p: f32| One { row: 0, scale: 0.83, asked: Asked { top_k: vocab / 3, top_p, min_p: 0.0 } };
        for top_p in [0.3, 0.9, 0.9999] {
            let alone = find(&device, format, &rows, vocab, &[one(top_p)]);
            for count in [2, 40, 700] {
                let found = find(&device, format, &rows, vocab, &vec![one(top_p); count]);
                let other = found.iter().position(|found| *found != alone[0]);
                assert_eq!(other.map(|i| found[i]), None, "{format:?}, {count} filters: not {:?}", alone[0]);
            }
        }
    }
}

/// A row or a parameter that is wrong is flagged, masks everything, and leaves its neighbours alone. One for all is refused at
/// the call.
#[test]
fn bad_rows_and_parameters_are_refused() {
    let Some(device) = device("bad filters") else { return };
    for (format, vocab) in [(Format::F32, 33), (Format::Bf16, 50_257), (Format::F16, 4_096)] {
        let mut rows = vec![vec![1.0f32; vocab]; 5];
        rows[1][vocab - 1] = f32::NAN;
        rows[2][0] = f32::INFINITY;
        rows[3].fill(f32::NEG_INFINITY);
        rows[4][vocab / 2] = f32::NAN;
        let good = Asked { top_k: 5, top_p: 0.5, min_p: 0.0 };
        let of = |row: usize, asked: Asked| One { row, scale: 1.0, asked };
        let none = Asked { top_k: vocab, top_p: 1.0, min_p: 0.0 };
        let cases = [
            (of(0, good), 0),
            (of(1, good), 1),
            (of(0, good), 0),
            (of(2, good), 1),
            (of(3, none), 4),
            (of(4, none), 1),
            (of(5, good), 256),
            (of(0, Asked { top_k: 0, ..good }), 1024),
            (of(0, Asked { top_p: 1.01, ..good }), 1024),
            (of(0, Asked { top_p: f32::NAN, ..good }), 1024),
            (of(0, Asked { min_p: -0.01, ..good }), 1024),
            (of(0, good), 0),
        ];
        let filters: Vec<One> = cases.iter().map(|case| case.0).collect();
        for ((one, expected), (least, tie, flags)) in cases.iter().zip(find(&device, format, &rows, vocab, &filters)) {
            assert_eq!(flags, *expected, "{format:?} V={vocab} {one:?}");
            let masks_all = (f32::INFINITY, 0);
            // Of a flat row half goes: top-k keeps all of a tie.
            let threshold = if *expected == 0 { (1.0, (vocab / 2) as i32) } else { masks_all };
            assert_eq!((least, tie), threshold, "{format:?} V={vocab} {one:?}");
        }
    }
    let filter = Filter::new(&device, Format::F32, 4).expect("compiles");
    let uploaded = Uploaded::new(&device, Format::F32, 4, [&[0.0f32, 1.0, 2.0, 3.0][..]].into_iter());
    let (stream, mut into) = (device.stream().expect("a stream"), Filtered::new(&device, 1).expect("memory"));
    let plain = Filters {
        logits: uploaded.rows(),
        vocab: 4,
        count: 1,
        rows: None,
        scale: None,
        top_k: None,
        top_p: None,
        min_p: None,
    };
    for (call, what) in [
        (Filters { top_k: Some(Each::All(0)), ..plain }, "top_k is 0"),
        (Filters { top_p: Some(Each::All(-0.5)), ..plain }, "top_p is -0.5"),
        (Filters { min_p: Some(Each::All(f32::NAN)), ..plain }, "min_p is NaN"),
        (Filters { vocab: 5, ..plain }, "rows of 5 logits"),
        (Filters { count: 2, ..plain }, "2 pairs"),
    ] {
        let error = filter.find(&stream, &call, &mut into).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
        assert!(!matches!(error, GpuError::Driver(_)));
    }
    // One for all; 1 + e + e² + e³ of which e³ is 0.64.
    for (call, least) in [
        (plain, f32::NEG_INFINITY),
        (Filters { top_k: Some(Each::All(2)), ..plain }, 2.0),
        (Filters { top_p: Some(Each::All(0.6)), ..plain }, 3.0),
        (Filters { top_p: Some(Each::All(0.7)), ..plain }, 2.0),
    ] {
        assert_eq!(answers(&device, Format::F32, &call), [(least, 0, 0)]);
    }
}

/// A row as the filters leave it: the numbers as they are, −∞ for what goes.
fn masked(row: &[f32], asked: Asked) -> Vec<f32> {
    let left = sampling(asked).apply(row).expect("finite rows");
    row.iter().zip(left).map(|(x, left)| if left > f32::NEG_INFINITY { *x } else { left }).collect()
}

/// Thresholds found on the device and handed on, in one stream: the tokens are those that the CPU selects from filtered rows,
/// coin for coin, and the drafts are the CPU's.
#[test]
fn filtered_selections_are_those_of_the_cpu() {
    let Some(device) = device("filtered selections") else { return };
    let mut tally = judge::Tally::default();
    let mut split = 0;
    for rule in [TokenRule::Maximal, TokenRule::KSeq, TokenRule::OptimalLinear] {
        for format in FORMATS {
            for vocab in VOCABS.into_iter().filter(|vocab| *vocab <= largest_vocab().min(128_256)) {
                let k = if rule == TokenRule::Maximal { 1 } else { 4 };
                let mut cases = cases(format, vocab, k, 23 * vocab as u64 + 1);
                let mut rng = StdRng::seed_from_u64(vocab as u64);
                let all: Vec<[Asked; 2]> = (0..cases.len())
                    .map(|_| {
                        let [draft, target] = [asked(&mut rng, vocab), asked(&mut rng, vocab)];
                        [draft[rng.random_range(0..draft.len())], target[rng.random_range(0..target.len())]]
                    })
                    .collect();
                let rows = [0, 1].map(|i| {
                    let of = |case: &Case| if i == 0 { case.draft.clone() } else { case.target.clone() };
                    cases.iter().map(of).collect::<Vec<_>>()
                });
                for (case, [draft, target]) in cases.iter_mut().zip(&all) {
                    case.draft = masked(&case.draft, *draft);
                    case.target = masked(&case.target, *target);
                    let law = Pmf::from_logits(&case.draft, &Sampling::default()).expect("something is left");
                    case.drafts.iter_mut().for_each(|token| *token = law.pick(rng.random::<Coin>()));
                }
                let found = select_filtered(&device, rule, format, &rows, &all, &cases);
                for (i, (case, (chosen, flags, ties))) in cases.iter().zip(found).enumerate() {
                    let place = format!("{rule:?} {format:?} V={vocab} {}", case.name);
                    assert_eq!(flags, 0, "{place}: refused");
                    split += ties;
                    let again = |cases: &[Case]| {
                        let rows = [0, 1].map(|side| vec![rows[side][i].clone(); cases.len()]);
                        let found = select_filtered(&device, rule, format, &rows, &vec![all[i]; cases.len()], cases);
                        found.into_iter().map(|(chosen, ..)| chosen).collect()
                    };
                    tally.add(&place, judge::judge_both(rule, case, chosen, again));
                }
            }
        }
    }
    println!("{split} ties split");
    assert!(split > 0);
    tally.report();
}

/// What the device selects from whole rows and filters; with its flags and the number of ties that were split.
fn select_filtered(
    device: &Device,
    rule: TokenRule,
    format: Format,
    rows: &[Vec<Vec<f32>>; 2],
    asked: &[[Asked; 2]],
    cases: &[Case],
) -> Vec<(Chosen, i32, usize)> {
    let (vocab, count, k) = (rows[0][0].len(), cases.len(), cases[0].drafts.len());
    let stride = vocab.next_multiple_of(8);
    let uploaded = [0, 1].map(|i| Uploaded::new(device, format, stride, rows[i].iter().map(|row| &row[..])));
    let tokens: Vec<i32> = cases.iter().flat_map(|case| &case.drafts).map(|token| *token as i32).collect();
    let coins: Vec<f64> = cases.iter().flat_map(|case| &case.coins).map(|coin| coin.get()).collect();
    let (tokens, coins) = (device.upload(&tokens).expect("memory"), device.upload(&coins).expect("memory"));
    let selector = TokenSelector::new(device, rule, format, vocab).unwrap_or_else(|error| panic!("{error}"));
    let filter = Filter::new(device, format, vocab).unwrap_or_else(|error| panic!("{error}"));
    let mut into = Selections::new(device, rule, count).expect("memory");
    let mut filtered = [0, 1].map(|_| Filtered::new(device, count).expect("memory"));
    let stream = device.stream().expect("a stream");
    for i in 0..2 {
        let top_k: Vec<i32> = asked.iter().map(|asked| asked[i].top_k as i32).collect();
        let shares = |of: fn(&Asked) -> f32| asked.iter().map(|asked| of(&asked[i])).collect::<Vec<f32>>();
        let top_k = device.upload(&top_k).expect("memory");
        let top_p = device.upload(&shares(|asked| asked.top_p)).expect("memory");
        let min_p = device.upload(&shares(|asked| asked.min_p)).expect("memory");
        let call = Filters {
            logits: uploaded[i].rows(),
            vocab,
            count,
            rows: None,
            scale: None,
            top_k: Some(Each::One(View::from(&top_k))),
            top_p: Some(Each::One(View::from(&top_p))),
            min_p: Some(Each::One(View::from(&min_p))),
        };
        filter.find(&stream, &call, &mut filtered[i]).unwrap_or_else(|error| panic!("{error}"));
        if i == 1 {
            let pairs = Pairs {
                draft: uploaded[0].rows(),
                target: uploaded[1].rows(),
                vocab,
                pairs: count,
                k,
                draft_rows: None,
                target_rows: None,
                tokens: View::from(&tokens),
                counts: None,
                shaping: shaping(&filtered),
                coins: CoinSource::Given(View::from(&coins)),
            };
            selector.select(&stream, &pairs, &mut into).unwrap_or_else(|error| panic!("{error}"));
        }
        // The parameters are freed here.
        stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
    }
    let (selected, output) = (into.selected.read().expect("read"), into.output.read().expect("read"));
    let (stats, ties) = (into.stats.read().expect("read"), filtered.map(|filtered| filtered.tie.read().expect("read")));
    let split = |i: usize| ties.iter().filter(|ties| ties[i] > 0).count();
    (0..count).map(|i| (Chosen { selected: selected[i], output: output[i] }, stats[i].flags, split(i))).collect()
}

/// The thresholds and ties of the draft and the target rows.
fn shaping(filtered: &[Filtered; 2]) -> Shaping<'_> {
    Shaping {
        draft_least: Some(View::from(&filtered[0].least)),
        target_least: Some(View::from(&filtered[1].least)),
        draft_tie: Some(View::from(&filtered[0].tie)),
        target_tie: Some(View::from(&filtered[1].tie)),
        ..Shaping::default()
    }
}

/// Whole trees with filtered rows, by both couplings, and drafts drawn from filtered rows: the outcomes are the CPU's.
#[test]
fn filtered_trees_and_drafts_are_those_of_the_cpu() {
    let Some(device) = device("filtered trees") else { return };
    let mut tallies = [trees::Tally::default(), trees::Tally::default()];
    let mut drafts = [0, 0];
    for vocab in [33, 4_096, 50_257].into_iter().filter(|vocab| *vocab <= largest_vocab()) {
        for (paths, length) in [(1, 5), (4, 4)] {
            let case = trees::Case { vocab, trees: 24, paths, length, noise: 0.5 };
            filtered_trees(&device, &case, bf16::from_f32, &mut tallies, &mut drafts);
            filtered_trees(&device, &case, |x| x, &mut tallies, &mut drafts);
        }
    }
    println!("{} drafts drawn, {} with a coin within 1e-6 of the next token", drafts[0], drafts[1]);
    assert!(drafts[1] * 50 <= drafts[0]);
    for (rule, tally) in trees::RULES.into_iter().zip(&tallies) {
        tally.report(&format!("{rule:?}, filtered"));
    }
}

fn filtered_trees<T: Score>(
    device: &Device,
    case: &trees::Case,
    number: impl Fn(f32) -> T,
    tallies: &mut [trees::Tally; 2],
    drafts: &mut [usize; 2],
) {
    // Rows in bf16 have many ties at the cut.
    let all = Asked { top_k: 2_000.min(case.vocab), top_p: 0.9, min_p: 1e-4 };
    let mut raw = trees::Raw::new();
    let rounds = trees::rounds(case, case.vocab as u64, |row| {
        let left = masked(&row, all);
        raw.insert(trees::bits(&left), row);
        left
    });
    let forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
    let rows = trees::upload(device, &forest, &rounds, case.vocab, &raw, number);
    let (vocab, pairs) = (case.vocab, forest.pairs());
    let filter = Filter::new(device, T::FORMAT, vocab).unwrap_or_else(|error| panic!("{error}"));
    let stream = device.stream().expect("a stream");
    let mut filtered = [0, 1].map(|_| Filtered::new(device, pairs).expect("memory"));
    for (into, (logits, numbers)) in
        filtered.iter_mut().zip([(&rows.draft, &rows.draft_rows), (&rows.target, &rows.target_rows)])
    {
        let call = Filters {
            logits: draftpick::gpu::Rows::new(logits, vocab, vocab),
            vocab,
            count: pairs,
            rows: Some(View::from(numbers)),
            scale: None,
            top_k: Some(Each::All(all.top_k as i32)),
            top_p: Some(Each::All(all.top_p)),
            min_p: Some(Each::All(all.min_p)),
        };
        filter.find(&stream, &call, into).unwrap_or_else(|error| panic!("{error}"));
    }
    stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
    for i in [0, 1] {
        let flags = filtered[i].flags.read().expect("read");
        assert!(flags.iter().all(|flags| *flags == 0), "{:?}: {flags:?}", ["draft", "target"][i]);
    }
    for (rule, tally) in trees::RULES.into_iter().zip(tallies) {
        let verifier = TreeVerifier::new(device, rule, T::FORMAT, vocab).unwrap_or_else(|error| panic!("{error}"));
        let found = trees::verify(device, &verifier, &forest, &rows, vocab, shaping(&filtered));
        tally.add(rule, case, &rounds, &trees::outcomes(&forest, &rounds, &found));
    }
    // One draft of each inner node, by its filtered law.
    let inner: Vec<&LogitRow> = rounds
        .iter()
        .flat_map(|(round, _)| (0..round.tree().len()).filter_map(|node| round.pair(node).map(|pair| pair.0)))
        .collect();
    let (least, tie) = (filtered[0].least.read().expect("read"), filtered[0].tie.read().expect("read"));
    let numbers = rows.draft_rows.read().expect("read");
    let nodes: Vec<usize> = (0..pairs).filter(|&pair| numbers[pair] >= 0).collect();
    let of = |values: &[f32]| nodes.iter().map(|&pair| values[pair]).collect::<Vec<f32>>();
    let (least, tie) = (of(&least), nodes.iter().map(|&pair| tie[pair]).collect::<Vec<i32>>());
    let row_of: Vec<i32> = nodes.iter().map(|&pair| numbers[pair]).collect();
    let first: Vec<i32> = (0..=nodes.len() as i32).collect();
    let mut rng = StdRng::seed_from_u64(3);
    let coins: Vec<Coin> = (0..nodes.len()).map(|i| if i % 7 == 0 { Coin::ZERO } else { rng.random() }).collect();
    let given: Vec<f64> = coins.iter().map(|coin| coin.get()).collect();
    let upload_i32 = |values: &[i32]| device.upload(values).expect("memory");
    let (row_of, first, tie) = (upload_i32(&row_of), upload_i32(&first), upload_i32(&tie));
    let (least, given) = (device.upload(&least).expect("memory"), device.upload(&given).expect("memory"));
    let verifier =
        TreeVerifier::new(device, trees::RULES[0], T::FORMAT, vocab).unwrap_or_else(|error| panic!("{error}"));
    let mut drawn = verifier.drawn(nodes.len(), nodes.len()).expect("memory");
    let draws = Draws {
        logits: draftpick::gpu::Rows::new(&rows.draft, vocab, vocab),
        vocab,
        laws: nodes.len(),
        rows: View::from(&row_of),
        scale: None,
        least: Some(View::from(&least)),
        tie: Some(View::from(&tie)),
        first: View::from(&first),
        coins: View::from(&given),
    };
    verifier.draw(&stream, &draws, &mut drawn).unwrap_or_else(|error| panic!("{error}"));
    stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
    for ((law, coin), token) in inner.iter().zip(&coins).zip(drawn.tokens.read().expect("read")) {
        drafts[0] += 1;
        if token != law.draw(*coin) as i32 {
            drafts[1] += 1;
            let moved = |step: f64| Coin::new((coin.get() + step).clamp(0.0, Coin::LAST.get())).expect("a coin");
            let range = law.draw(moved(-1e-6)) as i32..=law.draw(moved(1e-6)) as i32;
            assert!(range.contains(&token), "V = {vocab}: {token} is not in {range:?}");
        }
    }
}
