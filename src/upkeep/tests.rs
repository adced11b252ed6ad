//! The upkeep over a store in a temporary directory.
