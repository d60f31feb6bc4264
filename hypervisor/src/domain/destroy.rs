//! The end of a domain: everything it has is taken back, a part at a time.
//!
//! The order matters. First nobody runs it and no TLB knows it; then others lose what connects them
//! with it; then its memory goes, piece by piece; its shared page goes last. Frames that others still
//! hold keep it on the list as a zombie, until [`Hypervisor::bury`] hears of the last one.

use crate::domain::Domain;
use crate::domain::memory::Tables;
use crate::state::Hypervisor;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use hv_core::addr::Gfn;
use hv_core::evtchn::{Peer, Pinned, Virq};
use hv_core::grant;
use hv_core::ids::DomId;
use hv_core::p2m::{Run, Stale};
use hv_core::sched::Hold;

/// Entries of the translation tables that are cleared at once.
const ENTRIES_AT_ONCE: u32 = 64;
/// Frames that are freed at once.
const FRAMES_AT_ONCE: u64 = 4096;

/// How far the end has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the domain stays half destroyed unless its end is gone on with"]
pub enum Progress {
    /// Nothing is left to do.
    Done,
    /// An interrupt waits, or a processor has still to let go: call again.
    More,
}

/// What has to be remembered between two parts of a domain's end.
#[derive(Debug, Default)]
pub struct Teardown {
    stage: Stage,
    /// Frames that no translation reaches any more: one run at most for each entry that was cleared.
    unmapped: ArrayVec<Run, { ENTRIES_AT_ONCE as usize + 1 }>,
}

/// What is being done; each stage is finished before the next begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Stop,
    Ports,
    Grants,
    Memory,
    Gone,
}

impl Hypervisor {
    /// Takes a part of what `domain` has back. It is never the caller's own.
    pub fn destroy(&self, domain: &Arc<Domain>) -> Progress {
        // Somebody else who is at it is as good as an interrupt.
        let Some(mut teardown) = domain.teardown.try_lock() else { return Progress::More };
        loop {
            let (progress, next) = match teardown.stage {
                Stage::Stop => (self.stop_for_good(domain), Stage::Ports),
                Stage::Ports => (self.close_ports(domain), Stage::Grants),
                Stage::Grants => (self.return_grants(domain), Stage::Memory),
                Stage::Memory => (self.return_memory(domain, &mut teardown), Stage::Gone),
                Stage::Gone => return Progress::Done,
            };
            if progress == Progress::More {
                return Progress::More;
            }
            teardown.stage = next;
            if next == Stage::Gone {
                drop(teardown);
                self.finish(domain);
                return Progress::Done;
            }
        }
    }

    /// Stops the domain's processors and has every TLB forget it.
    fn stop_for_good(&self, domain: &Domain) -> Progress {
        let change = domain.life.lock().die();
        domain.ports.lock().seal();
        self.apply(domain, change, Hold::DYING);
        if !self.has_stopped(domain) {
            return Progress::More;
        }
        if self.take_interrupts_back(domain) == Progress::More {
            return Progress::More;
        }
        // What is left of it keeps no pool from being taken away.
        self.scheduler.lock().unsettle(domain.id);
        for vcpu in domain.vcpus() {
            for processor in &self.processors {
                processor.timers.lock().cancel_all(vcpu.who);
            }
        }
        // There is always its shared page, so this is never its last frame.
        let condemned = self.frames.lock().condemn(domain.id);
        self.bury(condemned);
        let tag = domain.tag(&domain.p2m.lock());
        if let Some(tag) = tag {
            let everything = Stale::Range { first: Gfn::new(0), count: 1 << 36, order: 0 };
            self.machine.flush_stage2(tag, everything);
        }
        Progress::Done
    }

