//! Domains that take what they can: the server's memory and time stay within bounds.

use proptest::prelude::*;

use super::*;

/// A domain that may write below its own path.
fn guest(store: &mut Store, domain: u16) -> ConnectionId {
    let id = store.domain(domain);
    store.ok(store.tool, Kind::Write, &format!("/local/domain/{domain}|"));
    store.ok(store.tool, Kind::SetPerms, &format!("/local/domain/{domain}|n{domain}|"));
    id
}

fn send(store: &mut Store, id: ConnectionId, kind: Kind, payload: &[u8]) {
    let message =
        Message { kind: kind.number(), request_id: 1, transaction_id: 0, payload: payload.into() };
    store.server.handle(id, &message);
}

#[test]
fn a_domain_that_writes_without_end_gets_no_more_than_its_quota() {
    let mut store = Store::new();
    let id = guest(&mut store, 7);
    let big = "x".repeat(1900);
    for index in 0..5000 {
        // Deep, wide and long, by turns.
        let path = match index % 3 {
            0 => format!("w{index}"),
            1 => format!("d{}/{index}", index % 40),
            _ => "deep/".repeat(index % 300) + "end",
        };
        store.send(id, Kind::Write, 0, &format!("{path}|{big}"));
        store.drain(id);
    }
    let usage = store.server.tree().usage(7);
    assert!(usage.nodes <= 1000 && usage.bytes <= 2_621_440, "{usage:?}");
    assert_eq!(store.server.tree().inconsistencies(), Vec::<String>::new());
}

#[test]
fn a_domain_that_reads_no_replies_is_read_no_further() {
    let mut store = Store::new();
    let id = guest(&mut store, 7);
    let mut handled = 0;
    while store.server.may_read(id) == MayRead::Yes && handled < 1000 {
        store.send(id, Kind::GetPerms, 0, "/local/domain/7|");
        handled += 1;
    }
    assert_eq!((handled, store.server.may_read(id)), (20, MayRead::AfterOutput));
}

/// Makes a node and removes it.
fn change(store: &mut Store, path: &str) {
    let (tool, path) = (store.tool, format!("{path}\0"));
    for kind in [Kind::Write, Kind::Rm] {
        send(store, tool, kind, path.as_bytes());
        store.server.sent(tool, store.server.output(tool).len());
    }
}

fn waiting(store: &Store, id: ConnectionId) -> usize {
    store.server.connections[&id].outgoing.bytes()
}

#[test]
fn events_that_nobody_takes_are_bounded_for_a_domain() {
    let mut store = Store::new();
    let id = guest(&mut store, 7);
    // What it may not read it is told nothing of.
    store.ok(store.tool, Kind::SetPerms, "/local|r0|");
    for index in 0..128 {
        store.send(id, Kind::Watch, 0, &format!("/local|token-{index}|"));
        store.drain(id);
    }
    assert_eq!(store.reply(id, Kind::Watch, "/local|another|"), Err(Failure::E2BIG));
    let (mut before, name) = (0, "n".repeat(2900));
    // A change makes 370 KB of events: the eighth uses up what it is allowed, and five times as much comes.
    for index in 0..40 {
        change(&mut store, &format!("/local/{name}-{index}"));
        assert!(waiting(&store, id) < 2_700_000, "{} after {index}", waiting(&store, id));
        if index == 10 {
            before = waiting(&store, id);
        }
    }
    assert!(before > 2_600_000, "{before}");
    assert_eq!(waiting(&store, id), before);
}

#[test]
fn events_that_nobody_takes_end_a_program() {
    let mut store = Store::new();
    let mute = store.server.connect_tool();
    // Long by its token, which costs less to handle than a long path.
    let token = "t".repeat(4000);
    for index in 0..16 {
        store.send(mute, Kind::Watch, 0, &format!("/|{token}-{index}|"));
    }
    let closed = (0..10_000).find(|index| {
        change(&mut store, &format!("/local/{index}"));
        assert!(waiting(&store, mute) < 66 << 20, "{}", waiting(&store, mute));
        store.server.take_effects().contains(&Effect::Close(mute))
    });
    assert!(closed.is_some());
    assert!(waiting(&store, mute) >= 64 << 20, "{}", waiting(&store, mute));
}

