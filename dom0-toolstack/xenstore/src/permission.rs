//! Who may read and write a node.
//!
//! A node carries a list: the first entry names its owner and what everybody else may; the
//! others name what single domains may (`docs/misc/xenstore.txt`, SET_PERMS).

use std::fmt;

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Access {
    /// May read it.
    pub read: bool,
    /// May change it.
    pub write: bool,
}

impl Access {
    /// Nothing.
    pub const NONE: Self = Self { read: false, write: false };
    /// Reading only.
    pub const READ: Self = Self { read: true, write: false };
    /// Writing only.
    pub const WRITE: Self = Self { read: false, write: true };
    /// Reading and writing.
    pub const BOTH: Self = Self { read: true, write: true };

    /// Returns whether all of `other` is in this.
    pub const fn covers(self, other: Self) -> bool {
        (self.read || !other.read) && (self.write || !other.write)
    }

    const fn letter(self) -> char {
        match (self.read, self.write) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        }
    }
}

/// One entry of a node's list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Permission {
    /// The domain; of the first entry, the owner.
    pub domain: u16,
    /// What it may; of the first entry, what all who are not named may.
    pub access: Access,
}

impl Permission {
    /// Makes an entry.
    pub const fn new(domain: u16, access: Access) -> Self {
        Self { domain, access }
    }

    /// Reads `r7` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let access = match letters.next()? {
            'n' => Access::NONE,
            'r' => Access::READ,
            'w' => Access::WRITE,
            'b' => Access::BOTH,
            _ => return None,
        };
        Some(Self { domain: letters.as_str().parse().ok()?, access })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.access.letter(), self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_as_it_was_written() {
        for text in ["n0", "r7", "w12", "b65535"] {
            assert_eq!(Permission::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_entry_with_a_wrong_letter_or_number_is_refused() {
        for text in ["", "n", "x1", "r65536", "r-1", "r1x", "é1"] {
            assert_eq!(Permission::parse(text), None, "{text}");
        }
    }
}
