//! What the server writes down of its steps, and all of it at once.
//!
//! While a journal is kept each step adds [`Record`]s of what it changed. The daemon writes them
//! down before anybody hears of the step, so that a daemon that is started after a kill goes on
//! where the last heard-of step ended ([`super::restore()`]).

use std::borrow::Cow;

use super::{Caller, ConnectionId, Server};
use crate::path::NodePath;
use crate::record::{Holder, Record};
use crate::transaction::Done;

impl Server {
    /// Writes down from now on what each step changes.
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// Takes the records of the steps since the last call, encoded.
    pub fn take_journal(&mut self) -> Vec<u8> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Adds a record to the journal, if one is kept.
    pub fn note(&mut self, record: &Record<'_>) {
        if let Some(journal) = &mut self.journal {
            record.encode(journal);
        }
    }

    /// Returns records of everything there is, encoded; `programs` are connections whose sockets
    /// are handed on, and other programs' watches and transactions are left out.
    pub fn snapshot(&self, programs: &[ConnectionId]) -> Vec<u8> {
        let mut records = Vec::new();
        for (name, value) in self.quotas.list() {
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            Record::Quota { name: name.into(), value }.encode(&mut records);
        }
        for path in self.tree.walk() {
            self.node_record(&path).encode(&mut records);
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
        records
    }

    /// Writes down what was done to nodes.
    pub(super) fn note_done(&mut self, done: &Done) {
        if self.journal.is_none() {
            return;
        }
        let mut records = self.take_journal();
        for path in &done.touched {
            self.node_record(path).encode(&mut records);
        }
        self.journal = Some(records);
    }

    /// Whose records a connection's are; a program's go with its connection and need none.
    pub(super) fn holder(&self, id: ConnectionId) -> Option<Holder> {
        self.journal.as_ref()?;
        match self.connections.get(&id)?.caller {
            Caller::Domain(domain) => Some(Holder::Domain(domain)),
            Caller::Tool => None,
        }
    }

    fn node_record<'a>(&'a self, path: &'a NodePath) -> Record<'a> {
        let path = Cow::Borrowed(path.as_str());
        match self.tree.get(&path) {
            Some(node) => Record::Node {
                path,
                value: Cow::Borrowed(&node.value),
                permissions: Cow::Borrowed(&node.permissions),
            },
            None => Record::Removed { path },
        }
    }
}
