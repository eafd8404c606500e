//! Waiting for a lock that another process is about to let go.

use std::time::{Duration, Instant};

/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(10);

/// Tries again for as long as `wait` while another process holds the lock, unless `stopped`.
///
/// # Errors
/// The last one of `open`; at once if it is another than `is_locked` tells.
pub(crate) fn while_locked<T, E>(
    wait: Duration,
    stopped: impl Fn() -> bool,
    mut open: impl FnMut() -> Result<T, E>,
    is_locked: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let until = Instant::now() + wait;
    loop {
        match open() {
            Err(error) if is_locked(&error) && Instant::now() < until && !stopped() => {
                std::thread::sleep(INTERVAL);
            }
            result => return result,
        }
    }
}
