//! The real program with real GStreamer, driven over a socket pair as by an anchor. What counts are timestamps and
//! pixels; wall time only where the contract speaks of it, with room for busy machines.

#![expect(clippy::expect_used, reason = "a test may fail on the spot")]

mod contract;
mod drawing;
mod support;
mod timeline;
