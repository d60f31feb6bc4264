//! Small edits of a device tree's nodes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property, ToPropertyValue};

/// Properties that name other nodes, and which of their cells does so.
const REFERENCES: [(&str, usize, &[&str]); 4] = [
    ("msi-parent", 0, &[]),
    ("msi-map", 1, &["msi-map-mask"]),
    ("iommus", 0, &[]),
    ("iommu-map", 1, &["iommu-map-mask"]),
];

/// Sets a property.
pub(super) fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// Sets a property to 32-bit cells.
pub(super) fn cells(node: &mut DeviceTreeNode, name: &str, cells: &[u32]) {
    set(node, name, cells);
}

/// Sets `compatible`.
pub(super) fn compatible(node: &mut DeviceTreeNode, names: &[&str]) {
    set(node, "compatible", names);
}

/// Returns the strings of a property.
pub(super) fn strings(node: &DeviceTreeNode, name: &str) -> Vec<String> {
    let Some(property) = node.property(name) else { return Vec::new() };
    let parts = property.value().split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.filter_map(|part| core::str::from_utf8(part).ok()).map(ToString::to_string).collect()
}

/// Says whether a property's first string is `value`.
pub(super) fn is_string(node: &DeviceTreeNode, name: &str, value: &str) -> bool {
    strings(node, name).first().is_some_and(|first| first == value)
}

/// Says whether one of `compatible`'s strings is among `names`.
pub(super) fn is_compatible(node: &DeviceTreeNode, names: &[&str]) -> bool {
    strings(node, "compatible").iter().any(|name| names.contains(&name.as_str()))
}

/// Returns the cell at `index` of a property.
fn cell(node: &DeviceTreeNode, name: &str, index: usize) -> Option<u32> {
    let property = node.property(name)?;
    let (cells, _) = property.value().as_chunks();
    cells.get(index).map(|cell| u32::from_be_bytes(*cell))
}

/// Returns the first cell of a property.
pub(super) fn first_cell(node: &DeviceTreeNode, name: &str) -> Option<u32> {
    cell(node, name, 0)
}

/// Removes all properties but these.
pub(super) fn keep_properties(node: &mut DeviceTreeNode, keep: &[&str]) {
    let names: Vec<String> = node.properties().map(|property| property.name().into()).collect();
    for name in names.iter().filter(|name| !keep.contains(&name.as_str())) {
        node.remove_property(name);
    }
}

/// Notes the phandles of a node and all below it.
pub(super) fn note_phandles(node: &DeviceTreeNode, found: &mut Vec<u32>) {
    found.extend(first_cell(node, "phandle"));
    note_phandles_below(node, found);
}

/// Notes the phandles of all nodes below one.
pub(super) fn note_phandles_below(node: &DeviceTreeNode, found: &mut Vec<u32>) {
    for child in node.children() {
        note_phandles(child, found);
    }
}

/// Removes properties by which a device would ask a removed node for its services.
pub(super) fn drop_references(node: &mut DeviceTreeNode, removed: &[u32]) {
    for (name, place, companions) in REFERENCES {
        if cell(node, name, place).is_some_and(|phandle| removed.contains(&phandle)) {
            node.remove_property(name);
            for companion in companions {
                node.remove_property(companion);
            }
        }
    }
    for child in node.children_mut() {
        drop_references(child, removed);
    }
}
