//! A set of fingerprints, of which a look touches one line of the processor's cache.
//!
//! In a common hash table a look at one of a million entries waits for memory twice, and each time
//! costs as much as everything else about it. Here a fingerprint lies in the line that its first half
//! tells, or in the next one that had room: lines are filled one after the other, so whoever looks goes
//! on only past full lines.

use std::iter;

/// As random as any hash of it, and never zero.
pub(super) type Print = [u64; 2];

/// Nothing lies here.
const NONE: Print = [0; 2];
const PRINTS_A_LINE: usize = 4;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([Print; PRINTS_A_LINE]);

const EMPTY: Line = Line([NONE; PRINTS_A_LINE]);

#[derive(Debug, Default)]
pub(super) struct Prints {
    lines: Vec<Line>,
    count: usize,
}

impl Prints {
    pub(super) fn contains(&self, print: &Print) -> bool {
        self.find(print).is_some()
    }

    /// `false` when it was there.
    pub(super) fn insert(&mut self, print: Print) -> bool {
        if self.contains(&print) {
            return false;
        }
        // At four fifths, lines in which nothing more fits are still few.
        if self.count * 5 >= self.lines.len() * PRINTS_A_LINE * 4 {
            self.grow();
        }
        self.place(print);
        self.count += 1;
        true
    }

    /// `false` when it was not there.
    pub(super) fn remove(&mut self, print: &Print) -> bool {
        let Some((at, place)) = self.find(print) else {
            return false;
        };
        let was_full = self.lines[at].is_full();
        let line = &mut self.lines[at].0;
        line[place..].rotate_left(1);
        line[PRINTS_A_LINE - 1] = NONE;
        self.count -= 1;
        if was_full {
            self.replace_behind(at);
        }
        true
    }

    /// Where the line `at` is not full any more, what had to go past it is placed anew.
    fn replace_behind(&mut self, at: usize) {
        for at in self.lines_from(at).skip(1) {
            let line = std::mem::replace(&mut self.lines[at], EMPTY);
            for print in line.0.into_iter().filter(|print| *print != NONE) {
                self.place(print);
            }
            if !line.is_full() {
                return;
            }
        }
    }

    fn find(&self, print: &Print) -> Option<(usize, usize)> {
        if self.lines.is_empty() {
            return None;
        }
        for at in self.lines_from(self.home(print)) {
            let line = &self.lines[at];
            if let Some(place) = line.0.iter().position(|other| other == print) {
                return Some((at, place));
            }
            if !line.is_full() {
                return None;
            }
        }
        None
    }

    fn place(&mut self, print: Print) {
        for at in self.lines_from(self.home(&print)) {
            let places = &mut self.lines[at].0;
            if let Some(place) = places.iter_mut().find(|place| **place == NONE) {
                *place = print;
                return;
            }
        }
    }

    fn grow(&mut self) {
        let lines = self.lines.len() + self.lines.len() / 4 + 1;
        let old = std::mem::replace(&mut self.lines, vec![EMPTY; lines]);
        let prints = old.iter().flat_map(|line| line.0);
        for print in prints.filter(|print| *print != NONE) {
            self.place(print);
        }
    }

    fn home(&self, print: &Print) -> usize {
        // Less than the number of lines, where there are any.
        ((u128::from(print[0]) * self.lines.len() as u128) >> 64) as usize
    }

    /// Each line once, from this one on and around.
    fn lines_from(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.lines.len();
        let next = move |at: &usize| Some(if at + 1 == count { 0 } else { at + 1 });
        iter::successors(Some(first), next).take(count)
    }
}

impl Line {
    fn is_full(&self) -> bool {
        self.0[PRINTS_A_LINE - 1] != NONE
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of few homes, so that lines overflow, and around the end.
        #[test]
        fn it_holds_what_a_set_holds(
            steps in prop::collection::vec((any::<bool>(), 0..8_u64, 1..40_u64), 1..400),
        ) {
            let (mut prints, mut set) = (Prints::default(), HashSet::new());
            for (put, home, rest) in steps {
                let print = [u64::MAX - (home << 60), rest];
                if put {
                    prop_assert_eq!(prints.insert(print), set.insert(print));
                } else {
                    prop_assert_eq!(prints.remove(&print), set.remove(&print));
                }
                prop_assert_eq!(prints.count, set.len());
            }
            for home in 0..8 {
                for rest in 1..40 {
                    let print = [u64::MAX - (home << 60), rest];
                    prop_assert_eq!(prints.contains(&print), set.contains(&print));
                }
            }
        }
    }

    #[test]
    fn a_line_is_one_of_the_processor_s() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
    }

    #[test]
    fn most_are_found_where_they_are_looked_for_first() {
        let mut random = fastrand::Rng::with_seed(5);
        let all: Vec<_> = (1..=100_000).map(|rest| [random.u64(..), rest]).collect();
        let mut prints = Prints::default();
        for print in &all {
            prints.insert(*print);
        }
        let at_home = |print: &&Print| {
            let (at, _) = prints.find(print).unwrap();
            at == prints.home(print)
        };
        let at_home = all.iter().filter(at_home).count();
        assert!(at_home > 75_000, "{at_home}");
        let places = prints.lines.len() * PRINTS_A_LINE;
        assert!(places < 160_000, "{places}");
    }
}
