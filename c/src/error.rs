//! What a call can end in.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use draftpick::SelectError;
use draftpick::engine::EngineError;

/// What a call ended in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftpickStatus {
    /// Done.
    Ok = 0,
    /// A pointer that must not be NULL is, a name is not known, or an output has not enough room.
    Argument = 1,
    /// The input was refused: no law, a token that cannot have been drafted, a number out of range.
    Input = 2,
    // 3 was an error that no longer occurs. The number stays free, for programs that know it.
    /// A mistake in this library. Whatever the call was about is not to be used again.
    Internal = 4,
}

/// Why a call failed.
#[derive(Debug)]
pub struct Failure {
    pub status: DraftpickStatus,
    pub message: String,
}

impl Failure {
    /// A call that could not be understood.
    pub fn argument(message: impl fmt::Display) -> Self {
        Failure { status: DraftpickStatus::Argument, message: message.to_string() }
    }

    /// Input that was refused.
    pub fn input(message: impl fmt::Display) -> Self {
        Failure { status: DraftpickStatus::Input, message: message.to_string() }
    }

    /// The same failure, with its request named before it; a batch of one needs no number.
    pub fn of_request(self, request: usize, requests: usize) -> Self {
        match requests {
            1 => self,
            _ => Failure { message: format!("request {request}: {}", self.message), ..self },
        }
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        Failure::input(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::input(error)
    }
}

/// Runs a call: what it returns becomes a status, a panic too.
pub fn guarded(call: impl FnOnce() -> Result<(), Failure>) -> DraftpickStatus {
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return DraftpickStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => panicked(&*panic),
    };
    remember(&failure.message);
    failure.status
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure { status: DraftpickStatus::Internal, message: format!("a mistake in draftpick: {text}") }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps the message of a failed call for this thread. Lost where the thread is ending.
fn remember(message: &str) {
    // A zero byte would end the message early.
    let text = CString::new(message.replace('\0', "?")).unwrap_or_default();
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
}

/// Hands the message of the last failed call of this thread to `use_it`; `None` where the thread is ending.
pub fn last<T>(use_it: impl FnOnce(&CStr) -> T) -> Option<T> {
    LAST.try_with(|last| use_it(&last.borrow())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        last(|text| text.to_str().unwrap().to_owned()).unwrap()
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(guarded(|| panic!("row {} of 3", 7)), DraftpickStatus::Internal);
        assert_eq!(message(), "a mistake in draftpick: row 7 of 3");
        assert_eq!(guarded(|| panic!("plain")), DraftpickStatus::Internal);
        assert_eq!(message(), "a mistake in draftpick: plain");
        let beyond = std::hint::black_box(4);
        assert_eq!(guarded(|| Err(Failure::input([0; 3][beyond]))), DraftpickStatus::Internal);
        assert!(message().contains("index out of bounds"), "{}", message());
        assert_eq!(guarded(|| std::panic::panic_any(7)), DraftpickStatus::Internal);
        assert_eq!(message(), "a mistake in draftpick: no message");
        // Success leaves the message alone.
        assert_eq!(guarded(|| Ok(())), DraftpickStatus::Ok);
        assert_eq!(message(), "a mistake in draftpick: no message");
    }

    #[test]
    fn a_message_has_no_zero_byte() {
        assert_eq!(guarded(|| Err(Failure::argument("a\0b"))), DraftpickStatus::Argument);
        assert_eq!(message(), "a?b");
    }
}
