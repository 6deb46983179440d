//! Devices by name.

use candle_core::Device;

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name means nothing.
    #[error("unknown device {name:?}, expected cpu or cuda:N")]
    Name {
        /// The name.
        name: String,
    },
    /// The name is that of a GPU, and this build runs on the CPU only.
    #[error("{name} needs a build with the feature candle-cuda")]
    NoCuda {
        /// The name.
        name: String,
    },
    /// The GPU cannot be opened.
    #[error("cannot open {name}: {error}")]
    Open {
        /// The name.
        name: String,
        /// The reason.
        #[source]
        error: candle_core::Error,
    },
}

/// The device of a name: `cpu`; `cuda:0`, `cuda:1`, …; or `cuda` for the first.
///
/// # Errors
/// The name is none of these; it is that of a GPU and the feature `candle-cuda` is off; or the GPU cannot be opened.
pub fn parse_device(name: &str) -> Result<Device, DeviceError> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let ordinal = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|ordinal| ordinal.parse().ok()),
        None => None,
    };
    let name = name.to_string();
    match ordinal {
        None => Err(DeviceError::Name { name }),
        Some(_) if cfg!(not(feature = "candle-cuda")) => Err(DeviceError::NoCuda { name }),
        Some(ordinal) => Device::new_cuda(ordinal).map_err(|error| DeviceError::Open { name, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert!(parse_device("cpu").unwrap().is_cpu());
        for name in ["", "CPU", "gpu", "cuda:", "cuda0", "cuda:-1", "cuda:x", "metal"] {
            assert!(matches!(parse_device(name), Err(DeviceError::Name { name: found }) if found == name));
        }
    }

    #[cfg(not(feature = "candle-cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let error = parse_device("cuda:1").unwrap_err();
        assert_eq!(error.to_string(), "cuda:1 needs a build with the feature candle-cuda");
    }
}
