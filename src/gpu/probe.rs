//! What must hold before a device, or a compiler, is trusted.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::launch::{Arg, Device, Shape, cached_or_compiled};
use super::source::{KERNELS, PROBE, expanded, variants};
use super::{GpuError, RowStats};
use crate::path::{Coins, Purpose, RoundCoins};

/// Compiles every file of kernels in every form for a compute capability, warnings being errors, into the cache if there is
/// one, and returns the number of compilations. Needs NVRTC and no device.
///
/// # Errors
/// [`GpuError::NoCompiler`], or [`GpuError::Compile`] for the first file that is refused.
pub fn compile_kernels(capability: (i32, i32)) -> Result<usize, GpuError> {
    let texts: Vec<_> = KERNELS.into_iter().map(|file| (file, expanded(file))).collect();
    let jobs: Vec<_> = texts
        .iter()
        .flat_map(|(file, text)| variants(*file).into_iter().map(move |defines| (*file, text, defines)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), GpuError> {
        while let Some((file, text, defines)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (_, log) = cached_or_compiled(*file, text, defines, capability)?;
            if !log.trim().is_empty() {
                return Err(GpuError::Compile { file: file.name, log });
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a compilation does not panic"))
    })?;
    Ok(jobs.len())
}

impl Device {
    /// Compiles and runs the smallest kernels, and holds what they say to what the CPU says.
    ///
    /// # Errors
    /// [`GpuError::Check`] if they differ; else as for any kernel.
    pub fn check(&self) -> Result<(), GpuError> {
        let stream = self.stream()?;
        let one = Shape { blocks: 1, threads: 64, shared: 0, cluster: 1, follows: false };
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
