//! The trace reader: what it accepts, and that it refuses everything else by name.

#![cfg(feature = "trace")]

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use draftpick::pmf::MAX_VOCAB;
use draftpick::trace::{MAX_FILE_BYTES, PathTrace, Place, Precision, Tensor, Trace, TraceError, Values};
use draftpick::{Pmf, Sampling};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

type Part<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

fn file(parts: &[Part], values: Option<&str>) -> Vec<u8> {
    let views =
        parts.iter().map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, values.map(|v| HashMap::from([("values".into(), v.into())]))).unwrap()
}

/// Numbers as the bytes of a type.
fn bytes(dtype: Dtype, numbers: &[f64]) -> Vec<u8> {
    let number = |&x: &f64| match dtype {
        Dtype::F64 => x.to_le_bytes().to_vec(),
        Dtype::F32 => (x as f32).to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f64(x).to_le_bytes().to_vec(),
        Dtype::I8 => (x as i8).to_le_bytes().to_vec(),
        Dtype::U8 => (x as u8).to_le_bytes().to_vec(),
        Dtype::I16 => (x as i16).to_le_bytes().to_vec(),
        Dtype::U16 => (x as u16).to_le_bytes().to_vec(),
        Dtype::I32 => (x as i32).to_le_bytes().to_vec(),
        Dtype::U32 => (x as u32).to_le_bytes().to_vec(),
        Dtype::I64 => (x as i64).to_le_bytes().to_vec(),
        Dtype::U64 => (x as u64).to_le_bytes().to_vec(),
        _ => unreachable!(),
    };
    numbers.iter().flat_map(number).collect()
}

const FLOATS: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16];
const DRAFT: [f64; 6] = [0.0, 1.0, -2.0, 0.5, 0.5, f64::NEG_INFINITY];
const TARGET: [f64; 6] = [1.0, 0.0, -1.0, 0.25, -3.0, 2.0];

/// A trace of two rows and three columns.
fn trace(dtype: Dtype, draft: &[f64], target: &[f64], values: Option<&str>) -> Vec<u8> {
    let part = |name, numbers| (name, dtype, vec![2, 3], bytes(dtype, numbers));
    file(&[part("draft", draft), part("target", target)], values)
}

/// The error, which must name each of `words`.
#[track_caller]
fn refused(bytes: Vec<u8>, words: &[&str]) -> TraceError {
    let error = Trace::from_bytes(bytes).expect_err("a wrong trace was accepted");
    says(&error, words);
    error
}

#[track_caller]
fn says(error: &TraceError, words: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text:?}");
    words.iter().for_each(|word| assert!(text.contains(word), "{text:?} does not name {word:?}"));
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[track_caller]
fn close(a: &[f64], b: &[f64], epsilon: f64) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(a, b)| approx::assert_abs_diff_eq!(a, b, epsilon = epsilon));
}

#[test]
fn logits_of_any_precision_are_normalised_in_f64() {
    for dtype in FLOATS {
        let trace = Trace::from_bytes(trace(dtype, &DRAFT, &TARGET, None)).unwrap();
        assert_eq!((trace.rows(), trace.vocab(), trace.values()), (2, 3, Values::Logits));
        // All of these numbers are exact in every type.
        let weights: Vec<f64> = TARGET[3..].iter().map(|x| x.exp()).collect();
        let law: Vec<f64> = weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect();
        close(trace.target(1).unwrap().as_slice(), &law, 1e-15);
        close(trace.draft(1).unwrap().as_slice(), &[0.5, 0.5, 0.0], 1e-15);
        let problem = trace.problem(1, 4).unwrap();
        assert_eq!((problem.k(), problem.target()), (4, &trace.target(1).unwrap()));
    }
}

#[test]
fn what_is_no_whole_safetensors_file_is_refused() {
    let whole = trace(Dtype::F32, &DRAFT, &TARGET, None);
    for len in [0, 7, 20, whole.len() - 1] {
        let error = refused(whole[..len].to_vec(), &["cut off", &len.to_string()]);
        assert!(matches!(error, TraceError::Truncated { bytes } if bytes == len));
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(refused(longer, &["damaged"]), TraceError::Truncated { .. }));
    let text = b"draft,target\n0.5,0.5\n0.25,0.75\n".to_vec();
    assert!(matches!(refused(text, &["not a safetensors file"]), TraceError::Format(_)));
    let mut garbled = whole.clone();
    garbled[9] = b'!';
    assert!(matches!(refused(garbled, &["not a safetensors file"]), TraceError::Format(_)));
}

