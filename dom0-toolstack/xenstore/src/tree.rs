//! The nodes: a persistent map from path to node.
//!
//! A clone is a snapshot and costs nothing; both sides share what neither changes. The tree keeps
//! its own invariants (a node's parent lists it, usage per owner adds up) and knows nothing of
//! permissions' meaning or of transactions. A [`Stamp`] marks each change; equal stamps mean
//! "not changed since".

use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::path::{NodePath, SPECIAL};
use crate::permission::Permission;

/// A number that no two changes share.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Stamp(u64);

impl Stamp {
    /// Returns a stamp beyond all that `epochs` daemons before this one may have used.
    pub const fn after(epochs: u32) -> Self {
        Self((epochs as u64) << 40)
    }

    /// Moves on and returns a stamp never seen before.
    pub fn advance(&mut self) -> Self {
        self.0 += 1;
        *self
    }

    /// Returns the number, as DIRECTORY_PART shows it.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its value.
    pub value: Vec<u8>,
    /// Who may read and write it; never empty, the first entry names the owner.
    pub permissions: Arc<[Permission]>,
    /// The last change of value or permissions.
    pub content: Stamp,
    /// The last change of the list of children.
    pub listing: Stamp,
    children: Vec<u8>,
}

impl Node {
    /// Returns the names of the children, each followed by a nul, oldest first.
    pub fn children_list(&self) -> &[u8] {
        &self.children
    }

    /// Returns the names of the children, oldest first.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.children
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// Returns the owner.
    pub fn owner(&self) -> u16 {
        self.permissions.first().map_or(0, |permission| permission.domain)
    }

    /// Returns the bytes this node counts for.
    pub fn size(&self) -> usize {
        self.value.len() + self.children.len() + self.permissions.len() * 4 + 16
    }

    fn unlist(&mut self, name: &str) {
        let mut start = 0;
        for entry in self.children.split(|byte| *byte == 0) {
            if entry == name.as_bytes() {
                self.children.drain(start..=start + name.len());
                return;
            }
            start += entry.len() + 1;
        }
    }
}

/// What a domain's nodes amount to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Nodes owned.
    pub nodes: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// All nodes.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: HashTrieMapSync<NodePath, Node>,
    usage: HashTrieMapSync<u16, Usage>,
    replaced: u64,
}

/// What a version of a node takes beside its own bytes, roughly.
const OVERHEAD: usize = 200;

impl Tree {
    /// Makes a tree of a root with these permissions.
    pub fn new(permissions: Arc<[Permission]>, stamp: Stamp) -> Self {
        let mut tree = Self {
            nodes: HashTrieMapSync::new_sync(),
            usage: HashTrieMapSync::new_sync(),
            replaced: 0,
        };
        tree.insert(NodePath::known("/"), Vec::new(), permissions, stamp);
        tree
    }

