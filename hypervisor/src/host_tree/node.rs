//! Properties of a node, read with bounds.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use fdt::node::FdtNode;

/// A node of a checked tree.
pub(super) type Node<'b, 'a> = FdtNode<'b, 'a>;

/// Returns the bytes of a property.
pub(super) fn bytes<'a>(node: Node<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    node.properties().find(|property| property.name == name).map(|property| property.value)
}

/// Says whether a property is there, whatever its value.
pub(super) fn has(node: Node<'_, '_>, name: &str) -> bool {
    bytes(node, name).is_some()
}

/// Returns a property as big-endian 32-bit cells; bytes after the last whole one are left out.
pub(super) fn cells(node: Node<'_, '_>, name: &str) -> Option<Vec<u32>> {
    let (cells, _) = bytes(node, name)?.as_chunks();
    Some(cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
}

/// Returns the first cell of a property.
pub(super) fn cell(node: Node<'_, '_>, name: &str) -> Option<u32> {
    cells(node, name)?.first().copied()
}

/// Returns a property of one or two cells as a number.
pub(super) fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    let cells = cells(node, name)?;
    if cells.is_empty() { None } else { join(&cells) }
}

/// Returns the strings of a property; those that are not UTF-8 are left out.
pub(super) fn strings(node: Node<'_, '_>, name: &str) -> Vec<String> {
    let value = bytes(node, name).unwrap_or_default();
    let value = value.strip_suffix(b"\0").unwrap_or(value);
    if value.is_empty() {
        return Vec::new();
    }
    let parts = value.split(|byte| *byte == 0);
    parts.filter_map(|part| core::str::from_utf8(part).ok()).map(ToString::to_string).collect()
}

/// Returns the first string of a property.
pub(super) fn string(node: Node<'_, '_>, name: &str) -> Option<String> {
    let value = bytes(node, name)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    core::str::from_utf8(value.get(..end)?).ok().map(ToString::to_string)
}

/// Says whether one of the strings of `compatible` is among `names`.
pub(super) fn is_compatible(node: Node<'_, '_>, names: &[&str]) -> bool {
    strings(node, "compatible").iter().any(|string| names.contains(&string.as_str()))
}

/// Says whether the node may be used: it has no `status`, or a good one.
pub(super) fn is_available(node: Node<'_, '_>) -> bool {
    string(node, "status").is_none_or(|status| status == "okay" || status == "ok")
}

/// Returns the number that cells form, the first being the most significant; leading ones that do not
/// fit must be zero.
pub(super) fn join(cells: &[u32]) -> Option<u64> {
    cells.iter().try_fold(0_u64, |number, cell| {
        (number >> 32 == 0).then_some(number << 32 | u64::from(*cell))
    })
}
