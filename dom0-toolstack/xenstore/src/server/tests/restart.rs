//! A server made again from what another wrote down is the same server.

use proptest::prelude::*;

use super::*;
use crate::record::{self, Frame, Record, VERSION};
use crate::server::{Restored, Snapshot, restore};

/// All of a server that must be the same in the one after it, as text.
fn content(server: &Server) -> Vec<String> {
    let mut lines: Vec<String> = server
        .tree
        .paths()
        .map(|(path, node)| format!("{path} {:?} {:?}", node.value, node.permissions))
        .collect();
    lines.sort();
    for (domain, known) in &server.domains {
        let connection = &server.connections[&known.connection];
        let watches: Vec<String> = server
            .watches
            .of(known.connection)
            .map(|watch| format!("{} {:?} {:?}", watch.path, watch.token, watch.depth))
            .collect();
        let usage = server.tree.usage(*domain);
        let open: Vec<u32> = connection.transactions.keys().copied().collect();
        lines.push(format!(
            "{domain} {} {watches:?} {usage:?} {} {open:?} {:?}",
            known.shutdown, connection.watch_bytes, connection.target,
        ));
    }
    lines
}

fn header() -> Vec<u8> {
    let mut records = Vec::new();
    Record::Header { version: VERSION, boot: "b".into(), epoch: 4 }.encode(&mut records);
    records
}

/// Restores from a snapshot and what was written down after it.
fn again(snapshot: &[u8], journal: &[u8]) -> Restored {
    let file = [&header()[..], snapshot, journal].map(|records| {
        let mut frame = Frame::default();
        frame.extend(records);
        frame.seal().to_vec()
    });
    let (records, _) = record::read(&file.concat());
    restore(records).expect("it is ours")
}

/// Takes what was written down.
fn journal(server: &mut Server) -> Vec<u8> {
    let journal = server.journal().expect("one is kept");
    let records = journal.records().to_vec();
    journal.clear();
    records
}

/// Takes some of a snapshot.
fn some(snapshot: &mut Snapshot, bytes: usize) -> Vec<u8> {
    let mut frame = Frame::default();
    snapshot.take(&mut frame, bytes);
    frame.records().to_vec()
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, Kind, bool, String),
    Introduce(u16),
    State(u16, DomainState),
    Take(usize),
}

fn path() -> impl Strategy<Value = String> {
    let part = || prop::sample::select(vec!["a", "b", "local", "domain", "1", "2"]);
    prop::collection::vec(part(), 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![
        (Kind::Write, "x"),
        (Kind::Write, ""),
        (Kind::Mkdir, ""),
        (Kind::Rm, ""),
        (Kind::SetPerms, "b1|n2|"),
        (Kind::SetPerms, "b2|"),
        (Kind::SetPerms, "n0|b1|b2|"),
        (Kind::Watch, "t|"),
        (Kind::Watch, "u|1|"),
        (Kind::Unwatch, "t|"),
    ]);
    let ask =
        (0..3_usize, kind, any::<bool>(), path()).prop_map(|(who, (kind, rest), within, path)| {
            Step::Ask(who, kind, within, format!("{path}|{rest}"))
        });
    let other = prop::sample::select(vec![
        (Kind::TransactionStart, "|"),
        (Kind::TransactionEnd, "T|"),
        (Kind::TransactionEnd, "F|"),
        (Kind::ResetWatches, ""),
        (Kind::SetTarget, "1|2|"),
        (Kind::Resume, "1|"),
        (Kind::Release, "2|"),
    ]);
    let other = (0..3_usize, other, any::<bool>())
        .prop_map(|(who, (kind, text), within)| Step::Ask(who, kind, within, text.into()));
    let states = vec![DomainState::Running, DomainState::Shutdown, DomainState::Gone];
    prop_oneof![
        12 => ask,
        4 => other,
        1 => (1..3_u16).prop_map(Step::Introduce),
        1 => (1..3_u16, prop::sample::select(states))
            .prop_map(|(domain, state)| Step::State(domain, state)),
        2 => (0..3_usize).prop_map(Step::Take),
    ]
}