    /// Returns a node.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Returns whether nothing changed in either since one was cloned from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.nodes.ptr_eq(&other.nodes)
    }

    /// Returns what a domain's nodes amount to.
    pub fn usage(&self, domain: u16) -> Usage {
        self.usage.get(&domain).copied().unwrap_or_default()
    }

    /// Returns the bytes of all versions of nodes that were replaced or removed so far, which is
    /// what snapshots may still hold.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.size()
    }

    /// Returns whether there is no node; there always is one.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Makes a node that is not there, under a parent that is; special paths need no parent.
    ///
    /// Does nothing, and says so, where the node is there or its parent is not.
    pub fn create(
        &mut self,
        path: &NodePath,
        value: Vec<u8>,
        permissions: Arc<[Permission]>,
        stamp: Stamp,
    ) -> bool {
        if self.get(path.as_str()).is_some() {
            return false;
        }
        if let Some(parent) = path.parent_str() {
            let listed = self.change(parent, |node| {
                node.children.extend_from_slice(path.name().as_bytes());
                node.children.push(0);
                node.listing = stamp;
            });
            if !listed {
                return false;
            }
        } else if !path.is_special() {
            return false;
        }
        self.insert(path.clone(), value, permissions, stamp);
        true
    }

    /// Sets a node's value; says whether the node is there.
    pub fn set_value(&mut self, path: &str, value: Vec<u8>, stamp: Stamp) -> bool {
        self.change(path, |node| {
            node.value = value;
            node.content = stamp;
        })
    }

    /// Sets a node's permissions; says whether the node is there.
    pub fn set_permissions(
        &mut self,
        path: &str,
        permissions: Arc<[Permission]>,
        stamp: Stamp,
    ) -> bool {
        self.change(path, |node| {
            node.permissions = permissions;
            node.content = stamp;
        })
    }

    /// Removes a node without children, never the root; says whether it did.
    pub fn remove(&mut self, path: &NodePath, stamp: Stamp) -> bool {
        let Some(node) = self.get(path.as_str()).filter(|node| node.children.is_empty()) else {
            return false;
        };
        if path.parent_str().is_none() && !path.is_special() {
            return false;
        }
        let (owner, bytes) = (node.owner(), node.size() + path.as_str().len());
        self.nodes.remove_mut(path);
        self.replace(bytes);
        self.adjust(owner, |usage| {
            usage.nodes = usage.nodes.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(bytes);
        });
        if let Some(parent) = path.parent_str() {
            self.change(parent, |node| {
                node.unlist(path.name());
                node.listing = stamp;
            });
        }
        true
    }

    /// Returns a node and all below it, children before parents.
    pub fn subtree(&self, path: &NodePath) -> Vec<NodePath> {
        let mut found = Vec::new();
        let mut open = vec![path.clone()];
        while let Some(path) = open.pop() {
            let Some(node) = self.get(path.as_str()) else { continue };
            open.extend(node.children().map(|name| path.child(name)));
            found.push(path);
        }
        found.reverse();
        found
    }

    /// Begins a walk over all nodes as they are now.
    pub fn walk(&self) -> Walk {
        let special = SPECIAL.map(NodePath::known).into_iter();
        let roots = special.filter(|path| self.get(path.as_str()).is_some());
        let roots = roots.chain([NodePath::known("/")]).collect();
        Walk { tree: self.clone(), roots, open: Vec::new() }
    }

    /// Returns all paths, in no order.
    pub fn paths(&self) -> impl Iterator<Item = (&NodePath, &Node)> {
        self.nodes.iter()
    }

    /// Returns what is inconsistent, for `xenstore-control check`.
    pub fn inconsistencies(&self) -> Vec<String> {
        let mut found = Vec::new();
        let root = NodePath::known("/");
        let reachable = self.subtree(&root);
        let special = self.paths().filter(|(path, _)| path.is_special()).count();
        if reachable.len() + special != self.len() {
            found.push(format!("{} nodes, {} reachable", self.len(), reachable.len() + special));
        }
        let mut usage: std::collections::BTreeMap<u16, Usage> = std::collections::BTreeMap::new();
        for (path, node) in self.paths() {
            let entry = usage.entry(node.owner()).or_default();
            entry.nodes += 1;
            entry.bytes += node.size() + path.as_str().len();
            for name in node.children() {
                if self.get(path.child(name).as_str()).is_none() {
                    found.push(format!("{path} lists {name}, which is not there"));
                }
            }
        }
        for (domain, expected) in usage {
            if self.usage(domain) != expected {
                found.push(format!(
                    "domain {domain}: {:?}, counted {expected:?}",
                    self.usage(domain)
                ));
            }
        }
        found
    }

    fn insert(
        &mut self,
        path: NodePath,
        value: Vec<u8>,
        permissions: Arc<[Permission]>,
        stamp: Stamp,
    ) {
        let node =
            Node { value, permissions, content: stamp, listing: stamp, children: Vec::new() };
        let (owner, bytes) = (node.owner(), node.size() + path.as_str().len());
        self.nodes.insert_mut(path, node);
        self.adjust(owner, |usage| {
            usage.nodes += 1;
            usage.bytes += bytes;
        });
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut Node)) -> bool {
        let Some(node) = self.nodes.get_mut(path) else { return false };
        let (old_owner, old_bytes) = (node.owner(), node.size());
        change(node);
        let (owner, bytes) = (node.owner(), node.size());
        self.replace(old_bytes + path.len());
        if owner == old_owner {
            if bytes != old_bytes {
                self.adjust(owner, |usage| usage.bytes = usage.bytes + bytes - old_bytes);
            }
            return true;
        }
        self.adjust(old_owner, |usage| {
            usage.nodes = usage.nodes.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(old_bytes + path.len());
        });
        self.adjust(owner, |usage| {
            usage.nodes += 1;
            usage.bytes += bytes + path.len();
        });
        true
    }

    fn replace(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes + OVERHEAD).unwrap_or(u64::MAX);
        self.replaced = self.replaced.saturating_add(bytes);
    }

    fn adjust(&mut self, domain: u16, change: impl FnOnce(&mut Usage)) {
        let mut usage = self.usage(domain);
        change(&mut usage);
        if usage == Usage::default() {
            self.usage.remove_mut(&domain);
        } else {
            self.usage.insert_mut(domain, usage);
        }
    }
}

/// All nodes of a tree as it was at one moment, each after its parent and its older siblings.
///
/// The tree may change meanwhile, and a step costs the same however many nodes there are.
#[derive(Clone, Debug)]
pub struct Walk {
    tree: Tree,
    /// Nodes without a parent that are not visited yet.
    roots: Vec<NodePath>,
    /// The nodes above the next one, each with how much of its list of children was visited.
    open: Vec<(NodePath, usize)>,
}

impl Walk {
    /// Moves to the next node and returns it.
    pub fn advance(&mut self) -> Option<(NodePath, &Node)> {
        let path = self.next_path()?;
        let node = self.tree.get(path.as_str())?;
        if !node.children.is_empty() {
            self.open.push((path.clone(), 0));
        }
        Some((path, node))
    }

