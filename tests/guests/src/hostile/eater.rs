//! A guest that eats the hypervisor's heap: `play=eater`, for `seconds=`.
//!
//! It takes all that its limits give while there is room: its whole grant table, every mapping and
//! every port. Then it does what needs memory late: copies from references that were never used,
//! and ports behind words of the FIFO ABI that it linked itself. Each call has to be answered, and
//! its neighbours must not notice.

use super::stage::{self, WORDS};
use super::{CALLS, counted};
use crate::chance::setting;
use crate::suite::{Failure, Outcome, check, check_eq};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hypercall_abi::event_channel::EVTCHN_FIFO_LINKED;
use hypercall_abi::grant_table::{
    GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTST_OKAY, GNTTABOP_MAP_GRANT_REF, GnttabCopy,
    GnttabCopyPtr, GnttabMapGrantRef,
};
use hypercall_abi::ids::DOMID_SELF;
use pv_guest_lib::grant::{Access, GrantTable};
use pv_guest_lib::hypercall::{event_channel, grant_table as ops};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{say, time};

/// Frames of the grant table a domain may have unless its configuration says otherwise.
const TABLE_FRAMES: u32 = 64;
/// The reference that is mapped over and over.
const OWN: u32 = 8;
/// References between two copies: as many as Xen and this hypervisor keep together, or fewer.
const STRIDE: usize = 64;
/// More mappings of one reference than any limit allows.
const MOST_MAPPINGS: u32 = 300_000;
/// Mappings in one hypercall.
const BATCH: u32 = 32;

/// What a guest took in one round.
#[derive(Default)]
struct Loot {
    handles: Vec<(u32, u64)>,
    ports: Vec<u32>,
    mapped: u32,
    copies: u32,
}

/// Runs rounds until the time is over.
pub(super) fn play() -> Outcome {
    let limit = setting("seconds=", 20);
    let ticks = time::microseconds(limit * 1_000_000);
    let table = GrantTable::map(TABLE_FRAMES)?;
    let own = stage::own_domain()?;
    let words = stage::fifo_pages();
    let page = SharedPage::allocate();
    for reference in (OWN..references(table)).step_by(STRIDE) {
        table.give(reference, own, page.frame(), Access::ReadWrite);
    }
    say!("eater: {} frames of the grant table are mapped", table.frames());
    // Another one does the same at this moment, before either eats.
    time::wait_until(setting("wait=", 5) * 1000, || false);
    let started = time::now();
    let mut rounds = 0;
    let mut latest = String::new();
    while rounds == 0 || time::now() - started < ticks {
        let loot = round(table, own, page, &words)?;
        rounds += 1;
        let taken = format!(
            "{} mappings with {} handles, {} ports, {} copies",
            loot.mapped,
            loot.handles.len(),
            loot.ports.len(),
            loot.copies
        );
        if taken != latest {
            say!("eater: round {rounds}: {taken}");
            latest = taken;
        }
        give_back(loot)?;
    }
    say!("eater: {rounds} rounds, {} calls", CALLS.load(Ordering::Relaxed));
    Ok(())
}

/// Takes everything, and then what needs memory late.
fn round(
    table: GrantTable,
    own: u16,
    page: SharedPage,
    words: &[SharedPage],
) -> Result<Loot, Failure> {
    let mut loot = Loot::default();
    map_again_and_again(own, &mut loot)?;
    map_everywhere(own, &mut loot)?;
    open_ports(&mut loot);
    for reference in (OWN..references(table)).step_by(STRIDE) {
        loot.copies += u32::from(copy(reference, page)? == GNTST_OKAY);
    }
    link_all_words(words, &mut loot);
    // What was full stays full, and what is in use stays usable.
    check_eq!(copy(OWN, page)?, GNTST_OKAY);
    Ok(loot)
}

fn references(table: GrantTable) -> u32 {
    table.frames() * hypercall_abi::grant_table::GNTTAB_ENTRIES_PER_FRAME
}

