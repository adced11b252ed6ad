//! One binary for all behaviour tests: weir as it runs, between a client and a fake registry.
//!
//! Each module is one behaviour; `support` holds everything they share.

pub mod support;

mod access;
mod architecture;
mod bad_requests;
mod bad_upstream;
mod blobs;
mod cli;
mod crashes;
mod errors;
mod flights;
mod listings;
mod manifests;
mod ranges;
mod reload;
mod routing;
mod startup;
mod support_works;
mod tags;
mod tls;
mod tokens;
