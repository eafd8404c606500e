//! Panics of the code under test: noted instead of printed.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs `call`; a panic within it is not printed, and its place can be asked for.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> R {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PLACE.with_borrow_mut(|kept| *kept = place);
        }));
    });
    QUIET.set(true);
    let result = call();
    QUIET.set(false);
    result
}

/// Where the last panic within [`caught`] on this thread was.
pub(crate) fn last_place() -> String {
    PLACE.with_borrow(Clone::clone)
}
