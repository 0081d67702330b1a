//! The mixer: coded pictures of many participants in, one coded picture per frame out. Binary `anchornet-mixer`.
//!
//! One process mixes for one channel and ends with its link. `docs/link.md` is the contract with the anchor.
//!
//! ```text
//! link ─► session ─► director (who is in, what tiles show) ─► layout (where) ─┐ plan
//!            │                                                               ▼
//!            └──────────── coded pictures ───────────────────────────► pipeline (GStreamer) ─► outbox ─► link
//!                                                                            │ ▲
//!                                                                            ▼ │ raw picture
//!                                                                  paint (names, placeholders, slate)
//! ```
//!
//! Everything but `session`, `listen` and `pipeline` is pure. GStreamer is named in `pipeline` only.
//!
//! Invariants:
//! - Output never stops: not for a stalled input, not when all are gone.
//! - Output pictures lie on the grid or all beside it by what the host is, with strictly increasing times.
//! - Nothing an input sends ends another input.

pub mod cli;
pub mod clock;
pub mod director;
pub mod fit;
pub mod follow;
pub mod grid;
pub mod layout;
pub mod listen;
pub mod outbox;
pub mod paint;
mod pipeline;
pub mod session;
