//! Messages of 9P2000.u: a size, a kind, a tag, and then numbers (little-endian), texts and bytes.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes before what is a message's own: size, kind, tag.
pub const HEADER: usize = 7;
/// The kinds of requests; an answer's is one more.
pub mod kind {
    #![expect(missing_docs, reason = "the names are the protocol's")]
    pub const VERSION: u8 = 100;
    pub const ATTACH: u8 = 104;
    pub const ERROR: u8 = 106;
    pub const WALK: u8 = 110;
    pub const OPEN: u8 = 112;
    pub const CREATE: u8 = 114;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    pub const REMOVE: u8 = 122;
    pub const STAT: u8 = 124;
}

/// The message ends too early, has no such text, or is of another size than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A message being written.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins a message.
    pub fn new(kind: u8, tag: u16) -> Self {
        let mut bytes = Vec::from([0, 0, 0, 0, kind]);
        bytes.extend(tag.to_le_bytes());
        Self { bytes }
    }

    /// Adds a byte.
    pub fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    /// Adds two bytes.
    pub fn u16(mut self, value: u16) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds four bytes.
    pub fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds eight bytes.
    pub fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds a text, which is cut after 65,535 bytes.
    pub fn text(self, text: &str) -> Self {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let bytes = text.as_bytes().get(..usize::from(length)).unwrap_or_default();
        self.u16(length).bytes(bytes)
    }

    /// Returns the message with its size.
    pub fn finish(mut self) -> Vec<u8> {
        let size = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        for (to, from) in self.bytes.iter_mut().zip(size.to_le_bytes()) {
            *to = from;
        }
        self.bytes
    }
}

/// What is left of a message being read.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Checks a message's size and takes its kind and tag.
    pub fn message(bytes: &'a [u8]) -> Result<(u8, u16, Self), Malformed> {
        let mut reader = Self { bytes };
        if usize::try_from(reader.u32()?) != Ok(bytes.len()) {
            return Err(Malformed);
        }
        let kind = reader.u8()?;
        let tag = reader.u16()?;
        Ok((kind, tag, reader))
    }

    /// Takes so many bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    /// Takes a byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    /// Takes two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a text.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let length = usize::from(self.u16()?);
        let text = core::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed)?;
        Ok(text.into())
    }

    /// Returns whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Returns whether two numbers of 16 bits are an entry's size with and without its own.
fn is_doubled(sizes: u32) -> bool {
    let (first, second) = (sizes & 0xffff, sizes >> 16);
    first == second + 2
}

/// What a name in a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its length in bytes; what a folder's means is the server's business.
    pub length: u64,
    /// It is a folder.
    pub is_folder: bool,
}

impl Entry {
    const FOLDER: u32 = 1 << 31;

    /// Reads the one that an answer to STAT has: after two sizes, neither of which servers agree on.
    pub fn read_stat(answer: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(answer);
        from.u32()?;
        Self::parse(&mut from)
    }

    /// Reads all that a read of a folder gave.
    ///
    /// Debian's `xen-9pfsd` (Xen 4.20) writes an entry's size twice, ten too large, and counts it once: entries follow each other by what is in
    /// them, and as many bytes as were counted too many are at the end.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut from = Reader::new(bytes);
        let mut entries = Vec::new();
        if !Reader::new(bytes).u32().is_ok_and(is_doubled) {
            while !from.is_empty() {
                entries.push(Self::read(&mut from)?);
            }
            return Ok(entries);
        }
        let mut counted = 0;
        while counted < bytes.len() {
            counted += 2 + usize::from(Reader::new(from.bytes).u16()?.saturating_sub(2));
            entries.push(Self::read_doubled(&mut from)?);
        }
        if counted == bytes.len() { Ok(entries) } else { Err(Malformed) }
    }

    /// Reads one, as reads of folders have it.
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let size = usize::from(from.u16()?);
        Self::parse(&mut Reader::new(from.bytes(size)?))
    }

    /// Reads one with two sizes that are wrong, and all that belongs to it.
    fn read_doubled(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if !is_doubled(from.u32()?) {
            return Err(Malformed);
        }
        let entry = Self::parse(from)?;
        for _owner in 0..4 {
            from.text()?;
        }
        from.bytes(12)?;
        Ok(entry)
    }

    /// Reads what follows the size, up to the name.
    fn parse(stat: &mut Reader<'_>) -> Result<Self, Malformed> {
        stat.bytes(2 + 4 + 13)?;
        let mode = stat.u32()?;
        stat.bytes(8)?;
        let length = stat.u64()?;
        let name = stat.text()?;
        Ok(Self { name, length, is_folder: mode & Self::FOLDER != 0 })
    }

    /// Writes one, as a server does.
    pub fn write(&self) -> Vec<u8> {
        let mode = if self.is_folder { Self::FOLDER | 0o755 } else { 0o644 };
        let stat = Writer { bytes: Vec::new() }
            .bytes(&[0; 19])
            .u32(mode)
            .u64(0)
            .u64(self.length)
            .text(&self.name)
            .text("")
            .text("")
            .text("")
            .text("")
            .u32(0)
            .u32(0)
            .u32(0)
            .bytes;
        let size = u16::try_from(stat.len()).unwrap_or(u16::MAX);
        Writer { bytes: Vec::new() }.u16(size).bytes(&stat).bytes
    }
}
