//! Raw identifiers as they stand on the wire (`public/xen.h`).

/// A domain's number, or one of the `DOMID_` names.
pub type RawDomId = u16;

/// First number that no domain can have.
pub const DOMID_FIRST_RESERVED: RawDomId = 0x7ff0;
/// The caller.
pub const DOMID_SELF: RawDomId = 0x7ff0;
/// Owner of memory-mapped registers.
pub const DOMID_IO: RawDomId = 0x7ff1;
/// The hypervisor, as owner of pages it shares.
pub const DOMID_XEN: RawDomId = 0x7ff2;
/// Owner of copy-on-write pages.
pub const DOMID_COW: RawDomId = 0x7ff3;
/// No domain.
pub const DOMID_INVALID: RawDomId = 0x7ff4;
/// The idle domain.
pub const DOMID_IDLE: RawDomId = 0x7fff;
/// The bits of a domain's number.
pub const DOMID_MASK: RawDomId = 0x7fff;

/// Timebase update; one per vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// Request to dump debug information; one per vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Bytes received on the emergency console; Dom0.
pub const VIRQ_CONSOLE: u32 = 2;
/// A domain shut down or went away; Dom0.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Trace buffer has records; Dom0.
pub const VIRQ_TBUF: u32 = 4;
/// A domain paused for debugging; Dom0.
pub const VIRQ_DEBUGGER: u32 = 6;
/// Profiling sample; one per vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// Bytes received on the console; Dom0.
pub const VIRQ_CON_RING: u32 = 8;
/// A physical processor changed its state; Dom0.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// A memory event occurred; Dom0.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Argo message notification.
pub const VIRQ_ARGO: u32 = 11;
/// Low on heap memory; Dom0.
pub const VIRQ_ENOMEM: u32 = 12;
/// Performance monitor interrupt; one per vCPU.
pub const VIRQ_XENPMU: u32 = 13;
/// First of the architecture's own virtual interrupts.
pub const VIRQ_ARCH_0: u32 = 16;
/// Number of virtual interrupts.
pub const NR_VIRQS: u32 = 24;