#[test]
fn tensors_are_there_with_the_right_type_and_shape() {
    let part =
        |name, dtype, shape: &[usize]| (name, dtype, shape.to_vec(), bytes(dtype, &vec![0.0; shape.iter().product()]));
    let (f32, pair) = (Dtype::F32, [2, 3]);
    let good = || part("target", f32, &pair);
    refused(file(&[], None), &["'draft'", "no tensors"]);
    refused(file(&[good(), part("p", f32, &pair)], None), &["no tensor is called 'draft'", "'p', 'target'"]);
    refused(file(&[part("draft", f32, &pair)], None), &["'target'"]);
    refused(file(&[part("draft", Dtype::I32, &pair), good()], None), &["'draft'", "I32", "F16"]);
    refused(file(&[part("draft", f32, &[6]), good()], None), &["'draft'", "[6]", "[N, V]"]);
    refused(file(&[part("draft", f32, &[1, 2, 3]), good()], None), &["'draft'", "[1, 2, 3]", "[N, V]"]);
    refused(file(&[part("draft", f32, &[3, 2]), good()], None), &["'draft'", "[3, 2]", "'target'", "[2, 3]"]);
    refused(file(&[part("draft", f32, &[2, 4]), good()], None), &["[2, 4]", "[2, 3]"]);
    for shape in [[0, 3], [2, 0]] {
        let empty = file(&[part("draft", f32, &shape), part("target", f32, &shape)], None);
        assert!(matches!(refused(empty, &["'draft'", &format!("{shape:?}")]), TraceError::Empty { .. }));
    }
    let wide = [1, MAX_VOCAB + 1];
    let wide = file(&[part("draft", Dtype::F16, &wide), part("target", Dtype::F16, &wide)], None);
    refused(wide, &["'draft'", "1048577 columns", "1048576"]);
    refused(trace(f32, &DRAFT, &TARGET, Some("scores")), &["'values'", "'scores'", "'logits'"]);
}

#[test]
fn logits_are_numbers_and_leave_a_token() {
    for dtype in FLOATS {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut target = TARGET;
            target[5] = bad;
            let error = refused(trace(dtype, &DRAFT, &target, None), &["'target'", "row 1", "column 2"]);
            assert!(matches!(error, TraceError::Logit { column: 2, value, .. } if value.to_bits() == bad.to_bits()));
        }
        let mut draft = DRAFT;
        draft[..3].fill(f64::NEG_INFINITY);
        let error = refused(trace(dtype, &draft, &TARGET, None), &["'draft'", "row 0", "all 3"]);
        assert!(matches!(error, TraceError::AllMasked { vocab: 3, .. }));
    }
}

#[test]
fn probabilities_are_checked_and_normalised() {
    let uneven = [0.5, 0.25, 0.25, 0.0, 0.5, 0.5];
    for dtype in FLOATS {
        let read = |target: &[f64]| trace(dtype, &uneven, target, Some("probabilities"));
        let tidy = Trace::from_bytes(read(&uneven)).unwrap();
        assert_eq!(tidy.values(), Values::Probabilities);
        assert_eq!(tidy.draft(1).unwrap().as_slice(), [0.0, 0.5, 0.5]);
        for bad in [-0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut target = uneven;
            target[4] = bad;
            refused(read(&target), &["'target'", "row 1", "column 1", "probability"]);
        }
        let tolerance = tidy.precisions().1.sum_tolerance();
        for sign in [-1.0, 1.0] {
            // Half and twice the tolerance stay on their sides of it when they are rounded to the type.
            let (mut near, mut far) = (uneven, uneven);
            near[5] += sign * tolerance / 2.0;
            far[5] += sign * tolerance * 2.0;
            let law = Trace::from_bytes(read(&near)).unwrap().target(1).unwrap();
            approx::assert_abs_diff_eq!(law.as_slice().iter().sum::<f64>(), 1.0, epsilon = 1e-15);
            let error = refused(read(&far), &["'target'", "row 1", "add up to", &tolerance.to_string()]);
            assert!(matches!(error, TraceError::Sum { .. }));
        }
    }
    // Logits labelled as probabilities do not get through.
    refused(trace(Dtype::F32, &TARGET, &TARGET, Some("probabilities")), &["'draft'", "row 0", "column 2"]);
}

