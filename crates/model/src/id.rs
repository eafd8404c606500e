//! Newtypes for everything that is counted or named, so that mixing two of them does not compile.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// A position in the replicated log. Slots start at 1; 0 means "none".
    Slot(u64)
}
number! {
    /// Which configuration (set of voting replicas) a slot, record or message belongs to.
    ConfigurationId(u64)
}
number! {
    /// A replicated group inside a process. 0 stands for the node itself (hello, heartbeats).
    GroupId(u32)
}
number! {
    /// Position of a persist request in the order in which a machine asked for it. Durability of a
    /// mark implies durability of every lower one.
    Mark(u64)
}
number! {
    /// Chosen by a world to recognise the answer to something it handed in.
    Token(u64)
}
number! {
    /// Position of a request in its session, from 1. 0 means "none".
    RequestNumber(u64)
}

impl Slot {
    /// "No slot".
    pub const NONE: Self = Self(0);
    /// The first slot of every log.
    pub const FIRST: Self = Self(1);

    /// The slot after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The slot before this one; the one before [`Slot::FIRST`] is [`Slot::NONE`], and so is the
    /// one before that.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl GroupId {
    /// The node itself: hello, heartbeats, administration.
    pub const NODE: Self = Self(0);
    /// The first replicated group of a node.
    pub const FIRST: Self = Self(1);
}

impl RequestNumber {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Mark {
    /// The mark after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! random {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

random! {
    /// Names a cluster: 128 random bits, drawn once when the cluster is made.
    ClusterId
}
random! {
    /// Makes the registration of a session idempotent: 128 random bits, drawn once a session.
    Nonce
}

/// The incarnation of a replica's index: (counter, instance), compared in that order
/// (Jehl, Lea and Meling, "Replacement", SRDS 2015).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Counts the incarnations of the index.
    pub counter: u32,
    /// Random bits of the incarnation, so that two that were made at once differ.
    pub instance: u32,
}

/// A replica: the place it holds in its configuration, and which incarnation of that place it is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// The place in the configuration, from 0.
    pub index: u16,
    /// The incarnation that holds it.
    pub epoch: Epoch,
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}e{}", self.index, self.epoch.counter)
    }
}

/// A client's session: where its registration stands in the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The slot of the first registration of the session's nonce.
    pub slot: Slot,
    /// Its position among the requests of that slot, from 0.
    pub position: u32,
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.position)
    }
}

/// What a request is called before it is ordered: whose it is, and which of theirs. The requests of
/// one client are carried out in the order of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// Whose; unique among the clients of a group.
    pub client: u128,
    /// Which of theirs.
    pub number: RequestNumber,
}
