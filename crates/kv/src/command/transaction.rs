//! MULTI and its relatives. There are no transactions yet, and nothing may pass for one: after a refused
//! `MULTI` everything is refused until the transaction would have ended.

use super::{After, Call, Refusal};
use crate::clients::Client;
use crate::resp::Arguments;

type Answered = Result<After, Refusal>;

/// Says what to do, since libraries wrap pipelines in transactions without being asked to.
const NO_TRANSACTIONS: &str = "ERR MULTI is refused: this server has no transactions yet, and \
     carries out nothing of this one; send the commands without MULTI and EXEC, as a plain pipeline \
     (redis-py: pipeline(transaction=False))";
const NO_WATCHING: &str =
    "ERR WATCH is refused: this server has no transactions yet, and watches no key";
const NOT_CARRIED_OUT: &str =
    "EXECABORT MULTI was refused, and so is every command up to EXEC or DISCARD: not carried out";

pub(super) fn multi(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.client.in_transaction = true;
    Err(Refusal::new(NO_TRANSACTIONS))
}

pub(super) fn exec(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    match std::mem::take(&mut call.client.in_transaction) {
        true => Err(Refusal::new("EXECABORT Transaction discarded because of previous errors.")),
        false => Err(Refusal::new("ERR EXEC without MULTI")),
    }
}

pub(super) fn discard(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    match std::mem::take(&mut call.client.in_transaction) {
        true => call.ok(),
        false => Err(Refusal::new("ERR DISCARD without MULTI")),
    }
}

pub(super) fn watch(_: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    Err(Refusal::new(NO_WATCHING))
}

/// Nothing is watched, so this holds.
pub(super) fn unwatch(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.ok()
}

/// Refuses what came between a refused `MULTI` and its end.
pub(crate) fn gate(client: &Client, name: &[u8]) -> Result<(), Refusal> {
    const PASS: [&[u8]; 4] = [b"exec", b"discard", b"reset", b"quit"];
    match client.in_transaction && !PASS.iter().any(|pass| name.eq_ignore_ascii_case(pass)) {
        true => Err(Refusal::new(NOT_CARRIED_OUT)),
        false => Ok(()),
    }
}
