//! Histories of which it is known whether they are linearizable.

use mainstay_check::kv_model::KvModel;
use mainstay_check::linearizability::{
    STEPS_MAX, Verdict, check, check_partitioned_pipelines, check_pipelines,
};

use crate::script::history;

fn good(script: &str) {
    assert_eq!(check(&KvModel, &history(script), STEPS_MAX), Verdict::Linearizable, "{script}");
}

/// Checks that the history is bad, and which operation is named for it.
fn bad(unexplained: &str, script: &str) {
    match check(&KvModel, &history(script), STEPS_MAX) {
        Verdict::Violation(explanation) => {
            let process = format!("process {unexplained}:");
            assert!(explanation.unexplained.starts_with(&process), "{explanation}\n{script}");
        }
        other => panic!("{other:?}\n{script}"),
    }
}

#[test]
fn nothing_is_linearizable() {
    good("");
}

#[test]
fn one_after_the_other() {
    good(
        "1 0-1 get x -> nil
         1 2-3 set x a -> ok
         2 4-5 get x -> a
         2 6-7 del x -> #1
         1 8-9 get x -> nil",
    );
}

#[test]
fn a_read_beside_a_write_sees_either_value() {
    for seen in ["nil", "a"] {
        good(&format!(
            "1 0-10 set x a -> ok
             2 5-6 get x -> {seen}"
        ));
    }
}

#[test]
fn concurrent_writes_in_the_order_that_reads_tell() {
    for last in ["a", "b"] {
        good(&format!(
            "1 0-10 set x a -> ok
             2 0-10 set x b -> ok
             3 11-12 get x -> {last}"
        ));
    }
}

#[test]
fn two_readers_beside_a_write_may_differ_if_they_overlap() {
    good(
        "1 0-10 set x a -> ok
         2 1-9 get x -> a
         3 2-8 get x -> nil",
    );
}

#[test]
fn a_write_of_unknown_outcome_may_be_seen() {
    good(
        "1 0-? set x a
         2 5-6 get x -> a",
    );
}

#[test]
fn a_write_of_unknown_outcome_may_never_happen() {
    good(
        "1 0-? set x a
         2 5-6 get x -> nil
         2 7-8 get x -> nil",
    );
}

#[test]
fn a_write_of_unknown_outcome_may_happen_late() {
    good(
        "1 0-? set x a
         2 5-6 set x b -> ok
         2 7-8 get x -> b
         2 9-10 get x -> a",
    );
}

#[test]
fn increments_of_unknown_outcome_explain_a_jump() {
    good(
        "1 0-1 incr n -> #1
         2 2-? incr n
         3 2-? incr n
         4 2-? incr n
         1 5-6 incr n -> #4
         1 7-8 get n -> 4
         1 9-10 incr n -> #6",
    );
}

#[test]
fn a_failed_increment_changes_nothing() {
    good(
        "1 0-1 set x word -> ok
         1 2-3 incr x -> error
         1 4-5 get x -> word",
    );
}

#[test]
fn of_two_racing_to_create_one_wins() {
    good(
        "1 0-10 setnx lock a -> ok
         2 1-9 setnx lock b -> nil
         3 11-12 get lock -> a
         3 13-14 setxx lock c -> ok
         3 15-16 setget lock d -> c",
    );
}

#[test]
fn appends_in_the_order_of_their_lengths() {
    good(
        "1 0-10 append x aa -> #5
         2 0-10 append x bbb -> #3
         3 11-12 get x -> bbbaa
         3 13-14 strlen x -> #5",
    );
}

#[test]
fn keys_are_independent() {
    good(
        "1 0-10 set x a -> ok
         1 0-10 set y b -> ok
         2 1-2 get x -> a
         2 3-4 get y -> nil
         3 5-6 get y -> b",
    );
}

#[test]
fn whole_store_operations_see_all_keys_at_once() {
    good(
        "1 0-10 mset x a y b -> ok
         2 1-2 mget x y -> [nil nil]
         2 3-4 mget x y -> [a b]
         2 5-6 dbsize -> #2
         3 11-20 flushall -> ok
         2 12-13 exists x y x -> #3
         2 14-15 exists x y -> #0
         2 16-17 del x y -> #0",
    );
}

#[test]
fn times_that_are_equal_order_nothing() {
    good(
        "1 0-5 set x a -> ok
         2 5-6 get x -> nil",
    );
}

