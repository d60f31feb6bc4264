//! Stand-ins for the machine, for tests on the host. They are values, never statics.

use crate::addr::{MachineAddr, Mfn, PAGE_SIZE, to_index};
use crate::memory::{FrameMemory, OwnFrame, Words};
use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::sync::atomic::AtomicU64;
use spin::Mutex;

const PAGE: usize = to_index(PAGE_SIZE);

/// Machine memory as a map of pages that spring up, zeroed, when first touched.
#[derive(Debug, Default)]
pub struct FakeMemory {
    pages: Mutex<Pages>,
    /// Words of frames that only the hypervisor uses, for [`FrameMemory::own`] to hand out.
    spare: Mutex<Vec<Arc<Words>>>,
}

#[derive(Debug, Default)]
struct Pages {
    /// Memory that is there from the start, from this frame on.
    first: u64,
    ram: Vec<u8>,
    /// All other pages that were ever touched.
    others: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Pages {
    fn page(&mut self, frame: u64) -> &mut [u8] {
        let offset = frame.checked_sub(self.first).map(|index| to_index(index) * PAGE);
        match offset.filter(|offset| *offset < self.ram.len()) {
            Some(offset) => self.ram.get_mut(offset..offset + PAGE).expect("RAM is whole pages"),
            None => self.others.entry(frame).or_insert_with(|| Box::new([0; PAGE])).as_mut_slice(),
        }
    }
}

impl FakeMemory {
    /// Makes a memory of which `frames` frames from `first` on are there from the start.
    pub fn covering(first: Mfn, frames: u64) -> Self {
        let ram = alloc::vec![0; to_index(frames) * PAGE];
        let pages = Pages { first: first.number(), ram, others: BTreeMap::new() };
        Self { pages: Mutex::new(pages), spare: Mutex::default() }
    }

    /// Keeps the words of `count` frames ready, so that [`FrameMemory::own`] allocates nothing.
    pub fn stock(&self, count: usize) {
        let mut spare = self.spare.lock();
        while spare.len() < count {
            spare.push(Arc::new([const { AtomicU64::new(0) }; 512]));
        }
    }

    fn each_byte(&self, at: MachineAddr, len: usize, mut action: impl FnMut(usize, &mut u8)) {
        let mut pages = self.pages.lock();
        for index in 0..len {
            let address = at.checked_add(index as u64).expect("a test's address does not wrap");
            let page = pages.page(address.frame().number());
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
        let start = to_index(at.offset());
        let page = pages.page(at.frame().number());
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
        let spare = self.spare.lock().pop();
        let words = spare.unwrap_or_else(|| Arc::new([const { AtomicU64::new(0) }; 512]));
        OwnFrame { mfn, words }
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
        // No more than a page is ever copied.
        let mut bytes = [0; PAGE];
        let bytes = bytes.get_mut(..len).expect("a copy stays within a page");
        self.read(from, bytes);
        self.write(to, bytes);
    }

    fn zero(&self, frame: Mfn) {
        self.pages.lock().page(frame.number()).fill(0);
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
