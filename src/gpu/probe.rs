//! What must hold before a device, or a compiler, is trusted.

use super::launch::{Arg, Device, Shape, compile};
use super::source::{KERNELS, PROBE, expanded};
use super::{GpuError, RowStats};
use crate::path::{Coins, Purpose, RoundCoins};

/// Compiles every file of kernels for a compute capability, warnings being errors, and returns the number of files. Needs
/// NVRTC and no device.
///
/// # Errors
/// [`GpuError::NoCompiler`], or [`GpuError::Compile`] for the first file that is refused.
pub fn compile_kernels(capability: (i32, i32)) -> Result<usize, GpuError> {
    for file in KERNELS {
        let (_, log) = compile(file, &expanded(file), &[], capability)?;
        if !log.trim().is_empty() {
            return Err(GpuError::Compile { file: file.name, log });
        }
    }
    Ok(KERNELS.len())
}

impl Device {
    /// Compiles and runs the smallest kernels, and holds what they say to what the CPU says.
    ///
    /// # Errors
    /// [`GpuError::Check`] if they differ; else as for any kernel.
    pub fn check(&self) -> Result<(), GpuError> {
        let stream = self.stream()?;
        let one = Shape { blocks: 1, threads: 64, shared: 0, cluster: 1 };
        let sizes = self.zeros::<i32>(2)?;
        self.kernel(PROBE, &[], "probe_layout")?.launch(&stream, one, &[Arg::Address(sizes.address())])?;
        stream.synchronize()?;
        same("the size of RowStats", size_of::<RowStats>() as f64, f64::from(sizes.read()?[0]))?;
        let round = RoundCoins { seed: 0x0123_4567_89ab_cdef, start: 0xfedc_ba98_7654_3210 };
        let (depth, count) = (7, 64);
        let coins = self.zeros::<f64>(count)?;
        let args = [
            Arg::U64(round.seed),
            Arg::U64(round.start),
            Arg::U32(2),
            Arg::U32(depth),
            Arg::Address(coins.address()),
            Arg::I32(count as i32),
        ];
        self.kernel(PROBE, &[], "probe_coins")?.launch(&stream, one, &args)?;
        stream.synchronize()?;
        for (draft, found) in coins.read()?.into_iter().enumerate() {
            same("a coin", round.coin(Purpose::Label, depth as usize, draft).get(), found)?;
        }
        Ok(())
    }
}

fn same(what: &'static str, expected: f64, found: f64) -> Result<(), GpuError> {
    if expected == found { Ok(()) } else { Err(GpuError::Check { what, expected, found }) }
}
