//! Fixed-width little-endian fields written to any [`Write`] and read from any [`Read`]: what
//! `mainstay_model::codec` does for a buffer in memory, for states that are too large to stand in
//! one.

use std::io::{self, Read, Write};

use mainstay_model::{SessionId, Slot};

pub(crate) fn put_u32(to: &mut dyn Write, value: u32) -> io::Result<()> {
    to.write_all(&value.to_le_bytes())
}

pub(crate) fn put_u64(to: &mut dyn Write, value: u64) -> io::Result<()> {
    to.write_all(&value.to_le_bytes())
}

pub(crate) fn put_u128(to: &mut dyn Write, value: u128) -> io::Result<()> {
    to.write_all(&value.to_le_bytes())
}

pub(crate) fn put_session(to: &mut dyn Write, session: SessionId) -> io::Result<()> {
    put_u64(to, session.slot.0)?;
    put_u32(to, session.position)
}

fn array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}

pub(crate) fn u32(from: &mut dyn Read) -> io::Result<u32> {
    Ok(u32::from_le_bytes(array(from)?))
}

pub(crate) fn u64(from: &mut dyn Read) -> io::Result<u64> {
    Ok(u64::from_le_bytes(array(from)?))
}

pub(crate) fn u128(from: &mut dyn Read) -> io::Result<u128> {
    Ok(u128::from_le_bytes(array(from)?))
}

pub(crate) fn session(from: &mut dyn Read) -> io::Result<SessionId> {
    Ok(SessionId { slot: Slot(u64(from)?), position: u32(from)? })
}

/// Bytes whose length stands elsewhere. Memory grows with what really comes.
pub(crate) fn bytes(from: &mut dyn Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
