//! Work that is spread over all processors and taken in order.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Carries out `work` for 0 to `count` − 1, as many at once as there are processors, and hands each
/// result to `take`, in order.
pub(crate) fn in_order<T: Send>(
    count: u64,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T),
) {
    let next = AtomicU64::new(0);
    let (sender, results) = mpsc::channel();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || sender.send((index, work(index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut turn = 0;
        for (index, result) in results {
            waiting.insert(index, result);
            while let Some(result) = waiting.remove(&turn) {
                take(turn, result);
                turn += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_once() {
        let mut taken = Vec::new();
        in_order(1000, |index| index * index, |index, square| taken.push((index, square)));
        assert!(taken.iter().copied().eq((0..1000).map(|index| (index, index * index))));
        in_order(0, |index| index, |_, _| panic!("there is nothing"));
    }
}