/// An operation whose outcome is unknown must not be used twice.
#[test]
fn a_write_of_unknown_outcome_happens_once() {
    bad(
        "4",
        "1 0-? set x a
         2 1-2 get x -> a
         2 3-4 set x b -> ok
         4 5-6 get x -> a",
    );
}

#[test]
fn a_write_of_unknown_outcome_does_not_happen_before_it_is_asked() {
    bad(
        "2",
        "2 0-1 get x -> a
         1 2-? set x a",
    );
}

#[test]
fn a_stale_read() {
    bad(
        "2",
        "1 0-1 set x a -> ok
         1 2-3 set x b -> ok
         2 4-5 get x -> a",
    );
}

#[test]
fn a_write_that_is_lost() {
    bad(
        "2",
        "1 0-1 set x a -> ok
         2 2-3 get x -> nil",
    );
}

#[test]
fn an_update_that_is_lost() {
    bad(
        "3",
        "1 0-10 incr n -> #1
         2 0-10 incr n -> #2
         3 11-12 get n -> 1",
    );
}

#[test]
fn an_increment_carried_out_twice() {
    bad(
        "1",
        "1 0-1 incr n -> #1
         1 2-3 incr n -> #3",
    );
}

#[test]
fn two_increments_with_one_result() {
    bad(
        "2",
        "1 0-9 incr n -> #1
         2 0-10 incr n -> #1",
    );
}

#[test]
fn reads_that_flip_back() {
    bad(
        "3",
        "1 0-20 set x a -> ok
         2 1-2 get x -> a
         3 3-4 get x -> nil",
    );
}

#[test]
fn readers_that_see_two_writes_in_different_order() {
    bad(
        "3",
        "1 0-2 set x a -> ok
         2 0-2 set x b -> ok
         3 3-4 get x -> a
         3 5-6 get x -> b",
    );
}

#[test]
fn a_value_that_nobody_wrote() {
    bad("1", "1 0-1 get x -> ghost");
}

#[test]
fn a_lock_that_two_hold() {
    bad(
        "2",
        "1 0-9 setnx lock a -> ok
         2 0-10 setnx lock b -> ok",
    );
}

#[test]
fn a_key_deleted_twice() {
    bad(
        "3",
        "1 0-1 set x a -> ok
         2 2-9 del x -> #1
         3 2-10 del x -> #1",
    );
}

#[test]
fn an_append_that_leaves_no_trace() {
    bad(
        "1",
        "1 0-1 append x ab -> #2
         2 2-? append x cd
         1 4-5 append x ef -> #4
         1 6-7 get x -> abcdef",
    );
}

#[test]
fn half_of_a_write_of_two_keys() {
    bad(
        "2",
        "1 0-10 mset x a y b -> ok
         2 1-2 mget x y -> [a nil]",
    );
}

/// Each key alone would pass: only together they show that the writes are seen in two orders.
#[test]
fn keys_seen_in_different_orders_by_readers_of_both() {
    bad(
        "4",
        "1 0-20 set x a -> ok
         2 0-20 set y b -> ok
         3 1-2 mget x y -> [a nil]
         4 3-4 mget x y -> [nil b]",
    );
}

#[test]
fn a_flush_that_spares_a_key() {
    bad(
        "1",
        "1 0-1 mset x a y b -> ok
         1 2-3 flushall -> ok
         1 4-5 dbsize -> #1",
    );
}

#[test]
fn a_violation_in_one_key_among_many() {
    bad(
        "3",
        "1 0-1 set a 1 -> ok
         1 2-3 set b 1 -> ok
         2 4-5 get a -> 1
         3 6-7 get b -> 2",
    );
}

