//! What the server writes down of its steps, and all of it at once.
//!
//! While a journal is kept each step adds [`Record`]s of what it changed. The daemon writes them
//! down before anybody hears of the step, so that a daemon that is started after a kill goes on
//! where the last heard-of step ended ([`super::restore()`]).

use std::borrow::Cow;

use super::{Caller, ConnectionId, Server};
use crate::path::NodePath;
use crate::record::{Frame, Holder, Record};
use crate::transaction::Done;
use crate::tree::{Node, Walk};

/// Everything there was at one moment, to be written down bit by bit: the nodes are the most, and
/// may change meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    others: Vec<u8>,
    nodes: Walk,
}

impl Snapshot {
    /// Adds records to a frame until it has `bytes` of them, more only where the first are; adds
    /// none where all were taken.
    pub fn take(&mut self, frame: &mut Frame, bytes: usize) {
        frame.extend(&std::mem::take(&mut self.others));
        while frame.records().len() < bytes
            && let Some((path, node)) = self.nodes.advance()
        {
            frame.add(&node_record(&path, node));
        }
    }
}

impl Server {
    /// Writes down from now on what each step changes.
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// Returns the records of the steps since it was cleared, if they are kept.
    pub fn journal(&mut self) -> Option<&mut Frame> {
        self.journal.as_mut()
    }

    /// Adds a record to the journal, if one is kept.
    pub fn note(&mut self, record: &Record<'_>) {
        if let Some(journal) = &mut self.journal {
            journal.add(record);
        }
    }

    /// Returns all there is, after `records`, which are encoded; `programs` are connections whose
    /// sockets are handed on, and other programs' watches and transactions are left out.
    pub fn snapshot(&self, mut records: Vec<u8>, programs: &[ConnectionId]) -> Snapshot {
        for (name, value) in self.quotas.list() {
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            Record::Quota { name: name.into(), value }.encode(&mut records);
        }
        for (number, domain) in &self.domains {
            let number = *number;
            Record::Introduced { domain: number, gfn: domain.gfn, port: domain.port }
                .encode(&mut records);
            if domain.shutdown {
                Record::Shutdown { domain: number, reported: true }.encode(&mut records);
            }
        }
        for (id, connection) in &self.connections {
            let holder = match connection.caller {
                Caller::Domain(domain) => Holder::Domain(domain),
                Caller::Tool if programs.contains(id) => Holder::Socket(id.0),
                Caller::Tool => continue,
            };
            if let (Caller::Domain(domain), Some(target)) = (connection.caller, connection.target) {
                Record::Target { domain, target }.encode(&mut records);
            }
            for watch in self.watches.of(*id) {
                watch.record(holder).encode(&mut records);
            }
            for number in connection.transactions.keys().copied() {
                Record::Transaction { holder, number, open: true }.encode(&mut records);
            }
            let bytes = connection.outgoing.rest();
            if !bytes.is_empty() {
                Record::Output { holder, bytes: bytes.into() }.encode(&mut records);
            }
        }
        Snapshot { others: records, nodes: self.tree.walk() }
    }

    /// Writes down what was done to nodes.
    pub(super) fn note_done(&mut self, done: &Done) {
        let Some(journal) = &mut self.journal else { return };
        for path in &done.touched {
            match self.tree.get(path.as_str()) {
                Some(node) => journal.add(&node_record(path, node)),
                None => journal.add(&Record::Removed { path: Cow::Borrowed(path.as_str()) }),
            }
        }
    }

    /// Whose records a connection's are; a program's go with its connection and need none.
    pub(super) fn holder(&self, id: ConnectionId) -> Option<Holder> {
        self.journal.as_ref()?;
        match self.connections.get(&id)?.caller {
            Caller::Domain(domain) => Some(Holder::Domain(domain)),
            Caller::Tool => None,
        }
    }
}

fn node_record<'a>(path: &'a NodePath, node: &'a Node) -> Record<'a> {
    Record::Node {
        path: Cow::Borrowed(path.as_str()),
        value: Cow::Borrowed(&node.value),
        permissions: Cow::Borrowed(&node.permissions),
    }
}
