//! Streams: what they are, how an append is admitted, how operations change them, where their records are.
//!
//! A stream has two faces: the *speculative* one that admits appends before earlier ones are durable, and the
//! *committed* one that readers see.

pub mod admit;
pub mod catalog;
pub mod index;
pub mod lease;
pub mod op;
pub mod state;
pub(crate) mod token_codec;
