//! The server seen from its connections: what is answered, what watches hear.

mod hostile;
mod restart;

use super::{ConnectionId, DomainState, Effect, MayRead, Server};
use crate::wire::{Decoder, Failure, Kind, Message};

struct Store {
    server: Server,
    tool: ConnectionId,
}

type Reply = Result<String, Failure>;

impl Store {
    fn new() -> Self {
        let mut server = Server::default();
        let tool = server.connect_tool();
        Self { server, tool }
    }

    fn domain(&mut self, domain: u16) -> ConnectionId {
        let (reply, _) = self.ask(self.tool, Kind::Introduce, 0, &format!("{domain}|100|1|"));
        assert_eq!(reply, None);
        let effects = self.server.take_effects();
        let [Effect::Introduce(introduction)] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!((introduction.domain, introduction.gfn, introduction.port), (domain, 100, 1));
        self.server.introduced(introduction, Ok(()));
        assert_eq!(self.drain(self.tool).0, Some(Ok("OK|".into())));
        self.server.connection_of(domain).unwrap()
    }

    fn drain(&mut self, id: ConnectionId) -> (Option<Reply>, Vec<String>) {
        let mut decoder = Decoder::default();
        while !self.server.output(id).is_empty() {
            let bytes = self.server.output(id).to_vec();
            decoder.extend(&bytes);
            self.server.sent(id, bytes.len());
        }
        let (mut reply, mut events) = (None, Vec::new());
        while let Some(message) = decoder.next_message().unwrap() {
            let text = String::from_utf8_lossy(&message.payload).replace('\0', "|");
            match Kind::from_number(message.kind).unwrap() {
                Kind::WatchEvent => events.push(text),
                Kind::Error => {
                    let name = text.trim_end_matches('|').as_bytes().to_vec();
                    reply = Some(Err(Failure::from_name(&name).unwrap()));
                }
                _ => reply = Some(Ok(text)),
            }
        }
        (reply, events)
    }

    fn send(&mut self, id: ConnectionId, kind: Kind, transaction: u32, payload: &str) {
        let message = Message {
            kind: kind.number(),
            request_id: 5,
            transaction_id: transaction,
            payload: payload.replace('|', "\0").into_bytes(),
        };
        self.server.handle(id, &message);
    }

    fn ask(
        &mut self,
        id: ConnectionId,
        kind: Kind,
        transaction: u32,
        payload: &str,
    ) -> (Option<Reply>, Vec<String>) {
        self.send(id, kind, transaction, payload);
        let result = self.drain(id);
        assert_eq!(self.server.tree().inconsistencies(), Vec::<String>::new());
        result
    }

    fn reply(&mut self, id: ConnectionId, kind: Kind, payload: &str) -> Reply {
        self.ask(id, kind, 0, payload).0.unwrap()
    }

    fn start(&mut self, id: ConnectionId) -> u32 {
        let reply = self.reply(id, Kind::TransactionStart, "|").unwrap();
        reply.trim_end_matches('|').parse().unwrap()
    }

    fn events(&mut self, id: ConnectionId) -> Vec<String> {
        self.drain(id).1
    }

    fn ok(&mut self, id: ConnectionId, kind: Kind, payload: &str) {
        assert_eq!(self.reply(id, kind, payload), Ok("OK|".into()), "{kind:?} {payload}");
    }
}

