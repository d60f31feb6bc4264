//! The server as a state machine: messages in, replies, watch events and [`Effect`]s out.
//!
//! [`Server`] decides; it knows no sockets, rings or clocks. The daemon hands it each message,
//! sends what [`Server::output`] holds, and carries out its effects: connecting a domain's ring
//! happens outside, so INTRODUCE is answered by [`Server::introduced`] when it is done.

mod control;
mod journal;
#[cfg(test)]
mod model;
mod nodes;
mod outgoing;
mod requests;
mod restore;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use control::Handover;
pub use journal::Snapshot;
pub use restore::{Restored, RingState, restore};

use crate::path::{INTRODUCE_DOMAIN, NodePath, RELEASE_DOMAIN, SPECIAL};
use crate::permission::{Access, Identity, Permission};
use crate::quota::{Quotas, WriteRate};
use crate::record::{Frame, Holder, Record};
use crate::transaction::{Done, Transaction};
use crate::tree::{Stamp, Tree};
pub use crate::watch::ConnectionId;
use crate::watch::{Change, Watches};
use crate::wire::{Failure, Kind, Message, PAYLOAD_MAX};
use outgoing::{Bytes, Outgoing};

/// Bytes a tool may leave unread before it is dropped.
const TOOL_OUTPUT_MAX: usize = 64 << 20;

/// Bytes of old nodes that transactions together may hold; those that hold the oldest then have to
/// be tried again.
const HELD_MAX: u64 = 64 << 20;
/// How often that is looked at, in bytes of nodes that were replaced.
const HELD_STEP: u64 = 4 << 20;

/// What the daemon must do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "the server counts on it"]
pub enum Effect {
    /// Map the domain's ring, bind its event channel, empty the ring, and call
    /// [`Server::introduced`] with how that went.
    Introduce(Introduction),
    /// Unmap the domain's ring and close the event channel; its connection is gone.
    Disconnect {
        /// The domain.
        domain: u16,
    },
    /// Close the socket of a connection that does not read.
    Close(ConnectionId),
    /// Put a line in the log.
    Log(String),
    /// Start another program in this one's place; where that fails, call
    /// [`Server::handover_failed`].
    Handover(Handover),
}

/// A request to connect a domain's ring that waits for its outcome.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Introduction {
    /// The domain.
    pub domain: u16,
    /// The frame of the ring.
    pub gfn: u64,
    /// The domain's end of the event channel.
    pub port: u32,
    /// The domain is connected already: only the event channel is new.
    pub again: bool,
    asker: ConnectionId,
    request: Message,
}

/// How a domain is, as the hypervisor says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DomainState {
    /// It lives.
    Running,
    /// It has shut down or crashed and is still there.
    Shutdown,
    /// It is dying or gone.
    Gone,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Caller {
    Tool,
    Domain(u16),
}

#[derive(Debug)]
struct Connection {
    caller: Caller,
    target: Option<u16>,
    transactions: BTreeMap<u32, Transaction>,
    next_transaction: u32,
    outgoing: Outgoing,
    watch_bytes: usize,
    rate: WriteRate,
}

impl Connection {
    fn new(caller: Caller, now: Duration) -> Self {
        Self {
            caller,
            target: None,
            transactions: BTreeMap::new(),
            next_transaction: 1,
            outgoing: Outgoing::default(),
            watch_bytes: 0,
            rate: WriteRate::new(now),
        }
    }

    fn identity(&self) -> Identity {
        match self.caller {
            Caller::Tool => Identity { domain: 0, target: None, privileged: true },
            Caller::Domain(domain) => {
                Identity { domain, target: self.target, privileged: domain == 0 }
            }
        }
    }

    fn base(&self) -> String {
        domain_path(self.identity().domain)
    }
}

#[derive(Clone, Copy, Debug)]
struct Domain {
    connection: ConnectionId,
    gfn: u64,
    port: u32,
    shutdown: bool,
}

/// The store and everybody who uses it.
#[derive(Debug)]
pub struct Server {
    tree: Tree,
    stamp: Stamp,
    quotas: Quotas,
    watches: Watches,
    connections: BTreeMap<ConnectionId, Connection>,
    domains: BTreeMap<u16, Domain>,
    open_transactions: usize,
    /// When [`Tree::replaced`] reaches this, transactions are looked at for what they hold.
    held_checked_at: u64,
    next_connection: u32,
    dirty: BTreeSet<ConnectionId>,
    effects: Vec<Effect>,
    journal: Option<Frame>,
    update: control::Update,
    now: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self::new(Quotas::default())
    }
}