    /// Closes its event channels and lets go of the pages of its that events and run states go to.
    fn close_ports(&self, domain: &Domain) -> Progress {
        domain.ports.lock().seal();
        let mut next = 0;
        loop {
            let (port, peer) = {
                let ports = domain.ports.lock();
                let Some(port) = ports.next_open(next, true) else { break };
                (port, ports.peer(port))
            };
            self.close_port(domain, port, peer);
            next = port.saturating_add(1);
            if self.machine.interrupt_pending() {
                return Progress::More;
            }
        }
        // A port may have changed hands just when it was closed.
        if domain.ports.lock().open_ports() > 0 {
            return Progress::More;
        }
        self.virq_handlers.lock().forget(domain.id);
        self.take_uart(domain);
        let Pinned(pages) = domain.ports.lock().take_frames();
        for page in pages {
            self.put_page(page);
        }
        for vcpu in domain.vcpus() {
            let area = vcpu.runstate.lock().take();
            let pieces = area.into_iter().flat_map(|area| [area.first, area.second]);
            for (address, _) in pieces.filter(|(_, len)| *len > 0) {
                self.put_page(address.frame());
            }
        }
        Progress::Done
    }

    /// Closes `port` of `domain`, whoever uses it, whose other end is in `peer`.
    pub(super) fn close_port(&self, domain: &Domain, port: u32, peer: Option<DomId>) {
        let memory = self.machine.memory();
        let other = peer.filter(|peer| *peer != domain.id).and_then(|peer| self.domain(peer));
        // A refusal means that the port changed hands: it is found open again.
        let _closed_or_again = match other {
            Some(other) if other.id < domain.id => {
                let mut table = other.ports.lock();
                domain.ports.lock().close_any(memory, port, Peer::Other(&mut table))
            }
            Some(other) => {
                let mut ports = domain.ports.lock();
                ports.close_any(memory, port, Peer::Other(&mut other.ports.lock()))
            }
            None => {
                let peer = if peer == Some(domain.id) { Peer::Itself } else { Peer::Nobody };
                domain.ports.lock().close_any(memory, port, peer)
            }
        };
    }

    /// Gives back what it has mapped of others' grants, and takes its own table from it.
    fn return_grants(&self, domain: &Domain) -> Progress {
        loop {
            let mapping = domain.grants.lock().take_mapping();
            let Some(mapping) = mapping else { break };
            if let Some(granter) = self.domain(mapping.dom) {
                let released = granter.grants.lock().release(
                    self.machine.memory(),
                    mapping.grant,
                    mapping.access,
                );
                match released {
                    grant::Released::InUse => {}
                    grant::Released::Last(mfn) => self.put_page(mfn),
                }
            }
            if self.machine.interrupt_pending() {
                return Progress::More;
            }
        }
        let frames = domain.grants.lock().take_frames();
        for frame in frames {
            let put = self.frames.lock().release(frame, 1);
            self.bury(put);
        }
        while self.return_grant_table(domain) {
            if self.machine.interrupt_pending() {
                return Progress::More;
            }
        }
        Progress::Done
    }

    /// Frees a frame that only the hypervisor used for the domain's grants; says if there was one.
    pub(super) fn return_grant_table(&self, domain: &Domain) -> bool {
        let table = domain.grants.lock().take_table();
        table.inspect(|table| self.frames.lock().free_hypervisor(*table, 1)).is_some()
    }

    /// Takes its translation tables apart and frees what they held.
    fn return_memory(&self, domain: &Domain, teardown: &mut Teardown) -> Progress {
        loop {
            while let Some(run) = teardown.unmapped.pop() {
                let count = run.count.min(FRAMES_AT_ONCE);
                if let Some(first) = run.first.checked_add(count)
                    && count < run.count
                {
                    teardown.unmapped.push(Run { first, count: run.count - count, ..run });
                }
                self.let_go_of(domain, Run { count, ..run });
                if self.machine.interrupt_pending() {
                    return Progress::More;
                }
            }
            let mut tables = Tables::of(self, domain);
            let mut p2m = domain.p2m.lock();
            let unmapped = &mut teardown.unmapped;
            let memory = self.machine.memory();
            let finished =
                p2m.teardown(memory, &mut tables, ENTRIES_AT_ONCE, |run| unmapped.push(run));
            if finished && teardown.unmapped.is_empty() {
                if let Some((first, count)) = p2m.close() {
                    self.frames.lock().free_hypervisor(first, count);
                }
                return Progress::Done;
            }
        }
    }

