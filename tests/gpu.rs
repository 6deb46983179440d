//! The kernels: compiled without a device, run where there is one.
//!
//! A test that needs a device says why it did nothing where there is none.

#[path = "gpu/cases.rs"]
mod cases;
#[path = "gpu/device.rs"]
mod device;
#[path = "gpu/judge.rs"]
mod judge;

use cases::{Case, cases, rounded};
use device::{Uploaded, device, largest_vocab};
use draftpick::gpu::{
    CoinSource, Device, Format, GpuError, Pairs, Score, Selections, Shaping, TokenRule, TokenSelector, View,
    compile_kernels,
};
use draftpick::path::{Coins, Purpose, RoundCoins};
use draftpick::{Pmf, Sampling};
use half::{bf16, f16};
use judge::{Chosen, Tally};

/// With `DRAFTPICK_NVRTC=required`, as `make cuda` sets it, a missing compiler is a failure.
#[test]
fn every_kernel_compiles_without_a_warning() {
    for capability in [(9, 0)] {
        match compile_kernels(capability) {
            Ok(files) => println!("{files} compilations for {capability:?}"),
            Err(GpuError::NoCompiler) if std::env::var_os("DRAFTPICK_NVRTC").is_none() => {
                println!("skipped: {}", GpuError::NoCompiler);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_machine_without_a_device_says_so() {
    let error = Device::new(usize::MAX).expect_err("no machine has that many");
    assert!(matches!(error, GpuError::NoDriver | GpuError::NoDevice { ordinal: usize::MAX, .. }), "{error}");
}

#[test]
fn the_device_agrees_on_sizes_and_coins() {
    if let Some(device) = device("check") {
        device.check().unwrap_or_else(|error| panic!("{error}"));
    }
}

const RULES: [TokenRule; 3] = [TokenRule::Maximal, TokenRule::KSeq, TokenRule::OptimalLinear];
const VOCABS: [usize; 7] = [1, 31, 33, 4_096, 50_257, 128_256, 151_936];

/// Selects for all cases in one call; what came out of each, with its flags and what they are about.
fn select(device: &Device, rule: TokenRule, format: Format, cases: &[Case], stride: usize) -> Vec<(Chosen, i32, i32)> {
    let vocab = cases[0].draft.len();
    let k = cases.iter().map(|case| case.drafts.len()).max().unwrap_or(0);
    let draft = Uploaded::new(device, format, stride, cases.iter().map(|case| &case.draft[..]));
    let target = Uploaded::new(device, format, stride, cases.iter().map(|case| &case.target[..]));
    let (mut tokens, mut counts, mut coins) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        let rest = k - case.drafts.len();
        tokens.extend(case.drafts.iter().map(|token| *token as i32).chain((0..rest).map(|_| -1)));
        counts.push(case.drafts.len() as i32);
        coins.extend(case.coins.iter().map(|coin| coin.get()).chain((0..rest).map(|_| f64::NAN)));
    }
    let tokens = device.upload(&tokens).expect("memory");
    let counts = device.upload(&counts).expect("memory");
    let coins = device.upload(&coins).expect("memory");
    let selector = TokenSelector::new(device, rule, format, vocab).unwrap_or_else(|error| panic!("{error}"));
    let stream = device.stream().expect("a stream");
    let mut into = Selections::new(device, rule, cases.len()).expect("memory");
    let pairs = Pairs {
        draft: draft.rows(),
        target: target.rows(),
        vocab,
        pairs: cases.len(),
        k,
        draft_rows: None,
        target_rows: None,
        tokens: View::from(&tokens),
        counts: Some(View::from(&counts)),
        shaping: Shaping::default(),
        coins: CoinSource::Given(View::from(&coins)),
    };
    selector.select(&stream, &pairs, &mut into).unwrap_or_else(|error| panic!("{error}"));
    stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
    let stats = into.stats.read().expect("read");
    let (selected, output) = (into.selected.read().expect("read"), into.output.read().expect("read"));
    let chosen = selected.iter().zip(&output).map(|(&selected, &output)| Chosen { selected, output });
    chosen.zip(&stats).map(|(chosen, stats)| (chosen, stats.flags, stats.token)).collect()
}

/// Every rule, format and vocabulary on the ordinary and the worst rows: the token is the CPU's, or a coin lies within
/// the stated rounding of the edge that it decides at. None may be unexplained, and few explained.
#[test]
fn tokens_are_those_of_the_cpu() {
    let Some(device) = device("tokens") else { return };
    let mut tally = Tally::default();
    for rule in RULES {
        for format in [Format::F32, Format::F16, Format::Bf16] {
            for vocab in VOCABS.into_iter().filter(|vocab| *vocab <= largest_vocab()) {
                for k in [1, 2, 8] {
                    let cases = cases(format, vocab, k, 17 * vocab as u64 + k as u64);
                    let cases: Vec<Case> = match rule {
                        TokenRule::Maximal if k > 1 => continue,
                        _ => cases,
                    };
                    // Rows at multiples of 16 bytes, and rows that are not.
                    let stride = if k == 2 { vocab } else { vocab.next_multiple_of(8) + 8 };
                    let chosen = select(&device, rule, format, &cases, stride);
                    for (case, (chosen, flags, token)) in cases.iter().zip(chosen) {
                        assert_eq!(flags, 0, "{rule:?} {format:?} V={vocab} k={k} {}: about {token}", case.name);
                        let place = format!("{rule:?} {format:?} V={vocab} k={k} {}", case.name);
                        let again = |cases: &[Case]| {
                            select(&device, rule, format, cases, stride)
                                .into_iter()
                                .map(|(chosen, ..)| chosen)
                                .collect()
                        };
                        tally.add(&place, judge::judge_both(rule, case, chosen, again));
                    }
                }
            }
        }
    }
    tally.report();
}

/// Drafts of which the target allows none, of a law so near to its own that rounding leaves no residual: the token is the target's.
#[test]
fn drafts_that_the_target_forbids_end_in_its_law() {
    let Some(device) = device("forbidden drafts") else { return };
    for rule in RULES {
        let k = if rule == TokenRule::Maximal { 1 } else { 3 };
        for vocab in [2, 5_000] {
            let row = |last: f32| [vec![0.0; vocab - 1], vec![last]].concat();
            let coins = |coin: f64| vec![draftpick::Coin::new(coin).expect("in [0, 1)"); k + 2];
            let case = |coin: f64| Case {
                name: "forbidden",
                draft: row((vocab as f32 * 1e-6).ln()),
                target: row(f32::NEG_INFINITY),
                drafts: vec![vocab as u32 - 1; k],
                coins: coins(coin),
            };
            let cases = [0.0, 0.25, 0.75].map(case);
            for (coin, (chosen, flags, _)) in
                [0.0, 0.25, 0.75].into_iter().zip(select(&device, rule, Format::F32, &cases, vocab))
            {
                let place = format!("{rule:?} V={vocab} coin {coin}");
                assert_eq!((flags, chosen.selected), (0, -1), "{place}");
                let expected = (coin * (vocab - 1) as f64) as i32;
                assert!((chosen.output - expected).abs() <= 1, "{place}: {} in place of {expected}", chosen.output);
            }
        }
    }
}

/// A bad row is named; its neighbours are not touched.
#[test]
fn bad_pairs_are_flagged_and_named() {
    let Some(device) = device("flags") else { return };
    const NAN_DRAFT: i32 = 1;
    const NAN_TARGET: i32 = 2;
    const MASKED_DRAFT: i32 = 4;
    const MASKED_TARGET: i32 = 8;
    const NOT_DRAWN: i32 = 16;
    const NO_TOKEN: i32 = 32;
    for rule in RULES {
        for vocab in [33, 50_257] {
            let k = if rule == TokenRule::Maximal { 1 } else { 3 };
            let fresh = || cases(Format::F32, vocab, k, 5).remove(1);
            let mut all: Vec<(Case, i32, i32)> = Vec::new();
            for at in [0, 31, vocab - 1] {
                for (value, row, flag) in [
                    (f32::NAN, 0, NAN_DRAFT),
                    (f32::INFINITY, 0, NAN_DRAFT),
                    (f32::NAN, 1, NAN_TARGET),
                    (f32::INFINITY, 1, NAN_TARGET),
                ] {
                    let mut case = fresh();
                    if row == 0 {
                        case.draft[at] = value
                    } else {
                        case.target[at] = value
                    }
                    all.push((case, flag, at as i32));
                    all.push((fresh(), 0, -1));
                }
            }
            for (row, flag) in [(0, MASKED_DRAFT), (1, MASKED_TARGET)] {
                let mut case = fresh();
                if row == 0 { &mut case.draft } else { &mut case.target }.fill(f32::NEG_INFINITY);
                all.push((case, flag, -1));
            }
            let mut case = fresh();
            case.draft[case.drafts[k - 1] as usize] = f32::NEG_INFINITY;
            let first = case.drafts.iter().position(|token| *token == case.drafts[k - 1]).unwrap() as i32;
            all.push((case, NOT_DRAWN, first));
            let mut case = fresh();
            case.drafts[k - 1] = vocab as u32;
            all.push((case, NO_TOKEN, k as i32 - 1));
            let (cases, expected): (Vec<Case>, Vec<(i32, i32)>) =
                all.into_iter().map(|(case, flags, token)| (case, (flags, token))).unzip();
            let chosen = select(&device, rule, Format::F32, &cases, vocab);
            for ((chosen, flags, token), expected) in chosen.into_iter().zip(expected) {
                assert_eq!((flags, token), expected, "{rule:?} V={vocab}");
                assert_eq!(chosen.output < 0, flags != 0, "{rule:?} V={vocab}");
            }
        }
    }
}

/// Coins made on the device, rows by number, temperatures, thresholds and pairs without drafts: the tokens are those of
/// plain calls on rows and coins that were prepared on the CPU. Nothing is near an edge here: both are the same kernels.
#[test]
fn options_mean_what_they_say() {
    let Some(device) = device("options") else { return };
    for rule in RULES {
        for vocab in [33, 4_096] {
            let k = if rule == TokenRule::Maximal { 1 } else { 3 };
            let mut cases: Vec<Case> =
                cases(Format::F32, vocab, k, 11).into_iter().filter(|case| case.name == "near").collect();
            let count = cases.len();
            let draft = Uploaded::new(&device, Format::F32, vocab, cases.iter().map(|case| &case.draft[..]));
            let target = Uploaded::new(&device, Format::F32, vocab, cases.iter().map(|case| &case.target[..]));
            // In the reverse order, warmer, with the least likely masked, and at the end a pair without drafts.
            let (scales, least) = ([0.5f32, 0.75], [1.0f32, 0.5]);
            let shaped = |row: &[f32], i: usize| -> Vec<f32> {
                row.iter().map(|x| x * scales[i]).map(|x| if x < least[i] { f32::NEG_INFINITY } else { x }).collect()
            };
            cases.reverse();
            for (i, case) in cases.iter_mut().enumerate() {
                (case.draft, case.target) = (shaped(&case.draft, 0), shaped(&case.target, 1));
                let allowed = case.draft.iter().position(|x| x.is_finite()).expect("not all are masked") as u32;
                case.drafts.iter_mut().for_each(|token| {
                    if case.draft[*token as usize] == f32::NEG_INFINITY {
                        *token = allowed;
                    }
                });
                let round = RoundCoins { seed: 7 + i as u64, start: 1 << 40 };
                let coin = |place: usize| match place {
                    _ if place < k => round.coin(Purpose::Label, 2, place),
                    _ if place == k => round.coin(Purpose::Accept, 2, 0),
                    _ => round.coin(Purpose::Residual, 2, 0),
                };
                case.coins = (0..k + 2).map(coin).collect();
            }
            let plain = select(&device, rule, Format::F32, &cases, vocab);
            let pairs = count + 1;
            let rows: Vec<i32> = (0..count as i32).rev().chain([0]).collect();
            let drafts: Vec<i32> = rows[..count].iter().copied().chain([-1]).collect();
            let tokens = cases.iter().flat_map(|case| case.drafts.iter().map(|token| *token as i32)).chain(vec![-1; k]);
            let upload = |values: Vec<i32>| device.upload(&values).expect("memory");
            let (rows, drafts, tokens) = (upload(rows), upload(drafts), upload(tokens.collect()));
            let counts = upload(vec![k as i32; count].into_iter().chain([0]).collect());
            let depths = upload(vec![2; pairs]);
            let seeds = device.upload(&(0..pairs as u64).map(|i| 7 + i).collect::<Vec<_>>()).expect("memory");
            let starts = device.upload(&vec![1u64 << 40; pairs]).expect("memory");
            let floats = |x: f32| device.upload(&vec![x; pairs]).expect("memory");
            let shaping = [floats(scales[0]), floats(scales[1]), floats(least[0]), floats(least[1])];
            let call = Pairs {
                draft: draft.rows(),
                target: target.rows(),
                vocab,
                pairs,
                k,
                draft_rows: Some(View::from(&drafts)),
                target_rows: Some(View::from(&rows)),
                tokens: View::from(&tokens),
                counts: Some(View::from(&counts)),
                shaping: Shaping {
                    draft_scale: Some(View::from(&shaping[0])),
                    target_scale: Some(View::from(&shaping[1])),
                    draft_least: Some(View::from(&shaping[2])),
                    target_least: Some(View::from(&shaping[3])),
                    ..Shaping::default()
                },
                coins: CoinSource::Philox {
                    seeds: View::from(&seeds),
                    starts: View::from(&starts),
                    depths: Some(View::from(&depths)),
                },
            };
            let selector = TokenSelector::new(&device, rule, Format::F32, vocab).expect("compiles");
            let stream = device.stream().expect("a stream");
            let mut into = Selections::new(&device, rule, pairs).expect("memory");
            selector.select(&stream, &call, &mut into).unwrap_or_else(|error| panic!("{error}"));
            stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
            let (selected, output) = (into.selected.read().expect("read"), into.output.read().expect("read"));
            for (i, (chosen, flags, _)) in plain.iter().enumerate() {
                assert_eq!(*flags, 0, "{rule:?} V={vocab} pair {i}");
                assert_eq!((selected[i], output[i]), (chosen.selected, chosen.output), "{rule:?} V={vocab} pair {i}");
            }
            // Without drafts: a token of the target, row 0's by its own coin, within the rounding of the sums.
            let (target, coin) = (&cases[count - 1].target, RoundCoins { seed: 7 + count as u64, start: 1 << 40 });
            let law = Pmf::from_logits(target, &Sampling::default()).expect("finite rows");
            let (at, token) = (coin.coin(Purpose::Residual, 2, 0).get(), output[count]);
            let below: f64 = law.as_slice()[..token.max(0) as usize].iter().sum();
            let above = below + law.as_slice()[token.max(0) as usize];
            assert!(below - 1e-6 <= at && at <= above + 1e-6, "{rule:?} V={vocab}: {token} is no token for {at}");
            assert!(selected[count] == -1 && (0..vocab as i32).contains(&output[count]), "{rule:?} V={vocab}");
        }
    }
}

/// Rows that another library lent by DLPack, on the right device and on none of this number.
#[test]
#[allow(unsafe_code)]
fn rows_lent_by_dlpack_are_read() {
    use draftpick::gpu::dlpack::{DLDataType, DLDevice, DLManagedTensorVersioned, DLPackVersion, DLTensor, Tensor};
    unsafe extern "C" fn give_back(tensor: *mut DLManagedTensorVersioned) {
        // SAFETY: `lent` is alive, and its context a counter.
        unsafe { *(*tensor).manager_ctx.cast::<i32>() += 1 }
    }
    let Some(device) = device("dlpack") else { return };
    let (vocab, k) = (4_096, 1);
    let cases = cases(Format::F32, vocab, k, 29);
    let expected = select(&device, TokenRule::Maximal, Format::F32, &cases, vocab);
    let upload = |of: fn(&Case) -> &Vec<f32>| {
        let logits: Vec<f32> = cases.iter().flat_map(|case| [&of(case)[..], &[f32::NAN; 8][..]].concat()).collect();
        device.upload(&logits).expect("memory")
    };
    let rows = [upload(|case| &case.draft), upload(|case| &case.target)];
    let mut returned = 0i32;
    let mut shape = [cases.len() as i64, vocab as i64];
    let mut strides = [vocab as i64 + 8, 1];
    let mut lent = |rows: &draftpick::gpu::Buffer<f32>, device_id: i32| DLManagedTensorVersioned {
        version: DLPackVersion { major: 1, minor: 1 },
        manager_ctx: (&raw mut returned).cast(),
        deleter: Some(give_back),
        flags: 0,
        dl_tensor: DLTensor {
            data: rows.address() as *mut _,
            device: DLDevice { device_type: 2, device_id },
            ndim: 2,
            dtype: DLDataType { code: 2, bits: 32, lanes: 1 },
            shape: shape.as_mut_ptr(),
            strides: strides.as_mut_ptr(),
            byte_offset: 0,
        },
    };
    let ordinal = i32::try_from(device.ordinal()).expect("few devices");
    let mut elsewhere = lent(&rows[0], ordinal + 1);
    let mut both = [lent(&rows[0], ordinal), lent(&rows[1], ordinal)];
    // SAFETY: valid, lent for as long as this test; the buffers live to its end.
    let refused = unsafe { Tensor::from_versioned((&mut elsewhere).into(), &device) };
    assert!(matches!(refused, Err(GpuError::Dlpack(_))), "{refused:?}");
    let [draft, target] = &mut both;
    // SAFETY: as above.
    let [draft, target] =
        [draft, target].map(|lent| unsafe { Tensor::from_versioned(lent.into(), &device) }.expect("rows"));
    let tokens: Vec<i32> = cases.iter().flat_map(|case| &case.drafts).map(|token| *token as i32).collect();
    let coins: Vec<f64> = cases.iter().flat_map(|case| &case.coins).map(|coin| coin.get()).collect();
    let (tokens, coins) = (device.upload(&tokens).expect("memory"), device.upload(&coins).expect("memory"));
    let selector = TokenSelector::new(&device, TokenRule::Maximal, Format::F32, vocab).expect("compiles");
    let mut into = Selections::new(&device, TokenRule::Maximal, cases.len()).expect("memory");
    let pairs = Pairs {
        draft: draft.rows(),
        target: target.rows(),
        vocab,
        pairs: draft.len(),
        k,
        draft_rows: None,
        target_rows: None,
        tokens: View::from(&tokens),
        counts: None,
        shaping: Shaping::default(),
        coins: CoinSource::Given(View::from(&coins)),
    };
    let stream = device.stream().expect("a stream");
    selector.select(&stream, &pairs, &mut into).unwrap_or_else(|error| panic!("{error}"));
    stream.synchronize().unwrap_or_else(|error| panic!("{error}"));
    let output = into.output.read().expect("read");
    assert_eq!(output, expected.iter().map(|(chosen, ..)| chosen.output).collect::<Vec<_>>());
    drop((draft, target));
    assert_eq!(returned, 3, "each tensor is given back once, the refused one too");
}

/// `Score` is implemented for what logits come in.
#[test]
fn formats_have_their_sizes() {
    assert_eq!((f32::FORMAT.size(), f16::FORMAT.size(), bf16::FORMAT.size()), (4, 2, 2));
    assert_eq!(rounded(Format::Bf16, 1.0 + 1.0 / 512.0), 1.0);
}