impl Server {
    /// Makes a store with the nodes every store has.
    pub fn new(quotas: Quotas) -> Self {
        let owner: Arc<[Permission]> = Arc::from([Permission::new(0, Access::NONE)]);
        let mut stamp = Stamp::default();
        let mut tree = Tree::new(owner.clone(), stamp.advance());
        for path in ["/tool", "/tool/xenstored"].into_iter().chain(SPECIAL) {
            tree.create(&NodePath::known(path), Vec::new(), owner.clone(), stamp.advance());
        }
        Self {
            tree,
            stamp,
            quotas,
            watches: Watches::default(),
            connections: BTreeMap::new(),
            domains: BTreeMap::new(),
            open_transactions: 0,
            held_checked_at: HELD_STEP,
            next_connection: 0,
            dirty: BTreeSet::new(),
            effects: Vec::new(),
            journal: None,
            update: control::Update::default(),
            now: Duration::ZERO,
        }
    }

    /// Says what time it is, from any start.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Adds a connection of a program in the domain the server runs in.
    pub fn connect_tool(&mut self) -> ConnectionId {
        self.connect(Caller::Tool)
    }

    /// Adds the connection of a domain whose ring is there from the start, the server's own.
    pub fn connect_domain(&mut self, domain: u16) -> ConnectionId {
        self.connect_ring(domain, 0, 0)
    }

    pub(crate) fn connect_ring(&mut self, domain: u16, gfn: u64, port: u32) -> ConnectionId {
        let connection = self.connect(Caller::Domain(domain));
        self.domains.insert(domain, Domain { connection, gfn, port, shutdown: false });
        self.note(&Record::Introduced { domain, gfn, port });
        connection
    }

