//! What one vCPU does for itself.

use crate::measure::{Cost, Failure, each, forget, mean, take, tell};
use alloc::vec::Vec;
use hypercall_abi::grant_table::{
    GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTST_OKAY, GnttabCopy, GnttabCopyPtr,
};
use hypercall_abi::ids::DOMID_SELF;
use pv_guest_lib::grant::{Access, GrantTable};
use pv_guest_lib::hypercall::{event_channel, grant_table, raw, sched, version};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::time::{self, Timer};
use pv_guest_lib::{cpu, event, gic, power, tree};

const MANY: u32 = 2000;
const SOME: u32 = 500;
/// No hypercall of Xen's.
const UNKNOWN: u64 = 60;
const SGI: u32 = 5;
const REFERENCE: u32 = 20;

/// Measures and tells.
pub(crate) fn measure() {
    tell("null hypercall", each(MANY, || Ok(version::version().map(drop)?)));
    tell("unknown hypercall", each(MANY, unknown));
    tell("PSCI_VERSION", each(MANY, psci_version));
    tell("GICD_TYPER read", distributor_read());
    tell("event send, masked", masked_send());
    tell("event to self, until taken", event_to_self());
    tell("SGI to self, until taken", each(MANY, sgi_to_self));
    tell("timer to WFI, until taken", timer(cpu::wait_for_interrupt));
    tell("timer to a busy loop, until taken", timer(|| ()));
    tell("yield, alone", each(MANY, || Ok(sched::yield_now()?)));
    match GrantTable::map(1) {
        Ok(table) => {
            tell("grant map and unmap", map_and_unmap(table));
            tell("grant copy, 64 bytes", copy(table, 64));
            tell("grant copy, 4096 bytes", copy(table, 4096));
        }
        Err(error) => tell("grant map and unmap", Err(error.into())),
    }
}

fn unknown() -> Result<(), Failure> {
    // SAFETY: no such call exists.
    let answer = unsafe { raw(UNKNOWN, [0; 5]) };
    if answer < 0 { Ok(()) } else { Err(Failure::Other("an unknown hypercall succeeded")) }
}

fn psci_version() -> Result<(), Failure> {
    // SAFETY: the call only asks.
    let [_version, ..] = unsafe { power::call(power::PSCI_VERSION, [0; 3]) };
    Ok(())
}

fn distributor_read() -> Cost {
    let distributor = gic::distributor();
    each(MANY, || {
        let _ = distributor.read32(gic::register::TYPER);
        Ok(())
    })
}

fn masked_send() -> Cost {
    let port = event_channel::bind_ipi(0)?;
    event::mask(port);
    let cost = each(MANY, || {
        event_channel::send(port)?;
        event::clear(port);
        Ok(())
    });
    event_channel::close(port)?;
    cost
}

fn event_to_self() -> Cost {
    let port = event_channel::bind_ipi(0)?;
    event_channel::unmask(port)?;
    let cost = each(MANY, || {
        event_channel::send(port)?;
        take(cpu::relax);
        forget(port);
        Ok(())
    });
    event_channel::close(port)?;
    cost
}

fn sgi_to_self() -> Result<(), Failure> {
    gic::send(0, SGI);
    if take(cpu::relax) == SGI { Ok(()) } else { Err(Failure::Other("another interrupt came")) }
}

/// Measures from a deadline until its interrupt is taken.
fn timer(rest: fn()) -> Cost {
    let timer = Timer::Virtual;
    gic::enable(timer.interrupt(), true);
    let ticks_each = 1_000_000_000 / time::frequency();
    let cost = mean(SOME, || {
        timer.start(time::microseconds(200));
        let deadline = timer.deadline();
        // Ending the interrupt comes after the clock is read: it is another operation.
        let interrupt = loop {
            if let Some(interrupt) = gic::acknowledge() {
                break interrupt;
            }
            rest();
        };
        let late = time::now() - deadline;
        timer.stop();
        gic::end(interrupt);
        Ok(late * ticks_each)
    });
    gic::enable(timer.interrupt(), false);
    cost
}

/// Returns a guest frame with nothing at it.
fn hole() -> Result<u64, Failure> {
    let regions: &Vec<_> = &tree::get().extended;
    let region = regions.first().ok_or(Failure::Other("no room for foreign pages"))?;
    Ok(region.start >> 12)
}

fn map_and_unmap(table: GrantTable) -> Cost {
    let at = hole()? << 12;
    table.give(REFERENCE, 0, SharedPage::allocate().frame(), Access::ReadWrite);
    each(MANY, || {
        let mapping = grant_table::map(0, REFERENCE, at, GNTMAP_HOST_MAP)?;
        let unmapped = grant_table::unmap(mapping.handle, at)?;
        okay(mapping.status)?;
        okay(unmapped)
    })
}

fn copy(table: GrantTable, bytes: u16) -> Cost {
    let source = SharedPage::allocate();
    table.give(REFERENCE, 0, source.frame(), Access::Read);
    let item = GnttabCopy {
        source: GnttabCopyPtr {
            frame_or_ref: u64::from(REFERENCE),
            domid: 0,
            offset: 0,
            ..Default::default()
        },
        dest: GnttabCopyPtr {
            frame_or_ref: SharedPage::allocate().frame(),
            domid: DOMID_SELF,
            offset: 0,
            ..Default::default()
        },
        len: bytes,
        flags: GNTCOPY_SOURCE_GREF,
        ..Default::default()
    };
    each(MANY, || okay(grant_table::copy(item)?))
}

fn okay(status: i16) -> Result<(), Failure> {
    if status == GNTST_OKAY { Ok(()) } else { Err(Failure::Other("a grant operation failed")) }
}
