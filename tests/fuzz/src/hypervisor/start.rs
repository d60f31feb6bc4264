//! Where a campaign may begin: domains that deal with each other already, as after a guest's boot.

use super::draw::{HOLE, SELF};
use super::{BUFFER, Testbed};
use hv_core::addr::MachineAddr;
use hv_core::memory::FrameMemory;
use hypercall_abi::event_channel::{self as evtchn, EvtchnAllocUnbound, EvtchnBindInterdomain};
use hypercall_abi::grant_table::{self as grant, GnttabMapGrantRef, GnttabSetupTable};
use hypercall_abi::hypercall::{EVENT_CHANNEL_OP, GRANT_TABLE_OP};
use hypervisor::testbed::GUEST_RAM;

/// The references that are given, and how many of those another has mapped.
const GIVEN: std::ops::Range<u32> = 8..20;
const MAPPED: u32 = 4;
/// Ports that each offers another.
const OFFERED: u32 = 4;

/// Has Dom0 and each guest grant, map, offer and bind; what is refused is left out.
pub(super) fn connect(bed: &Testbed) {
    for dom in 0..3 {
        let setup =
            GnttabSetupTable { dom: SELF, nr_frames: 1, frame_list: BUFFER, ..Default::default() };
        let _ = bed.array_op(dom, GRANT_TABLE_OP, grant::GNTTABOP_SETUP_TABLE, &setup);
        let Some(table) = bed.domain(dom).grants.lock().frames().first().copied() else { continue };
        for reference in GIVEN {
            let to = u64::from(other(dom, reference));
            let frame = GUEST_RAM.number() + u64::from(reference);
            let at = MachineAddr::new(table.base().raw() + u64::from(reference) * 8);
            bed.memory().store_u64(at, 1 | to << 16 | frame << 32);
        }
        for number in 0..OFFERED * 2 {
            let remote_dom = other(dom, number);
            let offer = EvtchnAllocUnbound { dom: SELF, remote_dom, port: 0 };
            let _ = bed.op(dom, EVENT_CHANNEL_OP, evtchn::EVTCHNOP_ALLOC_UNBOUND, &offer);
        }
    }
    for dom in 0..3 {
        for number in 0..MAPPED * 2 {
            let (from, host_addr) = (other(dom, number), (HOLE + u64::from(number)) << 12);
            let map = GnttabMapGrantRef {
                host_addr,
                flags: grant::GNTMAP_HOST_MAP,
                reference: GIVEN.start + number,
                dom: from,
                ..Default::default()
            };
            let _ = bed.array_op(dom, GRANT_TABLE_OP, grant::GNTTABOP_MAP_GRANT_REF, &map);
            let bind = EvtchnBindInterdomain {
                remote_dom: from,
                remote_port: 1 + number,
                ..Default::default()
            };
            let _ = bed.op(dom, EVENT_CHANNEL_OP, evtchn::EVTCHNOP_BIND_INTERDOMAIN, &bind);
        }
    }
}

/// Chooses whom `dom` deals with: Dom0 with the guests in turn, they mostly with Dom0.
fn other(dom: u16, number: u32) -> u16 {
    match (dom, number % 4) {
        (0, even_or_odd) => 1 + u16::from(even_or_odd % 2 == 1),
        (_, 3) => 3 - dom,
        (_, _) => 0,
    }
}
