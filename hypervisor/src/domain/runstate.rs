//! The run states a guest asked to see: written whenever one of its virtual processors starts or stops.

use crate::domain::vcpu::{RunstateArea, Vcpu};
use crate::state::Hypervisor;
use core::sync::atomic::{Ordering, fence};
use hv_core::addr::MachineAddr;
use hv_core::memory::FrameMemory;
use hv_core::time::Nanos;
use hypercall_abi::vcpu::{VcpuRunstateInfo, XEN_RUNSTATE_UPDATE};
use zerocopy::IntoBytes;

/// Offset of the time the state was entered.
const ENTERED: usize = core::mem::offset_of!(VcpuRunstateInfo, state_entry_time);

impl Hypervisor {
    /// Writes the run state of `vcpu` where its guest wants it, if it does.
    ///
    /// The area stays locked meanwhile: whoever takes it away must not free its frames under us.
    pub fn write_runstate(&self, vcpu: &Vcpu, now: Nanos) {
        let area = vcpu.runstate.lock();
        let Some(area) = &*area else { return };
        let state = self.scheduler.lock().runstate(vcpu.sched, now);
        let info = VcpuRunstateInfo {
            state: state.state as u32,
            state_entry_time: state.entered.0,
            time: state.times.map(|time| time.0),
            ..VcpuRunstateInfo::default()
        };
        if !vcpu.marks_runstate.load(Ordering::SeqCst) {
            return self.write_area(area, 0, info.as_bytes());
        }
        // The guest reads again as long as it sees the mark (`public/xen.h`, vm_assist 5).
        let entered = info.state_entry_time.to_le_bytes();
        let marked = (info.state_entry_time | XEN_RUNSTATE_UPDATE).to_le_bytes();
        self.write_area(area, ENTERED, &marked);
        let marked = VcpuRunstateInfo {
            state_entry_time: info.state_entry_time | XEN_RUNSTATE_UPDATE,
            ..info
        };
        fence(Ordering::SeqCst);
        self.write_area(area, 0, marked.as_bytes());
        fence(Ordering::SeqCst);
        self.write_area(area, ENTERED, &entered);
    }

    /// Writes `bytes` at `offset` into the area, which may be in two pieces.
    fn write_area(&self, area: &RunstateArea, offset: usize, bytes: &[u8]) {
        let ((first, len), (second, _)) = (area.first, area.second);
        let memory = self.machine.memory();
        let in_first = len.saturating_sub(offset).min(bytes.len());
        let (head, tail) = bytes.split_at(in_first);
        let at = |base: MachineAddr, past: usize| MachineAddr::new(base.raw() + past as u64);
        if !head.is_empty() {
            memory.write(at(first, offset), head);
        }
        if !tail.is_empty() {
            memory.write(at(second, (offset + in_first).saturating_sub(len)), tail);
        }
    }
}
