//! xenstored's server and its rings: any messages of programs and domains, and any words in their pages.

use std::rc::Rc;
use xen_sys::SharedPages;
use xenstore::link::{Input, Link};
use xenstore::record::{self, Frame, Record, VERSION};
use xenstore::ring::Ring;
use xenstore::server::{ConnectionId, DomainState, Effect, Server, restore};
use xenstore::wire::{Kind, Message};

/// Bytes of a step, the text that follows not counted.
const STEP: usize = 8;
/// What paths and values are made of.
const WORDS: [&[u8]; 16] = [
    b"/",
    b"/a",
    b"/b",
    b"/local/domain/1",
    b"@introduceDomain",
    b"@releaseDomain",
    b"a",
    b"b/c",
    b"n0\0b1\0",
    b"r2",
    b"\0",
    b"1\0",
    b"T\0",
    b"F\0",
    b"2\0\x31\0\x33\0",
    b"/local/domain/2/device",
];
/// Places of a ring's indices and words (`docs/misc/xenstore-ring.txt`).
const WORDS_AT: usize = 2048;

/// A domain that is connected.
struct Guest {
    domain: u16,
    page: Rc<SharedPages>,
    link: Link<Rc<SharedPages>>,
}

struct Play {
    server: Server,
    tool: ConnectionId,
    guests: Vec<Guest>,
}

/// Plays the steps that `bytes` describe.
pub fn run(bytes: &[u8]) {
    let mut server = Server::default();
    let mut before = Frame::default();
    server.snapshot(Vec::new(), &[]).take(&mut before, usize::MAX);
    server.keep_journal();
    let tool = server.connect_tool();
    let mut play = Play { server, tool, guests: Vec::new() };
    for domain in [1, 2] {
        play.ask(Kind::Introduce.number(), 0, format!("{domain}\0{domain}\01\0").into_bytes());
    }
    let mut rest = bytes;
    while let Some((step, more)) = rest.split_first_chunk::<STEP>() {
        rest = play.step(*step, more);
        assert_eq!(play.server.tree().inconsistencies(), Vec::<String>::new());
    }
    play.is_the_same_after_a_restart(&before);
}

