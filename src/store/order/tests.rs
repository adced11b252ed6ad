//! The order against what it promises, on random work.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::oci::Algorithm;

const HEAVY: u64 = 1 << 20;

fn digest(n: u32) -> Digest {
    let algorithm = match n % 5 {
        0 => Algorithm::Sha512,
        _ => Algorithm::Sha256,
    };
    Digest::of(algorithm, &n.to_be_bytes())
}

fn idle(_: &Digest) -> bool {
    false
}

fn evict(order: &mut Order) -> Option<Digest> {
    order.victim(idle).map(|(digest, _)| digest)
}

#[test]
fn what_nobody_used_goes_first_in_first_out() {
    let mut order = Order::new();
    for n in 0..10 {
        order.insert(&digest(n), HEAVY, 0);
    }
    for n in 0..10 {
        assert_eq!(evict(&mut order), Some(digest(n)));
    }
    assert_eq!(evict(&mut order), None);
    assert_eq!(order.totals(), Totals::default());
}

#[test]
fn what_is_used_outlives_a_scan() {
    let mut order = Order::new();
    for n in 0..10 {
        order.insert(&digest(n), HEAVY, 0);
    }
    assert!(order.touch(&digest(0), 1));
    for n in 100..1000 {
        order.insert(&digest(n), HEAVY, 2);
        order.victim(idle).unwrap();
    }
    assert_eq!(order.size(&digest(0)), Some(HEAVY));
    assert_eq!(order.size(&digest(1)), None);
}

#[test]
fn the_ranges_of_one_pull_are_one_use() {
    let mut order = Order::new();
    for n in 0..1000 {
        order.insert(&digest(n), HEAVY, 0);
    }
    for _ in 0..10 {
        order.touch(&digest(999), 1);
    }
    assert_eq!(order.page(999, 1).0[0].uses, 0);
    for n in 1000..1020 {
        order.insert(&digest(n), HEAVY, 0);
    }
    for _ in 0..10 {
        order.touch(&digest(999), 2);
    }
    assert_eq!(order.page(999, 1).0[0].uses, 1);
}

#[test]
fn what_comes_back_soon_stays() {
    let mut order = Order::new();
    for n in 0..20 {
        order.insert(&digest(n), HEAVY, 0);
    }
    for n in 10..20 {
        order.touch(&digest(n), 0);
    }
    while order.size(&digest(0)).is_some() {
        evict(&mut order);
    }
    for n in 10..20 {
        order.requeue(order.slots.find(&digest(n)).unwrap(), 0);
    }
    order.insert(&digest(0), HEAVY, 0);
    assert!(
        order
            .page(0, 100)
            .0
            .iter()
            .any(|it| it.digest == digest(0) && it.main)
    );
}

#[test]
fn what_is_busy_or_pinned_does_not_go() {
    let mut order = Order::new();
    for n in 0..4 {
        order.insert(&digest(n), HEAVY, 0);
    }
    order.pin(&digest(0));
    order.pin(&digest(9));
    order.insert(&digest(9), HEAVY, 0);
    let busy = |it: &Digest| *it == digest(1) || *it == digest(2);
    assert_eq!(order.victim(busy), Some((digest(3), HEAVY)));
    assert_eq!(order.victim(busy), None);
    assert!(order.unpin(&digest(0)));
    assert!(!order.unpin(&digest(0)));
    assert_eq!(order.victim(busy), Some((digest(0), HEAVY)));
    assert_eq!(order.totals().pinned_bytes, HEAVY);
}

#[test]
fn a_victim_is_found_when_everything_is_in_use() {
    let mut order = Order::new();
    for n in 0..5000 {
        order.insert(&digest(n), HEAVY, 0);
        order.requeue(order.slots.find(&digest(n)).unwrap(), USES_MAX);
    }
    assert!(order.victim(idle).is_some());
}

#[test]
fn a_walk_sees_what_came_before_and_while_it_ran() {
    let mut order = Order::new();
    order.insert(&digest(0), HEAVY, 0);
    order.insert(&digest(1), HEAVY, 0);
    for _ in 0..3 {
        order.begin_walk();
        assert!(!order.is_seen(&digest(0)));
        assert_eq!(order.see(&digest(0)), Some(HEAVY));
        order.insert(&digest(2), HEAVY, 0);
        assert!(order.is_seen(&digest(0)) && order.is_seen(&digest(2)));
        assert!(!order.is_seen(&digest(1)));
    }
}

