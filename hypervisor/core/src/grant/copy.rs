//! What a grant copy asks for, and what of it is allowed before a grant is even looked at
//! (`public/grant_table.h`, `struct gnttab_copy`).

use super::GrantError;
use crate::{
    addr::{Gfn, PAGE_SIZE},
    ids::{DomId, GrantRef},
};

const SOURCE_IS_GRANT: u16 = 1 << 0;
const DEST_IS_GRANT: u16 = 1 << 1;

/// One end of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// A frame that a domain grants the caller.
    Granted(DomId, GrantRef),
    /// A frame of the caller's own.
    Own(Gfn),
}

impl Side {
    /// Decodes one end: a domain's number, and a reference or a frame number.
    fn decode(caller: DomId, dom: u16, what: u64, is_grant: bool) -> Result<Self, GrantError> {
        let dom = DomId(dom);
        if is_grant {
            // The union's reference is its low half.
            let grant = u32::try_from(what & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            Ok(Self::Granted(dom.resolve(caller), GrantRef(grant)))
        } else if dom == DomId::SELF {
            Ok(Self::Own(Gfn::new(what)))
        } else {
            Err(GrantError::PermissionDenied)
        }
    }
}

/// A copy, decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyRequest {
    /// Where from.
    pub source: Side,
    /// Where to.
    pub dest: Side,
}

impl CopyRequest {
    /// Decodes what `caller` asks: for each end the domain and the reference or frame number, and
    /// flags that say which of the two it is. A frame number can only be the caller's own.
    pub fn decode(
        caller: DomId,
        source: (u16, u64),
        dest: (u16, u64),
        flags: u16,
    ) -> Result<Self, GrantError> {
        Ok(Self {
            source: Side::decode(caller, source.0, source.1, flags & SOURCE_IS_GRANT != 0)?,
            dest: Side::decode(caller, dest.0, dest.1, flags & DEST_IS_GRANT != 0)?,
        })
    }
}

/// Refuses a copy that leaves either page.
pub fn check_bounds(source_offset: u16, dest_offset: u16, len: u16) -> Result<(), GrantError> {
    let fits = |offset: u16| u64::from(offset) + u64::from(len) <= PAGE_SIZE;
    if fits(source_offset) && fits(dest_offset) { Ok(()) } else { Err(GrantError::BadCopyArgument) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_number_is_only_the_callers_own() {
        let own = DomId::SELF.0;
        let caller = DomId(4);
        let both = CopyRequest::decode(caller, (0, 9), (own, 0x55), 1);
        let expected = CopyRequest {
            source: Side::Granted(DomId(0), GrantRef(9)),
            dest: Side::Own(Gfn::new(0x55)),
        };
        assert_eq!(both, Ok(expected));
        let named = CopyRequest::decode(caller, (0, 9), (4, 0x55), 1);
        assert_eq!(named, Err(GrantError::PermissionDenied));
        let to_itself = CopyRequest::decode(caller, (own, 9), (own, 1), 1).unwrap();
        assert_eq!(to_itself.source, Side::Granted(caller, GrantRef(9)));
    }

    #[test]
    fn a_copy_stays_within_both_pages() {
        assert_eq!(check_bounds(0, 0, 4096), Ok(()));
        assert_eq!(check_bounds(1, 0, 4096), Err(GrantError::BadCopyArgument));
        assert_eq!(check_bounds(0, u16::MAX, u16::MAX), Err(GrantError::BadCopyArgument));
        assert_eq!(check_bounds(4096, 0, 0), Ok(()));
    }
}
