//! The server against a naive model: any requests by the toolstack and two domains, in and out
//! of transactions.
//!
//! The model knows no snapshots. A transaction that was committed must have seen exactly what it
//! would have seen had all its requests been made at once at its end; one that met a conflict
//! must have changed nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{ConnectionId, Effect, Server};
use crate::permission::{Access, Permission};
use crate::wire::{Decoder, Failure, Kind, Message};

#[derive(Clone, Debug, Eq, PartialEq)]
struct Node {
    value: Vec<u8>,
    permissions: Vec<Permission>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Model(BTreeMap<String, Node>);

type Reply = Result<Vec<u8>, Failure>;

#[derive(Clone, Debug)]
enum Request {
    Read(String),
    Directory(String),
    GetPerms(String),
    Write(String, u8),
    Mkdir(String),
    Rm(String),
    SetPerms(String, Vec<Permission>),
}

#[derive(Clone, Debug)]
enum Step {
    Do(usize, bool, Request),
    Start(usize),
    End(usize, bool),
}

fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((parent, _)) => parent.into(),
        None => unreachable!("absolute"),
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path == root || root == "/" || path.starts_with(&format!("{root}/"))
}

impl Model {
    fn new() -> Self {
        let node = Node { value: Vec::new(), permissions: vec![Permission::new(0, Access::NONE)] };
        Self(["/", "/tool", "/tool/xenstored"].map(|path| (path.into(), node.clone())).into())
    }

    /// What `domain` may do with a node: whether it may read, may write, and owns it.
    fn rights(&self, domain: u16, path: &str) -> Option<(bool, bool, bool)> {
        let list = &self.0.get(path)?.permissions;
        if domain == 0 || list[0].domain == domain {
            return Some((true, true, true));
        }
        let entry = list[1..].iter().find(|entry| entry.domain == domain).unwrap_or(&list[0]);
        Some((entry.access.read, entry.access.write, false))
    }

    /// Whether `domain` may do it, or why not.
    fn check(&self, domain: u16, path: &str, write: bool) -> Result<(), Failure> {
        let allowed =
            |(read, may_write, _): (bool, bool, bool)| if write { may_write } else { read };
        if let Some(rights) = self.rights(domain, path) {
            return if allowed(rights) { Ok(()) } else { Err(Failure::EACCES) };
        }
        let mut above = parent(path);
        while !self.0.contains_key(&above) {
            above = parent(&above);
        }
        let tells = self.rights(domain, &above).is_some_and(allowed);
        Err(if tells { Failure::ENOENT } else { Failure::EACCES })
    }

    fn make(&mut self, domain: u16, path: &str) {
        if self.0.contains_key(path) {
            return;
        }
        let above = parent(path);
        self.make(domain, &above);
        let mut permissions = self.0[&above].permissions.clone();
        if domain != 0 {
            permissions[0].domain = domain;
        }
        self.0.insert(path.into(), Node { value: Vec::new(), permissions });
    }

    fn perform(&mut self, domain: u16, request: &Request) -> Reply {
        let done = Ok(b"OK\0".to_vec());
        match request {
            Request::Read(path) => {
                self.check(domain, path, false)?;
                Ok(self.0[path].value.clone())
            }
            Request::Directory(path) => {
                self.check(domain, path, false)?;
                let names = self.0.keys().filter(|child| *child != "/" && parent(child) == *path);
                Ok(names
                    .flat_map(|child| [child.rsplit('/').next().unwrap(), "\0"])
                    .collect::<String>()
                    .into_bytes())
            }
            Request::GetPerms(path) => {
                self.check(domain, path, false)?;
                Ok(self.0[path]
                    .permissions
                    .iter()
                    .map(|entry| format!("{entry}\0"))
                    .collect::<String>()
                    .into_bytes())
            }
            Request::Write(path, value) => {
                match self.check(domain, path, true) {
                    Ok(()) | Err(Failure::ENOENT) => {}
                    Err(failure) => return Err(failure),
                }
                self.make(domain, path);
                self.0.get_mut(path).unwrap().value = vec![*value];
                done
            }
            Request::Mkdir(path) => {
                match self.check(domain, path, true) {
                    Ok(()) | Err(Failure::ENOENT) => {}
                    Err(failure) => return Err(failure),
                }
                self.make(domain, path);
                done
            }
            Request::Rm(path) => match self.check(domain, path, true) {
                Ok(()) if path == "/" => Err(Failure::EINVAL),
                Ok(()) => {
                    self.0.retain(|other, _| !is_below(other, path));
                    done
                }
                Err(Failure::ENOENT) if self.0.contains_key(&parent(path)) => done,
                Err(failure) => Err(failure),
            },
            Request::SetPerms(path, permissions) => {
                self.check(domain, path, true)?;
                if !self.rights(domain, path).unwrap().2 {
                    return Err(Failure::EACCES);
                }
                if domain != 0 && permissions[0].domain != self.0[path].permissions[0].domain {
                    return Err(Failure::EPERM);
                }
                self.0.get_mut(path).unwrap().permissions = permissions.clone();
                done
            }
        }
    }
}

