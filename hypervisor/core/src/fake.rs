//! Stand-ins for the machine, for tests on the host. They are values, never statics.

use crate::addr::{MachineAddr, Mfn, PAGE_SIZE, to_index};
use crate::memory::{FrameMemory, OwnFrame, Words};
use alloc::{boxed::Box, collections::BTreeMap, sync::Arc};
use core::sync::atomic::AtomicU64;
use spin::Mutex;

type Page = Box<[u8; to_index(PAGE_SIZE)]>;

/// Machine memory as a map of pages that spring up, zeroed, when first touched.
#[derive(Debug, Default)]
pub struct FakeMemory {
    pages: Mutex<BTreeMap<u64, Page>>,
}

impl FakeMemory {
    fn each_byte(&self, at: MachineAddr, len: usize, mut action: impl FnMut(usize, &mut u8)) {
        let mut pages = self.pages.lock();
        for index in 0..len {
            let address = at.checked_add(index as u64).expect("a test's address does not wrap");
            let page = pages
                .entry(address.frame().number())
                .or_insert_with(|| Box::new([0; to_index(PAGE_SIZE)]));
            let byte = page.get_mut(to_index(address.offset())).expect("an offset is in its page");
            action(index, byte);
        }
    }

    /// Replaces the `N` bytes at `at` by what `change` makes of them; returns what they were.
    fn update<const N: usize>(
        &self,
        at: MachineAddr,
        change: impl FnOnce([u8; N]) -> [u8; N],
    ) -> [u8; N] {
        assert_eq!(at.raw() % N as u64, 0, "a word is naturally aligned");
        let mut pages = self.pages.lock();
        let page =
            pages.entry(at.frame().number()).or_insert_with(|| Box::new([0; to_index(PAGE_SIZE)]));
        let start = to_index(at.offset());
        let bytes = page.get_mut(start..start + N).expect("an aligned word is in one page");
        let old: [u8; N] = (&*bytes).try_into().expect("the slice has this length");
        bytes.copy_from_slice(&change(old));
        old
    }
}

impl FrameMemory for FakeMemory {
    type Own = Arc<Words>;

    /// Returns words that are zero, apart from what [`FrameMemory::load_u64`] and the others reach.
    fn own(&self, mfn: Mfn) -> OwnFrame<Arc<Words>> {
        OwnFrame { mfn, words: Arc::new([const { AtomicU64::new(0) }; 512]) }
    }

    fn read(&self, at: MachineAddr, bytes: &mut [u8]) {
        self.each_byte(at, bytes.len(), |index, byte| {
            if let Some(slot) = bytes.get_mut(index) {
                *slot = *byte;
            }
        });
    }

    fn write(&self, at: MachineAddr, bytes: &[u8]) {
        self.each_byte(at, bytes.len(), |index, byte| {
            if let Some(value) = bytes.get(index) {
                *byte = *value;
            }
        });
    }

    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize) {
        let mut bytes = alloc::vec![0; len];
        self.read(from, &mut bytes);
        self.write(to, &bytes);
    }

    fn zero(&self, frame: Mfn) {
        self.pages.lock().remove(&frame.number());
    }

    fn clean_and_invalidate(&self, _: MachineAddr, _: usize) {}

    fn load_u64(&self, at: MachineAddr) -> u64 {
        u64::from_le_bytes(self.update(at, |old| old))
    }

    fn store_u64(&self, at: MachineAddr, value: u64) {
        self.update(at, |_| value.to_le_bytes());
    }

    fn fetch_or_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        u64::from_le_bytes(self.update(at, |old| (u64::from_le_bytes(old) | bits).to_le_bytes()))
    }

    fn fetch_and_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        u64::from_le_bytes(self.update(at, |old| (u64::from_le_bytes(old) & bits).to_le_bytes()))
    }

    fn load_u32(&self, at: MachineAddr) -> u32 {
        u32::from_le_bytes(self.update(at, |old| old))
    }

    fn store_u32(&self, at: MachineAddr, value: u32) {
        self.update(at, |_| value.to_le_bytes());
    }

    fn fetch_or_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        u32::from_le_bytes(self.update(at, |old| (u32::from_le_bytes(old) | bits).to_le_bytes()))
    }

    fn fetch_and_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        u32::from_le_bytes(self.update(at, |old| (u32::from_le_bytes(old) & bits).to_le_bytes()))
    }

    fn compare_exchange_u32(&self, at: MachineAddr, current: u32, new: u32) -> Result<u32, u32> {
        let old = u32::from_le_bytes(self.update(at, |old| {
            if u32::from_le_bytes(old) == current { new.to_le_bytes() } else { old }
        }));
        if old == current { Ok(old) } else { Err(old) }
    }

    fn fetch_and_u16(&self, at: MachineAddr, bits: u16) -> u16 {
        u16::from_le_bytes(self.update(at, |old| (u16::from_le_bytes(old) & bits).to_le_bytes()))
    }

    fn load_u8(&self, at: MachineAddr) -> u8 {
        u8::from_le_bytes(self.update(at, |old| old))
    }

    fn swap_u8(&self, at: MachineAddr, value: u8) -> u8 {
        u8::from_le_bytes(self.update(at, |_| value.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_words_are_the_same_memory() {
        let memory = FakeMemory::default();
        memory.write(MachineAddr::new(0xffe), &[1, 2, 3, 4]);
        assert_eq!(memory.load_u32(MachineAddr::new(0x1000)), 0x0403);
        assert_eq!(memory.compare_exchange_u32(MachineAddr::new(0x1000), 0, 9), Err(0x0403));
        assert_eq!(memory.fetch_or_u32(MachineAddr::new(0x1000), 0xff_0000), 0x0403);
        let mut bytes = [0; 4];
        memory.read(MachineAddr::new(0xffe), &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(memory.swap_u8(MachineAddr::new(0x1002), 7), 0xff);
    }
}