#[test]
fn transactions_are_few_touch_little_and_hold_no_past() {
    let mut store = Store::new();
    let id = guest(&mut store, 7);
    for _ in 0..10 {
        store.start(id);
    }
    for _ in 0..1000 {
        assert_eq!(store.reply(id, Kind::TransactionStart, "|"), Err(Failure::ENOSPC));
    }
    for index in 0..2000 {
        store.send(id, Kind::Read, 1, &format!("data/{index}|"));
        store.drain(id);
    }
    assert!(store.server.connections[&id].transactions[&1].size() <= 1026);
    // Another domain writes the same nodes again and again, and each transaction would hold them.
    let other = guest(&mut store, 8);
    let big = "y".repeat(1900);
    for index in 0..45_000 {
        send(&mut store, other, Kind::Write, format!("n{}\0{big}", index % 500).as_bytes());
        store.server.sent(other, store.server.output(other).len());
    }
    for transaction in store.server.connections[&id].transactions.values() {
        assert!(transaction.held(store.server.tree()) <= super::super::HELD_MAX + (5 << 20));
    }
    assert_eq!(store.ask(id, Kind::TransactionEnd, 2, "T|").0, Some(Err(Failure::EAGAIN)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn no_bytes_that_arrive_make_the_server_panic(
        pieces in prop::collection::vec(
            (0..2_usize, prop::sample::select((0..26_u32).collect::<Vec<_>>()), 0..3_u32, prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "(/|@)?[a-c/@]{0,12}\0?[nrwb0-9\0T]{0,12}\0?".prop_map(String::into_bytes),
            ]),
            1..60,
        ),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut store = Store::new();
        let ids = [store.tool, guest(&mut store, 7)];
        let mut decoders = [Decoder::default(), Decoder::default()];
        for (who, kind, transaction_id, payload) in pieces {
            let bytes = Message { kind, request_id: 0, transaction_id, payload }.encode().unwrap();
            decoders[who].extend(&bytes);
            while let Some(message) = decoders[who].next_message().unwrap() {
                store.server.handle(ids[who], &message);
            }
            for effect in store.server.take_effects() {
                if let Effect::Introduce(introduction) = effect {
                    store.server.introduced(&introduction, Ok(()));
                }
            }
            prop_assert_eq!(store.server.tree().inconsistencies(), Vec::<String>::new());
        }
        decoders[0].extend(&noise);
        while let Ok(Some(message)) = decoders[0].next_message() {
            store.server.handle(ids[0], &message);
        }
    }

    #[test]
    fn the_parser_takes_any_bytes_in_any_pieces_alike(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            // Headers with lengths that fit, so that it gets past the first.
            prop::collection::vec((any::<[u8; 12]>(), 0..40_u8), 0..8).prop_map(|parts| {
                parts.into_iter().flat_map(|(head, length)| {
                    let mut bytes = head.to_vec();
                    bytes.extend([length, 0, 0, 0]);
                    bytes.extend(vec![7; usize::from(length)]);
                    bytes
                }).collect()
            }),
        ],
        cuts in prop::collection::vec(1..30_usize, 0..40),
    ) {
        let all = |decoder: &mut Decoder, found: &mut Vec<_>| loop {
            match decoder.next_message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => return false,
                Err(_) => return true,
            }
        };
        let (mut whole, mut expected) = (Decoder::default(), Vec::new());
        whole.extend(&bytes);
        let refused = all(&mut whole, &mut expected);
        let (mut pieces, mut found, mut rest, mut failed) =
            (Decoder::default(), Vec::new(), bytes.as_slice(), false);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.extend(piece);
            rest = after;
            failed = failed || all(&mut pieces, &mut found);
        }
        prop_assert_eq!((found, failed), (expected, refused));
    }
}
