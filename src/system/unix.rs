//! Linux and macOS: a socket in the cache directory, signals, the mount table.

pub(crate) mod channel;
pub(crate) mod daemon;
pub(crate) mod dir;
pub(crate) mod files;
mod helper;
pub(crate) mod mountpoint;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod unmount;
pub(crate) mod user;

pub(crate) use helper::command_line;
