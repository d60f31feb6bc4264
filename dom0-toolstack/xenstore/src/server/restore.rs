//! A server made again from what an earlier one wrote down.
//!
//! Nodes, quotas, domains and their watches are as they were. A transaction that was open goes on
//! and is answered EAGAIN at its end, since what it had done is lost. How much of a ring's output
//! had left is known only from the ring, which is the daemon's ([`RingState`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Caller, ConnectionId, Server};
use crate::path::NodePath;
use crate::permission::Permission;
use crate::quota::Quotas;
use crate::record::{Holder, Record, VERSION};
use crate::transaction::Transaction;
use crate::tree::Stamp;
use crate::watch::Watch;

/// A server and what its connections need beside it.
#[derive(Debug)]
pub struct Restored {
    /// The server.
    pub server: Server,
    /// The kernel's boot that the records are of.
    pub boot: String,
    /// How many daemons went before.
    pub epoch: u32,
    /// The rings of the connected domains, the server's own among them.
    pub rings: BTreeMap<u16, RingState>,
    /// Programs whose sockets are handed on, in the order of the descriptors, with what was read
    /// of messages not handled yet.
    pub programs: Vec<(ConnectionId, Vec<u8>)>,
}

/// A ring as far as the records tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RingState {
    /// Its frame.
    pub gfn: u64,
    /// The domain's end of the event channel.
    pub port: u32,
    /// Index of requests, as far as they were handled.
    pub requests: u32,
    /// Index of responses at which `output` begins.
    pub responses: u32,
    /// The beginning of a message that had not arrived whole.
    pub partial: Vec<u8>,
    /// What was to be sent; the ring's own index says how much of it was.
    pub output: Vec<u8>,
}

impl RingState {
    /// Returns what still has to be sent where the ring's index of responses is `produced`;
    /// nothing where no daemon can have left it there.
    pub fn unsent(&self, produced: u32) -> Option<&[u8]> {
        let sent = usize::try_from(produced.wrapping_sub(self.responses)).ok()?;
        self.output.get(sent..)
    }
}

#[derive(Debug)]
struct Restorer {
    server: Server,
    rings: BTreeMap<u16, RingState>,
    programs: Vec<(ConnectionId, Vec<u8>)>,
    program_of: BTreeMap<u32, ConnectionId>,
    outputs: BTreeMap<u32, Vec<u8>>,
    transactions: BTreeMap<(Holder, u32), ()>,
}

/// Makes a server again; nothing where the records are none of this program's.
pub fn restore(records: Vec<Record<'static>>) -> Option<Restored> {
    let mut records = records.into_iter();
    let Some(Record::Header { version: VERSION, boot, epoch }) = records.next() else {
        return None;
    };
    let mut server = Server::new(Quotas::default());
    server.stamp = Stamp::after(epoch.saturating_add(1));
    let mut restorer = Restorer {
        server,
        rings: BTreeMap::new(),
        programs: Vec::new(),
        program_of: BTreeMap::new(),
        outputs: BTreeMap::new(),
        transactions: BTreeMap::new(),
    };
    for record in records {
        restorer.apply(record);
    }
    let Restorer { server, rings, programs, .. } = restorer.finish();
    Some(Restored { server, boot: boot.into_owned(), epoch, rings, programs })
}

