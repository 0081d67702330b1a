//! The client side of RTMP (Adobe RTMP 1.0), sans-IO: bytes in, bytes and events out.
//!
//! [`session::Session`] speaks the publishing dialogue that encoders speak: handshake, `connect`, `releaseStream`,
//! `FCPublish`, `createStream`, `publish`. From the `rml_rtmp` crate come messages and AMF0. Its chunk layer is not used: it
//! shares one buffer between chunk streams, so that interleaved messages of a server can make it panic, it cannot express
//! timestamps that wrap, and it copies twice. Its client session sends neither `releaseStream` nor `FCPublish`, which some
//! CDNs wait for, and hides why a server refuses.

pub(crate) mod chunk;
pub(crate) mod session;
pub(crate) mod url;
