//! The HTTP surface of AnchorNet: WHIP, WHEP, the control API, events, pages, and their types.
//!
//! This crate owns the wire contract and nothing else. Every decision about channels, media and nodes is
//! behind [`Backend`]; the composition root implements it and serves [`router`].
//!
//! Invariants:
//! - Every error body is `application/problem+json` (RFC 9457), also those of the HTTP framework itself.
//! - Nothing received from the network reaches [`Backend`] unparsed: identifiers, URLs and layouts are
//!   validated into the types of [`types`] first.
//! - Every list is a [`types::Page`], every body and every queue has a bound.
//! - Tokens never reach the log: query strings are not logged.

mod api;
pub mod auth;
pub mod backend;
mod clock;
mod config;
mod limit;
mod pages;
mod problem;
pub mod types;

pub use api::{openapi_document, router};
pub use backend::{Backend, Error};
pub use config::Config;
pub use limit::Limiter as SessionLimiter;
pub use problem::Problem;

/// Names and meanings of this crate's metrics, for the recorder.
pub fn describe_metrics() {
    api::describe_metrics();
}
