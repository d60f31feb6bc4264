//! Commands to the daemon itself, as `xenstore-control` sends them.

use super::nodes::{DONE, decimal};
use super::{ConnectionId, Effect, Server};
use crate::record::{Holder, Record};
use crate::wire::{Failure, Message};

const COMMANDS: &str =
    "check\nhelp\nlive-update <options>\nprint <string>\nquota [set <name> <val>|<domid>]\n";

/// A live update as far as it was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Update {
    program: Option<String>,
    arguments: Option<String>,
}

/// Another program is to take over, with all connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Handover {
    /// The program's file.
    pub program: String,
    /// Its arguments, separated by spaces; nothing for the same as now.
    pub arguments: Option<String>,
    asker: ConnectionId,
    request: Message,
}

impl Server {
    pub(super) fn control(
        &mut self,
        id: ConnectionId,
        message: &Message,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let text = message.payload.strip_suffix(b"\0").ok_or(Failure::EINVAL)?;
        let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        let reply = match words.as_slice() {
            [b"check"] => return Ok(Some(self.check())),
            [b"help"] => format!("Supported commands:\n{COMMANDS}"),
            [b"print", line] => {
                self.effects.push(Effect::Log(String::from_utf8_lossy(line).into_owned()));
                return Ok(Some(DONE.to_vec()));
            }
            [b"quota"] => self.quota_list(),
            [b"quota", b"set", name, value] => {
                let name = std::str::from_utf8(name).map_err(|_| Failure::EINVAL)?;
                let value = usize::try_from(decimal(value)).map_err(|_| Failure::EINVAL)?;
                if !self.quotas.set(name, value) {
                    return Err(Failure::EINVAL);
                }
                let value = u64::try_from(value).unwrap_or(u64::MAX);
                self.note(&Record::Quota { name: name.into(), value });
                return Ok(Some(DONE.to_vec()));
            }
            [b"quota", domain] => self.domain_usage(domain)?,
            [b"live-update", rest @ ..] => match self.live_update(id, message, rest)? {
                Some(reply) => reply,
                None => return Ok(None),
            },
            _ => return Err(Failure::EINVAL),
        };
        let mut reply = reply.into_bytes();
        reply.push(0);
        Ok(Some(reply))
    }

    /// Does what `xenstore-control live-update` asks step by step: the program, its arguments,
    /// then the start, which is answered when the other program serves.
    fn live_update(
        &mut self,
        id: ConnectionId,
        message: &Message,
        words: &[&[u8]],
    ) -> Result<Option<String>, Failure> {
        let text = |word: &[u8]| String::from_utf8(word.to_vec()).map_err(|_| Failure::EINVAL);
        match words {
            [b"-a"] => self.update = Update::default(),
            [b"-f", program] => self.update.program = Some(text(program)?),
            [b"-c", arguments] => self.update.arguments = Some(text(arguments)?),
            [b"-s", ..] => {
                let Update { program, arguments } = std::mem::take(&mut self.update);
                let Some(program) = program else {
                    return Ok(Some("No program was named to update to.".to_owned()));
                };
                let request = message.clone();
                let handover = Handover { program, arguments, asker: id, request };
                self.effects.push(Effect::Handover(handover));
                return Ok(None);
            }
            _ => return Err(Failure::EINVAL),
        }
        Ok(Some("OK".to_owned()))
    }

    /// Returns the record of the answer that the program taking over must give.
    pub fn handover_answer(&self, handover: &Handover) -> Vec<u8> {
        let holder = match self.domain_of(handover.asker) {
            Some(domain) => Holder::Domain(domain),
            None => Holder::Socket(handover.asker.0),
        };
        let Message { kind, request_id, transaction_id, .. } = handover.request;
        let answer = Message { kind, request_id, transaction_id, payload: DONE.to_vec() };
        let bytes = answer.encode().unwrap_or_default();
        let mut record = Vec::new();
        Record::Output { holder, bytes: bytes.into() }.encode(&mut record);
        record
    }

    /// Says that a handover did not come about.
    pub fn handover_failed(&mut self, handover: &Handover, reason: &str) {
        let mut reply = reason.as_bytes().to_vec();
        reply.push(0);
        self.reply(handover.asker, &handover.request, handover.request.kind, reply);
    }

    fn check(&mut self) -> Vec<u8> {
        let found = self.tree.inconsistencies();
        if found.is_empty() {
            return DONE.to_vec();
        }
        let mut reply = found.join("\n").into_bytes();
        self.effects.extend(found.into_iter().map(Effect::Log));
        reply.truncate(4000);
        reply.push(0);
        reply
    }

    fn quota_list(&self) -> String {
        let lines: Vec<String> = self
            .quotas
            .list()
            .iter()
            .map(|(name, value)| format!("{name:<17}: {value:>8}\n"))
            .collect();
        format!("Quota settings:\n{}", lines.concat())
    }

    fn domain_usage(&self, domain: &[u8]) -> Result<String, Failure> {
        let number = u16::try_from(decimal(domain)).map_err(|_| Failure::ENOENT)?;
        let id = self.connection_of(number).ok_or(Failure::ENOENT)?;
        let connection = self.connections.get(&id).ok_or(Failure::ENOENT)?;
        let usage = self.tree.usage(number);
        let memory = usage.bytes + connection.watch_bytes + connection.outgoing.bytes();
        let rows = [
            ("nodes", usage.nodes),
            ("watches", self.watches.count(id)),
            ("transactions", connection.transactions.len()),
            ("outstanding", connection.outgoing.replies()),
            ("memory", memory),
        ];
        let lines: Vec<String> =
            rows.iter().map(|(name, value)| format!("{name:<17}: {value:>8}\n")).collect();
        Ok(format!("Domain {number}:\n{}", lines.concat()))
    }
}