    /// Frees its shared page, the last it has, and tells who listens for that that it is dead.
    fn finish(&self, domain: &Domain) {
        let last = {
            let mut life = domain.life.lock();
            life.dead();
            self.frames.lock().release(domain.shared_info.frame(), 1)
        };
        self.bury(last);
        self.raise_global(Virq::DOM_EXC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use core::sync::atomic::Ordering;
    use hv_core::lifecycle::Dying;
    use hv_core::p2m::Kind;

    const GUEST_RAM: Gfn = Gfn::new(0x4_0000);

    /// Gives guest 1 `2^order` frames.
    fn with_memory(fixture: &Fixture, order: u8) -> Arc<Domain> {
        let guest = fixture.domain(DomId(1));
        let block = fixture.hv.frames.lock().alloc_for(guest.id, order, None);
        let block = block.expect("there is memory");
        let mapped =
            fixture.hv.map_frames(&guest, GUEST_RAM, block.first, block.count(), Kind::RamRw);
        mapped.expect("there is memory for tables");
        guest
    }

    fn destroy(fixture: &Fixture, guest: &Arc<Domain>) -> u32 {
        (1..100)
            .find(|_| fixture.hv.destroy(guest) == Progress::Done)
            .expect("a domain's end takes a bounded number of steps")
    }

    #[test]
    fn all_memory_comes_back_and_the_number_is_free_again() {
        let fixture = Fixture::new();
        let free = fixture.hv.frames.lock().free();
        let guest = with_memory(&fixture, 10);
        fixture.hv.grant_frame(&guest, 1).unwrap();
        assert_eq!(destroy(&fixture, &guest), 1);
        assert_eq!(fixture.hv.frames.lock().free(), free);
        assert!(fixture.hv.domain(DomId(1)).is_none());
        assert_eq!(fixture.hv.destroy(&guest), Progress::Done, "asking again changes nothing");
        fixture.domain(DomId(1));
    }

    #[test]
    fn a_zombie_is_buried_when_the_last_page_is_let_go_of() {
        let fixture = Fixture::new();
        let free = fixture.hv.frames.lock().free();
        let guest = with_memory(&fixture, 2);
        let page = fixture.hv.hold_page(&guest, GUEST_RAM).unwrap();
        destroy(&fixture, &guest);
        assert_eq!(guest.life.lock().dying(), Dying::Done);
        assert!(fixture.hv.domain(DomId(1)).is_some());
        assert_eq!(fixture.hv.frames.lock().account(DomId(1)).unwrap().total, 1);
        assert!(fixture.hv.hold_page(&guest, GUEST_RAM).is_err());
        fixture.hv.put_page(page.mfn);
        assert!(fixture.hv.domain(DomId(1)).is_none());
        assert_eq!(fixture.hv.frames.lock().free(), free);
    }

    #[test]
    fn interrupts_are_let_in_between_parts() {
        let fixture = Fixture::new();
        let free = fixture.hv.frames.lock().free();
        let guest = with_memory(&fixture, 3);
        // Every other frame: runs of one.
        for past in [1, 3, 5] {
            fixture.hv.unmap_frames(&guest, Gfn::new(GUEST_RAM.number() + past), 1).unwrap();
        }
        fixture.hv.machine.interrupted.store(true, Ordering::Relaxed);
        assert!(destroy(&fixture, &guest) > 3);
        assert_eq!(fixture.hv.frames.lock().free(), free);
    }

    #[test]
    fn the_other_end_of_its_event_channels_waits_again() {
        let fixture = Fixture::new();
        let guest = fixture.domain(DomId(1));
        let dom0 = fixture.existing(0);
        let memory = fixture.hv.machine.memory();
        let offered = dom0.ports.lock().alloc_unbound(memory, DomId(1)).unwrap();
        {
            let mut theirs = dom0.ports.lock();
            let mut own = guest.ports.lock();
            let peer = Peer::Other(&mut theirs);
            let _bound = own.bind_interdomain(memory, peer, offered.0).unwrap();
        }
        destroy(&fixture, &guest);
        let (status, _) = dom0.ports.lock().status(offered.0).unwrap();
        assert_eq!(status, hv_core::evtchn::Status::Unbound(DomId(1)));
        assert!(fixture.hv.domain(DomId(1)).is_none());
    }
}
