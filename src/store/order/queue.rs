//! A first-in, first-out chain through the slots, with its weight.

use super::slots::{NONE, Place, Slots};

#[derive(Debug)]
pub(super) struct Queue {
    place: Place,
    first: u32,
    last: u32,
    pub(super) bytes: u64,
    pub(super) len: usize,
}

impl Queue {
    pub(super) fn new(place: Place) -> Self {
        Queue {
            place,
            first: NONE,
            last: NONE,
            bytes: 0,
            len: 0,
        }
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn push(&mut self, slots: &mut Slots, at: u32) {
        let slot = slots.get_mut(at);
        slot.place = self.place;
        slot.previous = self.last;
        slot.next = NONE;
        self.bytes += slot.size;
        self.len += 1;
        match self.last {
            NONE => self.first = at,
            last => slots.get_mut(last).next = at,
        }
        self.last = at;
    }

    pub(super) fn unlink(&mut self, slots: &mut Slots, at: u32) {
        let slot = slots.get(at);
        let (previous, next) = (slot.previous, slot.next);
        self.bytes -= slot.size;
        self.len -= 1;
        match previous {
            NONE => self.first = next,
            previous => slots.get_mut(previous).next = next,
        }
        match next {
            NONE => self.last = previous,
            next => slots.get_mut(next).previous = previous,
        }
    }

    pub(super) fn push_front(&mut self, slots: &mut Slots, at: u32) {
        let slot = slots.get_mut(at);
        slot.place = self.place;
        slot.previous = NONE;
        slot.next = self.first;
        self.bytes += slot.size;
        self.len += 1;
        match self.first {
            NONE => self.last = at,
            first => slots.get_mut(first).previous = at,
        }
        self.first = at;
    }
}
