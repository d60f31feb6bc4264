//! What holds of a hypervisor between any two steps, whatever its guests do.

use hv_core::addr::{Gfn, Mfn};
use hv_core::evtchn::Status;
use hv_core::frames::{Frames, Owner};
use hv_core::ids::{DomId, VcpuId};
use hv_core::lifecycle::Dying;
use hv_core::p2m::Kind;
use hypervisor::domain::Domain;
use hypervisor::domain::destroy::Progress;
use hypervisor::state::Hypervisor;
use hypervisor::testbed::{RAM, Testbed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Parts in which a domain's end may come; more means that it never does.
const PARTS: u32 = 100_000;
/// Pages of a domain's that events, run states and a UART may hold: more than there can be.
const PINS: u64 = 1024;

/// How much is looked at.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum How {
    /// What domains have.
    Quickly,
    /// Each frame of the machine as well.
    FrameByFrame,
}

/// Holds all that must be true of `bed`; panics with what is not.
///
/// What a domain takes of the heap belongs here as well, as soon as it can be asked for.
pub(crate) fn check_invariants(bed: &Testbed, how: How) {
    let hv = &bed.hv;
    let domains = hv.all_domains().expect("the host has a heap");
    no_lock_is_held(hv, &domains);
    let uses = mappings_have_uses(hv, &domains);
    let held = frames_have_owners(bed, &domains, &uses);
    if how == How::FrameByFrame {
        accounts_add_up(bed, &domains, &held);
    }
    ports_are_mutual(hv, &domains);
}

fn no_lock_is_held(hv: &Hypervisor, domains: &[Arc<Domain>]) {
    macro_rules! free {
        ($of:expr, $($lock:ident)*) => {
            $(assert!($of.$lock.try_lock().is_some(), "{} is held", stringify!($lock));)*
        };
    }
    free!(hv, frames domains vmids scheduler guest_id heap control virq_handlers lent last_domid wallclock);
    for processor in &hv.processors {
        free!(processor, timers loaded);
    }
    for domain in domains {
        free!(domain, life ports grants p2m vgic uart parameters handle complaints devices vmid teardown watchdogs time_offset);
        for vcpu in domain.vcpus() {
            free!(vcpu, context physical_timer runstate cleaned);
        }
    }
}

/// Who uses which entry of whose grant table, and of which frame.
type Uses = BTreeMap<(DomId, u32), (DomId, Mfn)>;

/// Each use of a grant is a mapping of somebody's, and the other way round: no copy is going on.
fn mappings_have_uses(hv: &Hypervisor, domains: &[Arc<Domain>]) -> Uses {
    let mut uses = Uses::new();
    let mut counts: BTreeMap<DomId, u64> = BTreeMap::new();
    for holder in domains {
        let grants = holder.grants.lock();
        let mut left = grants.mappings();
        for handle in 0.. {
            if left == 0 {
                break;
            }
            assert!(handle < 1 << 20, "{} lost {left} mappings", holder.id);
            let Ok(mapping) = grants.mapping(handle) else { continue };
            left -= 1;
            *counts.entry(mapping.dom).or_default() += 1;
            let used = (holder.id, mapping.mfn);
            let before = uses.insert((mapping.dom, mapping.grant.0), used);
            assert!(before.is_none_or(|before| before == used), "two of one grant: {mapping:?}");
            let owner = hv.frames.lock().owner(mapping.mfn);
            let is_theirs = owner == Owner::Domain(mapping.dom);
            assert!(is_theirs, "{} maps a frame of {owner:?}: {mapping:?}", holder.id);
        }
    }
    for domain in domains {
        let counted = counts.remove(&domain.id).unwrap_or(0);
        assert_eq!(domain.grants.lock().uses(), counted, "uses of what {} grants", domain.id);
    }
    assert!(counts.is_empty(), "mappings of what nobody grants: {counts:?}");
    uses
}

/// How often a frame is held by those of whom it is known.
type Held = BTreeMap<Mfn, u32>;

