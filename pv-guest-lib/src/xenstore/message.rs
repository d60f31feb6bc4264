//! Messages of the store (`public/io/xs_wire.h`), cut out of a stream that may say anything.

use super::StoreError;
use crate::byte_ring::Reader;
use alloc::string::String;
use alloc::vec::Vec;
use hypercall_abi::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsdSockmsg};
use zerocopy::{FromZeros, IntoBytes};

const HEADER: usize = size_of::<XsdSockmsg>();

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One of `XS_`.
    pub kind: u32,
    /// The request it answers.
    pub id: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// Appends a request to `out`: a header and its parts one after another.
pub fn encode(
    out: &mut Vec<u8>,
    kind: u32,
    id: u32,
    transaction: u32,
    parts: &[&[u8]],
) -> Result<(), StoreError> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let len = u32::try_from(len).ok().filter(|len| *len as usize <= XENSTORE_PAYLOAD_MAX);
    let len = len.ok_or(StoreError::TooLong)?;
    let header = XsdSockmsg { kind, req_id: id, tx_id: transaction, len };
    out.extend_from_slice(header.as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Puts messages together from the bytes that have come so far.
pub struct Assembler {
    header: XsdSockmsg,
    /// Bytes of the header that have come.
    have: usize,
    payload: Vec<u8>,
}

impl Default for Assembler {
    fn default() -> Self {
        Self { header: XsdSockmsg::new_zeroed(), have: 0, payload: Vec::new() }
    }
}

impl Assembler {
    /// Takes bytes from the ring; returns a message if one is complete. `taken` says whether any byte was.
    pub fn pull(
        &mut self,
        reader: &mut Reader,
        taken: &mut bool,
    ) -> Result<Option<Message>, StoreError> {
        if self.have < HEADER {
            let rest = self.header.as_mut_bytes().get_mut(self.have..).unwrap_or_default();
            let read = reader.read(rest)?;
            *taken |= read > 0;
            self.have += read;
            if self.have < HEADER {
                return Ok(None);
            }
        }
        // The header is a copy, so this length stays what it is.
        let len = self.header.len as usize;
        if len > XENSTORE_PAYLOAD_MAX {
            return Err(StoreError::BadMessage);
        }
        let before = self.payload.len();
        self.payload.resize(len, 0);
        let rest = self.payload.get_mut(before..).unwrap_or_default();
        let read = reader.read(rest)?;
        *taken |= read > 0;
        self.payload.truncate(before + read);
        if self.payload.len() < len {
            return Ok(None);
        }
        let payload = core::mem::take(&mut self.payload);
        self.have = 0;
        Ok(Some(Message { kind: self.header.kind, id: self.header.req_id, payload }))
    }
}

/// Returns text up to its terminating zero, or to its end.
pub fn text(bytes: &[u8]) -> Result<String, StoreError> {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::NotText)
}

/// Returns the texts that stand one after another, each ended by a zero.
pub fn texts(bytes: &[u8]) -> Result<Vec<String>, StoreError> {
    let mut all: Vec<_> = bytes.split(|byte| *byte == 0).collect();
    if all.last().is_some_and(|last| last.is_empty()) {
        all.pop();
    }
    all.into_iter().map(text).collect()
}
