//! Fixed-width little-endian fields written to any [`Write`]: what `mainstay_model::codec` does for
//! a buffer in memory, for states that are too large to stand in one.

use std::io::{self, Write};

use mainstay_model::SessionId;

pub(crate) fn put_u64(to: &mut dyn Write, value: u64) -> io::Result<()> {
    to.write_all(&value.to_le_bytes())
}

pub(crate) fn put_u128(to: &mut dyn Write, value: u128) -> io::Result<()> {
    to.write_all(&value.to_le_bytes())
}

pub(crate) fn put_session(to: &mut dyn Write, session: SessionId) -> io::Result<()> {
    put_u64(to, session.slot.0)?;
    to.write_all(&session.position.to_le_bytes())
}
