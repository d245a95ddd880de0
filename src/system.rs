//! What each system has of its own: one room for each, with the same names in both. All else in
//! `src` is the same everywhere.
//!
//! | in both rooms | what |
//! |---|---|
//! | `channel` | the control channel: who may ask a daemon, and how it is found |
//! | `daemon` | away from the terminal, what ends a mount, what it needs of the system |
//! | `dir` | a directory as a share |
//! | `files` | files and directories that are their owner's alone; names as bytes |
//! | `mountpoint` | where a drive may appear, and what the system needs for one |
//! | `table` | which drives there are, and which of them holds a path |
//! | `terminal` | asking for a secret |
//! | `unmount` | ending a mount from outside |
//! | `user` | who runs this, and where that user keeps state |

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