/// Each frame is one's, each account adds up, and whoever reaches a frame holds it.
fn frames_have_owners(bed: &Testbed, domains: &[Arc<Domain>], uses: &Uses) -> Held {
    let hv = &bed.hv;
    let mut held = Held::new();
    for (_, frame) in uses.values() {
        *held.entry(*frame).or_default() += 1;
    }
    for domain in domains {
        for (gfn, mapping) in mapped(bed, domain) {
            let what = || format!("{} has {mapping:?} at {gfn:?}", domain.id);
            let owner = hv.frames.lock().owner(mapping.0);
            match mapping.1 {
                Kind::RamRw | Kind::RamRo => {
                    assert_eq!(owner, Owner::Domain(domain.id), "{}", what());
                    let (_, owned) = hv.frames.lock().holds(mapping.0);
                    assert!(owned, "{}, which was let go of", what());
                }
                Kind::ForeignRw | Kind::ForeignRo => {
                    assert!(owner != Owner::Nobody, "{}, which is free", what());
                    *held.entry(mapping.0).or_default() += 1;
                }
                // A domain that ends gives all grants back before it loses its translations.
                Kind::GrantRw | Kind::GrantRo if domain.life.lock().dying() != Dying::No => {}
                Kind::GrantRw | Kind::GrantRo => {
                    let used = |(holder, frame): &(DomId, Mfn)| {
                        (*holder, *frame) == (domain.id, mapping.0)
                    };
                    assert!(uses.values().any(used), "{}, no grant's", what());
                }
                Kind::Shared => assert_eq!(owner, Owner::SharedWith(domain.id), "{}", what()),
                Kind::Device | Kind::DirectIo => {
                    assert_eq!(owner, Owner::Nobody, "{}", what());
                }
            }
        }
    }
    let frames = hv.frames.lock();
    for (frame, count) in &held {
        let (holds, owned) = frames.holds(*frame);
        assert!(holds >= count + u32::from(owned), "{frame:?} has {holds} holds, not {count}");
    }
    drop(frames);
    held
}

/// Each account says what its domain has, and nothing is lost.
fn accounts_add_up(bed: &Testbed, domains: &[Arc<Domain>], held: &Held) {
    let frames = &*bed.hv.frames.lock();
    let mut owned: BTreeMap<DomId, (u64, u64)> = BTreeMap::new();
    let (mut ours, mut nobodys, mut pins, mut tables) = (0, 0, 0, 0);
    for past in 0..bed.hv.host.total_frames {
        let mfn = RAM.checked_add(past).expect("it is in the host's memory");
        match frames.owner(mfn) {
            Owner::Nobody => nobodys += 1,
            Owner::Hypervisor => ours += 1,
            Owner::Domain(dom) => owned.entry(dom).or_default().0 += 1,
            Owner::SharedWith(dom) => owned.entry(dom).or_default().1 += 1,
        }
        let (holds, by_owner) = frames.holds(mfn);
        let known = held.get(&mfn).copied().unwrap_or(0) + u32::from(by_owner);
        if !matches!(frames.owner(mfn), Owner::Nobody | Owner::Hypervisor) {
            pins += u64::from(holds.saturating_sub(known));
        }
    }
    assert!(pins <= PINS, "{pins} holds that nobody has");
    let mut set_aside = 0;
    let mut claimed = 0;
    for domain in domains {
        let account = frames.account(domain.id).expect("a domain has an account");
        let (total, shared) = owned.remove(&domain.id).unwrap_or_default();
        assert_eq!((account.total, account.shared), (total, shared), "the frames of {}", domain.id);
        assert_eq!(
            account.tables,
            u64::from(domain.p2m.lock().tables()),
            "tables of {}",
            domain.id
        );
        tables += account.tables;
        set_aside += account.set_aside();
        claimed += account.claimed;
        if domain.life.lock().dying() == Dying::Done {
            assert!(held.keys().any(|mfn| is_of(frames, *mfn, domain.id)) || pins > 0);
        }
    }
    assert!(owned.is_empty(), "frames of domains that are gone: {owned:?}");
    assert!(ours >= tables, "{tables} tables in {ours} frames");
    assert_eq!(nobodys, frames.free(), "free frames");
    assert_eq!(set_aside, frames.set_aside(), "frames set aside");
    assert_eq!(claimed, frames.claimed(), "frames claimed");
    assert!(set_aside <= frames.free(), "more is set aside than there is");
}

