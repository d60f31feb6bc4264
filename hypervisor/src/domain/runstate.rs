//! The run states a guest asked to see: written whenever one of its virtual processors starts or stops.

use crate::domain::vcpu::{RunstateArea, Vcpu};
use crate::state::Hypervisor;
use hv_core::memory::FrameMemory;
use hv_core::time::Nanos;
use hypercall_abi::vcpu::VcpuRunstateInfo;
use zerocopy::IntoBytes;

impl Hypervisor {
    /// Writes the run state of `vcpu` where its guest wants it, if it does.
    pub fn write_runstate(&self, vcpu: &Vcpu, now: Nanos) {
        let Some(area) = *vcpu.runstate.lock() else { return };
        let state = self.scheduler.lock().runstate(vcpu.sched, now);
        let info = VcpuRunstateInfo {
            state: state.state as u32,
            state_entry_time: state.entered.0,
            time: state.times.map(|time| time.0),
            ..VcpuRunstateInfo::default()
        };
        self.write_area(area, info.as_bytes());
    }

    fn write_area(&self, area: RunstateArea, bytes: &[u8]) {
        let ((first, len), (second, _)) = (area.first, area.second);
        let (head, tail) = bytes.split_at(len.min(bytes.len()));
        self.machine.memory().write(first, head);
        if !tail.is_empty() {
            self.machine.memory().write(second, tail);
        }
    }
}