/// Maps one grant at one place until there is no space for handles, or a replaced mapping gives its
/// own back.
fn map_again_and_again(own: u16, loot: &mut Loot) -> Outcome {
    let at = crate::suite::hole(0) << 12;
    let mut latest = None;
    while loot.mapped < MOST_MAPPINGS {
        let mut batch: Vec<GnttabMapGrantRef> = (0..BATCH).map(|_| mapping(own, at)).collect();
        counted(ops::batch(GNTTABOP_MAP_GRANT_REF, &mut batch))?;
        for item in &batch {
            if item.status != GNTST_OKAY {
                loot.handles.extend(latest.map(|handle| (handle, at)));
                return Ok(());
            }
            loot.mapped += 1;
            latest = Some(item.handle);
        }
        let handles = batch.iter().map(|item| item.handle);
        let (least, most) = (handles.clone().min(), handles.max());
        if least.zip(most).is_some_and(|(least, most)| most - least < BATCH / 2) {
            break;
        }
    }
    loot.handles.extend(latest.map(|handle| (handle, at)));
    Ok(())
}

/// Maps the grant at one place after another until there is no space for handles.
fn map_everywhere(own: u16, loot: &mut Loot) -> Outcome {
    for number in 1..u64::from(MOST_MAPPINGS) {
        let at = crate::suite::hole(number) << 12;
        let item = counted(ops::map(own, OWN, at, GNTMAP_HOST_MAP))?;
        if item.status != GNTST_OKAY {
            return Ok(());
        }
        loot.mapped += 1;
        loot.handles.push((item.handle, at));
    }
    check!(false, "mappings have no limit");
    Ok(())
}

fn mapping(dom: u16, host_addr: u64) -> GnttabMapGrantRef {
    GnttabMapGrantRef {
        host_addr,
        flags: GNTMAP_HOST_MAP,
        reference: OWN,
        dom,
        ..Default::default()
    }
}

/// Opens ports until there are no more, or no memory for them.
fn open_ports(loot: &mut Loot) {
    while let Ok(port) = counted(event_channel::alloc_unbound(DOMID_SELF, DOMID_SELF)) {
        loot.ports.push(port);
    }
}

fn copy(reference: u32, page: SharedPage) -> Result<i16, Failure> {
    let place =
        |reference, domid| GnttabCopyPtr { frame_or_ref: reference, domid, ..Default::default() };
    let item = GnttabCopy {
        source: place(u64::from(reference), DOMID_SELF),
        dest: place(page.frame(), DOMID_SELF),
        len: 8,
        flags: GNTCOPY_SOURCE_GREF,
        ..Default::default()
    };
    Ok(counted(ops::copy(item))?)
}

/// Switches to the FIFO ABI and says of every port's word that it is linked, then asks for a port.
fn link_all_words(words: &[SharedPage], loot: &mut Loot) {
    set_all(words, 1 << EVTCHN_FIFO_LINKED);
    // All that were closed are free and look busy.
    for port in loot.ports.split_off(loot.ports.len() / 2) {
        let _ = counted(event_channel::close(port));
    }
    for _ in 0..64 {
        loot.ports.extend(counted(event_channel::alloc_unbound(DOMID_SELF, DOMID_SELF)));
    }
    set_all(words, 0);
    open_ports(loot);
}

fn set_all(words: &[SharedPage], value: u32) {
    for word in words.iter().flat_map(|page| (0..WORDS).map(|word| page.word32(word * 4))) {
        word.store(value, Ordering::Relaxed);
    }
}

fn give_back(loot: Loot) -> Outcome {
    for (handle, at) in loot.handles {
        check_eq!(counted(ops::unmap(handle, at))?, GNTST_OKAY);
    }
    for port in loot.ports {
        counted(event_channel::close(port))?;
    }
    Ok(())
}