#[test]
fn what_was_met_before_the_index_was_read_is_joined_with_it() {
    let mut kept = Kept::default();
    let mut order = Order::new();
    order.number_from(0);
    for n in 0..3 {
        order.insert(&digest(n), HEAVY, 0);
        order.requeue(order.slots.find(&digest(n)).unwrap(), 2);
    }
    kept.take(order.take_changes(100));
    let mut again = Order::new();
    again.insert(&digest(1), HEAVY, 9);
    again.number_from(3 + 3);
    kept.take(again.take_changes(100));
    // Twice, as when a start is begun and ended at once.
    for _ in 0..2 {
        for record in kept.0.values().rev() {
            again.restore(record);
        }
        kept.take(again.take_changes(100));
        assert_eq!(kept.0.len(), 3);
    }
    let joined = kept.0.values().last().unwrap();
    assert_eq!(
        (joined.digest, joined.uses, joined.main),
        (digest(1), 2, true)
    );
    assert_eq!(again.totals().objects, 3);
}

/// The index as far as the order is concerned.
#[derive(Default)]
struct Kept(BTreeMap<u64, Record>);

impl Kept {
    fn take(&mut self, changes: Changes) {
        self.0.extend(
            changes
                .put
                .into_iter()
                .map(|record| (record.number, record)),
        );
        for number in changes.gone {
            self.0.remove(&number);
        }
    }

    fn restore(&self) -> Order {
        let mut order = Order::new();
        order.number_from(self.0.keys().last().map_or(0, |last| last + 1));
        for record in self.0.values().rev() {
            order.restore(record);
        }
        order
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32, u64),
    Touch(u32),
    Remove(u32),
    Evict,
    Pin(u32),
    Unpin(u32),
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..40_u32;
    prop_oneof![
        4 => (n.clone(), prop_oneof![Just(1000), Just(HEAVY), 0..HEAVY])
            .prop_map(|(n, size)| Step::Insert(n, size)),
        4 => n.clone().prop_map(Step::Touch),
        1 => n.clone().prop_map(Step::Remove),
        3 => Just(Step::Evict),
        1 => n.clone().prop_map(Step::Pin),
        1 => n.prop_map(Step::Unpin),
        1 => Just(Step::Tell),
    ]
}

proptest! {
    #[test]
    fn totals_and_index_follow_every_step(steps in prop::collection::vec(step(), 1..200)) {
        let mut order = Order::new();
        let mut model: HashMap<Digest, u64> = HashMap::new();
        let mut kept = Kept::default();
        for step in steps {
            match step {
                Step::Insert(n, size) => {
                    order.insert(&digest(n), size, 0);
                    model.insert(digest(n), size);
                }
                Step::Touch(n) => {
                    prop_assert_eq!(order.touch(&digest(n), 1), model.contains_key(&digest(n)));
                }
                Step::Remove(n) => {
                    prop_assert_eq!(order.remove(&digest(n)), model.remove(&digest(n)));
                }
                Step::Evict => match order.victim(idle) {
                    Some((victim, size)) => {
                        prop_assert_eq!(model.remove(&victim), Some(size));
                        prop_assert!(!order.is_pinned(&victim));
                    }
                    None => prop_assert!(model.keys().all(|it| order.is_pinned(it))),
                },
                Step::Pin(n) => order.pin(&digest(n)),
                Step::Unpin(n) => drop(order.unpin(&digest(n))),
                Step::Tell => kept.take(order.take_changes(7)),
            }
            let totals = order.totals();
            prop_assert_eq!(totals.bytes, model.values().sum::<u64>());
            prop_assert_eq!(totals.objects, model.len());
        }
        for _ in 0..200 {
            kept.take(order.take_changes(7));
        }
        let mut again = kept.restore();
        for digest in order.pins() {
            again.pin(&digest);
        }
        prop_assert_eq!(again.totals(), order.totals());
        // The ghosts are lost; without them both go on alike.
        while let Some(victim) = order.victim(idle) {
            prop_assert_eq!(again.victim(idle), Some(victim));
        }
    }
}