impl Play {
    /// Makes one step; returns the bytes of the next.
    fn step<'a>(&mut self, step: [u8; STEP], rest: &'a [u8]) -> &'a [u8] {
        let [what, who, kind, transaction, first, second, third, length] = step;
        let transaction = u32::from(transaction % 4);
        let (text, rest) = rest.split_at(rest.len().min(usize::from(length / 4)));
        let payload = match length % 4 {
            0 => text.to_vec(),
            1 => word(first).to_vec(),
            2 => [word(first), word(second), b"\0", text].concat(),
            _ => [word(first), word(second), b"\0", word(third), text].concat(),
        };
        let known = self.guests.len().max(1);
        let guest = self.guests.get_mut(usize::from(who) % known);
        match (what % 8, guest) {
            (0..2, _) | (_, None) => self.ask(u32::from(kind % 25), transaction, payload),
            (2..5, Some(guest)) => {
                let id = self.server.connection_of(guest.domain);
                let message = Message {
                    kind: u32::from(kind % 25),
                    request_id: 1,
                    transaction_id: transaction,
                    payload,
                };
                if let Some(id) = id {
                    self.server.handle(id, &message);
                }
            }
            (5, Some(guest)) => {
                // The domain puts a message into its ring, or the beginning of one.
                let message = Message {
                    kind: kind.into(),
                    request_id: 0,
                    transaction_id: transaction,
                    payload,
                };
                let bytes = message.encode().unwrap_or_default();
                let produced = guest.page.load_u32(WORDS_AT + 4);
                for (place, byte) in (produced..).zip(&bytes) {
                    guest.page.write(usize::try_from(place % 1024).unwrap_or(0), &[*byte]);
                }
                let count =
                    u32::try_from(bytes.len()).unwrap_or(0).saturating_sub(u32::from(third % 8));
                guest.page.store_u32(WORDS_AT + 4, produced.wrapping_add(count));
                guest.page.store_u32(WORDS_AT + 8, guest.page.load_u32(WORDS_AT + 12));
            }
            (6, Some(guest)) => {
                let at = WORDS_AT + usize::from(first % 8) * 4;
                let value = u32::from_le_bytes([second, third, kind & 7, kind & 0x80]);
                guest.page.store_u32(at, value);
            }
            (_, Some(guest)) if third < 8 => {
                let state = [DomainState::Running, DomainState::Shutdown, DomainState::Gone];
                let domain = guest.domain;
                self.server.domain_state(domain, state[usize::from(third % 3)]);
            }
            (_, Some(_)) => {
                let passed = std::time::Duration::from_millis(u64::from(first) * 256);
                self.server.set_time(passed);
            }
        }
        self.serve();
        rest
    }

    fn ask(&mut self, kind: u32, transaction_id: u32, payload: Vec<u8>) {
        let message = Message { kind, request_id: 1, transaction_id, payload };
        self.server.handle(self.tool, &message);
        self.serve();
    }

    /// Does what the daemon does in a round: effects, rings, output.
    fn serve(&mut self) {
        for effect in self.server.take_effects() {
            match effect {
                Effect::Introduce(introduction) => {
                    self.server.introduced(&introduction, Ok(()));
                    let domain = introduction.domain;
                    let known = self.guests.iter_mut().find(|guest| guest.domain == domain);
                    if let Some(guest) = known {
                        guest.link.restart();
                    } else {
                        let page = Rc::new(SharedPages::anonymous(4096).expect("there is memory"));
                        let link = Link::new(Ring::new(Rc::clone(&page)));
                        self.guests.push(Guest { domain, page, link });
                    }
                }
                Effect::Disconnect { domain } => self.guests.retain(|guest| guest.domain != domain),
                Effect::Close(id) => {
                    assert!(id != self.tool, "a tool that reads is closed");
                }
                Effect::Handover(handover) => drop(handover),
                Effect::Log(_) => {}
            }
        }
        for guest in &mut self.guests {
            let Some(id) = self.server.connection_of(guest.domain) else { continue };
            for _ in 0..8 {
                match guest.link.next_message() {
                    Input::Message(message) => self.server.handle(id, &message),
                    Input::Nothing => break,
                    Input::Reset => {
                        self.server.reset(id);
                        guest.link.restart();
                    }
                    Input::Broken(_) => self.server.reset(id),
                }
            }
            let _ = guest.link.settle();
            while let Ok(sent @ 1..) = guest.link.send(self.server.output(id)) {
                self.server.sent(id, sent);
            }
        }
        while !self.server.output(self.tool).is_empty() {
            let count = self.server.output(self.tool).len();
            self.server.sent(self.tool, count);
        }
    }

    /// A server made of what was written down has the same nodes, and counts them the same.
    fn is_the_same_after_a_restart(&mut self, before: &Frame) {
        let mut header = Vec::new();
        Record::Header { version: VERSION, boot: "b".into(), epoch: 0 }.encode(&mut header);
        let journal = self.server.journal().expect("it is kept").records().to_vec();
        let file = [&header, before.records(), &journal].map(|records| {
            let mut frame = Frame::default();
            frame.extend(records);
            frame.seal().to_vec()
        });
        let (records, _) = record::read(&file.concat());
        let restored = restore(records).expect("it is ours").server;
        assert_eq!(content(&restored), content(&self.server));
    }
}

fn content(server: &Server) -> Vec<String> {
    let nodes = server.tree().paths();
    let mut all: Vec<String> = nodes
        .map(|(path, node)| format!("{path} {:?} {:?}", node.value, node.permissions))
        .collect();
    all.sort();
    all.extend([0, 1, 2].map(|domain| format!("{domain} {:?}", server.tree().usage(domain))));
    all
}

fn word(number: u8) -> &'static [u8] {
    WORDS[usize::from(number) % WORDS.len()]
}
