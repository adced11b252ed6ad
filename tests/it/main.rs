//! One binary for all behaviour tests: weir as it runs, between a client and a fake registry.
//!
//! Each module is one behaviour; `support` holds everything they share.

pub mod support;

mod access;
mod admin;
mod architecture;
mod bad_requests;
mod bad_upstream;
mod blobs;
mod bursts;
mod cli;
mod client_logins;
mod client_rights;
mod client_rights_end;
mod conformance;
mod crashes;
mod crowds;
mod elsewhere;
mod errors;
mod flights;
mod guide;
mod listings;
mod manifests;
mod metrics_table;
mod parts;
mod patience;
mod ranges;
mod reload;
mod request_log;
mod resolve;
mod routing;
mod setup;
mod simulation;
mod smuggling;
mod sockets;
mod startup;
mod support_works;
mod tags;
mod tls;
mod tokens;
