//! What the operator said.
//!
//! The configuration has two shapes: the file as written, and [`Config`], in which nothing is left
//! to check. There is one crossing between them, and it reports every problem at once.

mod checked;

pub use checked::*;
