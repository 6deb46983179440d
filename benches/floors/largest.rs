//! The lightest pass over a row there is: its largest number.

#[inline(always)]
fn body(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 64];
    let (blocks, rest) = row.as_chunks::<64>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(row: &[f32]) -> f32 {
    body(row)
}

#[allow(unsafe_code)]
pub fn largest(row: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature that `avx2` is compiled for was just detected.
        return unsafe { avx2(row) };
    }
    body(row)
}