    /// Takes a tool's connection away.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.reset(id);
        self.connections.remove(&id);
        self.dirty.remove(&id);
    }

    /// Drops the watches, transactions and unread output of a connection.
    ///
    /// The daemon calls it for a domain that reconnects or broke the rules of its ring.
    pub fn reset(&mut self, id: ConnectionId) {
        if let Some(holder) = self.holder(id) {
            self.note(&Record::Forgotten { holder });
        }
        self.watches.remove_all(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            self.open_transactions -= connection.transactions.len();
            connection.transactions.clear();
            connection.outgoing = Outgoing::default();
            connection.watch_bytes = 0;
        }
    }

    /// Does as [`Server::reset`] and charges the domain, which caused it.
    ///
    /// A domain that resets its ring again and again waits as one that writes without pause does.
    pub fn reset_by_domain(&mut self, id: ConnectionId) {
        self.reset(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.rate.charge(self.now);
        }
    }

    /// Returns the connection of a domain.
    pub fn connection_of(&self, domain: u16) -> Option<ConnectionId> {
        self.domains.get(&domain).map(|domain| domain.connection)
    }

    /// Returns the domain a connection is of; nothing for a program.
    pub fn domain_of(&self, id: ConnectionId) -> Option<u16> {
        match self.connections.get(&id)?.caller {
            Caller::Domain(domain) => Some(domain),
            Caller::Tool => None,
        }
    }

    /// Returns the domains that are connected, the server's own left out.
    pub fn domains(&self) -> Vec<u16> {
        self.domains.keys().copied().filter(|domain| *domain != 0).collect()
    }

    /// Takes one message of a connection.
    pub fn handle(&mut self, id: ConnectionId, message: &Message) {
        self.limit_held();
        match self.answer(id, message) {
            Ok(Some(payload)) => self.reply(id, message, message.kind, payload),
            Ok(None) => {}
            Err(failure) => self.reply_failure(id, message, failure),
        }
    }

    /// Ends an introduction the daemon was told to carry out.
    pub fn introduced(&mut self, introduction: &Introduction, outcome: Result<(), Failure>) {
        let Introduction { domain, gfn, port, asker, request, .. } = introduction;
        if let Err(failure) = outcome {
            return self.reply_failure(*asker, request, failure);
        }
        if let Some(id) = self.connection_of(*domain) {
            self.reset(id);
            if let Some(known) = self.domains.get_mut(domain) {
                known.port = *port;
                let (domain, gfn) = (*domain, known.gfn);
                self.note(&Record::Introduced { domain, gfn, port: *port });
            }
        } else {
            self.connect_ring(*domain, *gfn, *port);
            self.fire_special(INTRODUCE_DOMAIN, *domain);
        }
        self.reply(*asker, request, request.kind, b"OK\0".to_vec());
    }

    /// Says how a domain is; its end is reported to who watches for it.
    pub fn domain_state(&mut self, domain: u16, state: DomainState) {
        let Some(known) = self.domains.get_mut(&domain) else { return };
        match state {
            DomainState::Running => {}
            DomainState::Shutdown if known.shutdown => {}
            DomainState::Shutdown => {
                known.shutdown = true;
                self.note(&Record::Shutdown { domain, reported: true });
                self.fire_special(RELEASE_DOMAIN, domain);
            }
            DomainState::Gone => self.release(domain),
        }
    }

    /// Returns what waits to be sent to a connection, and whether anything does.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.connections.get(&id).map_or(&[], |connection| connection.outgoing.next())
    }

    /// Notes that `count` bytes of [`Server::output`] were sent.
    pub fn sent(&mut self, id: ConnectionId, count: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.outgoing.sent(count);
        }
    }

    /// Takes the connections that were given output since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.dirty)
    }

    /// Takes what the daemon must do.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Returns whether a connection's next message may be read, or for how long not; `None` for
    /// as long as it has to read first.
    pub fn may_read(&mut self, id: ConnectionId) -> MayRead {
        let Some(connection) = self.connections.get_mut(&id) else { return MayRead::Yes };
        let identity = connection.identity();
        if identity.privileged {
            return MayRead::Yes;
        }
        let waiting = connection.outgoing.bytes();
        let memory = self.tree.usage(identity.domain).bytes + connection.watch_bytes + waiting;
        if connection.outgoing.replies() >= self.quotas.outstanding
            || (waiting > 0 && memory >= self.quotas.memory)
        {
            return MayRead::AfterOutput;
        }
        connection.rate.wait(self.now).map_or(MayRead::Yes, MayRead::After)
    }

    /// Returns the limits.
    pub fn quotas_mut(&mut self) -> &mut Quotas {
        &mut self.quotas
    }

    /// Returns the nodes.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes transactions that have been open for long let go of what nobody else needs.
    ///
    /// A stale one goes on with a snapshot of its own again and is looked at as any other.
    fn limit_held(&mut self) {
        if self.tree.replaced() < self.held_checked_at {
            return;
        }
        self.held_checked_at = self.tree.replaced().saturating_add(HELD_STEP);
        for connection in self.connections.values_mut() {
            for transaction in connection.transactions.values_mut() {
                if transaction.held(&self.tree) > HELD_MAX {
                    transaction.let_go(&self.tree);
                }
            }
        }
    }

    fn connect(&mut self, caller: Caller) -> ConnectionId {
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        self.connections.insert(id, Connection::new(caller, self.now));
        id
    }

    fn identity(&self, id: ConnectionId) -> Identity {
        self.connections
            .get(&id)
            .map_or(Identity { domain: u16::MAX, target: None, privileged: false }, |connection| {
                connection.identity()
            })
    }

    fn reply_failure(&mut self, id: ConnectionId, request: &Message, failure: Failure) {
        let mut payload = failure.name().as_bytes().to_vec();
        payload.push(0);
        self.reply(id, request, Kind::Error.number(), payload);
    }

    fn reply(&mut self, id: ConnectionId, request: &Message, kind: u32, payload: Vec<u8>) {
        if payload.len() > PAYLOAD_MAX {
            return self.reply_failure(id, request, Failure::E2BIG);
        }
        let Message { request_id, transaction_id, .. } = *request;
        self.queue(id, |outgoing| {
            outgoing.push_reply(&Message { kind, request_id, transaction_id, payload })
        });
    }

    fn queue(&mut self, id: ConnectionId, push: impl FnOnce(&mut Outgoing) -> Option<Bytes>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(bytes) = push(&mut connection.outgoing) else { return };
        self.dirty.insert(id);
        if let (Caller::Domain(domain), Some(journal)) = (connection.caller, &mut self.journal) {
            let holder = Holder::Domain(domain);
            journal.add(&Record::Output { holder, bytes: Cow::Borrowed(&bytes) });
        }
        if connection.caller == Caller::Tool && connection.outgoing.bytes() > TOOL_OUTPUT_MAX {
            self.effects.push(Effect::Close(id));
        }
    }

    fn queue_event(&mut self, id: ConnectionId, payload: Vec<u8>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let identity = connection.identity();
        let memory = connection.outgoing.bytes()
            + connection.watch_bytes
            + self.tree.usage(identity.domain).bytes;
        if !identity.privileged && memory + payload.len() > self.quotas.memory {
            return;
        }
        self.queue(id, |outgoing| outgoing.push_event(payload));
    }

    fn fire(&mut self, changes: Vec<Change>) {
        for Change { path, exact, before } in changes {
            let node = self.tree.get(path.as_str()).map(|node| node.permissions.clone());
            let parent = path
                .parent_str()
                .and_then(|parent| self.tree.get(parent))
                .map(|node| node.permissions.clone());
            for watch in self.watches.concerned(path.as_str(), exact) {
                let identity = self.identity(watch.connection);
                let readable = [&before, &node, &parent].into_iter().flatten();
                if readable.into_iter().any(|list| identity.access(list).read) {
                    self.queue_event(watch.connection, watch.event(path.as_str()));
                }
            }
        }
    }

    fn fire_special(&mut self, name: &str, domain: u16) {
        let Some(permissions) = self.tree.get(name).map(|node| node.permissions.clone()) else {
            return;
        };
        let with_domain = format!("{name}/{domain}");
        let general = self.watches.concerned(name, true).into_iter().map(|watch| {
            let path = if watch.depth == Some(1) { &*with_domain } else { name };
            (watch.connection, watch.event(path))
        });
        let single = self
            .watches
            .concerned(&with_domain, true)
            .into_iter()
            .map(|watch| (watch.connection, watch.event(&with_domain)));
        for (connection, payload) in general.chain(single).collect::<Vec<_>>() {
            if self.identity(connection).access(&permissions).read {
                self.queue_event(connection, payload);
            }
        }
    }

    fn release(&mut self, domain: u16) {
        let Some(known) = self.domains.remove(&domain) else { return };
        self.disconnect(known.connection);
        for connection in self.connections.values_mut() {
            connection.target = connection.target.filter(|target| *target != domain);
            for transaction in connection.transactions.values_mut() {
                transaction.domain_died(domain);
            }
        }
        self.note(&Record::Released { domain });
        let done = forget(&mut self.tree, &mut self.stamp, domain);
        self.note_done(&done);
        self.fire(done.changes);
        self.effects.push(Effect::Disconnect { domain });
        self.fire_special(RELEASE_DOMAIN, domain);
    }
}