#[test]
fn a_written_value_is_read_back_with_any_bytes() {
    let mut store = Store::new();
    let tool = store.tool;
    store.ok(tool, Kind::Write, "/a/b/c|va|l|");
    assert_eq!(store.reply(tool, Kind::Read, "/a/b/c|"), Ok("va|l|".into()));
    assert_eq!(store.reply(tool, Kind::Read, "/a/b|"), Ok(String::new()));
    assert_eq!(store.reply(tool, Kind::Directory, "/a|"), Ok("b|".into()));
    assert_eq!(store.reply(tool, Kind::Directory, "/|"), Ok("tool|a|".into()));
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let mut store = Store::new();
    let tool = store.tool;
    for (kind, payload, failure) in [
        (Kind::Read, "/nowhere|", Failure::ENOENT),
        (Kind::Read, "/tool", Failure::EINVAL),
        (Kind::Read, "/tool|x|", Failure::EINVAL),
        (Kind::Read, "/to.ol|", Failure::EINVAL),
        (Kind::Read, "@releaseDomain|", Failure::EINVAL),
        (Kind::Write, "@x|v", Failure::EINVAL),
        (Kind::Write, "/x", Failure::EINVAL),
        (Kind::Rm, "/|", Failure::EINVAL),
        (Kind::Rm, "/no/where|", Failure::ENOENT),
        (Kind::SetPerms, "/tool|", Failure::EINVAL),
        (Kind::SetPerms, "/tool|x0|", Failure::EINVAL),
        (Kind::SetPerms, "/no|n0|", Failure::ENOENT),
        (Kind::Watch, "/x|", Failure::EINVAL),
        (Kind::Watch, "/x|t|z|", Failure::EINVAL),
        (Kind::Unwatch, "/x|t|", Failure::ENOENT),
        (Kind::TransactionEnd, "T|", Failure::ENOENT),
        (Kind::TransactionEnd, "X|", Failure::EINVAL),
        (Kind::Introduce, "1|2|", Failure::EINVAL),
        (Kind::Introduce, "1|2|0|", Failure::EINVAL),
        (Kind::Introduce, "0|2|3|", Failure::EINVAL),
        (Kind::Introduce, "32752|2|3|", Failure::EINVAL),
        (Kind::Release, "7|", Failure::ENOENT),
        (Kind::Release, "0|", Failure::EINVAL),
        (Kind::Resume, "7|", Failure::ENOENT),
        (Kind::SetTarget, "7|8|", Failure::ENOENT),
        (Kind::WatchEvent, "/x|t|", Failure::ENOSYS),
        (Kind::Error, "|", Failure::ENOSYS),
        (Kind::Control, "sing|", Failure::EINVAL),
    ] {
        assert_eq!(store.reply(tool, kind, payload), Err(failure), "{kind:?} {payload}");
    }
    let unknown = Message { kind: 20, request_id: 1, transaction_id: 0, payload: b"/\0".to_vec() };
    store.server.handle(tool, &unknown);
    assert_eq!(store.drain(tool).0, Some(Err(Failure::ENOSYS)));
}

#[test]
fn an_unprivileged_domain_may_not_ask_what_is_the_toolstacks() {
    let mut store = Store::new();
    let guest = store.domain(7);
    for (kind, payload) in [
        (Kind::Control, "check|"),
        (Kind::Introduce, "8|1|1|"),
        (Kind::Release, "7|"),
        (Kind::Resume, "7|"),
        (Kind::SetTarget, "7|0|"),
        (Kind::IsDomainIntroduced, "7|"),
    ] {
        assert_eq!(store.reply(guest, kind, payload), Err(Failure::EACCES), "{kind:?}");
    }
    assert_eq!(store.reply(guest, Kind::GetDomainPath, "7|"), Ok("/local/domain/7|".into()));
    assert_eq!(store.reply(store.tool, Kind::IsDomainIntroduced, "7|"), Ok("T|".into()));
    assert_eq!(store.reply(store.tool, Kind::IsDomainIntroduced, "8|"), Ok("F|".into()));
}

#[test]
fn a_domain_reads_and_writes_what_permissions_let_it() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ok(tool, Kind::Mkdir, "/local/domain/7|");
    store.ok(tool, Kind::SetPerms, "/local/domain/7|n0|r7|");
    store.ok(tool, Kind::Write, "/local/domain/7/data|x");
    store.ok(tool, Kind::SetPerms, "/local/domain/7/data|n7|");
    assert_eq!(store.reply(guest, Kind::GetPerms, "data|"), Ok("n7|".into()));
    store.ok(guest, Kind::Write, "data/mine|1");
    assert_eq!(store.reply(tool, Kind::GetPerms, "/local/domain/7/data/mine|"), Ok("n7|".into()));
    // Above its own node it may look, and be told what is missing, but not change.
    assert_eq!(store.reply(guest, Kind::Read, "missing|"), Err(Failure::ENOENT));
    assert_eq!(store.reply(guest, Kind::Write, "missing|1"), Err(Failure::EACCES));
    assert_eq!(store.reply(guest, Kind::Rm, "/local/domain/7|"), Err(Failure::EACCES));
    // Elsewhere it learns nothing.
    assert_eq!(store.reply(guest, Kind::Read, "/tool|"), Err(Failure::EACCES));
    assert_eq!(store.reply(guest, Kind::Read, "/nowhere|"), Err(Failure::EACCES));
    // Its own node it may open to others, but not give away.
    store.ok(guest, Kind::SetPerms, "data|n7|r8|");
    assert_eq!(store.reply(guest, Kind::SetPerms, "data|n8|"), Err(Failure::EPERM));
    let other = store.domain(8);
    assert_eq!(store.reply(other, Kind::Read, "/local/domain/7/data|"), Ok("x".into()));
    assert_eq!(store.reply(other, Kind::Write, "/local/domain/7/data|y"), Err(Failure::EACCES));
    assert_eq!(
        store.reply(other, Kind::SetPerms, "/local/domain/7/data|n7|b8|"),
        Err(Failure::EACCES)
    );
}

