//! Filters on the device against the CPU's: the same tokens are left, row by row.
//!
//! Where there is no device, each test says so and does nothing.

#[path = "gpu/cases.rs"]
#[expect(dead_code, reason = "shared with the tests of the rules")]
mod cases;
#[path = "gpu/device.rs"]
mod device;
#[path = "gpu/filters.rs"]
mod filters;

use cases::rounded;
use device::{Uploaded, device, largest_vocab};
use draftpick::Sampling;
use draftpick::gpu::{Device, Each, Filter, Filtered, Filters, Format, GpuError, View};
use filters::{Asked, KINDS, Verdict, judge, row};
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
