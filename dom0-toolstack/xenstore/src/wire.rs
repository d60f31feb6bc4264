//! The messages of the store (`public/io/xs_wire.h`, `docs/misc/xenstore.txt`).
//!
//! Both sides use these types; [`Decoder`] cuts a byte stream into messages and refuses a length
//! no peer may send.

use std::fmt;

/// Bytes of a message header.
pub const HEADER_SIZE: usize = 16;
/// Most bytes a message may carry after its header.
pub const PAYLOAD_MAX: usize = 4096;
/// Longest absolute path.
pub const ABSOLUTE_PATH_MAX: usize = 3072;
/// Longest relative path.
pub const RELATIVE_PATH_MAX: usize = 2048;

/// What a message asks or answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// A command to the daemon itself.
    Control = 0,
    /// The names of a node's children.
    Directory = 1,
    /// A node's value.
    Read = 2,
    /// A node's permissions.
    GetPerms = 3,
    /// Sets up a watch.
    Watch = 4,
    /// Takes a watch away.
    Unwatch = 5,
    /// Starts a transaction.
    TransactionStart = 6,
    /// Commits or drops a transaction.
    TransactionEnd = 7,
    /// Connects a domain's ring.
    Introduce = 8,
    /// Disconnects a domain's ring.
    Release = 9,
    /// The path that relative paths of a domain stand under.
    GetDomainPath = 10,
    /// Sets a node's value.
    Write = 11,
    /// Makes a node.
    Mkdir = 12,
    /// Removes a node and what is below.
    Rm = 13,
    /// Sets a node's permissions.
    SetPerms = 14,
    /// Says that a watch fired; never asked.
    WatchEvent = 15,
    /// Says that a request failed; never asked.
    Error = 16,
    /// Asks whether a domain is connected.
    IsDomainIntroduced = 17,
    /// Lets a domain's next shutdown be reported again.
    Resume = 18,
    /// Gives a domain the rights of another.
    SetTarget = 19,
    /// Drops the caller's watches and transactions.
    ResetWatches = 21,
    /// A part of a long list of children.
    DirectoryPart = 22,
}

impl Kind {
    /// Returns the kind with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Control,
            1 => Self::Directory,
            2 => Self::Read,
            3 => Self::GetPerms,
            4 => Self::Watch,
            5 => Self::Unwatch,
            6 => Self::TransactionStart,
            7 => Self::TransactionEnd,
            8 => Self::Introduce,
            9 => Self::Release,
            10 => Self::GetDomainPath,
            11 => Self::Write,
            12 => Self::Mkdir,
            13 => Self::Rm,
            14 => Self::SetPerms,
            15 => Self::WatchEvent,
            16 => Self::Error,
            17 => Self::IsDomainIntroduced,
            18 => Self::Resume,
            19 => Self::SetTarget,
            21 => Self::ResetWatches,
            22 => Self::DirectoryPart,
            _ => return None,
        })
    }

    /// Returns the number that stands for this kind on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why the server refused a request; it travels as its name.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
        pub enum Failure { $($(#[$doc])* $name,)* }

        impl Failure {
            /// All failures, in the header's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the name that travels.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

failures! {
    /// The request makes no sense.
    EINVAL,
    /// The caller may not.
    EACCES,
    /// It is there already.
    EEXIST,
    /// It is a directory.
    EISDIR,
    /// It is not there.
    ENOENT,
    /// The server has no memory left.
    ENOMEM,
    /// A quota is used up.
    ENOSPC,
    /// The server failed.
    EIO,
    /// It has children.
    ENOTEMPTY,
    /// The server does not know this request.
    ENOSYS,
    /// The store cannot be written.
    EROFS,
    /// Too many transactions, or in use.
    EBUSY,
    /// A transaction met another change: try again.
    EAGAIN,
    /// It is connected already.
    EISCONN,
    /// Too long.
    E2BIG,
    /// Not permitted.
    EPERM,
}

impl Failure {
    /// Returns the failure of this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|failure| failure.name().as_bytes() == name)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::EINVAL => "Invalid argument",
            Self::EACCES => "Permission denied",
            Self::EEXIST => "File exists",
            Self::EISDIR => "Is a directory",
            Self::ENOENT => "No such file or directory",
            Self::ENOMEM => "Cannot allocate memory",
            Self::ENOSPC => "No space left on device",
            Self::EIO => "Input/output error",
            Self::ENOTEMPTY => "Directory not empty",
            Self::ENOSYS => "Function not implemented",
            Self::EROFS => "Read-only file system",
            Self::EBUSY => "Device or resource busy",
            Self::EAGAIN => "Resource temporarily unavailable",
            Self::EISCONN => "Transport endpoint is already connected",
            Self::E2BIG => "Argument list too long",
            Self::EPERM => "Operation not permitted",
        })
    }
}

/// A message: `kind` as it was sent, so that an unknown one can be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The number of the kind.
    pub kind: u32,
    /// Chosen by the asker, repeated in the answer.
    pub request_id: u32,
    /// The transaction, or 0.
    pub transaction_id: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Message {
    /// Returns the bytes that travel, or nothing if the payload is longer than any may be.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.payload.len()).ok()?;
        if self.payload.len() > PAYLOAD_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(HEADER_SIZE + self.payload.len());
        for word in [self.kind, self.request_id, self.transaction_id, length] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        Some(bytes)
    }
}

