//! Creating and destroying domains as a toolstack does, and what a created domain can and cannot do.

use crate::chance::{Chance, calls};
use crate::suite::{Failure, Outcome, Suite, check, check_eq, check_errno, hole, is_xen, soon};
use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::Ordering;
use hypercall_abi::arch_arm::{
    GUEST_RAM0_BASE, PSR_GUEST64_INIT, SCTLR_GUEST_INIT, VGCF_ONLINE, VcpuGuestContext,
};
use hypercall_abi::domctl::{
    AddressSize, CreateDomain, Domctl, GetDomainInfo, MaxMem, MaxVcpus, PagingMempool, VcpuContext,
    XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN,
    XEN_DOMCTL_GETDOMAININFO, XEN_DOMCTL_MAX_MEM, XEN_DOMCTL_MAX_VCPUS, XEN_DOMCTL_PAUSEDOMAIN,
    XEN_DOMCTL_SET_ADDRESS_SIZE, XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, XEN_DOMCTL_SETVCPUCONTEXT,
    XEN_DOMCTL_UNPAUSEDOMAIN, XEN_DOMINF_PAUSED, XEN_DOMINF_RUNNING, XEN_DOMINF_SHUTDOWN,
    XEN_DOMINF_SHUTDOWNMASK, XEN_DOMINF_SHUTDOWNSHIFT,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::ids::{DOMID_SELF, VIRQ_DOM_EXC};
use hypercall_abi::sysctl::{Sysctl, XEN_SYSCTL_PHYSINFO};
use pv_guest_lib::hypercall::{HypercallError, domctl, event_channel, memory, sysctl};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{event, gic, map, probe, shared_info};

global_asm!(include_str!("domains/child.S"));

unsafe extern "C" {
    static child_start: u8;
    static child_end: u8;
}

const RAM: u64 = GUEST_RAM0_BASE >> 12;
/// 8 MiB, by blocks of 2 MiB.
const BLOCKS: u64 = 4;
const PAGES: u64 = BLOCKS * 512;
const LIVES: u64 = 0x600d;
const SPIN: u32 = 0xff;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("the shared page is mapped", || Ok(shared_info::map()?));
    event::enable_upcall();
    suite.test("bad requests are refused", bad_requests);
    suite.test("a domain is described while it is built", described);
    suite.test("a domain runs and shuts down with its reason", runs);
    suite.test("a domain may not ask what only Dom0 may", confined);
    suite.test("an event of a domain reaches Dom0", sends);
    suite.test("a death is announced", announced);
    suite.test("a domain gets no more memory than it may", limited);
    suite.test("memory of a domain is clean", clean);
    suite.test("a running domain is paused and destroyed", destroy_running);
    suite.test("a mapped page outlives its domain", zombie);
    suite.test("fifty domains leave all memory free", fifty);
    suite.test("domains without end are refused, and go again", without_end);
    suite.test("requests by chance about a domain are answered", by_chance);
    suite.finish();
}

/// Copies of what a child is given.
struct Child {
    id: u16,
    /// Its port, connected to `local`.
    port: u32,
    local: u32,
}

fn simple<T>(cmd: u32, id: u16, payload: &T) -> Result<Domctl, HypercallError>
where
    T: zerocopy::Immutable + zerocopy::IntoBytes,
{
    let mut request = Domctl::with(cmd, id, payload);
    domctl::call(&mut request)?;
    Ok(request)
}

fn plain(cmd: u32, id: u16) -> Result<(), HypercallError> {
    domctl::call(&mut Domctl::new(cmd, id)).map(drop)
}

fn description() -> CreateDomain {
    CreateDomain {
        handle: *b"a guest's child!",
        flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
        max_vcpus: 1,
        max_evtchn_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 1,
        ..Default::default()
    }
}