impl Request {
    fn changes(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::Directory(_) | Self::GetPerms(_))
    }

    fn message(&self, transaction_id: u32) -> Message {
        let (kind, path) = match self {
            Self::Read(path) => (Kind::Read, path),
            Self::Directory(path) => (Kind::Directory, path),
            Self::GetPerms(path) => (Kind::GetPerms, path),
            Self::Write(path, _) => (Kind::Write, path),
            Self::Mkdir(path) => (Kind::Mkdir, path),
            Self::Rm(path) => (Kind::Rm, path),
            Self::SetPerms(path, _) => (Kind::SetPerms, path),
        };
        let mut payload = format!("{path}\0").into_bytes();
        match self {
            Self::Write(_, value) => payload.push(*value),
            Self::SetPerms(_, list) => {
                payload.extend(list.iter().flat_map(|entry| format!("{entry}\0").into_bytes()));
            }
            _ => {}
        }
        Message { kind: kind.number(), request_id: 1, transaction_id, payload }
    }
}

struct System {
    server: Server,
    connections: [ConnectionId; 3],
}

const DOMAINS: [u16; 3] = [0, 1, 2];

impl System {
    fn new() -> Self {
        let mut server = Server::default();
        let tool = server.connect_tool();
        let mut connections = [tool; 3];
        for (slot, domain) in connections.iter_mut().zip(DOMAINS).skip(1) {
            let payload = format!("{domain}\01\01\0").into_bytes();
            let kind = Kind::Introduce.number();
            server.handle(tool, &Message { kind, request_id: 0, transaction_id: 0, payload });
            for effect in server.take_effects() {
                let Effect::Introduce(introduction) = effect else { panic!() };
                server.introduced(&introduction, Ok(()));
            }
            *slot = server.connection_of(domain).unwrap();
        }
        let mut system = Self { server, connections };
        system.drain(0);
        system
    }

    fn drain(&mut self, who: usize) -> Option<(u32, Vec<u8>)> {
        let id = self.connections[who];
        let (mut decoder, mut last) = (Decoder::default(), None);
        while !self.server.output(id).is_empty() {
            let bytes = self.server.output(id).to_vec();
            self.server.sent(id, bytes.len());
            decoder.extend(&bytes);
        }
        while let Some(message) = decoder.next_message().unwrap() {
            last = Some((message.kind, message.payload));
        }
        last
    }

    fn ask(&mut self, who: usize, message: &Message) -> Reply {
        self.server.handle(self.connections[who], message);
        let (kind, mut payload) = self.drain(who).unwrap();
        if kind == Kind::Error.number() {
            payload.pop();
            return Err(Failure::from_name(&payload).unwrap());
        }
        if kind == Kind::Directory.number() {
            let mut names: Vec<_> = payload.split_inclusive(|byte| *byte == 0).collect();
            names.sort();
            payload = names.concat();
        }
        Ok(payload)
    }

    fn plain(&mut self, who: usize, kind: Kind, transaction_id: u32, payload: &[u8]) -> Reply {
        let payload = payload.to_vec();
        self.ask(who, &Message { kind: kind.number(), request_id: 1, transaction_id, payload })
    }

