//! What this room counts.

/// The metrics of this room.
#[derive(Debug, Clone)]
pub struct Metrics {}

impl Metrics {
    pub fn new(_registry: &prometheus::Registry) -> Self {
        Metrics {}
    }
}
