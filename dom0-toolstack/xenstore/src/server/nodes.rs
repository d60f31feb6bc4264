//! Requests about nodes: who may, what changes, what watches hear.

use std::sync::Arc;

use super::Server;
use crate::path::NodePath;
use crate::permission::{Access, Identity, Permission};
use crate::transaction::{TooManyNodes, View};
use crate::tree::Node;
use crate::watch::{Change, ConnectionId};
use crate::wire::{Failure, PAYLOAD_MAX};

impl From<TooManyNodes> for Failure {
    fn from(TooManyNodes: TooManyNodes) -> Self {
        Self::ENOSPC
    }
}

/// The reply of requests that only succeed.
pub(super) const DONE: &[u8] = b"OK\0";

type Answer = Result<Vec<u8>, Failure>;

/// Where a request about a node comes from, with the limits that hold for it.
struct Asker {
    identity: Identity,
    nodes: usize,
    memory: usize,
    node_size: usize,
}

impl Server {
    pub(super) fn read(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let path = self.path(id, single(payload)?, Special::Refused)?;
        self.view(id, transaction, |view, asker| {
            let node = permitted(view, &asker.identity, &path, Access::READ)?;
            Ok(node.value.clone())
        })
    }

    pub(super) fn directory(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        payload: &[u8],
    ) -> Answer {
        let path = self.path(id, single(payload)?, Special::Refused)?;
        self.view(id, transaction, |view, asker| {
            permitted(view, &asker.identity, &path, Access::READ)?;
            let node = view.listing(&path)?.ok_or(Failure::ENOENT)?;
            Ok(node.children_list().to_vec())
        })
    }

    pub(super) fn directory_part(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        payload: &[u8],
    ) -> Answer {
        let [path, offset] = strings::<2>(payload).ok_or(Failure::EINVAL)?;
        let path = self.path(id, path, Special::Refused)?;
        let offset = usize::try_from(decimal(offset)).unwrap_or(usize::MAX);
        self.view(id, transaction, |view, asker| {
            permitted(view, &asker.identity, &path, Access::READ)?;
            let node = view.listing(&path)?.ok_or(Failure::ENOENT)?;
            Ok(part(node, offset))
        })
    }

    pub(super) fn get_perms(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        payload: &[u8],
    ) -> Answer {
        let path = self.path(id, single(payload)?, Special::Allowed)?;
        self.view(id, transaction, |view, asker| {
            let node = permitted(view, &asker.identity, &path, Access::READ)?;
            let mut reply = Vec::new();
            for permission in node.permissions.iter() {
                reply.extend_from_slice(permission.to_string().as_bytes());
                reply.push(0);
            }
            Ok(reply)
        })
    }

    pub(super) fn write(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let (path, value) = first_string(payload).ok_or(Failure::EINVAL)?;
        let path = self.path(id, path, Special::Refused)?;
        self.view(id, transaction, |view, asker| {
            match permitted(view, &asker.identity, &path, Access::WRITE) {
                Ok(node) => {
                    let before = node.permissions.clone();
                    let growth = value.len().saturating_sub(node.value.len());
                    let size = node.size() - node.value.len() + value.len();
                    asker.check_size(view, size, growth)?;
                    view.set_value(&path, value.to_vec())?;
                    view.note_change(Change { path, exact: false, before: Some(before) });
                }
                Err(Failure::ENOENT) => create(view, &asker, &path, value)?,
                Err(failure) => return Err(failure),
            }
            Ok(DONE.to_vec())
        })
    }

    pub(super) fn mkdir(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let path = self.path(id, single(payload)?, Special::Refused)?;
        self.view(id, transaction, |view, asker| {
            match permitted(view, &asker.identity, &path, Access::WRITE) {
                Ok(_) => {}
                Err(Failure::ENOENT) => create(view, &asker, &path, &[])?,
                Err(failure) => return Err(failure),
            }
            Ok(DONE.to_vec())
        })
    }

    pub(super) fn rm(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let path = self.path(id, single(payload)?, Special::Refused)?;
        self.view(id, transaction, |view, asker| {
            match permitted(view, &asker.identity, &path, Access::WRITE) {
                Ok(_) if path.parent_str().is_none() => return Err(Failure::EINVAL),
                Ok(_) => view.remove_subtree(&path)?,
                Err(Failure::ENOENT) => {
                    let parent = path.parent().ok_or(Failure::ENOENT)?;
                    view.content(&parent)?.ok_or(Failure::ENOENT)?;
                }
                Err(failure) => return Err(failure),
            }
            Ok(DONE.to_vec())
        })
    }

