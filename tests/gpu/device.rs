//! The device of a test, and rows in its memory.

// Shared by several tests, each of which uses a part.
#![allow(dead_code)]

use draftpick::gpu::{Buffer, Device, Format, GpuError, Rows};
use half::{bf16, f16};

/// The device, or a line that says why there is none.
pub fn device(test: &str) -> Option<Device> {
    match Device::new(0) {
        Ok(device) => Some(device),
        Err(error @ (GpuError::NoDriver | GpuError::NoDevice { .. })) => {
            println!("{test}: skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The largest vocabulary to run: `DRAFTPICK_GPU_VOCAB`, for a run under a checker that slows everything down.
pub fn largest_vocab() -> usize {
    std::env::var("DRAFTPICK_GPU_VOCAB").ok().and_then(|vocab| vocab.parse().ok()).unwrap_or(usize::MAX)
}

/// Rows in device memory, in their own format, `stride` apart.
pub struct Uploaded {
    bytes: Buffer<u8>,
    format: Format,
    rows: usize,
    stride: usize,
}

impl Uploaded {
    pub fn new<'a>(device: &Device, format: Format, stride: usize, rows: impl Iterator<Item = &'a [f32]>) -> Self {
        let (bytes, rows) = in_memory(format, stride, rows);
        Uploaded { bytes: device.upload(&bytes).expect("memory"), format, rows, stride }
    }

    /// Other rows in their place, as many and as long.
    pub fn overwrite<'a>(&mut self, rows: impl Iterator<Item = &'a [f32]>) {
        self.bytes.write(&in_memory(self.format, self.stride, rows).0).expect("the device is there");
    }

    #[allow(unsafe_code)]
    pub fn rows(&self) -> Rows<'_> {
        // SAFETY: the buffer holds so many rows of this format, so far apart, and lives as long as the result.
        unsafe { Rows::from_raw(self.bytes.address(), self.format, self.rows, self.stride) }
    }
}

/// The bytes of rows, and their number.
fn in_memory<'a>(format: Format, stride: usize, rows: impl Iterator<Item = &'a [f32]>) -> (Vec<u8>, usize) {
    let mut bytes: Vec<u8> = Vec::new();
    let mut count = 0;
    for row in rows {
        let mut put = |x: f32| match format {
            Format::F32 => bytes.extend(x.to_le_bytes()),
            Format::F16 => bytes.extend(f16::from_f32(x).to_le_bytes()),
            Format::Bf16 => bytes.extend(bf16::from_f32(x).to_le_bytes()),
        };
        row.iter().for_each(|x| put(*x));
        // What lies between rows is not read.
        (row.len()..stride).for_each(|_| put(f32::NAN));
        count += 1;
    }
    (bytes, count)
}