impl Restorer {
    fn apply(&mut self, record: Record<'static>) {
        match record {
            Record::Header { .. } => {}
            Record::Node { path, value, permissions } => {
                self.node(&path, value.into_owned(), permissions.into_owned());
            }
            Record::Removed { path } => {
                let stamp = self.server.stamp.advance();
                self.server.tree.remove(&NodePath::known(&path), stamp);
            }
            Record::Introduced { domain, gfn, port } => {
                if let Some(known) = self.server.domains.get_mut(&domain) {
                    (known.gfn, known.port) = (gfn, port);
                } else {
                    self.server.connect_ring(domain, gfn, port);
                }
                let ring = self.rings.entry(domain).or_default();
                (ring.gfn, ring.port) = (gfn, port);
            }
            Record::Released { domain } => {
                self.forget(Holder::Domain(domain));
                self.rings.remove(&domain);
                if let Some(known) = self.server.domains.remove(&domain) {
                    self.server.connections.remove(&known.connection);
                }
                for connection in self.server.connections.values_mut() {
                    connection.target = connection.target.filter(|target| *target != domain);
                }
            }
            Record::Target { domain, target } => {
                let id = self.connection(Holder::Domain(domain));
                if let Some(connection) = id.and_then(|id| self.server.connections.get_mut(&id)) {
                    connection.target = Some(target);
                }
            }
            Record::Shutdown { domain, reported } => {
                if let Some(known) = self.server.domains.get_mut(&domain) {
                    known.shutdown = reported;
                }
            }
            Record::Quota { name, value } => {
                self.server.quotas.set(&name, usize::try_from(value).unwrap_or(usize::MAX));
            }
            Record::Watch { holder, path, token, implied, depth } => {
                let Some(connection) = self.connection(holder) else { return };
                let path = NodePath::known(&path);
                let implied = usize::try_from(implied).unwrap_or_default();
                let token = token.into_owned();
                let watch = Watch { connection, order: 0, path, token, implied, depth };
                self.add(watch);
            }
            Record::Unwatch { holder, path, token } => {
                let Some(id) = self.connection(holder) else { return };
                let watch = self.server.watches.remove(id, &NodePath::known(&path), &token);
                if let (Some(watch), Some(connection)) =
                    (watch, self.server.connections.get_mut(&id))
                {
                    connection.watch_bytes = connection.watch_bytes.saturating_sub(watch.size());
                }
            }
            Record::Transaction { holder, number, open: true } => {
                self.transactions.insert((holder, number), ());
            }
            Record::Transaction { holder, number, open: false } => {
                self.transactions.remove(&(holder, number));
            }
            Record::Forgotten { holder } => self.forget(holder),
            Record::Output { holder: Holder::Domain(domain), bytes } => {
                self.rings.entry(domain).or_default().output.extend_from_slice(&bytes);
            }
            Record::Output { holder: Holder::Socket(number), bytes } => {
                self.outputs.entry(number).or_default().extend_from_slice(&bytes);
            }
            Record::Ring { domain, requests, responses, partial } => {
                let ring = self.rings.entry(domain).or_default();
                let sent = usize::try_from(responses.wrapping_sub(ring.responses));
                let sent = sent.unwrap_or(usize::MAX).min(ring.output.len());
                ring.output.drain(..sent);
                ring.responses = responses;
                ring.requests = requests;
                ring.partial = partial.into_owned();
            }
            Record::Restarted { domain } => {
                let ring = self.rings.entry(domain).or_default();
                let RingState { gfn, port, .. } = *ring;
                *ring = RingState { gfn, port, ..RingState::default() };
            }
            Record::Socket { number, partial } => {
                let id = self.program(number);
                self.programs.push((id, partial.into_owned()));
            }
        }
    }

    fn finish(mut self) -> Self {
        for (holder, number) in std::mem::take(&mut self.transactions).into_keys() {
            let Some(id) = self.connection(holder) else { continue };
            let stale = Transaction::stale(&self.server.tree);
            if let Some(connection) = self.server.connections.get_mut(&id) {
                connection.transactions.insert(number, stale);
                connection.next_transaction =
                    connection.next_transaction.max(number.wrapping_add(1));
                self.server.open_transactions += 1;
            }
        }
        for (number, bytes) in std::mem::take(&mut self.outputs) {
            if let Some(id) = self.program_of.get(&number) {
                self.server.resume_output(*id, bytes);
            }
        }
        self
    }

    fn node(&mut self, path: &str, value: Vec<u8>, permissions: Vec<Permission>) {
        let Server { tree, stamp, .. } = &mut self.server;
        let permissions: Arc<[Permission]> = Arc::from(permissions);
        if tree.get(path).is_some() {
            tree.set_value(path, value, stamp.advance());
            tree.set_permissions(path, permissions, stamp.advance());
        } else {
            tree.create(&NodePath::known(path), value, permissions, stamp.advance());
        }
    }

    fn add(&mut self, watch: Watch) {
        let watch = self.server.watches.add(watch);
        if let Some(connection) = self.server.connections.get_mut(&watch.connection) {
            connection.watch_bytes += watch.size();
        }
    }

    fn forget(&mut self, holder: Holder) {
        if let Some(id) = self.connection(holder) {
            self.server.watches.remove_all(id);
            if let Some(connection) = self.server.connections.get_mut(&id) {
                connection.watch_bytes = 0;
            }
        }
        self.transactions.retain(|(owner, _), ()| *owner != holder);
    }

    fn connection(&mut self, holder: Holder) -> Option<ConnectionId> {
        match holder {
            Holder::Domain(domain) => self.server.connection_of(domain),
            Holder::Socket(number) => Some(self.program(number)),
        }
    }

    fn program(&mut self, number: u32) -> ConnectionId {
        let server = &mut self.server;
        *self.program_of.entry(number).or_insert_with(|| server.connect(Caller::Tool))
    }
}

impl Server {
    /// Adds what an earlier daemon had not sent to a connection.
    pub fn resume_output(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.outgoing.push_rest(bytes);
            self.dirty.insert(id);
        }
    }
}
