//! Pages that a guest and the hypervisor share for good (`public/xen.h`).

/// vCPUs whose information stands in the shared page itself.
pub const XEN_LEGACY_MAX_VCPUS: usize = 1;

crate::layout::wire! {
    /// A vCPU's time; never filled in on Arm.
    pub struct VcpuTimeInfo = "struct vcpu_time_info", 32 {
        /// Odd while being written.
        0 => version: u32,
        /// Padding.
        4 => pad0: u32,
        /// Counter at the last update.
        8 => tsc_timestamp: u64,
        /// System time at the last update, in nanoseconds.
        16 => system_time: u64,
        /// Counter-to-time factor.
        24 => tsc_to_system_mul: u32,
        /// Shift before that factor.
        28 => tsc_shift: i8,
        /// Flags.
        29 => flags: u8,
        /// Padding.
        30 => pad1: [u8; 2],
    }
}

crate::layout::wire! {
    /// What a vCPU and the hypervisor share.
    pub struct VcpuInfo = "struct vcpu_info", 48 {
        /// Not 0 while an event waits to be looked at.
        0 => evtchn_upcall_pending: u8,
        /// Padding.
        1 => pad0: [u8; 7],
        /// One bit for each word of pending bits that is not 0.
        8 => evtchn_pending_sel: u64,
        /// The vCPU's time.
        16 => time: VcpuTimeInfo,
    }
}

crate::layout::wire! {
    /// What a domain and the hypervisor share.
    pub struct SharedInfo = "struct shared_info", 1088 {
        /// The first vCPU's part, until it registers another place.
        0 => vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
        /// One bit for each port with a pending event.
        48 => evtchn_pending: [u64; 64],
        /// One bit for each port that is masked.
        560 => evtchn_mask: [u64; 64],
        /// Odd while the wall clock is being written.
        1072 => wc_version: u32,
        /// Wall clock when the virtual counter was 0: seconds, low half.
        1076 => wc_sec: u32,
        /// Nanoseconds.
        1080 => wc_nsec: u32,
        /// Seconds, high half.
        1084 => wc_sec_hi: u32,
    }
}