/// The peer announced a payload longer than [`PAYLOAD_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PayloadTooLong(pub u32);

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Adds bytes that arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.clear();
        } else if self.start > PAYLOAD_MAX {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets what was not taken yet.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Returns the number of bytes not taken yet.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Returns how many bytes the message that arrives lacks, as far as its header tells.
    pub fn missing(&self) -> usize {
        let arrived = self.pending();
        let length = self
            .bytes
            .get(self.start..)
            .and_then(<[u8]>::split_first_chunk::<HEADER_SIZE>)
            .and_then(|(header, _)| {
                let [_, _, _, length] = words(header);
                usize::try_from(length).ok()
            });
        match length {
            // A length over the limit is refused, whatever follows.
            Some(size) => (HEADER_SIZE + size.min(PAYLOAD_MAX)).saturating_sub(arrived),
            None => HEADER_SIZE - arrived,
        }
    }

    /// Returns what was not taken yet.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Takes the next whole message, if it has arrived.
    ///
    /// # Errors
    ///
    /// The stream is of no more use once a length is too long.
    pub fn next_message(&mut self) -> Result<Option<Message>, PayloadTooLong> {
        let Some((header, rest)) =
            self.bytes.get(self.start..).and_then(<[u8]>::split_first_chunk::<HEADER_SIZE>)
        else {
            return Ok(None);
        };
        let [kind, request_id, transaction_id, length] = words(header);
        let Some(size) = usize::try_from(length).ok().filter(|size| *size <= PAYLOAD_MAX) else {
            return Err(PayloadTooLong(length));
        };
        let Some(payload) = rest.get(..size) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.start += HEADER_SIZE + size;
        Ok(Some(Message { kind, request_id, transaction_id, payload }))
    }
}

fn words(header: &[u8; HEADER_SIZE]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(header.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_in_bytes_arrives_whole() {
        let message = Message {
            kind: Kind::Read.number(),
            request_id: 7,
            transaction_id: 9,
            payload: b"/local\0".to_vec(),
        };
        let mut decoder = Decoder::default();
        let mut arrived = Vec::new();
        for _ in 0..3 {
            for byte in message.encode().unwrap() {
                decoder.extend(&[byte]);
                arrived.extend(decoder.next_message().unwrap());
            }
        }
        assert_eq!(arrived, [message.clone(), message.clone(), message]);
        assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn what_a_message_lacks_is_known_from_its_header_on() {
        let message = Message { kind: 2, request_id: 0, transaction_id: 0, payload: vec![1; 40] };
        let bytes = message.encode().unwrap();
        let mut decoder = Decoder::default();
        let mut taken = 0;
        for (step, lacks) in [(0, 16), (10, 6), (6, 40), (39, 1), (1, 0)] {
            decoder.extend(&bytes[taken..taken + step]);
            taken += step;
            assert_eq!(decoder.missing(), lacks);
        }
        assert_eq!(decoder.rest(), bytes);
        assert_eq!(decoder.next_message(), Ok(Some(message)));
        assert_eq!((decoder.rest(), decoder.missing()), (&[][..], 16));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_payload_arrives() {
        let mut decoder = Decoder::default();
        let mut header = vec![0; 12];
        header.extend_from_slice(&4097_u32.to_le_bytes());
        decoder.extend(&header);
        assert_eq!(decoder.next_message(), Err(PayloadTooLong(4097)));
    }

    #[test]
    fn every_kind_keeps_its_number_and_twenty_is_no_kind() {
        for number in 0..23 {
            match Kind::from_number(number) {
                Some(kind) => assert_eq!(kind.number(), number),
                None => assert_eq!(number, 20),
            }
        }
        assert_eq!(Kind::from_number(23), None);
    }

    #[test]
    fn every_failure_is_found_by_its_name() {
        for failure in Failure::ALL {
            assert_eq!(Failure::from_name(failure.name().as_bytes()), Some(*failure));
        }
        assert_eq!(Failure::from_name(b"EWHAT"), None);
    }
}