/// Creates a domain without memory.
fn create() -> Result<u16, HypercallError> {
    let made = simple(XEN_DOMCTL_CREATEDOMAIN, 0, &description())?;
    let id = made.domain;
    simple(XEN_DOMCTL_MAX_VCPUS, id, &MaxVcpus { max: 1 })?;
    simple(XEN_DOMCTL_MAX_MEM, id, &MaxMem { max_memkb: PAGES * 4 })?;
    simple(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, id, &PagingMempool { size: 2 << 20 })?;
    simple(XEN_DOMCTL_SET_ADDRESS_SIZE, id, &AddressSize { size: 64 })?;
    Ok(id)
}

fn populate(id: u16) -> Outcome {
    let mut blocks: Vec<u64> = (0..BLOCKS).map(|number| RAM + number * 512).collect();
    check_eq!(memory::populate_physmap(id, &mut blocks, 9)?, BLOCKS);
    Ok(())
}

/// Maps page `number` of a domain's memory at the hole of that number.
fn open(id: u16, number: u64) -> Result<SharedPage, Failure> {
    let at = hole(number);
    let errors = memory::map_foreign(id, &[RAM + number], &[at])?;
    check!(errors.as_slice() == [0], "mapping page {number} gave {errors:?}");
    // SAFETY: the page was just mapped and is reached only as a `SharedPage` until `close`.
    Ok(unsafe { SharedPage::at(at << 12) })
}

fn close(number: u64) -> Result<(), HypercallError> {
    memory::remove_from_physmap(DOMID_SELF, hole(number))
}

/// Fills a domain's first pages, for it to end with `reason`, and gives it its start.
fn load(id: u16, reason: u32) -> Result<Child, Failure> {
    let port = event_channel::alloc_unbound(id, 0)?;
    let local = event_channel::bind_interdomain(id, port)?;
    event_channel::unmask(local)?;
    let code = open(id, 0)?;
    let start = (&raw const child_start).expose_provenance() as u64;
    let end = (&raw const child_end).expose_provenance() as u64;
    for (number, at) in (start..end).step_by(8).enumerate() {
        code.word64(number * 8).store(probe::load64(at)?, Ordering::SeqCst);
    }
    let mailbox = open(id, 1)?;
    mailbox.word32(0x40).store(port, Ordering::SeqCst);
    mailbox.word32(0x44).store(reason, Ordering::SeqCst);
    let requests = open(id, 2)?;
    let ask = Domctl::new(XEN_DOMCTL_GETDOMAININFO, 0);
    for (offset, value) in [(0, ask.cmd), (4, ask.interface_version), (0x400, XEN_SYSCTL_PHYSINFO)]
    {
        requests.word32(offset).store(value, Ordering::SeqCst);
    }
    let version = Sysctl::new(XEN_SYSCTL_PHYSINFO).interface_version;
    requests.word32(0x404).store(version, Ordering::SeqCst);
    for number in 0..3 {
        close(number)?;
    }
    set_start(id)?;
    Ok(Child { id, port, local })
}

fn set_start(id: u16) -> Result<(), HypercallError> {
    let mut context =
        VcpuGuestContext { flags: VGCF_ONLINE, sctlr: SCTLR_GUEST_INIT, ..Default::default() };
    context.user_regs.pc64 = GUEST_RAM0_BASE;
    context.user_regs.cpsr = PSR_GUEST64_INIT;
    let ctxt = (&raw mut context).expose_provenance() as u64;
    simple(XEN_DOMCTL_SETVCPUCONTEXT, id, &VcpuContext { vcpu: 0, pad: 0, ctxt }).map(drop)
}

fn info(id: u16) -> Result<GetDomainInfo, HypercallError> {
    let mut request = Domctl::new(XEN_DOMCTL_GETDOMAININFO, id);
    domctl::call(&mut request)?;
    Ok(request.payload())
}

fn is_gone(id: u16) -> bool {
    info(id).is_err_and(|error| error.is(Errno::ESRCH))
}

fn destroy(id: u16) -> Outcome {
    plain(XEN_DOMCTL_DESTROYDOMAIN, id)?;
    Ok(())
}

fn end(child: &Child) -> Outcome {
    destroy(child.id)?;
    event_channel::close(child.local)?;
    check!(soon(|| is_gone(child.id)), "it did not go");
    Ok(())
}

