//! The real world: runs the machines of Mainstay on sockets, disks and clocks.

pub mod front;