    pub(super) fn set_perms(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        payload: &[u8],
    ) -> Answer {
        let (path, list) = first_string(payload).ok_or(Failure::EINVAL)?;
        let permissions = permission_list(list)?;
        if !self.identity(id).privileged && permissions.len() > self.quotas.permissions {
            return Err(Failure::ENOSPC);
        }
        let path = self.path(id, path, Special::Allowed)?;
        self.view(id, transaction, |view, asker| {
            let node = permitted(view, &asker.identity, &path, Access::WRITE)?;
            let (owner, before) = (node.owner(), node.permissions.clone());
            if !asker.identity.owns(&before) {
                return Err(Failure::EACCES);
            }
            let owner_differs = permissions.first().is_some_and(|first| first.domain != owner);
            if owner_differs && !asker.identity.privileged {
                return Err(Failure::EPERM);
            }
            view.set_permissions(&path, Arc::from(permissions))?;
            view.note_change(Change { path, exact: false, before: Some(before) });
            Ok(DONE.to_vec())
        })
    }

    pub(super) fn path(
        &self,
        id: ConnectionId,
        text: &[u8],
        special: Special,
    ) -> Result<NodePath, Failure> {
        let connection = self.connections.get(&id).ok_or(Failure::EINVAL)?;
        let path = NodePath::from_request(text, &connection.base())
            .filter(|path| !path.is_special() || special == Special::Allowed)
            .ok_or(Failure::EINVAL)?;
        let privileged = connection.identity().privileged;
        if !privileged && path.counted_length() > self.quotas.path {
            return Err(Failure::EINVAL);
        }
        Ok(path)
    }

    /// Runs `body` on the store or the named transaction, and fires what it noted.
    fn view(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        body: impl FnOnce(&mut View<'_>, Asker) -> Answer,
    ) -> Answer {
        let connection = self.connections.get_mut(&id).ok_or(Failure::EINVAL)?;
        let identity = connection.identity();
        let asker = Asker {
            identity,
            nodes: self.quotas.nodes,
            memory: self.quotas.memory.saturating_sub(connection.watch_bytes),
            node_size: self.quotas.node_size,
        };
        if transaction == 0 {
            let earlier = self.stamp;
            let mut view = View::of_store(&mut self.tree, &mut self.stamp);
            let answer = body(&mut view, asker);
            let looks = view.looks();
            let done = view.finish();
            connection.rate.charge_looks(looks + done.watch_looks(), self.now);
            if self.stamp != earlier && self.open_transactions > connection.transactions.len() {
                connection.rate.charge(self.now);
            }
            self.note_done(&done);
            self.fire(done.changes);
            return answer;
        }
        let open = connection.transactions.get_mut(&transaction).ok_or(Failure::ENOENT)?;
        let limit = if identity.privileged { usize::MAX } else { self.quotas.transaction_nodes };
        let earlier = self.stamp;
        let mut view = View::of_transaction(open, &mut self.stamp, limit);
        let answer = body(&mut view, asker);
        let looks = view.looks();
        connection.rate.charge_looks(looks, self.now);
        let half_done = self.stamp != earlier && answer.is_err();
        if half_done || open.size() > limit {
            open.fail();
        }
        answer
    }
}

impl Asker {
    fn check_size(&self, view: &View<'_>, size: usize, growth: usize) -> Result<(), Failure> {
        let used = view.tree().usage(self.identity.domain).bytes;
        if !self.identity.privileged
            && (size > self.node_size || (growth > 0 && used + growth > self.memory))
        {
            return Err(Failure::ENOSPC);
        }
        Ok(())
    }
}

/// Whether a path that begins with `@` will do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Special {
    Allowed,
    Refused,
}

/// Returns the node if the caller may do all of `wanted` with it.
///
/// A caller who may not look at the nearest node above learns nothing: EACCES, not ENOENT.
fn permitted<'view>(
    view: &'view mut View<'_>,
    identity: &Identity,
    path: &NodePath,
    wanted: Access,
) -> Result<&'view Node, Failure> {
    let found = view.content(path)?.map(|node| identity.access(&node.permissions));
    match found {
        Some(access) if access.covers(wanted) => view.content(path)?.ok_or(Failure::ENOENT),
        Some(_) => Err(Failure::EACCES),
        None => {
            let mut above = path.parent();
            while let Some(parent) = above {
                if let Some(node) = view.content(&parent)? {
                    let access = identity.access(&node.permissions);
                    let tells = access.covers(wanted);
                    return Err(if tells { Failure::ENOENT } else { Failure::EACCES });
                }
                above = parent.parent();
            }
            Err(if identity.privileged { Failure::ENOENT } else { Failure::EACCES })
        }
    }
}

