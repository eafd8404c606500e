//! Making a state out of the content of a checkpoint, and telling whose fault it is where that fails.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mainstay_model::{CheckpointId, NoPlants};
use mainstay_service::checkpoint::identify;
use mainstay_service::{Applier, Service};
use mainstay_storage::CheckpointError;

use crate::checkpointer::Wanted;

/// How a state is made out of the content of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Restoring {
    pub(crate) wanted: Arc<Wanted>,
}

/// Why no state is made of a checkpoint, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not what its name says, or cannot be read.
    Damaged(String),
    /// It is whole, and what its name says: this program makes nothing of it, or something else; or the
    /// disk has no room for what is left to do.
    Refused(String),
    /// The node ends.
    Unwanted,
}

/// Reads, or writes, until the node ends.
struct Interruptible<'a, T> {
    inner: T,
    wanted: &'a Wanted,
}

impl<T> Interruptible<'_, T> {
    fn check(&self) -> io::Result<()> {
        if self.wanted.is_ended() { Err(io::Error::other("the node ends")) } else { Ok(()) }
    }
}

impl<R: Read> Read for Interruptible<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(to)
    }
}

impl<W: Write> Write for Interruptible<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Restoring {
    /// Restores `checkpoint` and compares slot and digest of what came of it with its name. Where that is
    /// not the state it should be, its content alone tells whose fault it is.
    pub(crate) fn restore<S: Service, C: Read>(
        &self,
        checkpoint: CheckpointId,
        open: impl Fn() -> Result<C, CheckpointError>,
    ) -> Result<Applier<S>, Unfit> {
        let opened = || {
            let content = open().map_err(|error| Unfit::Damaged(error.to_string()))?;
            Ok(Interruptible { inner: content, wanted: &self.wanted })
        };
        let why = match self.make_state(checkpoint, opened()?) {
            Ok(applier) => return Ok(applier),
            Err(why) => why,
        };
        let identified = identify(&mut opened()?);
        match identified {
            _ if self.wanted.is_ended() => Err(Unfit::Unwanted),
            Ok(id) if id == checkpoint => Err(Unfit::Refused(why)),
            Ok(id) => Err(Unfit::Damaged(format!(
                "it holds another checkpoint, of slot {} with digest {:016x}",
                id.slot, id.digest
            ))),
            Err(error) => Err(Unfit::Damaged(error.to_string())),
        }
    }

    fn make_state<S: Service>(
        &self,
        checkpoint: CheckpointId,
        mut from: Interruptible<'_, impl Read>,
    ) -> Result<Applier<S>, String> {
        let mut applier =
            Applier::restore(&mut from, NoPlants).map_err(|error| error.to_string())?;
        let slot = applier.applied_upto();
        if slot != checkpoint.slot {
            return Err(format!("it holds the state of slot {slot}"));
        }
        let panicked = || "the service panicked over what was restored".to_owned();
        let state = applier.checkpoint().ok_or_else(panicked)?;
        // Written to nowhere: that takes long for a large state, and the node may end meanwhile.
        let mut to = Interruptible { inner: io::sink(), wanted: &self.wanted };
        let written = catch_unwind(AssertUnwindSafe(|| state.write(&mut to)));
        let digest = written.map_err(|_| panicked())?.map_err(|error| error.to_string())?;
        if digest != checkpoint.digest {
            return Err(format!(
                "the digest of what was restored is {digest:016x}, not {:016x}: the service does not \
                 restore all of what it wrote",
                checkpoint.digest
            ));
        }
        Ok(applier)
    }
}