/// What is sent before the last reply came is carried out in turn; without that both orders of what
/// overlaps are right.
#[test]
fn a_pipeline_is_carried_out_in_turn() {
    let judged = |script: &str| {
        let history = history(script);
        let alone = check(&KvModel, &history, STEPS_MAX);
        assert_eq!(alone, Verdict::Linearizable, "{script}");
        check_pipelines(&KvModel, &history, STEPS_MAX) == Verdict::Linearizable
    };
    let own_write_seen = "1 0-10 set x a -> ok
                          1 1-11 get x -> a";
    assert!(judged(own_write_seen));
    let own_write_not_seen = "1 0-10 set x a -> ok
                              1 1-11 get x -> nil";
    assert!(!judged(own_write_not_seen));
    let later_write_seen = "1 0-10 get x -> a
                            1 1-11 set x a -> ok";
    assert!(!judged(later_write_seen));
    let equal_times = "1 0-10 set x a -> ok
                       1 0-10 get x -> nil";
    assert!(!judged(equal_times));
    let unknown_before_the_next = "1 0-? set x a
                                   1 1-11 get x -> nil
                                   2 12-13 get x -> a";
    assert!(!judged(unknown_before_the_next));
    let unknown_of_another = "1 0-? set x a
                              2 1-11 get x -> nil
                              2 12-13 get x -> a";
    assert!(judged(unknown_of_another));
    let unknown_of_two = "1 0-? set x a
                          2 0-? set x a
                          1 1-2 get x -> nil
                          3 3-4 get x -> a";
    assert!(judged(unknown_of_two));
    let unknown_before_a_stranger = "1 0-? set x a
                                     1 1-11 get y -> nil
                                     2 12-13 get x -> a";
    assert!(judged(unknown_before_a_stranger));
    let unknown_out_of_turn = "1 0-? set x a
                               1 1-? set x b
                               2 2-3 get x -> b
                               2 4-5 get x -> a";
    assert!(!judged(unknown_out_of_turn));
}

#[test]
fn the_explanation_tells_where_it_went_wrong() {
    let script = "1 0-1 set x a -> ok
                  1 2-3 set x b -> ok
                  2 4-20 set x c -> ok
                  3 5-6 get x -> a
                  3 7-8 get x -> c";
    let Verdict::Violation(explanation) = check(&KvModel, &history(script), STEPS_MAX) else {
        panic!("it is bad");
    };
    assert_eq!(
        explanation.to_string(),
        "no order of the operations explains [process 3: Get(b\"x\") from 5 ns to 6 ns -> \
         Value(Some(b\"a\"))]; they lead to {x: c} or {x: b}, the first by way of [process 1: \
         Set(b\"x\", b\"a\") from 0 ns to 1 ns -> Ok; process 1: Set(b\"x\", b\"b\") from 2 ns to \
         3 ns -> Ok; process 2: Set(b\"x\", b\"c\") from 4 ns to 20 ns -> Ok]"
    );
    let verdict = Verdict::Violation(explanation);
    let violation = verdict.into_result().unwrap_err();
    assert_eq!((violation.property, violation.at), ("linearizable", 6));
}

/// A read between two writes of one connection sees the first and not the second, and everything that had
/// finished before it was asked: nothing else is right, whenever the writes are carried out.
#[test]
fn a_read_between_two_writes_of_its_pipeline() {
    let judged = |seen: &str| {
        let history = history(&format!(
            "1 0-30 set x a -> ok
             2 1-5 set y b -> ok
             1 6-30 mget x y -> [{seen}]
             1 7-31 mset x c y c -> ok"
        ));
        check_pipelines(&KvModel, &history, STEPS_MAX) == Verdict::Linearizable
    };
    assert!(judged("a b"));
    assert!(!judged("c c"), "it saw a later command of its connection");
    assert!(!judged("a nil"), "it missed what had finished before it was asked");
    assert!(!judged("nil b"), "it missed its own write");
}

/// Of two equal requests of a pipeline whose outcome is unknown the second may have been carried out where it
/// is too late for the first.
#[test]
fn the_second_of_two_equal_requests_without_outcome() {
    let judged = |after: &str| {
        let history = history(&format!(
            "1 0-? incr n
             1 1-10 get n -> nil
             1 11-? incr n
             2 20-21 get n -> {after}"
        ));
        check_pipelines(&KvModel, &history, STEPS_MAX) == Verdict::Linearizable
    };
    assert!(judged("nil") && judged("1"));
    assert!(!judged("2"), "the first was carried out before the read, or not at all");
}

/// What one process asks of two keys is not ordered where keys are judged one by one.
#[test]
fn a_pipeline_is_carried_out_in_turn_for_each_key() {
    let judged = |script: &str| {
        check_partitioned_pipelines(&KvModel, &history(script), STEPS_MAX) == Verdict::Linearizable
    };
    assert!(!judged("1 0-10 get x -> a\n1 1-11 set x a -> ok"));
    assert!(judged("1 0-10 get x -> nil\n1 1-11 set x a -> ok"));
    assert!(judged(
        "1 0-10 set x a -> ok
         1 1-11 set y b -> ok
         2 2-3 get y -> b
         2 4-5 get x -> nil"
    ));
}
