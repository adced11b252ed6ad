//! The guide, for those who run weir: four pages that can be read here and on a git host.
//!
//! | page | for whom |
//! |---|---|
//! | [`tutorial`] | who meets weir for the first time: a mirror of Docker Hub, from nothing to alerts |
//! | [`how_to`] | who has a task: clients, registries, private images, air gap, alerts |
//! | [reference](mod@reference) | who looks something up: command line, API, every error with its cure |
//! | [`explanation`] | who wants to know why: architecture, promises and their tests, threat model |
//!
//! `tests/it/guide.rs` keeps the pages true. There is no code here.

#[doc = include_str!("tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("how_to.md")]
pub mod how_to {}

#[doc = include_str!("reference.md")]
pub mod reference {}

#[doc = include_str!("explanation.md")]
pub mod explanation {}