#[test]
fn sampling_applies_to_probabilities_as_to_logits() {
    let law = [0.5, 0.25, 0.25, 0.0, 0.875, 0.125];
    let trace = Trace::from_bytes(trace(Dtype::F64, &law, &law, Some("probabilities"))).unwrap();
    let half = Sampling { temperature: 0.5, ..Sampling::default() };
    close(trace.draft_with(0, &half).unwrap().as_slice(), &[4.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0], 1e-15);
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    assert_eq!(trace.target_with(1, &greedy).unwrap(), Pmf::point(3, 1).unwrap());
    let bad = Sampling { top_p: Some(2.0), ..Sampling::default() };
    says(&trace.target_with(1, &bad).unwrap_err(), &["'target'", "row 1", "top_p is 2"]);
}

#[test]
fn rows_and_drafts_out_of_range_are_errors() {
    let trace = Trace::from_bytes(trace(Dtype::F16, &DRAFT, &TARGET, None)).unwrap();
    says(&trace.target(2).unwrap_err(), &["'target'", "row 2"]);
    assert!(matches!(trace.problem(2, 1), Err(TraceError::OutOfRange { place: Place { row: 2, .. } })));
    assert!(matches!(trace.problem(0, 0), Err(TraceError::Problem(_))));
    assert!(matches!(trace.problem(0, 65), Err(TraceError::Problem(_))));
}

#[test]
fn what_is_written_is_read_back() {
    let (draft, target) = (DRAFT.chunks(3), TARGET.chunks(3));
    let (draft, target): (Vec<_>, Vec<_>) =
        (draft.map(<[f64]>::to_vec).collect(), target.map(<[f64]>::to_vec).collect());
    for (i, precision) in [Precision::F64, Precision::F32, Precision::F16, Precision::Bf16].into_iter().enumerate() {
        let trace = Trace::new(Values::Logits, precision, &draft, &target).unwrap();
        assert_eq!(trace.precisions(), (precision, precision));
        let path = temporary(&format!("round-trip-{i}.safetensors"));
        trace.write(&path).unwrap();
        let back = Trace::open(&path).unwrap();
        assert_eq!(back.as_bytes(), trace.as_bytes());
        for row in 0..2 {
            assert_eq!(back.draft(row).unwrap(), Pmf::from_logits(&draft[row], &Sampling::default()).unwrap());
            assert_eq!(back.target(row).unwrap(), Pmf::from_logits(&target[row], &Sampling::default()).unwrap());
        }
    }
    let probabilities = [vec![0.25, 0.75]];
    let trace = Trace::new(Values::Probabilities, Precision::F32, &probabilities, &probabilities).unwrap();
    assert_eq!(trace.values(), Values::Probabilities);
    assert_eq!(trace.draft(0).unwrap().as_slice(), [0.25, 0.75]);
}

#[test]
fn rows_that_make_no_trace_are_refused() {
    let new = |precision, draft: &[Vec<f64>], target: &[Vec<f64>]| {
        Trace::new(Values::Logits, precision, draft, target).unwrap_err()
    };
    let (row, short) = (vec![0.0, 1.0], vec![0.0]);
    let one = std::slice::from_ref(&row);
    says(&new(Precision::F32, &[row.clone(), short.clone()], &[]), &["'draft'", "row 1", "1 columns"]);
    says(&new(Precision::F32, one, &[row.clone(), row.clone()]), &["[1, 2]", "[2, 2]"]);
    says(&new(Precision::F32, &[], &[]), &["'draft'", "[0, 0]"]);
    for big in [1e6, -1e6] {
        let big = [vec![0.0, big]];
        says(&new(Precision::F16, one, &big), &["'target'", "row 0", "column 1", "f16"]);
        assert!(Trace::new(Values::Logits, Precision::Bf16, &big, &big).is_ok());
    }
    says(&new(Precision::F64, &[vec![0.0, f64::NAN]], one), &["'draft'", "row 0", "column 1", "NaN"]);
}

