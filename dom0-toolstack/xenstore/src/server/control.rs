//! Commands to the daemon itself, as `xenstore-control` sends them.

use super::nodes::{DONE, decimal};
use super::{Effect, Server};
use crate::wire::Failure;

const COMMANDS: &str = "check\nhelp\nprint <string>\nquota [set <name> <val>|<domid>]\n";

impl Server {
    pub(super) fn control(&mut self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let text = payload.strip_suffix(b"\0").ok_or(Failure::EINVAL)?;
        let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        let reply = match words.as_slice() {
            [b"check"] => return Ok(self.check()),
            [b"help"] => format!("Supported commands:\n{COMMANDS}"),
            [b"print", line] => {
                self.effects.push(Effect::Log(String::from_utf8_lossy(line).into_owned()));
                return Ok(DONE.to_vec());
            }
            [b"quota"] => self.quota_list(),
            [b"quota", b"set", name, value] => {
                let name = std::str::from_utf8(name).map_err(|_| Failure::EINVAL)?;
                let value = usize::try_from(decimal(value)).map_err(|_| Failure::EINVAL)?;
                if !self.quotas.set(name, value) {
                    return Err(Failure::EINVAL);
                }
                return Ok(DONE.to_vec());
            }
            [b"quota", domain] => self.domain_usage(domain)?,
            _ => return Err(Failure::EINVAL),
        };
        let mut reply = reply.into_bytes();
        reply.push(0);
        Ok(reply)
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
