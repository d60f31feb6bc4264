//! Which request is whose, and the requests about watches, transactions and domains.

use super::nodes::{DONE, Special, decimal, single, strings};
use super::{Caller, Effect, Introduction, Server, domain_path};
use crate::record::Record;
use crate::transaction::Transaction;
use crate::watch::{ConnectionId, Watch};
use crate::wire::{Failure, Kind, Message};

/// Domain numbers from here on are none (`DOMID_FIRST_RESERVED`).
const FIRST_RESERVED: u16 = 0x7ff0;
/// The caller itself (`DOMID_SELF`).
const DOMID_SELF: u16 = 0x7ff0;

type Answer = Result<Vec<u8>, Failure>;

impl Server {
    /// Routes a request; nothing is returned where the answer comes another way.
    pub(super) fn answer(
        &mut self,
        id: ConnectionId,
        message: &Message,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let kind = Kind::from_number(message.kind).ok_or(Failure::ENOSYS)?;
        let Message { transaction_id: transaction, ref payload, .. } = *message;
        if is_privileged(kind) && !self.identity(id).privileged {
            return Err(Failure::EACCES);
        }
        let known = self
            .connections
            .get(&id)
            .is_some_and(|connection| connection.transactions.contains_key(&transaction));
        if transaction != 0 && !known && !ignores_transaction(kind) {
            return Err(Failure::ENOENT);
        }
        let answer = match kind {
            Kind::Control => return self.control(id, message),
            Kind::Directory => self.directory(id, transaction, payload),
            Kind::Read => self.read(id, transaction, payload),
            Kind::GetPerms => self.get_perms(id, transaction, payload),
            Kind::Watch => return self.watch(id, message).map(|()| None),
            Kind::Unwatch => self.unwatch(id, payload),
            Kind::TransactionStart => self.start_transaction(id, transaction),
            Kind::TransactionEnd => self.end_transaction(id, transaction, payload),
            Kind::Introduce => return self.introduce(id, message).map(|()| None),
            Kind::Release => self.release_request(payload),
            Kind::GetDomainPath => get_domain_path(payload),
            Kind::Write => self.write(id, transaction, payload),
            Kind::Mkdir => self.mkdir(id, transaction, payload),
            Kind::Rm => self.rm(id, transaction, payload),
            Kind::SetPerms => self.set_perms(id, transaction, payload),
            Kind::WatchEvent | Kind::Error => Err(Failure::ENOSYS),
            Kind::IsDomainIntroduced => self.is_introduced(payload),
            Kind::Resume => self.resume(payload),
            Kind::SetTarget => self.set_target(payload),
            Kind::ResetWatches => self.reset_watches(id),
            Kind::DirectoryPart => self.directory_part(id, transaction, payload),
        };
        answer.map(Some)
    }

