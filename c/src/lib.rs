//! The C interface of draftpick: `include/draftpick.h`.
//!
//! Everything that touches a pointer is in `ffi`, the only file with `unsafe` code. The other modules are what it calls:
//! safe, and free to panic, which `ffi` catches at the border.

#[cfg(panic = "abort")]
compile_error!("a panic must not end the program of the caller: build with panic = \"unwind\"");

mod coins;
mod error;
#[allow(unsafe_code)]
pub mod ffi;
mod sampling;
mod selector;
mod types;
mod verify;
