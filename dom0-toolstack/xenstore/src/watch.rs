//! Watches and what fires them.
//!
//! [`Watches`] finds the watches a change concerns by walking up from the changed path, so that
//! watches elsewhere cost nothing. Whether the watcher may know of the change is the server's
//! question.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::path::{NodePath, parent_of};
use crate::permission::Permission;
use crate::record::{Holder, Record};

/// A connection of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ConnectionId(pub u32);

/// A change that watches may want to know of.
#[derive(Clone, Debug)]
pub struct Change {
    /// What changed.
    pub path: NodePath,
    /// Only watches of this very path: it went with a parent, which is reported by itself.
    pub exact: bool,
    /// The permissions of the node before the change, if it was there.
    pub before: Option<Arc<[Permission]>>,
}

/// A watch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watch {
    /// Who watches.
    pub connection: ConnectionId,
    /// Which of all watches, oldest first.
    pub order: u64,
    /// The watched path.
    pub path: NodePath,
    /// Given back with each event.
    pub token: Vec<u8>,
    /// How much of the path was not in the request, which named it relatively.
    pub implied: usize,
    /// How many levels below the path count.
    pub depth: Option<u32>,
}

impl Watch {
    /// Returns the bytes this watch counts for.
    pub fn size(&self) -> usize {
        self.path.as_str().len() + self.token.len()
    }

    /// Returns what is written down of it.
    pub(crate) fn record(&self, holder: Holder) -> Record<'_> {
        Record::Watch {
            holder,
            path: Cow::Borrowed(self.path.as_str()),
            token: Cow::Borrowed(&self.token),
            implied: u32::try_from(self.implied).unwrap_or_default(),
            depth: self.depth,
        }
    }

    /// Returns the payload of the event for a change of `path`.
    pub fn event(&self, path: &str) -> Vec<u8> {
        let shown = path.get(self.implied..).unwrap_or(path);
        let mut payload = Vec::with_capacity(shown.len() + self.token.len() + 2);
        payload.extend_from_slice(shown.as_bytes());
        payload.push(0);
        payload.extend_from_slice(&self.token);
        payload.push(0);
        payload
    }
}

/// All watches of all connections.
#[derive(Debug, Default)]
pub struct Watches {
    by_path: HashMap<NodePath, Vec<Watch>>,
    by_connection: BTreeMap<ConnectionId, BTreeMap<u64, NodePath>>,
    next_order: u64,
}

impl Watches {
    /// Returns the number of watches of a connection.
    pub fn count(&self, connection: ConnectionId) -> usize {
        self.by_connection.get(&connection).map_or(0, BTreeMap::len)
    }

    /// Returns the watches of a connection, oldest first.
    pub fn of(&self, connection: ConnectionId) -> impl Iterator<Item = &Watch> {
        self.by_connection.get(&connection).into_iter().flatten().filter_map(|(order, path)| {
            self.at(path.as_str()).iter().find(|watch| watch.order == *order)
        })
    }

    /// Returns whether this very watch is there.
    pub fn contains(&self, connection: ConnectionId, path: &NodePath, token: &[u8]) -> bool {
        self.at(path.as_str()).iter().any(|watch| watch.is(connection, token))
    }

    /// Adds a watch and returns it as it is kept.
    pub fn add(&mut self, mut watch: Watch) -> Watch {
        self.next_order += 1;
        watch.order = self.next_order;
        let places = self.by_connection.entry(watch.connection).or_default();
        places.insert(watch.order, watch.path.clone());
        self.by_path.entry(watch.path.clone()).or_default().push(watch.clone());
        watch
    }

    /// Takes a watch away and returns it.
    pub fn remove(
        &mut self,
        connection: ConnectionId,
        path: &NodePath,
        token: &[u8],
    ) -> Option<Watch> {
        let at = self.by_path.get_mut(path)?;
        let index = at.iter().position(|watch| watch.is(connection, token))?;
        let watch = at.remove(index);
        if at.is_empty() {
            self.by_path.remove(path);
        }
        if let Some(places) = self.by_connection.get_mut(&connection) {
            places.remove(&watch.order);
        }
        Some(watch)
    }