    fn contents(&self) -> Model {
        let nodes = self.server.tree().paths().filter(|(path, _)| !path.is_special());
        Model(
            nodes
                .map(|(path, node)| {
                    let permissions = node.permissions.to_vec();
                    (path.to_string(), Node { value: node.value.clone(), permissions })
                })
                .collect(),
        )
    }
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_permissions() -> impl Strategy<Value = Vec<Permission>> {
    let access =
        prop::sample::select(vec![Access::NONE, Access::READ, Access::WRITE, Access::BOTH]);
    let entry = (0_u16..3, access).prop_map(|(domain, access)| Permission::new(domain, access));
    prop::collection::vec(entry, 1..4)
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        2 => any_path().prop_map(Request::Read),
        1 => any_path().prop_map(Request::Directory),
        1 => any_path().prop_map(Request::GetPerms),
        4 => (any_path(), any::<u8>()).prop_map(|(path, value)| Request::Write(path, value)),
        1 => any_path().prop_map(Request::Mkdir),
        1 => any_path().prop_map(Request::Rm),
        2 => (any_path(), any_permissions()).prop_map(|(path, list)| Request::SetPerms(path, list)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = || prop_oneof![2 => Just(0_usize), 1 => 1_usize..3];
    prop_oneof![
        8 => (who(), any::<bool>(), any_request()).prop_map(|(who, inside, request)| Step::Do(who, inside, request)),
        1 => who().prop_map(Step::Start),
        2 => (who(), prop::bool::weighted(0.9)).prop_map(|(who, commit)| Step::End(who, commit)),
    ]
}

#[derive(Default)]
struct Open {
    number: u32,
    seen: Vec<(Request, Reply)>,
    met_change: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_server_answers_as_the_model_and_transactions_happen_at_once(
        steps in prop::collection::vec(any_step(), 1..60)
    ) {
        let (mut system, mut model) = (System::new(), Model::new());
        let mut open: [Option<Open>; 3] = [None, None, None];
        for step in steps {
            let mut changed = false;
            match step {
                Step::Do(who, inside, request) => match open[who].as_mut().filter(|_| inside) {
                    Some(transaction) => {
                        let reply = system.ask(who, &request.message(transaction.number));
                        transaction.seen.push((request, reply));
                    }
                    None => {
                        let reply = system.ask(who, &request.message(0));
                        changed = reply.is_ok() && request.changes();
                        prop_assert_eq!(reply, model.perform(DOMAINS[who], &request), "{:?}", request);
                    }
                },
                Step::Start(who) if open[who].is_none() => {
                    let reply = system.plain(who, Kind::TransactionStart, 0, b"\0").unwrap();
                    let number = String::from_utf8(reply).unwrap().trim_end_matches('\0').parse().unwrap();
                    open[who] = Some(Open { number, ..Open::default() });
                }
                Step::End(who, commit) => {
                    let Some(transaction) = open[who].take() else { continue };
                    let letter: &[u8] = if commit { b"T\0" } else { b"F\0" };
                    match system.plain(who, Kind::TransactionEnd, transaction.number, letter) {
                        Ok(_) if commit => {
                            changed = true;
                            for (request, reply) in transaction.seen {
                                prop_assert_eq!(reply, model.perform(DOMAINS[who], &request), "{:?}", request);
                            }
                        }
                        Ok(_) => {}
                        Err(failure) => {
                            prop_assert_eq!(failure, Failure::EAGAIN);
                            prop_assert!(transaction.met_change, "a conflict with nobody");
                        }
                    }
                }
                Step::Start(_) => {}
            }
            prop_assert_eq!(&system.contents(), &model);
            if changed {
                open.iter_mut().flatten().for_each(|transaction| transaction.met_change = true);
            }
            prop_assert_eq!(system.server.tree().inconsistencies(), Vec::<String>::new());
        }
    }

    #[test]
    fn no_message_makes_the_server_panic(
        messages in prop::collection::vec(
            (0_usize..3, 0_u32..25, 0_u32..3, prop::collection::vec(prop::sample::select(b"/a@0127|T\0\0\xff".to_vec()), 0..24)),
            1..40,
        )
    ) {
        let mut system = System::new();
        for (who, kind, transaction_id, payload) in messages {
            let message = Message { kind, request_id: 1, transaction_id, payload };
            system.server.handle(system.connections[who], &message);
            for effect in system.server.take_effects() {
                if let Effect::Introduce(introduction) = effect {
                    system.server.introduced(&introduction, Ok(()));
                }
            }
            prop_assert_eq!(system.server.tree().inconsistencies(), Vec::<String>::new());
        }
    }
}
