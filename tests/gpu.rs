//! The kernels: compiled without a device, run where there is one.
//!
//! A test that needs a device says why it did nothing where there is none.

use draftpick::gpu::{Device, GpuError, compile_kernels};

/// The device, or a line that says why there is none.
fn device(test: &str) -> Option<Device> {
    match Device::new(0) {
        Ok(device) => Some(device),
        Err(error @ (GpuError::NoDriver | GpuError::NoDevice { .. })) => {
            println!("{test}: skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// With `DRAFTPICK_NVRTC=required`, as `make cuda` sets it, a missing compiler is a failure.
#[test]
fn every_kernel_compiles_without_a_warning() {
    for capability in [(8, 0), (9, 0)] {
        match compile_kernels(capability) {
            Ok(files) => println!("{files} files compiled for {capability:?}"),
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