#[test]
fn a_watch_fires_when_it_is_set_and_when_something_below_changes() {
    let mut store = Store::new();
    let tool = store.tool;
    store.ok(tool, Kind::Mkdir, "/a|");
    assert_eq!(
        store.ask(tool, Kind::Watch, 0, "/a|tok|"),
        (Some(Ok("OK|".into())), vec!["/a|tok|".into()])
    );
    assert_eq!(store.reply(tool, Kind::Watch, "/a|tok|"), Err(Failure::EEXIST));
    assert_eq!(store.ask(tool, Kind::Write, 0, "/a/b/c|1").1, ["/a/b/c|tok|"]);
    assert_eq!(store.ask(tool, Kind::Mkdir, 0, "/a/b|").1, Vec::<String>::new());
    assert_eq!(store.ask(tool, Kind::SetPerms, 0, "/a/b|n0|").1, ["/a/b|tok|"]);
    assert_eq!(store.ask(tool, Kind::Rm, 0, "/a/b|").1, ["/a/b|tok|"]);
    assert_eq!(store.ask(tool, Kind::Rm, 0, "/a/b|").1, Vec::<String>::new());
    store.ok(tool, Kind::Unwatch, "/a|tok|");
    assert_eq!(store.ask(tool, Kind::Write, 0, "/a/b|1").1, Vec::<String>::new());
}

#[test]
fn a_removal_is_told_to_watches_of_what_lay_below() {
    let mut store = Store::new();
    let tool = store.tool;
    store.ok(tool, Kind::Write, "/a/b/c|1");
    store.ask(tool, Kind::Watch, 0, "/a/b/c|leaf|");
    store.ask(tool, Kind::Watch, 0, "/|root|");
    assert_eq!(store.ask(tool, Kind::Rm, 0, "/a|").1, ["/a/b/c|leaf|", "/a|root|"]);
}

#[test]
fn a_relative_watch_of_a_domain_hears_relative_paths_it_may_read() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ok(tool, Kind::Mkdir, "/local/domain/7|");
    store.ok(tool, Kind::SetPerms, "/local/domain/7|n0|r7|");
    assert_eq!(store.ask(guest, Kind::Watch, 0, "control|t|").1, ["control|t|"]);
    store.ok(tool, Kind::Write, "/local/domain/7/control/shutdown|poweroff");
    assert_eq!(store.events(guest), ["control/shutdown|t|"]);
    store.ok(tool, Kind::SetPerms, "/local/domain/7/control/shutdown|n0|");
    store.ok(tool, Kind::SetPerms, "/local/domain/7/control|n0|");
    store.events(guest);
    store.ok(tool, Kind::Write, "/local/domain/7/control/shutdown|reboot");
    assert_eq!(store.events(guest), Vec::<String>::new());
}

#[test]
fn a_transaction_is_seen_by_others_and_by_watches_only_when_committed() {
    let mut store = Store::new();
    let tool = store.tool;
    let other = store.server.connect_tool();
    store.ask(other, Kind::Watch, 0, "/a|t|");
    let number = store.start(tool);
    assert_eq!(store.ask(tool, Kind::Write, number, "/a/b|1").0, Some(Ok("OK|".into())));
    assert_eq!(store.ask(tool, Kind::Read, number, "/a/b|").0, Some(Ok("1".into())));
    assert_eq!(store.reply(other, Kind::Read, "/a/b|"), Err(Failure::ENOENT));
    assert_eq!(store.events(other), Vec::<String>::new());
    assert_eq!(store.ask(tool, Kind::TransactionEnd, number, "T|").0, Some(Ok("OK|".into())));
    assert_eq!(store.events(other), ["/a/b|t|"]);
    assert_eq!(store.ask(tool, Kind::Read, number, "/a/b|").0, Some(Err(Failure::ENOENT)));
}