    fn next_path(&mut self) -> Option<NodePath> {
        while let Some((path, visited)) = self.open.last_mut() {
            let children = self.tree.get(path.as_str()).map_or(&[][..], Node::children_list);
            let mut rest = children.get(*visited..)?.split(|byte| *byte == 0);
            if let Some(name) = rest.next().filter(|name| !name.is_empty()) {
                *visited += name.len() + 1;
                return Some(path.child(std::str::from_utf8(name).ok()?));
            }
            self.open.pop();
        }
        self.roots.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Access;

    fn owned_by(domain: u16) -> Arc<[Permission]> {
        Arc::from([Permission::new(domain, Access::NONE)])
    }

    fn path(text: &str) -> NodePath {
        NodePath::known(text)
    }

    fn tree(paths: &[&str]) -> Tree {
        let mut stamp = Stamp::default();
        let mut tree = Tree::new(owned_by(0), stamp);
        for text in paths {
            assert!(tree.create(&path(text), Vec::new(), owned_by(0), stamp.advance()));
        }
        tree
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut tree = tree(&["/a", "/a/b"]);
        let snapshot = tree.clone();
        assert!(tree.set_value("/a/b", b"new".to_vec(), Stamp(9)));
        assert!(tree.create(&path("/a/c"), Vec::new(), owned_by(3), Stamp(10)));
        assert_eq!(snapshot.get("/a/b").unwrap().value, b"");
        assert_eq!(snapshot.get("/a").unwrap().children_list(), b"b\0");
        assert_eq!(tree.get("/a").unwrap().children_list(), b"b\0c\0");
        assert_eq!(snapshot.usage(3), Usage::default());
        assert!(!tree.is_same(&snapshot) && snapshot.is_same(&snapshot.clone()));
    }

    #[test]
    fn children_are_listed_in_the_order_they_came() {
        let mut tree = tree(&["/z", "/a", "/zz", "/m"]);
        assert!(tree.remove(&path("/z"), Stamp(9)));
        assert_eq!(tree.get("/").unwrap().children_list(), b"a\0zz\0m\0");
    }

    #[test]
    fn a_node_without_its_parent_cannot_be_made() {
        let mut tree = tree(&[]);
        assert!(!tree.create(&path("/a/b"), Vec::new(), owned_by(0), Stamp(1)));
        assert_eq!(tree.inconsistencies(), Vec::<String>::new());
    }

    #[test]
    fn a_node_with_children_and_the_root_stay() {
        let mut tree = tree(&["/a", "/a/b"]);
        assert!(!tree.remove(&path("/a"), Stamp(9)));
        assert!(tree.remove(&path("/a/b"), Stamp(9)));
        assert!(tree.remove(&path("/a"), Stamp(9)));
        assert!(!tree.remove(&path("/"), Stamp(9)));
    }

    #[test]
    fn a_subtree_lists_children_before_parents() {
        let tree = tree(&["/a", "/a/b", "/a/b/c", "/a/d", "/e"]);
        let order = tree.subtree(&path("/a"));
        assert_eq!(order.len(), 4);
        assert_eq!(order.last().unwrap().as_str(), "/a");
        let place = |text| order.iter().position(|found| found.as_str() == text).unwrap();
        assert!(place("/a/b/c") < place("/a/b"));
    }

    #[test]
    fn a_walk_sees_each_node_of_its_moment_after_its_parent_and_older_siblings() {
        let mut tree = tree(&["/z", "/z/b", "/z/b/c", "/z/a", "/e", "@releaseDomain"]);
        let mut walk = tree.walk();
        let mut seen = Vec::new();
        while let Some((path, node)) = walk.advance() {
            assert_eq!(node.value, b"");
            seen.push(path.to_string());
            assert!(tree.set_value("/e", b"new".to_vec(), Stamp(20)));
            tree.create(&path.child("later"), Vec::new(), owned_by(0), Stamp(21));
            tree.remove(&path.child("later"), Stamp(22));
            tree.remove(&NodePath::known("/z/b/c"), Stamp(23));
        }
        assert_eq!(seen, ["/", "/z", "/z/b", "/z/b/c", "/z/a", "/e", "@releaseDomain"]);
        assert!(walk.advance().is_none());
    }

    #[test]
    fn usage_follows_the_owner() {
        let mut tree = tree(&["/a"]);
        let before = tree.usage(0);
        assert!(tree.set_permissions("/a", owned_by(5), Stamp(3)));
        assert_eq!(tree.usage(5).nodes, 1);
        assert_eq!(tree.usage(0).nodes, before.nodes - 1);
        assert!(tree.set_value("/a", vec![1; 100], Stamp(4)));
        assert_eq!(tree.inconsistencies(), Vec::<String>::new());
        assert!(tree.remove(&path("/a"), Stamp(5)));
        assert_eq!(tree.usage(5), Usage::default());
    }
}