fn make(reason: u32) -> Result<Child, Failure> {
    let id = create()?;
    populate(id)?;
    load(id, reason)
}

fn is_shut_down(id: u16) -> bool {
    info(id).is_ok_and(|info| info.flags & XEN_DOMINF_SHUTDOWN != 0)
}

/// Lets a child run to its end.
fn run(child: &Child) -> Outcome {
    plain(XEN_DOMCTL_UNPAUSEDOMAIN, child.id)?;
    check!(soon(|| is_shut_down(child.id)), "it did not shut down");
    Ok(())
}

fn free_pages() -> Result<u64, HypercallError> {
    Ok(sysctl::physinfo()?.free_pages)
}

fn bad_requests() -> Outcome {
    for cmd in [
        XEN_DOMCTL_DESTROYDOMAIN,
        XEN_DOMCTL_PAUSEDOMAIN,
        XEN_DOMCTL_UNPAUSEDOMAIN,
        XEN_DOMCTL_MAX_VCPUS,
        XEN_DOMCTL_GETDOMAININFO,
    ] {
        check_errno!(plain(cmd, 0x7000), ESRCH);
    }
    check_errno!(plain(XEN_DOMCTL_DESTROYDOMAIN, 0), EINVAL);
    check_errno!(plain(XEN_DOMCTL_PAUSEDOMAIN, 0), EINVAL);
    check_errno!(plain(9999, 0), ENOSYS);
    let good = description();
    for bad in [
        CreateDomain { max_vcpus: 0, ..good },
        CreateDomain { max_vcpus: 100_000, ..good },
        CreateDomain { flags: u32::MAX, ..good },
        CreateDomain { flags: 0, ..good },
        CreateDomain { grant_opts: 0xff, ..good },
        CreateDomain { altp2m_opts: 1, ..good },
    ] {
        let made = simple(XEN_DOMCTL_CREATEDOMAIN, 0, &bad);
        check!(made.is_err(), "{bad:?} was created");
    }
    Ok(())
}

fn described() -> Outcome {
    let id = create()?;
    check!(id != 0);
    let taken = simple(XEN_DOMCTL_CREATEDOMAIN, id, &description());
    check_errno!(taken.map(drop), EEXIST);
    let empty = info(id)?;
    check_eq!((empty.domain, empty.tot_pages, empty.max_pages), (id, 0, PAGES));
    check!(empty.flags & XEN_DOMINF_PAUSED != 0);
    check_eq!(empty.handle, description().handle);
    populate(id)?;
    check_eq!(info(id)?.tot_pages, PAGES);
    check_eq!(memory::current_reservation(id)?, PAGES);
    check_eq!(memory::maximum_gpfn(id)?, RAM + PAGES - 1);
    destroy(id)?;
    check!(soon(|| is_gone(id)), "it did not go");
    check_errno!(plain(XEN_DOMCTL_DESTROYDOMAIN, id), ESRCH);
    Ok(())
}

fn runs() -> Outcome {
    for reason in [0, 1, 3] {
        let child = make(reason)?;
        check!(!is_shut_down(child.id));
        run(&child)?;
        let flags = info(child.id)?.flags;
        let found = flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK;
        check_eq!(found, reason);
        let mailbox = open(child.id, 1)?;
        let word = mailbox.word64(0).load(Ordering::SeqCst);
        close(1)?;
        check_eq!(word, LIVES);
        end(&child)?;
    }
    Ok(())
}

fn confined() -> Outcome {
    let child = make(0)?;
    run(&child)?;
    let mailbox = open(child.id, 1)?;
    let answers = [0x08, 0x10].map(|at| mailbox.word64(at).load(Ordering::SeqCst).cast_signed());
    close(1)?;
    end(&child)?;
    check_eq!(answers, [Errno::EPERM.to_register(); 2]);
    Ok(())
}

