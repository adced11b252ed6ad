//! One binary for all behaviour tests: weir as it runs, between a client and a fake registry.
//!
//! Each module is one behaviour; `support` holds everything they share.

pub mod support;

mod architecture;
mod support_works;