#[test]
fn a_transaction_that_met_another_change_is_to_be_tried_again() {
    let mut store = Store::new();
    let tool = store.tool;
    store.ok(tool, Kind::Write, "/a|1");
    let number = store.start(tool);
    store.ask(tool, Kind::Read, number, "/a|");
    store.ask(tool, Kind::Write, number, "/b|2");
    store.ok(tool, Kind::Write, "/a|3");
    assert_eq!(store.ask(tool, Kind::TransactionEnd, number, "T|").0, Some(Err(Failure::EAGAIN)));
    assert_eq!(store.reply(tool, Kind::Read, "/b|"), Err(Failure::ENOENT));
    let number = store.start(tool);
    assert_eq!(store.ask(tool, Kind::TransactionStart, number, "|").0, Some(Err(Failure::EBUSY)));
    assert_eq!(store.ask(tool, Kind::TransactionEnd, number, "F|").0, Some(Ok("OK|".into())));
}

#[test]
fn domains_that_come_and_go_are_reported_to_who_may_know() {
    let mut store = Store::new();
    let tool = store.tool;
    store.ask(tool, Kind::Watch, 0, "@introduceDomain|in|");
    store.ask(tool, Kind::Watch, 0, "@releaseDomain|out|");
    let first = store.domain(1);
    store.ask(first, Kind::Watch, 0, "@releaseDomain|spy|");
    store.ask(tool, Kind::Watch, 0, "@introduceDomain|deep|1|");
    store.ask(tool, Kind::Watch, 0, "@releaseDomain/2|two|");
    let second = store.domain(2);
    assert_ne!(first, second);
    store.server.domain_state(2, DomainState::Running);
    assert_eq!(store.events(tool), Vec::<String>::new());
    store.server.domain_state(2, DomainState::Shutdown);
    store.server.domain_state(2, DomainState::Shutdown);
    assert_eq!(store.events(tool), ["@releaseDomain|out|", "@releaseDomain/2|two|"]);
    store.ok(tool, Kind::Resume, "2|");
    store.server.domain_state(2, DomainState::Shutdown);
    assert_eq!(store.events(tool).len(), 2);
    store.server.domain_state(2, DomainState::Gone);
    store.server.domain_state(2, DomainState::Gone);
    assert_eq!(store.events(tool).len(), 2);
    assert_eq!(store.server.take_effects(), [Effect::Disconnect { domain: 2 }]);
    assert_eq!(store.events(first), Vec::<String>::new());
    assert_eq!(store.server.domains(), [1]);
    assert_eq!(store.reply(tool, Kind::IsDomainIntroduced, "2|"), Ok("F|".into()));
}

#[test]
fn a_watch_of_introductions_names_the_domain_where_it_asks_for_depth_one() {
    let mut store = Store::new();
    let tool = store.tool;
    let other = store.server.connect_tool();
    store.ask(other, Kind::Watch, 0, "@introduceDomain|deep|1|");
    assert_eq!(store.reply(tool, Kind::Watch, "@introduceDomain|x|2|"), Err(Failure::EINVAL));
    store.domain(9);
    assert_eq!(store.events(other), ["@introduceDomain/9|deep|"]);
}

#[test]
fn permission_to_watch_for_domains_can_be_given() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ok(tool, Kind::SetPerms, "@releaseDomain|n0|r7|");
    store.ask(guest, Kind::Watch, 0, "@releaseDomain|t|");
    store.domain(8);
    store.server.domain_state(8, DomainState::Gone);
    assert_eq!(store.events(guest), ["@releaseDomain|t|"]);
}

