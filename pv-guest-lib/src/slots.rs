//! What was asked and has no answer yet, by the number that travels with it.
//!
//! The other side sends the number back; one that stands for nothing, or was answered already, is an error and not an index.

use alloc::vec::Vec;

/// A number that stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownId(pub u64);

enum Slot<T> {
    Used(T),
    /// The next free one.
    Free(Option<u32>),
}

/// A table of things by number, with a fixed number of places.
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    used: usize,
}

impl<T> Slots<T> {
    /// Makes a table with places for `size` things.
    pub fn new(size: u32) -> Self {
        let next = |number: u32| (number + 1 < size).then_some(number + 1);
        let slots = (0..size).map(|number| Slot::Free(next(number))).collect();
        Self { slots, free: (size > 0).then_some(0), used: 0 }
    }

    /// Puts a thing in and returns its number, or gives it back when there is no place.
    pub fn insert(&mut self, thing: T) -> Result<u32, T> {
        let Some(number) = self.free else { return Err(thing) };
        let Some(slot) = self.slots.get_mut(number as usize) else { return Err(thing) };
        if let Slot::Free(next) = slot {
            self.free = *next;
        }
        *slot = Slot::Used(thing);
        self.used += 1;
        Ok(number)
    }

    /// Takes the thing out that a number stands for.
    pub fn remove(&mut self, id: u64) -> Result<T, UnknownId> {
        let number = u32::try_from(id).map_err(|_| UnknownId(id))?;
        let slot = self.slots.get_mut(number as usize).ok_or(UnknownId(id))?;
        if matches!(slot, Slot::Free(_)) {
            return Err(UnknownId(id));
        }
        let taken = core::mem::replace(slot, Slot::Free(self.free));
        self.free = Some(number);
        self.used -= 1;
        match taken {
            Slot::Used(thing) => Ok(thing),
            Slot::Free(_) => Err(UnknownId(id)),
        }
    }

    /// Returns the thing that a number stands for.
    pub fn get_mut(&mut self, id: u64) -> Result<&mut T, UnknownId> {
        let index = usize::try_from(id).map_err(|_| UnknownId(id))?;
        match self.slots.get_mut(index) {
            Some(Slot::Used(thing)) => Ok(thing),
            _ => Err(UnknownId(id)),
        }
    }

    /// Returns how many things are in it.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns whether another thing has a place.
    pub fn has_room(&self) -> bool {
        self.free.is_some()
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        let size = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let old = core::mem::replace(self, Self::new(size));
        old.slots.into_iter().filter_map(|slot| match slot {
            Slot::Used(thing) => Some(thing),
            Slot::Free(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_number_is_good_for_one_answer() {
        let mut slots = Slots::new(4);
        let number = slots.insert("one").unwrap();
        assert_eq!(slots.remove(u64::from(number)), Ok("one"));
        assert_eq!(slots.remove(u64::from(number)), Err(UnknownId(0)));
    }

    #[test]
    fn numbers_out_of_range_stand_for_nothing() {
        let mut slots = Slots::new(4);
        slots.insert(()).unwrap();
        for id in [1, 3, 4, 5, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            assert_eq!(slots.remove(id), Err(UnknownId(id)));
            assert!(slots.get_mut(id).is_err());
        }
    }

    #[test]
    fn a_full_table_gives_the_thing_back() {
        let mut slots = Slots::new(1);
        slots.insert(1).unwrap();
        assert_eq!(slots.insert(2), Err(2));
        assert!(!slots.has_room());
        assert_eq!(Slots::new(0).insert(3), Err(3));
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map(steps in proptest::collection::vec((any::<bool>(), 0u64..12), 0..200)) {
            let mut slots = Slots::new(8);
            let mut model = BTreeMap::new();
            for (step, (insert, id)) in steps.into_iter().enumerate() {
                if insert {
                    match slots.insert(step) {
                        Ok(number) => prop_assert!(model.insert(u64::from(number), step).is_none()),
                        Err(_) => prop_assert_eq!(model.len(), 8),
                    }
                } else {
                    prop_assert_eq!(slots.remove(id).ok(), model.remove(&id));
                }
                prop_assert_eq!(slots.used(), model.len());
            }
            let rest: Vec<_> = slots.drain().collect();
            prop_assert_eq!(rest, model.into_values().collect::<Vec<_>>());
        }
    }
}
