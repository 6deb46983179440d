//! The fastest f32 softmax that we know how to write: maximum; exponentials, stored and added up in 32 lanes; scaling.
//! Compiled for AVX2 with fused multiply–add where the processor has them, as the selectors are.

#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn exp2<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -126.0 { x } else { -126.0 };
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    let mut y = 1.333_355_8e-3;
    for c in [9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0] {
        y = mul_add::<FMA>(y, f, c);
    }
    f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[inline(always)]
fn body<const FMA: bool>(row: &[f32], out: &mut [f32]) {
    const LANES: usize = 32;
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let max = rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let shift = -max * std::f32::consts::LOG2_E;
    let mut sums = [0f32; LANES];
    let (out_blocks, out_rest) = out.as_chunks_mut::<LANES>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        for j in 0..LANES {
            out[j] = exp2::<FMA>(mul_add::<FMA>(block[j], std::f32::consts::LOG2_E, shift));
            sums[j] += out[j];
        }
    }
    for (x, out) in rest.iter().zip(out_rest) {
        *out = exp2::<FMA>(mul_add::<FMA>(*x, std::f32::consts::LOG2_E, shift));
        sums[0] += *out;
    }
    let scale = 1.0 / sums.iter().sum::<f32>();
    for p in out {
        *p *= scale;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(row: &[f32], out: &mut [f32]) {
    body::<true>(row, out);
}

#[allow(unsafe_code)]
pub fn softmax(row: &[f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the features that `avx2` is compiled for were just detected.
        return unsafe { avx2(row, out) };
    }
    if cfg!(target_arch = "aarch64") { body::<true>(row, out) } else { body::<false>(row, out) }
}
