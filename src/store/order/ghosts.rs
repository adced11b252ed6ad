//! Names of content that went a short while ago.
//!
//! Content that comes back while its ghost is here has proven to be wanted. The table has a fixed
//! size and forgets: a ghost that is overwritten too early costs a little precision, nothing else.

/// Fewest ghosts that there is room for.
const ROOM_MIN: usize = 1 << 10;
const ROOM_MAX: usize = 1 << 18;

#[derive(Debug, Clone, Copy, Default)]
struct Ghost {
    name: u64,
    /// Bytes that had gone before it went.
    went_at: u64,
}

#[derive(Debug)]
pub(super) struct Ghosts {
    table: Vec<Ghost>,
    /// Bytes that have gone in all.
    gone: u64,
}

impl Ghosts {
    pub(super) fn new() -> Self {
        Ghosts {
            table: vec![Ghost::default(); ROOM_MIN],
            gone: 0,
        }
    }

    /// Notes that content went. `name` is a uniform hash of it; `others` is how much content stays.
    pub(super) fn add(&mut self, name: u64, size: u64, others: usize) {
        let room = others.next_power_of_two().clamp(ROOM_MIN, ROOM_MAX);
        if room > self.table.len() {
            self.grow(room);
        }
        self.gone += size;
        let at = self.place(name);
        self.table[at] = Ghost {
            name,
            went_at: self.gone,
        };
    }

    /// Whether this content went no more than `within` bytes of others ago. Its ghost is laid to
    /// rest.
    pub(super) fn take(&mut self, name: u64, within: u64) -> bool {
        let at = self.place(name);
        let ghost = self.table[at];
        if ghost.went_at == 0 || ghost.name != name {
            return false;
        }
        self.table[at] = Ghost::default();
        self.gone - ghost.went_at <= within
    }

    fn place(&self, name: u64) -> usize {
        // The table is never larger than 2^18.
        name as usize & (self.table.len() - 1)
    }

    fn grow(&mut self, room: usize) {
        let old = std::mem::replace(&mut self.table, vec![Ghost::default(); room]);
        for ghost in old.into_iter().filter(|ghost| ghost.went_at > 0) {
            let at = self.place(ghost.name);
            self.table[at] = ghost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_stays_for_so_many_bytes_and_is_met_once() {
        let mut ghosts = Ghosts::new();
        ghosts.add(7, 100, 10);
        ghosts.add(8, 100, 10);
        assert!(!ghosts.take(9, 1000));
        assert!(ghosts.take(7, 100));
        assert!(!ghosts.take(7, 1000));
        ghosts.add(9, 1, 10);
        assert!(!ghosts.take(8, 0));
    }

    #[test]
    fn the_table_grows_with_what_it_stands_beside() {
        let mut ghosts = Ghosts::new();
        let name = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        for n in 0..20_000 {
            ghosts.add(name(n), 1, 1 << 16);
        }
        let met = (10_000..20_000)
            .filter(|n| ghosts.take(name(*n), u64::MAX))
            .count();
        assert!(met > 8_000, "{met}");
    }
}
