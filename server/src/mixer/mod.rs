//! The anchor's end of a mixer: a child process that makes one picture out of many (`docs/link.md`).
//!
//! [`supervisor`] decides when a process is started, given up and started again (sans-IO); [`process`] runs one of them
//! and moves the link's bytes. A crash of GStreamer ends a process, never a channel.

pub mod process;
pub mod supervisor;