#[test]
fn a_dead_domain_leaves_nothing_for_the_next_of_its_number() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ok(tool, Kind::Write, "/local/domain/7/data|x");
    store.ok(tool, Kind::SetPerms, "/local/domain/7/data|n7|");
    store.ok(guest, Kind::Write, "data/below|x");
    store.ok(tool, Kind::Write, "/backend|x");
    store.ok(tool, Kind::SetPerms, "/backend|n0|r7|b8|");
    store.ok(tool, Kind::SetPerms, "@releaseDomain|n0|r7|");
    store.ask(guest, Kind::Watch, 0, "data|t|");
    store.start(guest);
    store.ask(tool, Kind::Watch, 0, "/local/domain/7|t|");
    store.server.domain_state(7, DomainState::Gone);
    assert_eq!(store.events(tool), ["/local/domain/7/data|t|"]);
    assert_eq!(store.reply(tool, Kind::Directory, "/local/domain/7|"), Ok(String::new()));
    assert_eq!(store.reply(tool, Kind::GetPerms, "/backend|"), Ok("n0|b8|".into()));
    assert_eq!(store.reply(tool, Kind::GetPerms, "@releaseDomain|"), Ok("n0|".into()));
    assert_eq!(store.server.take_effects(), [Effect::Disconnect { domain: 7 }]);
    let again = store.domain(7);
    assert_eq!(store.reply(again, Kind::Read, "/backend|"), Err(Failure::EACCES));
    assert_eq!(store.reply(tool, Kind::Control, "check|"), Ok("OK|".into()));
}

#[test]
fn an_open_transaction_cannot_give_to_a_dead_domain() {
    let mut store = Store::new();
    let tool = store.tool;
    for permissions in ["n7|", "n0|r7|"] {
        store.domain(7);
        let number = store.start(tool);
        let unrelated = store.start(tool);
        store.ask(tool, Kind::Write, number, "/x/y|1");
        store.ask(tool, Kind::SetPerms, number, &format!("/x/y|{permissions}"));
        store.ask(tool, Kind::Write, unrelated, "/z|1");
        store.server.domain_state(7, DomainState::Gone);
        assert_eq!(store.server.take_effects(), [Effect::Disconnect { domain: 7 }]);
        assert_eq!(
            store.ask(tool, Kind::TransactionEnd, number, "T|").0,
            Some(Err(Failure::EAGAIN))
        );
        assert_eq!(store.reply(tool, Kind::Read, "/x/y|"), Err(Failure::ENOENT));
        assert_eq!(
            store.ask(tool, Kind::TransactionEnd, unrelated, "T|").0,
            Some(Ok("OK|".into()))
        );
    }
}

#[test]
fn a_domain_that_is_introduced_again_starts_afresh() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ask(guest, Kind::Watch, 0, "data|t|");
    let number = store.start(guest);
    store.ask(tool, Kind::Introduce, 0, "7|100|2|");
    let effects = store.server.take_effects();
    let [Effect::Introduce(introduction)] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(introduction.again);
    store.server.introduced(introduction, Ok(()));
    assert_eq!(store.server.connection_of(7), Some(guest));
    assert_eq!(store.ask(guest, Kind::TransactionEnd, number, "T|").0, Some(Err(Failure::ENOENT)));
    assert_eq!(store.reply(guest, Kind::Unwatch, "data|t|"), Err(Failure::ENOENT));
}

#[test]
fn an_introduction_that_fails_leaves_no_domain() {
    let mut store = Store::new();
    let tool = store.tool;
    store.ask(tool, Kind::Introduce, 0, "7|100|2|");
    let effects = store.server.take_effects();
    let [Effect::Introduce(introduction)] = effects.as_slice() else { panic!("{effects:?}") };
    store.server.introduced(introduction, Err(Failure::EINVAL));
    assert_eq!(store.drain(tool).0, Some(Err(Failure::EINVAL)));
    assert_eq!(store.server.domains(), Vec::<u16>::new());
}