    fn watch(&mut self, id: ConnectionId, message: &Message) -> Result<(), Failure> {
        let (text, token, depth) = match strings::<2>(&message.payload) {
            Some([path, token]) => (path, token, None),
            None => {
                let [path, token, depth] = strings::<3>(&message.payload).ok_or(Failure::EINVAL)?;
                (path, token, Some(watch_depth(depth)?))
            }
        };
        let path = self.path(id, text, Special::Allowed)?;
        if path.is_special() && depth.is_some_and(|depth| depth > 1) {
            return Err(Failure::EINVAL);
        }
        let connection = self.connections.get(&id).ok_or(Failure::EINVAL)?;
        if self.watches.contains(id, &path, token) {
            return Err(Failure::EEXIST);
        }
        let identity = connection.identity();
        let relative = !text.starts_with(b"/") && !path.is_special();
        let implied = if relative { connection.base().len() + 1 } else { 0 };
        let watch = Watch { connection: id, order: 0, path, token: token.to_vec(), implied, depth };
        if !identity.privileged {
            let memory = self.tree.usage(identity.domain).bytes + connection.watch_bytes;
            if self.watches.count(id) >= self.quotas.watches {
                return Err(Failure::E2BIG);
            }
            if memory + watch.size() > self.quotas.memory {
                return Err(Failure::ENOMEM);
            }
        }
        let watch = self.watches.add(watch);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.watch_bytes += watch.size();
        }
        if let Some(holder) = self.holder(id) {
            self.note(&watch.record(holder));
        }
        self.reply(id, message, message.kind, DONE.to_vec());
        self.queue_event(id, watch.event(watch.path.as_str()));
        Ok(())
    }

    fn unwatch(&mut self, id: ConnectionId, payload: &[u8]) -> Answer {
        let [path, token] = strings::<2>(payload).ok_or(Failure::EINVAL)?;
        let path = self.path(id, path, Special::Allowed)?;
        let watch = self.watches.remove(id, &path, token).ok_or(Failure::ENOENT)?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.watch_bytes = connection.watch_bytes.saturating_sub(watch.size());
        }
        if let Some(holder) = self.holder(id) {
            self.note(&Record::Unwatch {
                holder,
                path: watch.path.as_str().into(),
                token: watch.token.into(),
            });
        }
        Ok(DONE.to_vec())
    }

    fn reset_watches(&mut self, id: ConnectionId) -> Answer {
        self.watches.remove_all(id);
        let connection = self.connections.get_mut(&id).ok_or(Failure::EINVAL)?;
        connection.watch_bytes = 0;
        self.open_transactions -= connection.transactions.len();
        connection.transactions.clear();
        if let Some(holder) = self.holder(id) {
            self.note(&Record::Forgotten { holder });
        }
        Ok(DONE.to_vec())
    }

    fn start_transaction(&mut self, id: ConnectionId, within: u32) -> Answer {
        if within != 0 {
            return Err(Failure::EBUSY);
        }
        let limit = self.quotas.transactions;
        let connection = self.connections.get_mut(&id).ok_or(Failure::EINVAL)?;
        if !connection.identity().privileged && connection.transactions.len() >= limit {
            return Err(Failure::ENOSPC);
        }
        let mut number = connection.next_transaction;
        while number == 0 || connection.transactions.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        connection.next_transaction = number.wrapping_add(1);
        connection.transactions.insert(number, Transaction::new(&self.tree));
        self.open_transactions += 1;
        self.note_transaction(id, number, true);
        Ok(format!("{number}\0").into_bytes())
    }

    fn end_transaction(&mut self, id: ConnectionId, number: u32, payload: &[u8]) -> Answer {
        let commit = match payload {
            b"T\0" => true,
            b"F\0" => false,
            _ => return Err(Failure::EINVAL),
        };
        let connection = self.connections.get_mut(&id).ok_or(Failure::EINVAL)?;
        let identity = connection.identity();
        let transaction = connection.transactions.remove(&number).ok_or(Failure::ENOENT)?;
        self.open_transactions -= 1;
        self.note_transaction(id, number, false);
        if !commit {
            return Ok(DONE.to_vec());
        }
        if transaction.has_failed() {
            return Err(Failure::ENOMEM);
        }
        if !identity.privileged && transaction.created_nodes() {
            let gained = transaction.nodes_gained(identity.domain);
            if gained > 0 && self.tree.usage(identity.domain).nodes + gained > self.quotas.nodes {
                return Err(Failure::ENOSPC);
            }
        }
        let looks = transaction.size();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.rate.charge_looks(looks, self.now);
        }
        let done =
            transaction.commit(&mut self.tree, &mut self.stamp).map_err(|_| Failure::EAGAIN)?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.rate.charge_looks(done.watch_looks(), self.now);
        }
        if let Some(connection) = self.connections.get_mut(&id)
            && self.open_transactions > connection.transactions.len()
        {
            connection.rate.charge(self.now);
        }
        self.note_done(&done);
        self.fire(done.changes);
        Ok(DONE.to_vec())
    }

    fn note_transaction(&mut self, id: ConnectionId, number: u32, open: bool) {
        if let Some(holder) = self.holder(id) {
            self.note(&Record::Transaction { holder, number, open });
        }
    }

    fn introduce(&mut self, id: ConnectionId, message: &Message) -> Result<(), Failure> {
        let mut words = message.payload.split(|byte| *byte == 0);
        // Three words end in three nuls, so a fourth piece follows, empty or not.
        let (Some(domain), Some(gfn), Some(port), Some(_)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Failure::EINVAL);
        };
        let domain = domain_number(domain).filter(|domain| *domain != 0).ok_or(Failure::EINVAL)?;
        let port = u32::try_from(decimal(port)).ok().filter(|port| *port > 0);
        self.effects.push(Effect::Introduce(Introduction {
            domain,
            gfn: decimal(gfn),
            port: port.ok_or(Failure::EINVAL)?,
            again: self.domains.contains_key(&domain),
            asker: id,
            request: message.clone(),
        }));
        Ok(())
    }

    fn release_request(&mut self, payload: &[u8]) -> Answer {
        let domain = self.connected(payload)?;
        if let Some(id) = self.connection_of(domain) {
            self.watches.remove_all(id);
        }
        self.release(domain);
        Ok(DONE.to_vec())
    }

    fn resume(&mut self, payload: &[u8]) -> Answer {
        let domain = self.connected(payload)?;
        let known = self.domains.get_mut(&domain).ok_or(Failure::ENOENT)?;
        known.shutdown = false;
        self.note(&Record::Shutdown { domain, reported: false });
        Ok(DONE.to_vec())
    }

    fn set_target(&mut self, payload: &[u8]) -> Answer {
        let mut words = payload.split(|byte| *byte == 0);
        let (Some(domain), Some(target), Some(_)) = (words.next(), words.next(), words.next())
        else {
            return Err(Failure::EINVAL);
        };
        let known = |text| domain_number(text).filter(|domain| self.domains.contains_key(domain));
        let domain = known(domain).ok_or(Failure::ENOENT)?;
        let target = known(target).ok_or(Failure::ENOENT)?;
        let id = self.connection_of(domain).ok_or(Failure::ENOENT)?;
        let connection = self.connections.get_mut(&id).ok_or(Failure::EINVAL)?;
        connection.target = Some(target);
        self.note(&Record::Target { domain, target });
        Ok(DONE.to_vec())
    }

    fn is_introduced(&self, payload: &[u8]) -> Answer {
        let number = decimal(single(payload)?);
        let known = number == u64::from(DOMID_SELF)
            || u16::try_from(number).is_ok_and(|domain| self.domains.contains_key(&domain));
        Ok(if known { b"T\0".to_vec() } else { b"F\0".to_vec() })
    }

    /// Returns the domain a payload names, connected and not the server's own.
    fn connected(&self, payload: &[u8]) -> Result<u16, Failure> {
        let number = decimal(single(payload)?);
        if number == 0 {
            return Err(Failure::EINVAL);
        }
        let domain = u16::try_from(number).map_err(|_| Failure::ENOENT)?;
        let known = self.domains.get(&domain).ok_or(Failure::ENOENT)?;
        let connection = self.connections.get(&known.connection).ok_or(Failure::EINVAL)?;
        match connection.caller {
            Caller::Domain(_) => Ok(domain),
            Caller::Tool => Err(Failure::EINVAL),
        }
    }
}

fn get_domain_path(payload: &[u8]) -> Answer {
    let number = decimal(single(payload)?);
    let mut path = u16::try_from(number)
        .map_or_else(|_| format!("/local/domain/{number}"), domain_path)
        .into_bytes();
    path.push(0);
    Ok(path)
}

fn watch_depth(text: &[u8]) -> Result<u32, Failure> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Failure::EINVAL)
}

fn domain_number(text: &[u8]) -> Option<u16> {
    u16::try_from(decimal(text)).ok().filter(|domain| *domain < FIRST_RESERVED)
}

const fn is_privileged(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Control
            | Kind::Introduce
            | Kind::Release
            | Kind::IsDomainIntroduced
            | Kind::Resume
            | Kind::SetTarget
    )
}

const fn ignores_transaction(kind: Kind) -> bool {
    matches!(kind, Kind::Watch | Kind::Unwatch)
}
