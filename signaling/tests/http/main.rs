//! The HTTP surface against a fake backend: what a client sees, status by status.
#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod api;
mod auth;
mod events;
mod fake;
mod invites;
mod mutated;
mod openapi;
mod pages;
mod slate;
mod whip;
