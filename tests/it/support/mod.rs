//! The harness: a fake registry, a client, and weir between them. Tests read like sentences.

pub mod client;
pub mod content;
pub mod upstream;
pub mod wait;

pub use client::{Client, Ended};
pub use content::{Content, Manifest};
pub use upstream::{Auth, Fault, Gate, On, Upstream};
pub use wait::eventually;
