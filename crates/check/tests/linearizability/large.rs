//! Long histories with many clients, good and bad, within a stated time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_check::kv_model::{KvModel, KvOp, KvRet};
use mainstay_check::linearizability::{STEPS_MAX, Verdict, check, check_pipelines};
use mainstay_check::{History, Model};
use mainstay_model::Prng;

use crate::script::KvHistory;

/// What a recorded history is made of.
struct Recipe {
    seed: u64,
    clients: usize,
    operations: usize,
    keys: u64,
    /// One in this many operations never returns, and is carried out late or never.
    unknown_one_in: u64,
    whole_store: bool,
}

const LIMIT: Duration = Duration::from_secs(5);

/// Clients take turns at random with a store that is right: each operation is carried out at some
/// time between its invocation and its return.
fn record(recipe: &Recipe) -> KvHistory {
    let mut prng = Prng::new(recipe.seed);
    let mut history = History::new();
    let mut state = KvModel.initial();
    let mut left = vec![recipe.operations; recipe.clients];
    let mut open = vec![None; recipe.clients];
    let mut process: Vec<u64> = (0..recipe.clients as u64).collect();
    let mut late = Vec::new();
    for now in 0.. {
        if left.iter().all(|left| *left == 0) {
            break;
        }
        let client = prng.below(recipe.clients as u64) as usize;
        match open[client].take() {
            None if left[client] == 0 => {}
            None => {
                let op = draw(&mut prng, recipe, now);
                let id = history.invoke(process[client], op.clone(), now);
                open[client] = Some((id, op, None));
            }
            Some((_, op, None)) if prng.chance(1, recipe.unknown_one_in) => {
                late.push(op);
                left[client] -= 1;
                // It goes on over another connection.
                process[client] += recipe.clients as u64;
            }
            Some((id, op, None)) => {
                let reply = KvModel.reply(&state, &op);
                state = KvModel.apply_unknown(&state, &op);
                open[client] = Some((id, op, Some(reply)));
            }
            Some((id, _, Some(reply))) => {
                history.returned(id, reply, now);
                left[client] -= 1;
            }
        }
        if !late.is_empty() && prng.chance(1, 50) {
            let op = late.swap_remove(prng.below(late.len() as u64) as usize);
            state = KvModel.apply_unknown(&state, &op);
        }
    }
    history
}

fn draw(prng: &mut Prng, recipe: &Recipe, now: u64) -> KvOp {
    let key = Bytes::from(format!("k{}", prng.below(recipe.keys)));
    let value = Bytes::from(now.to_string());
    match prng.below(if recipe.whole_store { 12 } else { 10 }) {
        0..4 => KvOp::Get(key),
        4..6 => KvOp::Set(key, value),
        6 => KvOp::SetGet(key, value),
        7 => KvOp::IncrBy(key, 1),
        8 => KvOp::Append(key, Bytes::from((now % 10).to_string())),
        9 => KvOp::Del(vec![key]),
        10 => KvOp::MGet(vec!["k0".into(), "k1".into()]),
        _ => KvOp::MSet(vec![("k0".into(), value.clone()), ("k1".into(), value)]),
    }
}

fn timed(history: &KvHistory) -> Verdict {
    let begun = Instant::now();
    let verdict = check(&KvModel, history, STEPS_MAX);
    let took = begun.elapsed();
    assert!(took < LIMIT, "{took:?} for {} operations", history.len());
    verdict
}

#[test]
fn ten_clients_with_a_thousand_operations_each() {
    for (seed, keys) in [(1, 10), (2, 100), (3, 1)] {
        let whole_store = false;
        let recipe = Recipe {
            seed,
            clients: 10,
            operations: 1000,
            keys,
            unknown_one_in: u64::MAX,
            whole_store,
        };
        assert_eq!(timed(&record(&recipe)), Verdict::Linearizable, "{keys} keys, seed {seed}");
    }
}

#[test]
fn pipelines_of_all_keys_at_once() {
    for (seed, keys, unknown_one_in) in [(1, 10, u64::MAX), (40, 5, 500)] {
        let whole_store = true;
        let recipe =
            Recipe { seed, clients: 10, operations: 300, keys, unknown_one_in, whole_store };
        let history = record(&recipe);
        let begun = Instant::now();
        let verdict = check_pipelines(&KvModel, &history, STEPS_MAX);
        assert_eq!(verdict, Verdict::Linearizable, "{keys} keys, seed {seed}");
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    }
}

#[test]
fn many_unknown_outcomes() {
    for (seed, keys) in [(4, 10), (5, 3), (6, 1), (7, 1), (8, 1)] {
        let recipe = Recipe {
            seed,
            clients: 10,
            operations: 300,
            keys,
            unknown_one_in: if keys == 1 { 100 } else { 30 },
            whole_store: false,
        };
        assert_eq!(timed(&record(&recipe)), Verdict::Linearizable, "{keys} keys, seed {seed}");
    }
}

#[test]
fn operations_on_the_whole_store() {
    let recipe = Recipe {
        seed: 6,
        clients: 6,
        operations: 500,
        keys: 4,
        unknown_one_in: 200,
        whole_store: true,
    };
    assert_eq!(timed(&record(&recipe)), Verdict::Linearizable);
}

#[test]
fn one_wrong_reply_among_thousands_is_found() {
    for seed in 10..30 {
        let recipe = Recipe {
            seed,
            clients: 10,
            operations: 300,
            keys: 5,
            unknown_one_in: 100,
            whole_store: false,
        };
        let history = record(&recipe);
        let mut wrong = History::new();
        let gets = history.operations().filter(|o| matches!(o.op, KvOp::Get(_))).count();
        let victim = Prng::new(seed).below(gets as u64 / 2) as usize + gets / 4;
        let mut seen = 0;
        for operation in history.operations() {
            let id = wrong.invoke(operation.process, operation.op.clone(), operation.invoked);
            let is_get = matches!(operation.op, KvOp::Get(_));
            if let Some((reply, at)) = &operation.returned {
                let ghost = is_get && seen >= victim && seen < victim + 5;
                let reply = if ghost { KvRet::Value(Some("ghost".into())) } else { reply.clone() };
                wrong.returned(id, reply, *at);
            }
            seen += usize::from(is_get);
        }
        let verdict = timed(&wrong);
        assert!(matches!(verdict, Verdict::Violation(_)), "seed {seed}: {verdict:?}");
    }
}

#[test]
fn the_budget_ends_what_is_too_hard() {
    let recipe = Recipe {
        seed: 30,
        clients: 10,
        operations: 100,
        keys: 1,
        unknown_one_in: u64::MAX,
        whole_store: false,
    };
    let verdict = check(&KvModel, &record(&recipe), 100);
    assert!(matches!(verdict, Verdict::TooHard { steps } if steps >= 100), "{verdict:?}");
    assert!(verdict.into_result().is_ok(), "not known to be wrong");
}