#[test]
fn files_that_cannot_be_read_or_written_are_named() {
    let missing = temporary("no-such-directory").join("trace.safetensors");
    says(&Trace::open(&missing).unwrap_err(), &["cannot read", "no-such-directory"]);
    says(&PathTrace::open(&missing).unwrap_err(), &["cannot read", "no-such-directory"]);
    let trace = Trace::from_bytes(trace(Dtype::F16, &DRAFT, &TARGET, None)).unwrap();
    says(&trace.write(&missing).unwrap_err(), &["cannot write", "no-such-directory"]);
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    says(&Trace::open(&directory).unwrap_err(), &["cannot read"]);
}

#[test]
fn an_oversized_file_is_not_read() {
    let path = temporary("oversized.safetensors");
    // Takes no room: the file is a hole.
    File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = Trace::open(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    says(&error, &["4294967297", "4294967296"]);
    assert!(matches!(error, TraceError::TooLarge { .. }));
}

#[cfg(feature = "cli")]
#[test]
fn the_embedded_trace_is_whole() {
    let trace = Trace::embedded();
    assert_eq!((trace.rows(), trace.vocab(), trace.values()), (84, 4096, Values::Logits));
    assert_eq!(trace.precisions(), (Precision::F16, Precision::F16));
    assert_ne!(trace.draft(83).unwrap(), trace.target(83).unwrap());
}

/// A path trace of 2 rows, 2 paths of 2 tokens, 3 tokens in the vocabulary.
struct Paths {
    token_type: Dtype,
    tokens: Vec<f64>,
    draft: Vec<f64>,
    target: Vec<f64>,
}

impl Paths {
    fn new() -> Self {
        // Every law is a function of the prefix: the root and each first token have their own.
        let law = |prefix: &[f64]| match prefix {
            [] => [0.0, 0.5, 1.0],
            [first] => [*first, 0.0, -1.0],
            [first, second, ..] => [*first, *second, 0.0],
        };
        let tokens = [0.0, 1.0, 0.0, 2.0, 1.0, 1.0, 2.0, 0.0];
        let (mut draft, mut target) = (Vec::new(), Vec::new());
        for path in tokens.chunks(2) {
            (0..2).for_each(|position| draft.extend(law(&path[..position])));
            (0..3).for_each(|position| target.extend(law(&path[..position]).map(|x| -x)));
        }
        Paths { token_type: Dtype::I32, tokens: tokens.to_vec(), draft, target }
    }

    fn parts(&self) -> [Part<'static>; 3] {
        [
            ("tokens", self.token_type, vec![2, 2, 2], bytes(self.token_type, &self.tokens)),
            ("draft", Dtype::F32, vec![2, 2, 2, 3], bytes(Dtype::F32, &self.draft)),
            ("target", Dtype::F32, vec![2, 2, 3, 3], bytes(Dtype::F32, &self.target)),
        ]
    }

    fn read(&self) -> Result<PathTrace, TraceError> {
        PathTrace::from_bytes(file(&self.parts(), None))
    }
}

#[track_caller]
fn paths_refused(change: impl Fn(&mut Paths), words: &[&str]) {
    let mut paths = Paths::new();
    change(&mut paths);
    says(&paths.read().expect_err("a wrong path trace was accepted"), words);
}

#[test]
fn paths_are_read_with_any_integers() {
    for token_type in [Dtype::U8, Dtype::I8, Dtype::U16, Dtype::I16, Dtype::U32, Dtype::I32, Dtype::U64, Dtype::I64] {
        let trace = Paths { token_type, ..Paths::new() }.read().unwrap();
        assert_eq!((trace.rows(), trace.paths(), trace.length(), trace.vocab()), (2, 2, 2, 3));
        assert_eq!(trace.tokens(0, 1).unwrap(), [0, 2]);
        assert_eq!(trace.tokens(1, 0).unwrap(), [1, 1]);
        let law = |logits: [f64; 3]| Pmf::from_logits(&logits, &Sampling::default()).unwrap();
        assert_eq!(trace.draft(1, 1, 1).unwrap(), law([2.0, 0.0, -1.0]));
        assert_eq!(trace.target(0, 1, 2).unwrap(), law([0.0, -2.0, 0.0]));
    }
    let trace = Paths::new().read().unwrap();
    for [row, path, position] in [[2, 0, 0], [0, 2, 0], [0, 0, 2]] {
        says(&trace.draft(row, path, position).unwrap_err(), &["'draft'", &format!("path {path}")]);
    }
    assert!(trace.target(0, 0, 2).is_ok() && trace.target(0, 0, 3).is_err());
    assert!(trace.tokens(2, 0).is_err() && trace.tokens(0, 2).is_err());
}

#[test]
fn paths_that_are_wrong_are_refused_by_place() {
    let nan = f64::NAN;
    // Row 1, path 0, position 1 is the sixth of the drafts' rows; position 2 the ninth of the targets'.
    paths_refused(|p| p.draft[5 * 3 + 2] = nan, &["'draft'", "row 1, path 0, position 1", "column 2", "NaN"]);
    paths_refused(|p| p.target[8 * 3 + 1] = nan, &["'target'", "row 1, path 0, position 2", "column 1", "NaN"]);
    paths_refused(|p| p.tokens[3] = 3.0, &["'tokens'", "row 0, path 1, position 1", "token is 3", "vocabulary of 3"]);
    paths_refused(|p| p.tokens[4] = -1.0, &["'tokens'", "row 1, path 0, position 0", "token is -1"]);
    paths_refused(|p| p.draft[5 * 3 + 1] = f64::NEG_INFINITY, &["'tokens'", "row 1, path 0, position 1", "token 1"]);
    // Both paths of row 0 start with token 0.
    paths_refused(|p| p.draft[3 * 3] = 1.0, &["'draft'", "row 0, path 1, position 1", "path 0", "total variation"]);
    paths_refused(|p| p.target[3 * 3] = 1.0, &["'target'", "row 0, path 1, position 0", "path 0"]);
    // Another prefix may have another law, and rounding is no other law.
    let mut other = Paths::new();
    other.draft[7 * 3] = 1.5;
    other.draft[3 * 3] += 1e-3;
    assert!(other.read().is_ok());
}

#[test]
fn path_tensors_fit_together() {
    let parts = Paths::new().parts();
    let change = |at: usize, part: Part<'static>| {
        let mut parts = parts.clone();
        parts[at] = part;
        PathTrace::from_bytes(file(&parts, None)).expect_err("a wrong path trace was accepted")
    };
    let zeros = |dtype, shape: &[usize]| bytes(dtype, &vec![0.0; shape.iter().product()]);
    let part = |name, dtype, shape: &[usize]| (name, dtype, shape.to_vec(), zeros(dtype, shape));
    let f32 = Dtype::F32;
    says(&change(0, part("tokens", f32, &[2, 2, 2])), &["'tokens'", "F32", "integers"]);
    says(&change(0, part("tokens", Dtype::I64, &[2, 4])), &["'tokens'", "[2, 4]", "[N, K, L]"]);
    says(&change(0, part("tokens", Dtype::I64, &[2, 2, 3])), &["'tokens'", "[2, 2, 3]", "'draft'", "[2, 2, 2, 3]"]);
    says(&change(0, part("other", Dtype::I64, &[2, 2, 2])), &["no tensor is called 'tokens'", "'other'"]);
    says(&change(1, part("draft", f32, &[4, 2, 3])), &["'draft'", "[4, 2, 3]", "[N, K, L, V]"]);
    says(&change(1, part("draft", f32, &[0, 2, 2, 3])), &["'draft'", "[0, 2, 2, 3]"]);
    says(&change(2, part("target", f32, &[2, 2, 2, 3])), &["'target'", "[2, 2, 2, 3]", "L + 1"]);
    says(&change(2, part("target", Dtype::I8, &[2, 2, 3, 3])), &["'target'", "I8"]);
    let many = [
        part("tokens", Dtype::U8, &[1, 65, 1]),
        part("draft", f32, &[1, 65, 1, 2]),
        part("target", f32, &[1, 65, 2, 2]),
    ];
    says(&PathTrace::from_bytes(file(&many, None)).unwrap_err(), &["65 paths", "64"]);
    // A path trace is no trace, and says so by its shape.
    says(&Trace::from_bytes(file(&parts, None)).unwrap_err(), &["'draft'", "[2, 2, 2, 3]", "[N, V]"]);
    assert_eq!(Tensor::Tokens.to_string(), "tokens");
}