/// Whether the next message of a connection may be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MayRead {
    /// Now.
    Yes,
    /// When it has taken some of its output.
    AfterOutput,
    /// When this time has passed.
    After(Duration),
}

/// Removes the nodes a domain owns and what is below them, and its entries elsewhere.
///
/// A later domain of the same number must find nothing that was meant for this one.
fn forget(tree: &mut Tree, stamp: &mut Stamp, domain: u16) -> Done {
    let mut named: Vec<NodePath> = tree
        .paths()
        .filter(|(_, node)| node.permissions.iter().any(|entry| entry.domain == domain))
        .map(|(path, _)| path.clone())
        .collect();
    named.sort();
    let mut done = Done::default();
    for root in named {
        let Some(node) = tree.get(root.as_str()) else { continue };
        if node.owner() != domain {
            let rest = node.permissions.iter().filter(|entry| entry.domain != domain).copied();
            let rest = rest.collect();
            tree.set_permissions(root.as_str(), rest, stamp.advance());
            done.touched.push(root);
        } else if root.parent_str().is_none() {
            let reset = Arc::from([Permission::new(0, Access::NONE)]);
            tree.set_permissions(root.as_str(), reset, stamp.advance());
            done.touched.push(root);
        } else {
            for path in tree.subtree(&root) {
                let before = tree.get(path.as_str()).map(|node| node.permissions.clone());
                tree.remove(&path, stamp.advance());
                done.touched.push(path.clone());
                done.changes.push(Change { exact: path != root, path, before });
            }
        }
    }
    done
}

fn domain_path(domain: u16) -> String {
    format!("/local/domain/{domain}")
}
