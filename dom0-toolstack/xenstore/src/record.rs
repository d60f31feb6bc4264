//! What the daemon writes down so that one after it can go on: records, and how they lie in a file.
//!
//! A file is a row of frames; a frame holds the records of one step of the server and counts whole or
//! not at all, so that a daemon killed while it wrote leaves no half step. Records are postcard's.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::permission::Permission;

/// The layout of these records; another is not read.
pub const VERSION: u32 = 1;
/// Bytes before a frame's records: their number and their checksum.
const FRAME_HEADER: usize = 8;
/// Bytes of memory that an empty frame keeps for its next records.
const FRAME_KEPT: usize = 64 << 10;

/// Whose a watch or a transaction is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
pub enum Holder {
    /// A domain's, over its ring.
    Domain(u16),
    /// A program's, over a socket that is handed on.
    Socket(u32),
}

/// One thing that changed, or in a snapshot one thing that is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// Begins a file.
    Header {
        /// [`VERSION`].
        version: u32,
        /// The kernel's boot this is of; after another boot it is worth nothing.
        boot: Cow<'a, str>,
        /// How many daemons went before.
        epoch: u32,
    },
    /// A node is there, with these contents.
    Node {
        /// Its path; the parent's record comes earlier.
        path: Cow<'a, str>,
        /// Its value.
        #[serde(with = "bytes")]
        value: Cow<'a, [u8]>,
        /// Its permissions.
        permissions: Cow<'a, [Permission]>,
    },
    /// A node is there no more; what was below went earlier.
    Removed {
        /// Its path.
        path: Cow<'a, str>,
    },
    /// A domain was connected.
    Introduced {
        /// The domain.
        domain: u16,
        /// The frame of its ring.
        gfn: u64,
        /// Its end of the event channel.
        port: u32,
    },
    /// A domain's connection is gone.
    Released {
        /// The domain.
        domain: u16,
    },
    /// A domain has another's rights.
    Target {
        /// The domain.
        domain: u16,
        /// The other.
        target: u16,
    },
    /// A domain's shutdown was reported, or may be reported again.
    Shutdown {
        /// The domain.
        domain: u16,
        /// Whether it was.
        reported: bool,
    },
    /// A limit was set.
    Quota {
        /// Its name.
        name: Cow<'a, str>,
        /// Its value.
        value: u64,
    },
    /// A watch was set up.
    Watch {
        /// Whose.
        holder: Holder,
        /// The watched path.
        path: Cow<'a, str>,
        /// Its token.
        #[serde(with = "bytes")]
        token: Cow<'a, [u8]>,
        /// Bytes of the path that the request left out.
        implied: u32,
        /// Levels below that count.
        depth: Option<u32>,
    },
    /// A watch was taken away.
    Unwatch {
        /// Whose.
        holder: Holder,
        /// The watched path.
        path: Cow<'a, str>,
        /// Its token.
        #[serde(with = "bytes")]
        token: Cow<'a, [u8]>,
    },
    /// A transaction was started or ended.
    Transaction {
        /// Whose.
        holder: Holder,
        /// Its number.
        number: u32,
        /// Whether it is open from now on.
        open: bool,
    },
    /// All watches and transactions of a connection are gone.
    Forgotten {
        /// Whose.
        holder: Holder,
    },
    /// Bytes were added to what a connection has to be sent.
    Output {
        /// Whose.
        holder: Holder,
        /// The bytes.
        #[serde(with = "bytes")]
        bytes: Cow<'a, [u8]>,
    },
    /// How far a domain's ring was used. What was read beyond whole messages comes along.
    Ring {
        /// The domain.
        domain: u16,
        /// Its index of requests, as far as they were handled.
        requests: u32,
        /// Its index of responses: where the bytes that still have to be sent begin.
        responses: u32,
        /// The beginning of a message that had not arrived whole.
        #[serde(with = "bytes")]
        partial: Cow<'a, [u8]>,
    },
    /// A domain's ring was emptied and begins at 0; nothing waits to be sent.
    Restarted {
        /// The domain.
        domain: u16,
    },
    /// A program's socket that is handed on, in the order of the descriptors.
    Socket {
        /// Its number in other records.
        number: u32,
        /// What was read of messages not handled yet.
        #[serde(with = "bytes")]
        partial: Cow<'a, [u8]>,
    },
}

/// Bytes as one piece: a byte at a time costs thirty instructions each.
mod bytes {
    use std::borrow::Cow;
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'a, [u8]>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes).map(Cow::Owned)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
}

