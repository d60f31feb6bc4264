//! Transactions: a snapshot, what was done to it, and whether that still fits the store.
//!
//! A transaction works on its own clone of the tree and notes what it looked at: a node's content
//! or its list of children. It can be committed if neither changed in the store meanwhile, so two
//! transactions that make different children of one node do not meet. Requests reach the tree
//! through a [`View`], which is the same in and out of a transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::path::NodePath;
use crate::permission::Permission;
use crate::tree::{Node, Stamp, Tree};
use crate::watch::Change;

/// Something a transaction looked at has changed: it must be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conflict;

/// A transaction may not touch that many nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooManyNodes;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Seen {
    content: bool,
    listing: bool,
}

/// What a request or a transaction did to the store.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// What watches must hear of.
    pub changes: Vec<Change>,
    /// The nodes that were made, changed or removed.
    pub touched: Vec<NodePath>,
}

impl Done {
    /// Returns how many places are searched for watches that must hear of it.
    pub fn watch_looks(&self) -> usize {
        let looks = |change: &Change| if change.exact { 1 } else { change.path.depth() };
        self.changes.iter().map(looks).sum()
    }
}

/// What was done in a transaction.
#[derive(Clone, Debug, Default)]
struct Log {
    seen: BTreeMap<NodePath, Seen>,
    touched: BTreeSet<NodePath>,
    changes: Vec<Change>,
    /// Where in `changes` each path is.
    change_of: HashMap<NodePath, usize>,
    created: bool,
}

impl Log {
    fn done(self) -> Done {
        Done { changes: self.changes, touched: self.touched.into_iter().collect() }
    }

    fn notice(&mut self, path: &NodePath, seen: Seen) {
        if let Some(entry) = self.seen.get_mut(path) {
            entry.content |= seen.content;
            entry.listing |= seen.listing;
        } else {
            self.seen.insert(path.clone(), seen);
        }
    }

    /// One event for a node, however often it changed; a wider event replaces an exact one.
    fn note_change(&mut self, change: Change) {
        let earlier = self.change_of.get(&change.path).and_then(|at| self.changes.get_mut(*at));
        match earlier {
            Some(earlier) => earlier.exact &= change.exact,
            None => {
                self.change_of.insert(change.path.clone(), self.changes.len());
                self.changes.push(change);
            }
        }
    }
}

/// An open transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    base: Tree,
    tree: Tree,
    log: Log,
    failed: bool,
    stale: bool,
}

impl Transaction {
    /// Starts from the store as it is.
    pub fn new(store: &Tree) -> Self {
        let (base, tree) = (store.clone(), store.clone());
        Self { base, tree, log: Log::default(), failed: false, stale: false }
    }

    /// Notes that a request inside failed half way, so that nothing of it can be committed.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Returns whether it can never be committed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Returns whether nodes were made in it.
    pub fn created_nodes(&self) -> bool {
        self.log.created
    }

    /// Returns by how many nodes it changes what `domain` owns.
    pub fn nodes_gained(&self, domain: u16) -> usize {
        self.tree.usage(domain).nodes.saturating_sub(self.base.usage(domain).nodes)
    }

    /// Returns the number of nodes it looked at or changed.
    pub fn size(&self) -> usize {
        self.log.seen.len()
    }

    /// Starts one that can never be committed: what it did before is not known any more.
    pub fn stale(store: &Tree) -> Self {
        Self { stale: true, ..Self::new(store) }
    }

    /// Applies everything to the store, or nothing, and returns what was done.
    ///
    /// # Errors
    ///
    /// [`Conflict`] where what it looked at has changed since it started.
    pub fn commit(self, store: &mut Tree, stamp: &mut Stamp) -> Result<Done, Conflict> {
        if self.stale {
            return Err(Conflict);
        }
        if self.base.is_same(store) {
            *store = self.tree;
            return Ok(self.log.done());
        }
        let unchanged = |(path, seen): (&NodePath, &Seen)| {
            let (then, now) = (self.base.get(path.as_str()), store.get(path.as_str()));
            let content = |node: &Node| node.content;
            let listing = |node: &Node| node.listing;
            (!seen.content || then.map(content) == now.map(content))
                && (!seen.listing || then.map(listing) == now.map(listing))
        };
        if !self.log.seen.iter().all(unchanged) {
            return Err(Conflict);
        }
        // Parents sort before their children, so new nodes find theirs; what goes, goes backwards.
        for path in &self.log.touched {
            if let Some(node) = self.tree.get(path.as_str()) {
                put(store, path, node, stamp.advance());
            }
        }
        for path in self.log.touched.iter().rev() {
            if self.tree.get(path.as_str()).is_none() {
                store.remove(path, stamp.advance());
            }
        }
        Ok(self.log.done())
    }

