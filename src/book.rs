//! The chapters of `docs/book`, so that their examples run with the other tests of the documentation.

#[doc = include_str!("../docs/book/src/introduction.md")]
mod introduction {}

#[doc = include_str!("../docs/book/src/coupling.md")]
mod coupling {}

#[doc = include_str!("../docs/book/src/maximal.md")]
mod maximal {}

#[doc = include_str!("../docs/book/src/transport.md")]
mod transport {}

#[doc = include_str!("../docs/book/src/kseq.md")]
mod kseq {}

#[doc = include_str!("../docs/book/src/cut.md")]
mod cut {}

#[doc = include_str!("../docs/book/src/labels.md")]
mod labels {}

#[doc = include_str!("../docs/book/src/windows.md")]
mod windows {}

#[doc = include_str!("../docs/book/src/classes.md")]
mod classes {}

#[doc = include_str!("../docs/book/src/paths.md")]
mod paths {}

#[doc = include_str!("../docs/book/src/choosing.md")]
mod choosing {}

#[doc = include_str!("../docs/book/src/engine.md")]
mod engine {}

#[doc = include_str!("../docs/book/src/auditing.md")]
mod auditing {}

#[doc = include_str!("../docs/book/src/beyond.md")]
mod beyond {}
