//! Random histories of few operations, judged by the checker and by trying every order.

use mainstay_check::history::Operation;
use mainstay_check::kv_model::{KvModel, KvOp, KvRet};
use mainstay_check::linearizability::{STEPS_MAX, Verdict, check, check_pipelines};
use mainstay_check::{History, Model};
use proptest::prelude::*;

use crate::script::KvHistory;

/// Whether some order of the operations is right, by trying all: an operation may come next unless
/// another one that has not come returned before it was invoked; those of unknown outcome may be
/// left out.
fn some_order(
    model: &impl Model<State: PartialEq, Op = KvOp, Ret = KvRet>,
    state_of: &[&Operation<KvOp, KvRet>],
    left: &[&Operation<KvOp, KvRet>],
    pipelined: bool,
) -> bool {
    // The state is computed anew from the order so far: slow, and without any way to be wrong.
    let mut state = model.initial();
    for operation in state_of {
        state = match &operation.returned {
            None => model.apply_unknown(&state, &operation.op),
            Some((ret, _)) => match model.step(&state, &operation.op, ret) {
                Some(state) => state,
                None => return false,
            },
        };
    }
    if left.iter().all(|operation| operation.returned.is_none()) {
        return true;
    }
    (0..left.len()).any(|at| {
        let mut left = left.to_vec();
        let next = left.remove(at);
        let late = left
            .iter()
            .any(|other| other.returned.as_ref().is_some_and(|(_, at)| *at < next.invoked));
        // In a pipeline what was asked before comes before, or, if its outcome is unknown, never.
        let earlier: Vec<_> = if pipelined {
            left.extract_if(..at, |other| other.process == next.process).collect()
        } else {
            Vec::new()
        };
        let late = late || earlier.iter().any(|other| other.returned.is_some());
        let order: Vec<_> = state_of.iter().copied().chain([next]).collect();
        !late && some_order(model, &order, &left, pipelined)
    })
}

/// One operation: when it is asked, how long it takes (`None`: for ever), what, and whether its
/// reply is the one a store that applies it then and there would give, or one drawn.
type Drawn = (u64, Option<u64>, KvOp, Option<KvRet>);

fn drawn(op: impl Strategy<Value = KvOp>) -> impl Strategy<Value = Drawn> {
    let ret = prop_oneof![
        Just(KvRet::Ok),
        Just(KvRet::Value(None)),
        (0..3u8).prop_map(|value| KvRet::Value(Some(value.to_string().into()))),
        (0..4i64).prop_map(KvRet::Integer),
    ];
    (0..12u64, prop::option::weighted(0.6, 0..8u64), op, prop::option::weighted(0.25, ret))
}

fn single_key_op() -> impl Strategy<Value = KvOp> {
    let value = || (0..3u8).prop_map(|value| value.to_string().into());
    let key = "k";
    prop_oneof![
        3 => Just(KvOp::Get(key.into())),
        2 => value().prop_map(move |value| KvOp::Set(key.into(), value)),
        2 => Just(KvOp::IncrBy(key.into(), 1)),
        1 => value().prop_map(move |value| KvOp::SetNx(key.into(), value)),
        1 => value().prop_map(move |value| KvOp::SetGet(key.into(), value)),
        1 => Just(KvOp::Del(vec![key.into()])),
        1 => value().prop_map(move |value| KvOp::Append(key.into(), value)),
    ]
}

fn any_op() -> impl Strategy<Value = KvOp> {
    let key = || prop_oneof![Just("k".into()), Just("l".into())];
    let value = || (0..3u8).prop_map(|value| value.to_string().into());
    prop_oneof![
        4 => single_key_op(),
        1 => (key(), value()).prop_map(|(key, value)| KvOp::Set(key, value)),
        1 => Just(KvOp::MGet(vec!["k".into(), "l".into()])),
        1 => (value(), value())
            .prop_map(|(k, l)| KvOp::MSet(vec![("k".into(), k), ("l".into(), l)])),
        1 => Just(KvOp::Exists(vec!["k".into(), "l".into()])),
        1 => Just(KvOp::DbSize),
        1 => Just(KvOp::FlushAll),
    ]
}

/// Most replies are those of a store that carries each operation out at its invocation, so that
/// good histories and nearly good ones come up often.
fn recorded(mut operations: Vec<Drawn>) -> KvHistory {
    operations.sort_by_key(|(invoked, ..)| *invoked);
    let (mut history, mut state) = (History::new(), KvModel.initial());
    for (at, (invoked, takes, op, ret)) in (0..).zip(operations) {
        let right = KvModel.reply(&state, &op);
        state = KvModel.apply_unknown(&state, &op);
        let id = history.invoke(at % 3, op, invoked);
        if let Some(takes) = takes {
            history.returned(id, ret.unwrap_or(right), invoked + takes);
        }
    }
    history
}

fn judged_alike(history: &KvHistory) -> Result<(), TestCaseError> {
    let operations: Vec<_> = history.operations().collect();
    for pipelined in [false, true] {
        let expected = some_order(&KvModel, &[], &operations, pipelined);
        let judge = if pipelined { check_pipelines } else { check };
        let verdict = judge(&KvModel, history, STEPS_MAX);
        let judged = match &verdict {
            Verdict::Linearizable => Some(true),
            Verdict::Violation(_) => Some(false),
            Verdict::TooHard { .. } => None,
        };
        prop_assert_eq!(judged, Some(expected), "pipelined: {}, {:?}", pipelined, verdict);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn histories_of_one_key(operations in prop::collection::vec(drawn(single_key_op()), 1..=6)) {
        judged_alike(&recorded(operations))?;
    }

    #[test]
    fn histories_of_the_whole_store(operations in prop::collection::vec(drawn(any_op()), 1..=6)) {
        judged_alike(&recorded(operations))?;
    }
}