    /// Returns how many bytes of nodes that are there no more in the store it may hold.
    pub fn held(&self, store: &Tree) -> u64 {
        store.replaced().saturating_sub(self.base.replaced())
    }

    /// Gives up what it holds: it goes on with the store as it is and has to be tried again.
    pub fn let_go(&mut self, store: &Tree) {
        *self = Self { failed: self.failed, ..Self::stale(store) };
    }

    /// Notes that a domain died: what was given to it in here must not reach a later domain of
    /// its number, so the transaction has to be tried again.
    pub fn domain_died(&mut self, domain: u16) {
        let names = |node: &Node| node.permissions.iter().any(|entry| entry.domain == domain);
        let touched = self.log.touched.iter();
        self.stale |= touched.filter_map(|path| self.tree.get(path.as_str())).any(names);
    }
}

fn put(store: &mut Tree, path: &NodePath, node: &Node, stamp: Stamp) {
    let there = store.get(path.as_str());
    let (value_differs, permissions_differ) = there.map_or((false, false), |there| {
        (there.value != node.value, there.permissions != node.permissions)
    });
    if there.is_none() {
        store.create(path, node.value.clone(), node.permissions.clone(), stamp);
        return;
    }
    if value_differs {
        store.set_value(path.as_str(), node.value.clone(), stamp);
    }
    if permissions_differ {
        store.set_permissions(path.as_str(), node.permissions.clone(), stamp);
    }
}

/// The tree as one request sees and changes it.
#[derive(Debug)]
pub struct View<'server> {
    tree: &'server mut Tree,
    stamp: &'server mut Stamp,
    log: Option<(&'server mut Log, usize)>,
    done: Done,
    looks: usize,
}

impl<'server> View<'server> {
    /// Looks at the store itself.
    pub fn of_store(tree: &'server mut Tree, stamp: &'server mut Stamp) -> Self {
        Self { tree, stamp, log: None, done: Done::default(), looks: 0 }
    }

    /// Looks at a transaction, which may touch `limit` nodes.
    pub fn of_transaction(
        transaction: &'server mut Transaction,
        stamp: &'server mut Stamp,
        limit: usize,
    ) -> Self {
        let Transaction { tree, log, .. } = transaction;
        Self { tree, stamp, log: Some((log, limit)), done: Done::default(), looks: 0 }
    }

    /// Returns a node whose value and permissions are wanted.
    ///
    /// # Errors
    ///
    /// [`TooManyNodes`].
    pub fn content(&mut self, path: &NodePath) -> Result<Option<&Node>, TooManyNodes> {
        self.notice(path, Seen { content: true, listing: false })?;
        Ok(self.tree.get(path.as_str()))
    }

    /// Returns a node whose children are wanted too.
    ///
    /// # Errors
    ///
    /// [`TooManyNodes`].
    pub fn listing(&mut self, path: &NodePath) -> Result<Option<&Node>, TooManyNodes> {
        self.notice(path, Seen { content: true, listing: true })?;
        Ok(self.tree.get(path.as_str()))
    }

    /// Returns the tree to count in, noting nothing.
    pub fn tree(&self) -> &Tree {
        self.tree
    }

