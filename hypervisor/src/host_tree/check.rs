//! Whether a device tree can be walked without surprise.

use super::TreeError;
use dtoolkit::error::FdtErrorKind;
use dtoolkit::fdt::Fdt;

/// Magic number at the start.
const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();
/// Deepest nesting of nodes; what walks the tree calls itself for each level.
const MOST_LEVELS: usize = 32;

/// Checks the header and every node and property; what is after the end of the tree is cut off.
pub(super) fn check(blob: &[u8]) -> Result<Fdt<'_>, TreeError> {
    if !blob.starts_with(&MAGIC) {
        return Err(TreeError::NoMagic);
    }
    let size = word(blob, 4).ok_or(TreeError::Truncated)?;
    let blob = blob.get(..size).ok_or(TreeError::Truncated)?;
    let tree = Fdt::new(blob).map_err(|error| match error.kind {
        FdtErrorKind::InvalidLength => TreeError::Truncated,
        _ => TreeError::Malformed,
    })?;
    check_levels(blob)?;
    Ok(tree)
}

/// Counts how deep nodes are nested, without calling itself.
fn check_levels(blob: &[u8]) -> Result<(), TreeError> {
    const BEGIN: usize = 1;
    const END: usize = 2;
    const PROPERTY: usize = 3;
    const NOTHING: usize = 4;
    let mut at = word(blob, 8).ok_or(TreeError::Truncated)?;
    let end = word(blob, 36).and_then(|size| at.checked_add(size)).ok_or(TreeError::Truncated)?;
    let mut level = 0_usize;
    while at < end {
        let broken = TreeError::Malformed;
        at = match word(blob, at).ok_or(broken)? {
            BEGIN => {
                level += 1;
                if level > MOST_LEVELS {
                    return Err(TreeError::TooDeep);
                }
                let name = blob.get(at + 4..).ok_or(broken)?;
                let length = name.iter().position(|byte| *byte == 0).ok_or(broken)?;
                (at + 4 + length + 1).next_multiple_of(4)
            }
            END => {
                level = level.checked_sub(1).ok_or(broken)?;
                at + 4
            }
            PROPERTY => {
                let length = word(blob, at + 4).ok_or(broken)?;
                (at + 12).checked_add(length).ok_or(broken)?.next_multiple_of(4)
            }
            NOTHING => at + 4,
            _ => return Ok(()),
        };
    }
    // `fdt` looks for the end mark inside the structure block.
    Err(TreeError::Malformed)
}

/// Returns the big-endian word at byte `at`.
fn word(blob: &[u8], at: usize) -> Option<usize> {
    let bytes = blob.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}