fn introduce(store: &mut Store, domain: u16) {
    let request = format!("{domain}|100|1|");
    store.send(store.tool, Kind::Introduce, 0, &request);
    for effect in store.server.take_effects() {
        if let Effect::Introduce(introduction) = effect {
            store.server.introduced(&introduction, Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_server_goes_on_where_the_one_before_it_was_killed(
        steps in prop::collection::vec(step(), 0..60),
        snapshot_at in 0..60_usize,
    ) {
        let mut store = Store::new();
        store.server.keep_journal();
        store.server.connect_domain(0);
        introduce(&mut store, 1);
        introduce(&mut store, 2);
        let (mut snapshot, mut taken) = (None, Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            if index == snapshot_at {
                journal(&mut store.server);
                snapshot = Some(store.server.snapshot(Vec::new(), &[]));
            }
            // Taken bit by bit, while nodes change.
            if let Some(snapshot) = &mut snapshot {
                taken.extend(some(snapshot, 1));
            }
            let who = |store: &Store, who: usize| match who {
                0 => Some(store.tool),
                _ => store.server.connection_of(u16::try_from(who).unwrap()),
            };
            match step {
                Step::Ask(asker, kind, within, text) => {
                    let Some(id) = who(&store, asker) else { continue };
                    let number = if within { 1 } else { 0 };
                    store.send(id, kind, number, &text);
                }
                Step::Introduce(domain) => introduce(&mut store, domain),
                Step::State(domain, state) => store.server.domain_state(domain, state),
                Step::Take(asker) => {
                    let Some(id) = who(&store, asker) else { continue };
                    let count = store.server.output(id).len();
                    store.server.sent(id, count);
                }
            }
            let _effects = store.server.take_effects();
        }
        if let Some(snapshot) = &mut snapshot {
            taken.extend(some(snapshot, usize::MAX));
            prop_assert_eq!(some(snapshot, 1), []);
        }
        let restored = again(&taken, &journal(&mut store.server));
        prop_assert_eq!(content(&restored.server), content(&store.server));
        prop_assert_eq!(restored.server.tree.inconsistencies(), Vec::<String>::new());
        prop_assert!(restored.server.stamp > store.server.stamp);
    }
}

#[test]
fn a_transaction_goes_on_and_is_told_to_start_again() {
    let mut store = Store::new();
    store.server.keep_journal();
    let guest = store.domain(7);
    store.ok(store.tool, Kind::Write, "/local/domain/7/x|1");
    store.ok(store.tool, Kind::SetPerms, "/local/domain/7/x|n7|");
    store.send(guest, Kind::TransactionStart, 0, "|");
    store.send(guest, Kind::Write, 1, "x|2");
    let restored = again(&[], &journal(&mut store.server));
    let mut store = Store { server: restored.server, tool: ConnectionId(0) };
    let guest = store.server.connection_of(7).unwrap();
    assert_eq!(store.ask(guest, Kind::Read, 1, "x|").0, Some(Ok("1".into())));
    assert_eq!(store.ask(guest, Kind::Write, 1, "x|3").0, Some(Ok("OK|".into())));
    assert_eq!(store.ask(guest, Kind::TransactionEnd, 1, "T|").0, Some(Err(Failure::EAGAIN)));
    assert_eq!(store.ask(guest, Kind::Read, 0, "x|").0, Some(Ok("1".into())));
}

#[test]
fn what_was_not_sent_is_found_by_the_rings_own_index() {
    let mut store = Store::new();
    store.server.keep_journal();
    let guest = store.domain(7);
    store.send(guest, Kind::GetDomainPath, 0, "7|");
    store.send(guest, Kind::GetDomainPath, 0, "8|");
    let waiting = store.server.connections[&guest].outgoing.rest();
    store.server.note(&Record::Ring {
        domain: 7,
        requests: 40,
        responses: 10,
        partial: b"ab"[..].into(),
    });
    let restored = again(&[], &journal(&mut store.server));
    let ring = &restored.rings[&7];
    assert_eq!((ring.gfn, ring.port, ring.requests), (100, 1, 40));
    assert_eq!(ring.partial, b"ab");
    assert_eq!(ring.unsent(10).unwrap(), &waiting[10..]);
    assert_eq!(ring.unsent(15).unwrap(), &waiting[15..]);
    let end = u32::try_from(waiting.len()).unwrap();
    assert_eq!(ring.unsent(end), Some(&[][..]));
    assert_eq!(ring.unsent(end + 1), None);
    assert_eq!(ring.unsent(9), None);
}

#[test]
fn programs_that_are_handed_on_keep_watches_and_waiting_output() {
    let mut store = Store::new();
    let other = store.server.connect_tool();
    store.ok(store.tool, Kind::Watch, "/a|t|");
    store.ok(other, Kind::Watch, "/a|u|");
    store.send(store.tool, Kind::Write, 0, "/a|1");
    let waiting = store.server.connections[&store.tool].outgoing.rest();
    let mut records = Vec::new();
    let number = store.tool.0;
    Record::Socket { number, partial: b"xy"[..].into() }.encode(&mut records);
    let mut snapshot = store.server.snapshot(records, &[store.tool]);
    let restored = again(&some(&mut snapshot, usize::MAX), &[]);
    let [(id, partial)] = restored.programs.as_slice() else { panic!("{restored:?}") };
    assert_eq!(partial, b"xy");
    assert_eq!(restored.server.connections[id].outgoing.rest(), waiting);
    assert_eq!(restored.server.watches.count(*id), 1);
}