fn sends() -> Outcome {
    let child = make(0)?;
    check!(soon(|| !event::is_pending(child.local)));
    let before = event::taken(child.local);
    let status = event_channel::status(child.id, child.port)?;
    check_eq!(status.remote_port, child.local);
    run(&child)?;
    check!(soon(|| event::taken(child.local) == before + 1), "no event came");
    let mailbox = open(child.id, 1)?;
    let answer = mailbox.word64(0x18).load(Ordering::SeqCst);
    close(1)?;
    check_eq!(answer, 0);
    end(&child)?;
    Ok(())
}

fn announced() -> Outcome {
    let port = event_channel::bind_virq(VIRQ_DOM_EXC, 0)?;
    event_channel::unmask(port)?;
    let child = make(0)?;
    let before = event::taken(port);
    run(&child)?;
    check!(soon(|| event::taken(port) > before), "its shutdown was not announced");
    let before = event::taken(port);
    end(&child)?;
    check!(soon(|| event::taken(port) > before), "its end was not announced");
    event_channel::close(port)?;
    Ok(())
}

fn limited() -> Outcome {
    let id = create()?;
    populate(id)?;
    check_eq!(memory::populate_physmap(id, &mut [RAM + PAGES], 0)?, 0);
    check_eq!(info(id)?.tot_pages, PAGES);
    check_eq!(memory::decrease_reservation(id, &mut [RAM + 5], 0)?, 1);
    check_eq!(info(id)?.tot_pages, PAGES - 1);
    check_eq!(memory::populate_physmap(id, &mut [RAM + PAGES], 0)?, 1);
    check_eq!(memory::populate_physmap(id, &mut [RAM + 5], 0)?, 0);
    destroy(id)?;
    check!(soon(|| is_gone(id)), "it did not go");
    Ok(())
}

fn clean() -> Outcome {
    for _ in 0..2 {
        let id = create()?;
        populate(id)?;
        for number in [0, 1, 511, 512] {
            let page = open(id, number)?;
            let dirty = (0..512).find(|word| page.word64(word * 8).load(Ordering::SeqCst) != 0);
            for word in 0..512 {
                page.word64(word * 8).store(0x5ec2_e7da_7a00_0000, Ordering::SeqCst);
            }
            close(number)?;
            check!(dirty.is_none(), "page {number} of a new domain is not clean");
        }
        destroy(id)?;
        check!(soon(|| is_gone(id)), "it did not go");
    }
    Ok(())
}

fn destroy_running() -> Outcome {
    let child = make(SPIN)?;
    plain(XEN_DOMCTL_UNPAUSEDOMAIN, child.id)?;
    let mailbox = open(child.id, 1)?;
    check!(soon(|| mailbox.word64(0).load(Ordering::SeqCst) == LIVES), "it did not run");
    close(1)?;
    let flags = info(child.id)?.flags;
    check_eq!(flags & (XEN_DOMINF_PAUSED | XEN_DOMINF_SHUTDOWN), 0);
    plain(XEN_DOMCTL_PAUSEDOMAIN, child.id)?;
    let flags = info(child.id)?.flags;
    check_eq!(flags & (XEN_DOMINF_PAUSED | XEN_DOMINF_RUNNING), XEN_DOMINF_PAUSED);
    plain(XEN_DOMCTL_PAUSEDOMAIN, child.id)?;
    plain(XEN_DOMCTL_UNPAUSEDOMAIN, child.id)?;
    check!(info(child.id)?.flags & XEN_DOMINF_PAUSED != 0, "one of two pauses is enough");
    plain(XEN_DOMCTL_UNPAUSEDOMAIN, child.id)?;
    check_errno!(plain(XEN_DOMCTL_UNPAUSEDOMAIN, child.id), EINVAL);
    end(&child)
}

fn zombie() -> Outcome {
    let before = free_pages()?;
    let child = make(0)?;
    run(&child)?;
    let mailbox = open(child.id, 1)?;
    destroy(child.id)?;
    event_channel::close(child.local)?;
    // The page is still there, and no other domain's.
    check_eq!(mailbox.word64(0).load(Ordering::SeqCst), LIVES);
    check!(!is_gone(child.id), "it went while a page of it was mapped");
    close(1)?;
    check!(soon(|| is_gone(child.id)), "it did not go after its page was unmapped");
    check!(probe::load64(hole(1) << 12).is_err());
    check!(
        soon(|| free_pages().is_ok_and(|free| free >= before)),
        "{:?} pages of {before} are free",
        free_pages()
    );
    check!(map::physical(0x1000) == 0x1000);
    Ok(())
}