#[test]
fn a_domain_meets_its_quotas_and_the_toolstack_does_not() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ok(tool, Kind::Mkdir, "/local/domain/7|");
    store.ok(tool, Kind::SetPerms, "/local/domain/7|n7|");
    assert_eq!(
        store.reply(guest, Kind::Write, &format!("big|{}", "x".repeat(2100))),
        Err(Failure::ENOSPC)
    );
    store.ok(guest, Kind::Write, "small|x");
    assert_eq!(
        store.reply(guest, Kind::Write, &format!("small|{}", "x".repeat(2100))),
        Err(Failure::ENOSPC)
    );
    assert_eq!(
        store.reply(guest, Kind::SetPerms, "small|n7|r1|r2|r3|r4|r5|"),
        Err(Failure::ENOSPC)
    );
    assert_eq!(
        store.reply(guest, Kind::Write, &format!("{}|x", "p".repeat(2049))),
        Err(Failure::EINVAL)
    );
    for index in 0..998 {
        store.ok(guest, Kind::Write, &format!("d{}/n{index}|x", index % 20));
        if store.server.tree().usage(7).nodes == 1000 {
            break;
        }
    }
    assert_eq!(store.server.tree().usage(7).nodes, 1000);
    assert_eq!(store.reply(guest, Kind::Write, "more|x"), Err(Failure::ENOSPC));
    let number = store.start(guest);
    assert_eq!(store.ask(guest, Kind::Write, number, "more|x").0, Some(Err(Failure::ENOSPC)));
    for index in 0..128 {
        assert_eq!(store.reply(guest, Kind::Watch, &format!("w|{index}|")), Ok("OK|".into()));
    }
    assert_eq!(store.reply(guest, Kind::Watch, "w|more|"), Err(Failure::E2BIG));
    for _ in 0..9 {
        store.start(guest);
    }
    assert_eq!(store.reply(guest, Kind::TransactionStart, "|"), Err(Failure::ENOSPC));
    store.ok(tool, Kind::Write, "/local/domain/7/from-tool|x");
}

#[test]
fn a_domain_that_does_not_read_is_not_read_from() {
    let mut store = Store::new();
    let guest = store.domain(7);
    let message = Message {
        kind: Kind::GetDomainPath.number(),
        request_id: 0,
        transaction_id: 0,
        payload: b"7\0".to_vec(),
    };
    for _ in 0..20 {
        assert_eq!(store.server.may_read(guest), MayRead::Yes);
        store.server.handle(guest, &message);
    }
    assert_eq!(store.server.may_read(guest), MayRead::AfterOutput);
    store.drain(guest);
    assert_eq!(store.server.may_read(guest), MayRead::Yes);
}

#[test]
fn a_domain_that_writes_while_others_have_transactions_is_slowed_down() {
    let mut store = Store::new();
    let (tool, guest) = (store.tool, store.domain(7));
    store.ok(tool, Kind::Mkdir, "/local/domain/7|");
    store.ok(tool, Kind::SetPerms, "/local/domain/7|n7|");
    for _ in 0..200 {
        store.ok(guest, Kind::Write, "x|1");
    }
    assert_eq!(store.server.may_read(guest), MayRead::Yes);
    store.start(tool);
    for _ in 0..60 {
        store.ok(guest, Kind::Write, "x|1");
    }
    assert!(matches!(store.server.may_read(guest), MayRead::After(_)));
    assert_eq!(store.server.may_read(tool), MayRead::Yes);
}

#[test]
fn a_domain_that_resets_its_ring_again_and_again_waits_and_others_do_not() {
    let mut store = Store::new();
    let (guest, other) = (store.domain(7), store.domain(8));
    for _ in 0..60 {
        store.server.reset_by_domain(guest);
    }
    assert!(matches!(store.server.may_read(guest), MayRead::After(_)));
    assert_eq!(store.server.may_read(other), MayRead::Yes);
    // A daemon that was started again resets all rings, which is no domain's doing.
    for _ in 0..60 {
        store.server.reset(other);
    }
    assert_eq!(store.server.may_read(other), MayRead::Yes);
}