    /// Takes all watches of a connection away.
    pub fn remove_all(&mut self, connection: ConnectionId) {
        for (order, path) in self.by_connection.remove(&connection).unwrap_or_default() {
            // The path is hashed once: of closing a connection that is the most.
            if let Entry::Occupied(mut at) = self.by_path.entry(path) {
                at.get_mut().retain(|watch| watch.order != order);
                if at.get().is_empty() {
                    at.remove();
                }
            }
        }
    }

    /// Returns the watches that a change of `path` concerns, oldest first.
    pub fn concerned(&self, path: &str, exact: bool) -> Vec<Watch> {
        let mut found: Vec<Watch> = self.at(path).to_vec();
        let mut below = 0;
        let mut place = path;
        while !exact && let Some(parent) = parent_of(place) {
            below += 1;
            place = parent;
            found.extend(
                self.at(place)
                    .iter()
                    .filter(|watch| watch.depth.is_none_or(|depth| below <= depth))
                    .cloned(),
            );
        }
        found.sort_by_key(|watch| watch.order);
        found
    }

    fn at(&self, path: &str) -> &[Watch] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }
}

impl Watch {
    fn is(&self, connection: ConnectionId, token: &[u8]) -> bool {
        self.connection == connection && self.token == token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(connection: u32, path: &str, token: &str, depth: Option<u32>) -> Watch {
        Watch {
            connection: ConnectionId(connection),
            order: 0,
            path: NodePath::known(path),
            token: token.as_bytes().to_vec(),
            implied: 0,
            depth,
        }
    }

    fn tokens(watches: &Watches, path: &str, exact: bool) -> String {
        watches.concerned(path, exact).iter().map(|watch| watch.token[0] as char).collect()
    }

    #[test]
    fn a_change_concerns_watches_of_it_and_above_oldest_first() {
        let mut watches = Watches::default();
        for (path, token) in [("/a/b", "1"), ("/", "2"), ("/a", "3"), ("/ab", "4"), ("/a/b/c", "5")]
        {
            watches.add(watch(1, path, token, None));
        }
        assert_eq!(tokens(&watches, "/a/b", false), "123");
        assert_eq!(tokens(&watches, "/a/b", true), "1");
        assert_eq!(tokens(&watches, "/", false), "2");
    }

    #[test]
    fn a_depth_limits_what_lies_below() {
        let mut watches = Watches::default();
        watches.add(watch(1, "/a", "0", Some(0)));
        watches.add(watch(1, "/a", "1", Some(1)));
        assert_eq!(tokens(&watches, "/a", false), "01");
        assert_eq!(tokens(&watches, "/a/b", false), "1");
        assert_eq!(tokens(&watches, "/a/b/c", false), "");
    }

    #[test]
    fn the_watches_of_a_connection_go_together() {
        let mut watches = Watches::default();
        watches.add(watch(1, "/a", "x", None));
        watches.add(watch(2, "/a", "y", None));
        watches.add(watch(1, "/b", "z", None));
        watches.remove_all(ConnectionId(1));
        assert_eq!(watches.count(ConnectionId(1)), 0);
        assert_eq!(tokens(&watches, "/a", false), "y");
        assert_eq!(tokens(&watches, "/b", false), "");
        assert!(watches.remove(ConnectionId(2), &NodePath::known("/a"), b"y").is_some());
        assert!(watches.by_path.is_empty());
    }

    #[test]
    fn a_relative_watch_hears_relative_paths() {
        let relative = Watch { implied: "/local/domain/7/".len(), ..watch(1, "/", "t", None) };
        assert_eq!(relative.event("/local/domain/7/data"), b"data\0t\0");
    }
}