fn fifty() -> Outcome {
    let one = make(0)?;
    run(&one)?;
    end(&one)?;
    let before = free_pages()?;
    for round in 0..50 {
        let child = make(0)?;
        run(&child)?;
        end(&child)?;
        check!(child.local == one.local, "round {round} has port {}", child.local);
    }
    check!(
        soon(|| free_pages().is_ok_and(|free| free >= before)),
        "{:?} pages of {before} are free",
        free_pages()
    );
    Ok(())
}

/// Makes domains until there is no memory for another.
fn without_end() -> Outcome {
    let before = free_pages()?;
    // As many as the interrupt controller can tell apart: a GICv2 has eight bits for them.
    let vcpus = if gic::version() == 2 { 8 } else { 64 };
    let many = CreateDomain { max_vcpus: vcpus, ..description() };
    let mut made = Vec::new();
    let refused = loop {
        check!(made.len() < 20_000, "there is no end");
        match simple(XEN_DOMCTL_CREATEDOMAIN, 0, &many) {
            Ok(request) => made.push(request.domain),
            Err(error) => break error,
        }
        let last = made.last().copied().unwrap_or_default();
        if let Err(error) = simple(XEN_DOMCTL_MAX_VCPUS, last, &MaxVcpus { max: vcpus }) {
            break error;
        }
    };
    // Xen keeps a VMID for each, of which a processor like the cortex-a72 has 256.
    let expected = refused.is(Errno::ENOMEM) || is_xen() && refused.is(Errno::EBUSY);
    check!(expected, "{refused:?} after {} domains", made.len());
    check!(made.len() > 4, "{} domains are not many", made.len());
    for id in &made {
        destroy(*id)?;
    }
    check!(soon(|| made.iter().all(|id| is_gone(*id))), "one did not go");
    // Xen's own heap keeps pages that it once took.
    check!(
        is_xen() || soon(|| free_pages().is_ok_and(|free| free >= before)),
        "{:?} pages of {before} are free",
        free_pages()
    );
    // There is room again.
    let id = create()?;
    destroy(id)
}

/// Asks anything about a domain, and lets it run with what came of it; its end frees all it had.
fn by_chance() -> Outcome {
    let before = free_pages()?;
    let id = create()?;
    populate(id)?;
    set_start(id)?;
    // Nothing is mapped behind it: a set that claims room without end is not filled over our own memory.
    let array = open(id, 5)?;
    let mut chance = Chance::start(77);
    let mut word = |number: u64| match chance.below(9) {
        0 => 0,
        1 => chance.below(8),
        2 => u64::MAX,
        3 => u64::from(u32::MAX),
        4 => array.address() + chance.below(256) * 8,
        5 => RAM + chance.below(PAGES),
        6 => 1 << chance.below(64),
        7 => 0x3f_0000_0000,
        _ => chance.next() ^ number,
    };
    for round in 0..calls() {
        let cmd = u32::try_from(word(round) % 96).unwrap_or_default();
        if [XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN].contains(&cmd) {
            continue;
        }
        let payload: [u64; 16] = core::array::from_fn(|place| word(place as u64));
        for place in 0..64 {
            array.word64(place * 8).store(word(0), Ordering::Relaxed);
        }
        // What it answers is its affair; that it answers, and with what, is ours.
        let answer = simple(cmd, id, &payload);
        let fine = answer.as_ref().map_or_else(|error| (-200..0).contains(&error.0), |_| true);
        check!(fine, "round {round}: request {cmd} gave {:?}", answer.map(drop));
    }
    close(5)?;
    destroy(id)?;
    check!(soon(|| is_gone(id)), "it did not go");
    check!(
        soon(|| free_pages().is_ok_and(|free| free >= before)),
        "{:?} pages of {before} are free",
        free_pages()
    );
    Ok(())
}
