//! The kernel of `filter.cu` on an emulated machine, built by a C++ compiler: what it leaves is what [`Sampling`] leaves.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Sampling;

#[path = "../../../tests/gpu/filters.rs"]
mod filters;

use filters::{Asked, KINDS, Verdict, judge, row};

/// A number format: its `DTYPE`, and the bits and the value of what it makes of a number.
#[derive(Clone, Copy)]
struct Format {
    number: i32,
    round: fn(f32) -> (u32, f32),
}

const FORMATS: [Format; 3] = [
    Format { number: 0, round: |x| (x.to_bits(), x) },
    Format { number: 1, round: |x| (f16::from_f32(x).to_bits().into(), f16::from_f32(x).to_f32()) },
    Format { number: 2, round: |x| (bf16::from_f32(x).to_bits().into(), bf16::from_f32(x).to_f32()) },
];

/// The program of `tests/gpu/filter.cpp` for a format, running; `None` where there is no C++ compiler.
struct Host(Child);

/// Builds the program; `None` where there is no C++ compiler, which is an error in CI.
fn build(dtype: i32, resident: bool) -> Option<PathBuf> {
    let root = env!("CARGO_MANIFEST_DIR");
    let tests = std::env::current_exe().expect("a test is a program");
    let program = tests.with_file_name(format!("filter-{dtype}-{resident}"));
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut build = Command::new(&compiler);
    build.args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-unknown-pragmas"]);
    build.args([format!("-DDTYPE={dtype}"), format!("-DRESIDENT={}", i32::from(resident))]);
    build.args([format!("-I{root}/src/gpu/kernels"), format!("-I{root}/tests/gpu")]);
    build.arg(format!("{root}/tests/gpu/filter.cpp")).arg("-o").arg(&program);
    match build.status() {
        Ok(status) => assert!(status.success(), "{compiler} does not take the kernel"),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI needs a C++ compiler; {compiler}: {error}");
            eprintln!("skipped: {compiler} cannot be run ({error}); set CXX to a C++ compiler");
            return None;
        }
    }
    Some(program)
}

/// Rows of bf16 are read where they are, as on devices whose shared memory does not hold them.
fn is_resident(format: Format) -> bool {
    format.number != 2
}

impl Host {
    fn start(format: Format) -> Option<Self> {
        static PROGRAMS: LazyLock<Vec<Option<PathBuf>>> =
            LazyLock::new(|| FORMATS.map(|format| build(format.number, is_resident(format))).into());
        let program = PROGRAMS[format.number as usize].as_ref()?;
        let child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Some(Host(child.expect("what was just built can be run")))
    }

    fn ask(&mut self, call: &Call<'_>) -> Vec<Found> {
        let &Call { format, blocks, arrays, stride, rows, filters } = call;
        let vocab = rows[0].len();
        let mut request = vec![blocks as f64, f64::from(u8::from(arrays)), vocab as f64, stride as f64];
        request.extend([filters.len() as f64, rows.len() as f64]);
        for &One { row, scale, top_k, top_p, min_p } in filters {
            request.extend([f64::from(row), f64::from(scale), f64::from(top_k), f64::from(top_p), f64::from(min_p)]);
        }
        for row in rows {
            let bits = row.iter().chain(std::iter::repeat_n(&f32::NAN, stride - vocab));
            request.extend(bits.map(|x| f64::from((format.round)(*x).0)));
        }
        let stdin = self.0.stdin.as_mut().expect("piped");
        stdin.write_all(&(request.len() as f64).to_le_bytes()).expect("the program reads");
        stdin.write_all(&request.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).expect("the program reads");
        stdin.flush().expect("the program reads");
        let stdout = self.0.stdout.as_mut().expect("piped");
        let mut bytes = vec![0; 8 * (1 + 3 * filters.len())];
        stdout.read_exact(&mut bytes).expect("the program answers");
        let values: Vec<f64> =
            bytes.chunks(8).skip(1).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
        let found = |values: &[f64]| Found { least: values[0] as f32, tie: values[1] as i32, flags: values[2] as i32 };
        values.chunks(3).map(found).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy, Debug)]
struct One {
    row: i32,
    scale: f32,
    top_k: i32,
    top_p: f32,
    min_p: f32,
}

struct Call<'a> {
    format: Format,
    blocks: usize,
    arrays: bool,
    stride: usize,
    rows: &'a [Vec<f32>],
    filters: &'a [One],
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    least: f32,
    tie: i32,
    flags: i32,
}

