//! Tests of the program on virtual time.

#![expect(clippy::cast_possible_truncation, reason = "small numbers of a script")]

mod aac;
mod crowd;
mod cut;
mod live;
mod long;
mod property;
mod sound;
mod support;
mod timeline;
