//! Vector instructions where the processor has them, and the exponential written so that compilers use them.
//!
//! The library is compiled for the baseline of its target; on x86-64 that is SSE2. A [`Kernel`] is compiled a second
//! time for AVX2 with fused multiply–add and that copy runs where the processor has both. The two may differ in the
//! last bit of a result, because a fused multiply–add rounds once instead of twice.

// The one place of the crate that needs `unsafe`: calling a function that was compiled for more than the baseline.
#![allow(unsafe_code)]

/// A loop worth compiling for the vector instructions at hand.
pub(crate) trait Kernel {
    type Output;

    /// The loop. Implementations are `#[inline(always)]` and call only functions that are: what is not inlined is
    /// compiled for the baseline. `FMA` says whether [`mul_add`] is one instruction.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs a kernel with the best instructions at hand.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: `run_avx2` needs the features `avx2` and `fma`, both of which were just detected.
        return unsafe { run_avx2(kernel) };
    }
    // 64-bit Arm has fused multiply–add in its baseline.
    if cfg!(target_arch = "aarch64") { kernel.run::<true>() } else { kernel.run::<false>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// `a·b + c`, rounded once if `FMA`. Without the instruction `f32::mul_add` would be a slow library call.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
pub(crate) fn mul_add_f64<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 1.5·2²³: added to a number below 2²² in size, it rounds it to an integer and leaves that in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Numbers in f32 that loops with several sums take together: a vector of AVX2. Loops over the lanes are unrolled, and
/// read all that they need before they write: the compiler makes vectors of them then.
pub(crate) const LANES: usize = 8;

/// The sum of all lanes, in f64.
#[inline(always)]
pub(crate) fn sum_of_lanes(lanes: [f32; LANES]) -> f64 {
    let pairs: [f64; LANES / 2] = std::array::from_fn(|j| f64::from(lanes[j]) + f64::from(lanes[j + LANES / 2]));
    (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])
}

/// The larger of two numbers, the second if one is NaN: what the vector instruction does, unlike `f32::max`.
#[inline(always)]
pub(crate) fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `2^x` in f32 with a relative error below 2e-7, for `x ≤ 126`; below −126 it stays at 2⁻¹²⁶.
///
/// `2^x = 2^n·2^f` with `n` the nearest integer.
#[inline(always)]
pub(crate) fn exp2<const FMA: bool>(x: f32) -> f32 {
    let x = max(x, -126.0);
    let rounded = x + ROUND;
    scaled(exp2_of_fraction::<FMA>(x - (rounded - ROUND)), rounded)
}

/// `2^f` on `[−½, ½]`, by a polynomial of degree 5 with the least largest relative error among those that are 1 at 0:
/// 9.2e-8, before rounding.
#[inline(always)]
pub(crate) fn exp2_of_fraction<const FMA: bool>(f: f32) -> f32 {
    #[allow(clippy::approx_constant)] // The coefficient is near ln 2, and not ln 2.
    const C: [f32; 6] = [1.0, 0.693_147, 0.240_222_41, 0.055_507_35, 0.009_671_619, 0.001_326_459_1];
    let mut y = C[5];
    y = mul_add::<FMA>(y, f, C[4]);
    y = mul_add::<FMA>(y, f, C[3]);
    y = mul_add::<FMA>(y, f, C[2]);
    y = mul_add::<FMA>(y, f, C[1]);
    mul_add::<FMA>(y, f, C[0])
}

/// `y·2^n` for an `n` that is in the low bits of `rounded`: shifted to the exponent it multiplies by `2^n`.
#[inline(always)]
pub(crate) fn scaled(y: f32, rounded: f32) -> f32 {
    f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// `e^x` in f64 with a relative error below 1e-15, for `x ≤ 700`; 0 below −700.
#[inline(always)]
pub(crate) fn exp_f64<const FMA: bool>(x: f64) -> f64 {
    // 1.5·2⁵², the f64 counterpart of `ROUND`.
    const ROUND_F64: f64 = 6_755_399_441_055_744.0;
    // ln 2 in two parts: n·LN2_HIGH is exact for |n| < 2¹¹.
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let clamped = if x > -700.0 { x } else { -700.0 };
    let rounded = mul_add_f64::<FMA>(clamped, std::f64::consts::LOG2_E, ROUND_F64);
    let n = rounded - ROUND_F64;
    let f = mul_add_f64::<FMA>(n, -LN2_LOW, mul_add_f64::<FMA>(n, -LN2_HIGH, clamped));
    // The Taylor polynomial of degree 12 on |f| ≤ ln 2/2: its remainder is below 2e-16.
    let mut y = 1.0 / 479_001_600.0;
    for inverse in [
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        y = mul_add_f64::<FMA>(y, f, inverse);
    }
    let y = f64::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 52));
    if x > -700.0 { y } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_as_accurate_as_stated() {
        let (mut worst, mut worst_f64) = (0.0f64, 0.0f64);
        for i in 0..200_000 {
            let x = -f64::from(i) * 6e-4;
            let exact = f64::from(x as f32).exp2();
            for y in [exp2::<true>(x as f32), exp2::<false>(x as f32)] {
                worst = worst.max((f64::from(y) / exact - 1.0).abs());
            }
            for y in [exp_f64::<true>(5.0 * x), exp_f64::<false>(5.0 * x)] {
                worst_f64 = worst_f64.max((y / (5.0 * x).exp() - 1.0).abs());
            }
        }
        assert!(worst < 2e-7, "exp2 is off by {worst:e}");
        assert!(worst_f64 < 1e-15, "exp_f64 is off by {worst_f64:e}");
        assert_eq!(exp_f64::<true>(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp2::<true>(f32::NEG_INFINITY), 2f32.powi(-126));
        assert_eq!(exp2::<true>(0.0), 1.0);
    }

    #[test]
    fn both_copies_of_a_kernel_run() {
        struct Sum<'a>(&'a [f32]);
        impl Kernel for Sum<'_> {
            type Output = f32;
            #[inline(always)]
            fn run<const FMA: bool>(self) -> f32 {
                self.0.iter().fold(0.0, |sum, &x| mul_add::<FMA>(x, 2.0, sum))
            }
        }
        let numbers = [1.0, 2.0, 3.0];
        assert_eq!(run(Sum(&numbers)), 12.0);
        assert_eq!(Sum(&numbers).run::<false>(), 12.0);
    }
}