/// Makes a node and the parents it lacks; they inherit permissions, but an unprivileged maker
/// owns them.
fn create(
    view: &mut View<'_>,
    asker: &Asker,
    path: &NodePath,
    value: &[u8],
) -> Result<(), Failure> {
    let mut missing = vec![path.clone()];
    let mut above = path.parent().ok_or(Failure::ENOENT)?;
    let inherited = loop {
        if let Some(node) = view.content(&above)? {
            break node.permissions.clone();
        }
        let next = above.parent().ok_or(Failure::ENOENT)?;
        missing.push(std::mem::replace(&mut above, next));
    };
    let permissions = if asker.identity.privileged {
        inherited
    } else {
        let own = inherited.iter().enumerate().map(|(index, entry)| match index {
            0 => Permission::new(asker.identity.domain, entry.access),
            _ => *entry,
        });
        own.collect()
    };
    if !asker.identity.privileged {
        let usage = view.tree().usage(asker.identity.domain);
        if usage.nodes + missing.len() > asker.nodes {
            return Err(Failure::ENOSPC);
        }
        let overhead = permissions.len() * 4 + 16;
        let names: usize = missing.iter().map(|path| path.as_str().len() + overhead).sum();
        asker.check_size(view, value.len() + overhead, names + value.len())?;
        // The lowest node that is there gets another child.
        if let Some(node) = view.content(&above)?
            && node.owner() == asker.identity.domain
            && let Some(child) = missing.last()
        {
            let size = node.size() + child.name().len() + 1;
            asker.check_size(view, size, 0)?;
        }
    }
    let (first, parents) = missing.split_first().ok_or(Failure::EIO)?;
    for path in parents.iter().rev() {
        view.create(path, Vec::new(), permissions.clone())?;
    }
    view.create(first, value.to_vec(), permissions)?;
    view.note_change(Change { path: path.clone(), exact: false, before: None });
    Ok(())
}

/// Returns as many whole names from `offset` on as fit, after the stamp of the list; an empty
/// name ends the list.
fn part(node: &Node, offset: usize) -> Vec<u8> {
    let mut reply = node.listing.number().to_string().into_bytes();
    reply.push(0);
    let rest = node.children_list().get(offset..).unwrap_or_default();
    let room = PAYLOAD_MAX - reply.len() - 1;
    if rest.len() <= room {
        reply.extend_from_slice(rest);
        reply.push(0);
        return reply;
    }
    let fitting = rest.get(..room).unwrap_or_default();
    let whole = fitting.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
    reply.extend_from_slice(fitting.get(..whole).unwrap_or_default());
    reply
}

fn permission_list(list: &[u8]) -> Result<Vec<Permission>, Failure> {
    let list = list
        .iter()
        .rposition(|byte| *byte == 0)
        .and_then(|end| list.get(..end))
        .ok_or(Failure::EINVAL)?;
    list.split(|byte| *byte == 0)
        .map(|entry| {
            std::str::from_utf8(entry).ok().and_then(Permission::parse).ok_or(Failure::EINVAL)
        })
        .collect()
}

/// Returns the one string a payload consists of.
pub(super) fn single(payload: &[u8]) -> Result<&[u8], Failure> {
    payload.strip_suffix(b"\0").filter(|text| !text.contains(&0)).ok_or(Failure::EINVAL)
}

/// Returns the first string of a payload and what follows its nul.
pub(super) fn first_string(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = payload.iter().position(|byte| *byte == 0)?;
    Some((payload.get(..end)?, payload.get(end + 1..)?))
}

/// Returns the strings of a payload where there are exactly `N`; what follows the last nul does
/// not count.
pub(super) fn strings<const N: usize>(payload: &[u8]) -> Option<[&[u8]; N]> {
    let mut found: [&[u8]; N] = [&[]; N];
    let mut rest = payload;
    for slot in &mut found {
        (*slot, rest) = first_string(rest)?;
    }
    (!rest.contains(&0)).then_some(found)
}

/// Returns the number a text begins with, 0 where it begins with none, as `atoi` does.
pub(super) fn decimal(text: &[u8]) -> u64 {
    text.iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |number: u64, digit| {
        number.saturating_mul(10).saturating_add(u64::from(*digit - b'0'))
    })
}