#[test]
fn a_domain_whose_requests_need_much_work_waits_and_others_do_not() {
    let deep = "/a".repeat(1000);
    // How many such requests are answered before the domain has to wait.
    let answered = |kind, payload: &str, in_transaction: bool| {
        let mut store = Store::new();
        let (tool, guest, other) = (store.tool, store.domain(7), store.domain(8));
        store.ok(tool, Kind::Mkdir, "/local/domain/7|");
        store.ok(tool, Kind::SetPerms, "/local/domain/7|n7|");
        let transaction = if in_transaction { store.start(guest) } else { 0 };
        let mut answered = 0;
        while answered < 1000 && store.server.may_read(guest) == MayRead::Yes {
            store.send(guest, kind, transaction, payload);
            store.drain(guest);
            answered += 1;
        }
        assert_eq!(store.server.may_read(other), MayRead::Yes);
        answered
    };
    let (below, missing) = (format!("x{}|1", &deep[..1900]), format!("x{deep}|"));
    for in_transaction in [false, true] {
        assert!(answered(Kind::Write, &below, in_transaction) < 10);
        assert!(answered(Kind::Read, &missing, in_transaction) < 10);
        assert!(answered(Kind::Mkdir, &missing, in_transaction) < 10);
        assert_eq!(answered(Kind::Write, "device/vif/0/state|4", in_transaction), 1000);
        assert_eq!(answered(Kind::Read, "device/vif/0/nothing|", in_transaction), 1000);
    }
}

#[test]
fn a_long_list_of_children_comes_in_parts() {
    let mut store = Store::new();
    let tool = store.tool;
    let names: Vec<String> = (0..900).map(|index| format!("child{index}")).collect();
    for name in &names {
        store.ok(tool, Kind::Mkdir, &format!("/many/{name}|"));
    }
    assert_eq!(store.reply(tool, Kind::Directory, "/many|"), Err(Failure::E2BIG));
    let (mut list, mut stamps) = (String::new(), Vec::new());
    loop {
        let part = store.reply(tool, Kind::DirectoryPart, &format!("/many|{}|", list.len()));
        let part = part.unwrap();
        let (stamp, names) = part.split_once('|').unwrap();
        stamps.push(stamp.to_owned());
        if let Some(last) = names.strip_suffix("||") {
            list.push_str(last);
            break;
        }
        list.push_str(names);
    }
    assert!(stamps.len() > 1 && stamps.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(list.split('|').collect::<Vec<_>>(), names);
    assert!(store.reply(tool, Kind::DirectoryPart, "/many|100000|").unwrap().ends_with("||"));
}

#[test]
fn a_stub_domain_has_the_rights_of_its_target() {
    let mut store = Store::new();
    let (tool, stub) = (store.tool, store.domain(8));
    let _guest = store.domain(7);
    store.ok(tool, Kind::Write, "/x|1");
    store.ok(tool, Kind::SetPerms, "/x|n7|");
    assert_eq!(store.reply(stub, Kind::Read, "/x|"), Err(Failure::EACCES));
    store.ok(tool, Kind::SetTarget, "8|7|");
    assert_eq!(store.reply(stub, Kind::Read, "/x|"), Ok("1".into()));
    store.ok(tool, Kind::Release, "7|");
    store.ok(tool, Kind::Write, "/y|1");
    store.ok(tool, Kind::SetPerms, "/y|n7|");
    assert_eq!(store.reply(stub, Kind::Read, "/y|"), Err(Failure::EACCES));
}

#[test]
fn reset_watches_drops_watches_and_transactions_of_the_caller_alone() {
    let mut store = Store::new();
    let tool = store.tool;
    let other = store.server.connect_tool();
    for id in [tool, other] {
        store.ask(id, Kind::Watch, 0, "/|t|");
    }
    let number = store.start(tool);
    store.ok(tool, Kind::ResetWatches, "|");
    assert_eq!(store.ask(tool, Kind::Write, 0, "/x|1").1, Vec::<String>::new());
    assert_eq!(store.events(other), ["/x|t|"]);
    assert_eq!(store.ask(tool, Kind::Read, number, "/|").0, Some(Err(Failure::ENOENT)));
}

#[test]
fn control_knows_quotas_and_checks_the_store() {
    let mut store = Store::new();
    let tool = store.tool;
    store.domain(7);
    assert_eq!(store.reply(tool, Kind::Control, "check|"), Ok("OK|".into()));
    assert!(store.reply(tool, Kind::Control, "quota|").unwrap().contains("watches"));
    assert!(store.reply(tool, Kind::Control, "quota|7|").unwrap().contains("nodes"));
    store.ok(tool, Kind::Control, "quota|set|watches|3|");
    assert_eq!(store.server.quotas_mut().watches, 3);
    store.ok(tool, Kind::Control, "print|hello|");
    assert_eq!(store.server.take_effects(), [Effect::Log("hello".into())]);
}