    /// Makes a node under a parent that is there.
    ///
    /// # Errors
    ///
    /// [`TooManyNodes`].
    pub fn create(
        &mut self,
        path: &NodePath,
        value: Vec<u8>,
        permissions: Arc<[Permission]>,
    ) -> Result<(), TooManyNodes> {
        if let Some(parent) = path.parent() {
            self.notice(&parent, Seen { content: true, listing: false })?;
        }
        self.touch(path)?;
        let stamp = self.stamp.advance();
        self.tree.create(path, value, permissions, stamp);
        if let Some((log, _)) = &mut self.log {
            log.created = true;
        }
        Ok(())
    }

    /// Sets the value of a node that is there.
    ///
    /// # Errors
    ///
    /// [`TooManyNodes`].
    pub fn set_value(&mut self, path: &NodePath, value: Vec<u8>) -> Result<(), TooManyNodes> {
        self.touch(path)?;
        let stamp = self.stamp.advance();
        self.tree.set_value(path.as_str(), value, stamp);
        Ok(())
    }

    /// Sets the permissions of a node that is there.
    ///
    /// # Errors
    ///
    /// [`TooManyNodes`].
    pub fn set_permissions(
        &mut self,
        path: &NodePath,
        permissions: Arc<[Permission]>,
    ) -> Result<(), TooManyNodes> {
        self.touch(path)?;
        let stamp = self.stamp.advance();
        self.tree.set_permissions(path.as_str(), permissions, stamp);
        Ok(())
    }

    /// Removes a node and all below it and notes the changes.
    ///
    /// # Errors
    ///
    /// [`TooManyNodes`]: some of it may be gone by then.
    pub fn remove_subtree(&mut self, root: &NodePath) -> Result<(), TooManyNodes> {
        for path in self.tree.subtree(root) {
            self.notice(&path, Seen { content: true, listing: true })?;
            self.touch(&path)?;
            let before = self.tree.get(path.as_str()).map(|node| node.permissions.clone());
            let stamp = self.stamp.advance();
            self.tree.remove(&path, stamp);
            let exact = path != *root;
            self.note_change(Change { path, exact, before });
        }
        Ok(())
    }

    /// Notes a change for watches to hear of, at once or with the commit.
    pub fn note_change(&mut self, change: Change) {
        match &mut self.log {
            Some((log, _)) => log.note_change(change),
            None => self.done.changes.push(change),
        }
    }

    /// Returns how often a node was looked for or changed.
    pub fn looks(&self) -> usize {
        self.looks
    }

    /// Ends the request and returns what was done to the store.
    pub fn finish(self) -> Done {
        self.done
    }

    fn notice(&mut self, path: &NodePath, seen: Seen) -> Result<(), TooManyNodes> {
        self.looks += 1;
        if let Some((log, limit)) = &mut self.log {
            if log.seen.len() >= *limit && !log.seen.contains_key(path) {
                return Err(TooManyNodes);
            }
            log.notice(path, seen);
        }
        Ok(())
    }

    fn touch(&mut self, path: &NodePath) -> Result<(), TooManyNodes> {
        self.notice(path, Seen { content: true, listing: false })?;
        match &mut self.log {
            Some((log, _)) => drop(log.touched.insert(path.clone())),
            None => self.done.touched.push(path.clone()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Access;

    fn owner() -> Arc<[Permission]> {
        Arc::from([Permission::new(0, Access::NONE)])
    }

    fn path(text: &str) -> NodePath {
        NodePath::known(text)
    }

    struct Fixture {
        tree: Tree,
        stamp: Stamp,
    }

    impl Fixture {
        fn new() -> Self {
            let mut stamp = Stamp::default();
            let mut tree = Tree::new(owner(), stamp);
            for text in ["/a", "/a/b", "/c"] {
                assert!(tree.create(&path(text), Vec::new(), owner(), stamp.advance()));
            }
            Self { tree, stamp }
        }

        fn within(&mut self, transaction: &mut Transaction, body: impl FnOnce(&mut View<'_>)) {
            body(&mut View::of_transaction(transaction, &mut self.stamp, 100));
        }

        fn commit(&mut self, transaction: Transaction) -> Result<Done, Conflict> {
            let result = transaction.commit(&mut self.tree, &mut self.stamp);
            assert_eq!(self.tree.inconsistencies(), Vec::<String>::new());
            result
        }

        fn write(&mut self, text: &str) {
            let stamp = self.stamp.advance();
            assert!(self.tree.set_value(text, b"x".to_vec(), stamp));
        }
    }

    #[test]
    fn writes_show_only_after_the_commit() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| {
            view.set_value(&path("/a"), b"new".to_vec()).unwrap();
            assert_eq!(view.content(&path("/a")).unwrap().unwrap().value, b"new");
        });
        assert_eq!(store.tree.get("/a").unwrap().value, b"");
        store.commit(transaction).unwrap();
        assert_eq!(store.tree.get("/a").unwrap().value, b"new");
    }

    #[test]
    fn a_change_of_what_was_read_is_a_conflict() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| {
            view.content(&path("/a/b")).unwrap();
            view.set_value(&path("/c"), b"new".to_vec()).unwrap();
        });
        store.write("/a/b");
        assert_eq!(store.commit(transaction).unwrap_err(), Conflict);
        assert_eq!(store.tree.get("/c").unwrap().value, b"");
    }