#[test]
fn thresholds_leave_what_sampling_leaves() {
    let (mut same, mut near, mut split) = (0, 0, 0);
    for format in FORMATS {
        let Some(mut host) = Host::start(format) else { return };
        let mut rng = StdRng::seed_from_u64(11 + format.number as u64);
        for vocab in [1, 2, 31, 33, 300, 4096] {
            for round in 0..if vocab > 1000 { 14 } else { 28 } {
                let blocks =
                    if is_resident(format) { [1, 2, 4, 16][if round == 9 { 3 } else { round % 3 }] } else { 1 };
                let rows: Vec<_> = (0..2)
                    .map(|i| row(&mut rng, KINDS[(round + i) % KINDS.len()], vocab, |x| (format.round)(x).1))
                    .collect();
                let arrays = round % 2 == 0;
                let mut filters: Vec<One> = (0..2)
                    .map(|i| One {
                        row: 1 - i,
                        scale: if round % 5 == 0 { 0.7 } else { 1.0 },
                        top_k: if rng.random() { rng.random_range(1..=vocab as i32 + 2) } else { i32::MAX },
                        top_p: [rng.random(), rng.random(), 0.95, 1.0, 0.5, 0.0][rng.random_range(0..6)],
                        min_p: [0.0, 0.0, 0.1 * rng.random::<f32>(), 1.0][rng.random_range(0..4)],
                    })
                    .collect();
                if !arrays {
                    filters[1] = One { row: 0, ..filters[0] };
                }
                let stride = if round % 3 == 0 { vocab + 3 } else { vocab.next_multiple_of(8) };
                let call = Call { format, blocks, arrays, stride, rows: &rows, filters: &filters };
                for (one, found) in filters.iter().zip(host.ask(&call)) {
                    let scaled: Vec<f32> = rows[one.row as usize].iter().map(|x| x * one.scale).collect();
                    let sampling = Sampling {
                        temperature: 1.0,
                        top_k: Some(one.top_k as usize),
                        top_p: Some(one.top_p.into()),
                        min_p: Some(one.min_p.into()),
                    };
                    let left = sampling.apply(&scaled).expect("finite rows");
                    let asked = Asked { top_k: one.top_k as usize, top_p: one.top_p, min_p: one.min_p };
                    let place =
                        format!("DTYPE {}, V = {vocab}, round {round}, {blocks} blocks, {one:?}", format.number);
                    assert_eq!(found.flags, 0, "{place}");
                    split += usize::from(found.tie > 0);
                    match judge(&scaled, &left, asked, found.least, found.tie) {
                        Verdict::Same => same += 1,
                        Verdict::Near(_) => near += 1,
                        Verdict::Wrong(why) => panic!("{place}: {why}"),
                    }
                }
            }
        }
    }
    println!("{same} rows the same, {split} ties split, {near} cuts within the bound");
    assert!(split > 50 && near * 200 <= same);
}

/// A judge that passes anything would pass the kernel.
#[test]
fn thresholds_that_are_wrong_are_found() {
    let row = [1.0f32, 3.0, 2.0, 2.0, 0.0];
    let asked = Asked { top_k: 5, top_p: 0.8, min_p: 0.0 };
    let sampling = Sampling { top_p: Some(f64::from(0.8f32)), ..Sampling::default() };
    let left = sampling.apply(&row).unwrap();
    // 1, e, e², e², e³ of 38.6: 0.2 of it takes the first two, not the next.
    assert_eq!(judge(&row, &left, asked, 2.0, 0), Verdict::Same);
    for (least, tie) in [(2.0, 3), (2.0, 4), (3.0, 0), (1.0, 0), (f32::NEG_INFINITY, 0), (1.5, 0), (f32::NAN, 0)] {
        assert!(matches!(judge(&row, &left, asked, least, tie), Verdict::Wrong(_)), "{least} {tie}");
    }
}

#[test]
fn what_is_no_row_and_no_filter_is_refused() {
    let format = FORMATS[0];
    let Some(mut host) = Host::start(format) else { return };
    let plain = One { row: 0, scale: 1.0, top_k: 5, top_p: 0.9, min_p: 0.1 };
    let mut bad = vec![vec![1.0f32; 40]; 5];
    bad[1][39] = f32::NAN;
    bad[2][0] = f32::INFINITY;
    bad[3][17] = 2e8;
    bad[4].fill(f32::NEG_INFINITY);
    let refused = |flags| Found { least: f32::INFINITY, tie: 0, flags };
    let cases = [
        (One { row: 1, ..plain }, refused(1)),
        (One { row: 2, ..plain }, refused(1)),
        (One { row: 3, ..plain }, refused(1)),
        (One { row: 4, ..plain }, refused(4)),
        (One { row: 5, ..plain }, refused(256)),
        (One { row: -1, ..plain }, Found { least: f32::NEG_INFINITY, tie: 0, flags: 0 }),
        (One { top_k: 0, ..plain }, refused(1024)),
        (One { top_p: 1.1, ..plain }, refused(1024)),
        (One { top_p: f32::NAN, ..plain }, refused(1024)),
        (One { min_p: -0.1, ..plain }, refused(1024)),
        (plain, Found { least: 1.0, tie: 4, flags: 0 }),
    ];
    let filters: Vec<One> = cases.iter().map(|case| case.0).collect();
    let call = Call { format, blocks: 2, arrays: true, stride: 40, rows: &bad, filters: &filters };
    for ((one, expected), found) in cases.iter().zip(host.ask(&call)) {
        assert_eq!(found, *expected, "{one:?}");
    }
}
