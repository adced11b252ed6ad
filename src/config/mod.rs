//! What the operator said.
//!
//! The configuration has two shapes: the file as written, and [`Config`], in which nothing is left
//! to check. There is one crossing between them, and it reports every problem at once.

mod checked;
mod crossing;
mod document;
mod key;
mod load;
mod problem;
mod reading;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod refusals;
mod registries;
mod sections;
#[cfg(test)]
mod tests;
mod units;
mod values;

pub use checked::*;
pub use load::{LoadError, load, load_str};
pub use problem::{Danger, Place, Problem, Problems, Warning, Wrong};
pub(crate) use units::{duration_text, size_text};
pub(crate) use values::without_login;