impl Record<'_> {
    /// Adds the record to others.
    pub fn encode(&self, records: &mut Vec<u8>) {
        // Taken out for the encoder to extend in place.
        let before = std::mem::take(records);
        *records = postcard::to_extend(self, before).expect("memory takes any record");
    }
}

/// The records of one step, as they are written down.
#[derive(Debug)]
pub struct Frame {
    /// Room for the header, and the records.
    bytes: Vec<u8>,
}

impl Default for Frame {
    fn default() -> Self {
        Self { bytes: vec![0; FRAME_HEADER] }
    }
}

impl Frame {
    /// Adds a record.
    pub fn add(&mut self, record: &Record<'_>) {
        record.encode(&mut self.bytes);
    }

    /// Adds records that are encoded already.
    pub fn extend(&mut self, records: &[u8]) {
        self.bytes.extend_from_slice(records);
    }

    /// Returns the records.
    pub fn records(&self) -> &[u8] {
        self.bytes.get(FRAME_HEADER..).unwrap_or_default()
    }

    /// Returns the frame, ready to be written.
    pub fn seal(&mut self) -> &[u8] {
        let length = u32::try_from(self.records().len()).expect("a frame is shorter than 4 GiB");
        let checksum = crc32fast::hash(self.records());
        if let Some((header, _)) = self.bytes.split_first_chunk_mut::<FRAME_HEADER>() {
            *header = (u64::from(length) | u64::from(checksum) << 32).to_le_bytes();
        }
        &self.bytes
    }

    /// Takes all records out, and keeps the memory for the next step unless it is much.
    pub fn clear(&mut self) {
        self.bytes.truncate(FRAME_HEADER);
        self.bytes.shrink_to(FRAME_KEPT);
    }
}

/// Returns the records of all whole frames, and how many bytes of `file` those take.
///
/// What follows the first frame that is cut short or damaged is left out.
pub fn read(file: &[u8]) -> (Vec<Record<'static>>, usize) {
    let (mut records, mut end) = (Vec::new(), 0);
    while let Some(frame) = file.get(end..).and_then(next_frame) {
        let mut rest = frame;
        let before = records.len();
        while !rest.is_empty() {
            match postcard::take_from_bytes::<Record<'static>>(rest) {
                Ok((record, after)) => {
                    records.push(record);
                    rest = after;
                }
                Err(_) => {
                    records.truncate(before);
                    return (records, end);
                }
            }
        }
        end += FRAME_HEADER + frame.len();
    }
    (records, end)
}

fn next_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let records = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (crc32fast::hash(records) == u32::from_le_bytes(*checksum)).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Access;

    fn frame(records: &[u8]) -> Vec<u8> {
        let mut frame = Frame::default();
        frame.extend(records);
        frame.seal().to_vec()
    }

    fn node(path: &str) -> Record<'_> {
        Record::Node {
            path: path.into(),
            value: (&b"\0\xff"[..]).into(),
            permissions: vec![Permission::new(7, Access::READ)].into(),
        }
    }

    #[test]
    fn records_are_read_back_as_they_were_written() {
        let written = [node("/a"), node("/a/b"), Record::Released { domain: 3 }];
        let mut records = Vec::new();
        written.iter().for_each(|record| record.encode(&mut records));
        let file = [frame(&records), frame(&[]), frame(&records)].concat();
        let (found, length) = read(&file);
        assert_eq!(found, [written.clone(), written].concat());
        assert_eq!(length, file.len());
    }

    #[test]
    fn a_frame_is_used_again_and_keeps_little_memory() {
        let mut frame = Frame::default();
        frame.add(&node("/a"));
        let first = frame.seal().to_vec();
        frame.clear();
        assert_eq!(frame.records(), []);
        frame.extend(&vec![7; 2 * FRAME_KEPT]);
        frame.clear();
        assert!(frame.bytes.capacity() <= FRAME_KEPT);
        frame.add(&node("/a"));
        assert_eq!(frame.seal(), first);
    }

    #[test]
    fn a_step_that_was_cut_short_or_damaged_does_not_count() {
        let mut records = Vec::new();
        node("/a").encode(&mut records);
        let one = frame(&records);
        node("/b").encode(&mut records);
        let two = frame(&records);
        for length in 0..two.len() {
            let file = [&one, &two[..length]].concat();
            assert_eq!(read(&file), (vec![node("/a")], one.len()));
        }
        for place in 0..two.len() {
            let mut damaged = two.clone();
            damaged[place] ^= 1;
            assert_eq!(read(&[one.clone(), damaged].concat()).0, [node("/a")]);
        }
    }

    #[test]
    fn a_length_beyond_the_file_is_no_frame() {
        assert_eq!(read(&[0xff; 64]), (Vec::new(), 0));
    }
}
