//! Who may read and write a node.
//!
//! A node carries a list: the first entry names its owner and what everybody else may; the
//! others name what single domains may (`docs/misc/xenstore.txt`, SET_PERMS).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
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

/// Who asks, as permissions see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The domain.
    pub domain: u16,
    /// A domain whose rights it has too (SET_TARGET).
    pub target: Option<u16>,
    /// May do everything.
    pub privileged: bool,
}

impl Identity {
    /// Returns whether it owns a node with these permissions, or need not.
    pub fn owns(&self, permissions: &[Permission]) -> bool {
        self.privileged || permissions.first().is_some_and(|owner| self.is(owner.domain))
    }

    /// Returns what it may do with a node with these permissions.
    ///
    /// The first entry that names it or its target decides, else the first entry of all.
    pub fn access(&self, permissions: &[Permission]) -> Access {
        let Some((first, others)) = permissions.split_first() else { return Access::NONE };
        if self.owns(permissions) {
            return Access::BOTH;
        }
        others.iter().find(|entry| self.is(entry.domain)).map_or(first.access, |entry| entry.access)
    }

    fn is(&self, domain: u16) -> bool {
        self.domain == domain || self.target == Some(domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: Identity = Identity { domain: 7, target: None, privileged: false };

    fn list(text: &str) -> Vec<Permission> {
        text.split(',').map(|entry| Permission::parse(entry).unwrap()).collect()
    }

    #[test]
    fn the_owner_may_all_and_others_what_their_entry_says() {
        assert_eq!(SEVEN.access(&list("n7")), Access::BOTH);
        assert_eq!(SEVEN.access(&list("n0")), Access::NONE);
        assert_eq!(SEVEN.access(&list("r0")), Access::READ);
        assert_eq!(SEVEN.access(&list("r0,w7,b7")), Access::WRITE);
        assert_eq!(SEVEN.access(&list("b0,n7")), Access::NONE);
        assert!(!SEVEN.owns(&list("b0,b7")));
    }

    #[test]
    fn a_domain_has_the_rights_of_its_target() {
        let stub = Identity { domain: 9, target: Some(7), privileged: false };
        assert!(stub.owns(&list("n7")));
        assert_eq!(stub.access(&list("n0,r7")), Access::READ);
        assert_eq!(SEVEN.access(&list("n9")), Access::NONE);
    }

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
