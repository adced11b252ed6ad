//! The harness: a fake registry, a client, and weir between them. Tests read like sentences.

pub mod child;
pub mod client;
pub mod content;
pub mod disk;
pub mod house;
pub mod logs;
pub mod members;
pub mod pull;
pub mod scrape;
pub mod time;
pub mod upstream;
pub mod wait;

pub use client::{Answer, Client, Ended};
pub use content::{Content, Image, Manifest};
pub use house::{House, Weir};
pub use logs::Logs;
pub use pull::{blob_path, manifest_path};
pub use time::HeldTime;
pub use upstream::{Auth, Bursts, Fault, Gate, On, Upstream};
pub use wait::{eventually, eventually_async};
