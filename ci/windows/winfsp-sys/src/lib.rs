//! The bindings of winfsp-sys for x86_64-pc-windows-gnu, for tests under Wine.
#![allow(warnings)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
pub type FILE_ACCESS_RIGHTS = u32;
pub type FILE_FLAGS_AND_ATTRIBUTES = u32;
