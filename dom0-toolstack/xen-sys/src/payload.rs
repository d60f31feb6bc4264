//! A hypercall's argument as bytes, with fields at the offsets of the public headers.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The argument of one operation: `N` bytes, zero at first.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct Payload<const N: usize>([u8; N]);

impl<const N: usize> Payload<N> {
    pub(crate) const fn new() -> Self {
        Self([0; N])
    }

    /// Sets the bytes at `offset`; offsets are constants, and one beyond the end is a bug here.
    #[must_use]
    pub(crate) fn bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        let field = self.0.get_mut(offset..offset + bytes.len());
        field.expect("a field lies inside its structure").copy_from_slice(bytes);
        self
    }

    #[must_use]
    pub(crate) fn u8(self, offset: usize, value: u8) -> Self {
        self.bytes(offset, &[value])
    }

    #[must_use]
    pub(crate) fn u16(self, offset: usize, value: u16) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    #[must_use]
    pub(crate) fn u32(self, offset: usize, value: u32) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    #[must_use]
    pub(crate) fn u64(self, offset: usize, value: u64) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    pub(crate) fn array<const L: usize>(&self, offset: usize) -> [u8; L] {
        let field = self.0.get(offset..offset + L).and_then(|field| field.try_into().ok());
        field.expect("a field lies inside its structure")
    }

    pub(crate) fn get_u8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.array(offset))
    }

    pub(crate) fn get_u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    pub(crate) fn get_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    pub(crate) fn get_u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_little_endian_at_their_offsets() {
        let payload = Payload::<16>::new().u16(2, 0x0201).u64(8, 0xff);
        assert_eq!(payload.as_bytes(), [0, 0, 1, 2, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            (payload.get_u16(2), payload.get_u64(8), payload.get_u32(0)),
            (0x0201, 0xff, 0x0201_0000)
        );
    }
}