    #[test]
    fn a_change_elsewhere_is_none() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| {
            view.set_value(&path("/c"), b"new".to_vec()).unwrap();
        });
        store.write("/a/b");
        store.commit(transaction).unwrap();
        assert_eq!(store.tree.get("/c").unwrap().value, b"new");
        assert_eq!(store.tree.get("/a/b").unwrap().value, b"x");
    }

    #[test]
    fn two_transactions_may_make_different_children_of_one_node() {
        let mut store = Fixture::new();
        let mut first = Transaction::new(&store.tree);
        let mut second = Transaction::new(&store.tree);
        for (transaction, name) in [(&mut first, "/a/x"), (&mut second, "/a/y")] {
            store.within(transaction, |view| {
                assert!(view.content(&path(name)).unwrap().is_none());
                view.create(&path(name), Vec::new(), owner()).unwrap();
            });
        }
        store.commit(first).unwrap();
        store.commit(second).unwrap();
        assert_eq!(store.tree.get("/a").unwrap().children_list(), b"b\0x\0y\0");
    }

    #[test]
    fn a_list_of_children_that_grew_is_a_conflict_for_who_read_it() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| {
            view.listing(&path("/a")).unwrap();
        });
        let stamp = store.stamp.advance();
        store.tree.create(&path("/a/new"), Vec::new(), owner(), stamp);
        assert_eq!(store.commit(transaction).unwrap_err(), Conflict);
    }

    #[test]
    fn a_child_that_came_meanwhile_keeps_its_parent_from_being_removed() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| view.remove_subtree(&path("/a")).unwrap());
        let stamp = store.stamp.advance();
        store.tree.create(&path("/a/new"), Vec::new(), owner(), stamp);
        assert_eq!(store.commit(transaction).unwrap_err(), Conflict);
        assert!(store.tree.get("/a/new").is_some());
    }

    #[test]
    fn a_node_removed_and_made_again_loses_its_children() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| {
            view.remove_subtree(&path("/a")).unwrap();
            view.create(&path("/a"), b"again".to_vec(), owner()).unwrap();
        });
        store.commit(transaction).unwrap();
        assert!(store.tree.get("/a/b").is_none());
        assert_eq!(store.tree.get("/a").unwrap().value, b"again");
    }

    #[test]
    fn a_node_changed_twice_is_heard_of_once() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        store.within(&mut transaction, |view| {
            for exact in [true, false] {
                view.note_change(Change { path: path("/a"), exact, before: None });
            }
        });
        let changes = store.commit(transaction).unwrap().changes;
        assert_eq!(changes.len(), 1);
        assert!(!changes[0].exact);
    }

    #[test]
    fn a_transaction_that_touches_too_much_is_told() {
        let mut store = Fixture::new();
        let mut transaction = Transaction::new(&store.tree);
        let mut view = View::of_transaction(&mut transaction, &mut store.stamp, 2);
        view.content(&path("/a")).unwrap();
        view.content(&path("/a/b")).unwrap();
        view.content(&path("/a")).unwrap();
        assert_eq!(view.content(&path("/c")).unwrap_err(), TooManyNodes);
    }
}