fn is_of(frames: &Frames, mfn: Mfn, dom: DomId) -> bool {
    matches!(frames.owner(mfn), Owner::Domain(owner) | Owner::SharedWith(owner) if owner == dom)
}

/// Returns every page of a domain's translations.
fn mapped(bed: &Testbed, domain: &Domain) -> Vec<(Gfn, (Mfn, Kind))> {
    let p2m = domain.p2m.lock();
    let mut found = Vec::new();
    if domain.life.lock().dying() == Dying::Done {
        return found;
    }
    let Some(last) = p2m.max_mapped() else { return found };
    let mut at = Gfn::new(0);
    while at <= last {
        let (mapping, rest) = p2m.entry(bed.memory(), at);
        if let Some(mapping) = mapping {
            for past in 0..rest.min(1 << 18) {
                let (Some(gfn), Some(mfn)) = (at.checked_add(past), mapping.mfn.checked_add(past))
                else {
                    break;
                };
                found.push((gfn, (mfn, mapping.kind)));
            }
        }
        let Some(next) = at.checked_add(rest) else { break };
        at = next;
    }
    found
}

/// Both ends of a channel know each other, and the count of open ports is right.
fn ports_are_mutual(hv: &Hypervisor, domains: &[Arc<Domain>]) {
    for domain in domains {
        let mut open = 0;
        let mut next = 0;
        loop {
            let found = domain.ports.lock().next_open(next, true);
            let Some(port) = found else { break };
            open += 1;
            let status = domain.ports.lock().status(port);
            let (status, vcpu) = status.expect("an open port has a status");
            assert!(vcpu.0 < domain.settings.max_vcpus, "{}: {port} tells {vcpu:?}", domain.id);
            if let Status::Interdomain(remote, other) = status {
                let remote_domain = hv.domain(remote);
                let there = remote_domain.and_then(|remote| {
                    remote.ports.lock().status(other.number()).ok().map(|(status, _)| status)
                });
                let Some(Status::Interdomain(back, own)) = there else {
                    panic!("{}: {port} leads to {remote} {other:?}, which is {there:?}", domain.id);
                };
                assert_eq!((back, own.number()), (domain.id, port), "port {other:?} of {remote}");
            }
            next = port + 1;
        }
        assert_eq!(domain.ports.lock().open_ports(), open, "open ports of {}", domain.id);
    }
}

/// Ends every domain, Dom0 last; nothing of them may be left.
pub(crate) fn end_everything(bed: &Testbed) {
    let hv = &bed.hv;
    let mut domains = hv.all_domains().expect("the host has a heap");
    domains.rotate_left(1);
    for domain in &domains {
        let parts = (0..PARTS).find(|_| hv.destroy(domain) == Progress::Done);
        assert!(parts.is_some(), "{} does not end", domain.id);
        check_invariants(bed, How::FrameByFrame);
    }
    let left = hv.all_domains().expect("the host has a heap");
    assert!(left.is_empty(), "these are left: {left:?}");
    let frames = hv.frames.lock();
    assert_eq!(frames.free(), frames.managed(), "frames were lost");
    assert_eq!((frames.set_aside(), frames.claimed()), (0, 0));
    drop(frames);
    for domain in &domains {
        for vcpu in domain.vcpus() {
            assert!(vcpu.who.vcpu < VcpuId(128));
        }
        assert_eq!(Arc::strong_count(domain), 1, "{} is still known", domain.id);
    }
}
