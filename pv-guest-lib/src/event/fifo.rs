//! The FIFO ABI: a word per port, linked into queues by priority, a control block per vCPU.

use crate::cpu::MAX_CPUS;
use crate::hypercall::{HypercallError, event_channel};
use crate::page::SharedPage;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};
use hypercall_abi::event_channel::{
    EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_PENDING, EvtchnFifoControlBlock,
};
use spin::Once;

const WORDS_PER_PAGE: u32 = 1024;
const MAX_PAGES: usize = 8;

static CONTROL: [Once<SharedPage>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static WORDS: [Once<SharedPage>; MAX_PAGES] = [const { Once::new() }; MAX_PAGES];
/// First port of each queue, as far as this side has come.
static HEADS: [[AtomicU32; EVTCHN_FIFO_MAX_QUEUES]; MAX_CPUS] =
    [const { [const { AtomicU32::new(0) }; EVTCHN_FIFO_MAX_QUEUES] }; MAX_CPUS];

/// Gives a vCPU its control block; the first one switches the domain over.
pub fn init_control(vcpu: usize) -> Result<(), HypercallError> {
    let page = SharedPage::allocate();
    let number = u32::try_from(vcpu).unwrap_or(u32::MAX);
    event_channel::init_control(number, page.frame(), 0)?;
    if let Some(slot) = CONTROL.get(vcpu) {
        slot.call_once(|| page);
    }
    super::use_fifo();
    Ok(())
}

/// Adds event words for the next 1024 ports.
pub fn expand_array() -> Result<(), HypercallError> {
    let slot = WORDS.iter().find(|slot| slot.get().is_none()).expect("a few pages are enough");
    let page = SharedPage::allocate();
    // What is masked before it is bound stays quiet, as in the two-level ABI.
    for word in 0..WORDS_PER_PAGE as usize {
        page.word32(word * 4).store(1 << EVTCHN_FIFO_MASKED, Ordering::SeqCst);
    }
    event_channel::expand_array(page.frame())?;
    slot.call_once(|| page);
    Ok(())
}

/// Gives the hypervisor the pages it had before the domain was resumed elsewhere, with nothing pending in them.
pub(super) fn resume(vcpu: usize) -> Result<(), HypercallError> {
    let Some(control) = CONTROL.get(vcpu).and_then(Once::get) else { return Ok(()) };
    for word in 0..512 {
        control.word64(word * 8).store(0, Ordering::SeqCst);
    }
    for head in HEADS.get(vcpu).into_iter().flatten() {
        head.store(0, Ordering::SeqCst);
    }
    let number = u32::try_from(vcpu).unwrap_or(u32::MAX);
    event_channel::init_control(number, control.frame(), 0)?;
    for page in WORDS.iter().filter_map(Once::get) {
        for word in 0..WORDS_PER_PAGE as usize {
            page.word32(word * 4).store(1 << EVTCHN_FIFO_MASKED, Ordering::SeqCst);
        }
        event_channel::expand_array(page.frame())?;
    }
    Ok(())
}

/// Returns a vCPU's word of which queues are not empty.
pub fn control(vcpu: usize) -> Option<&'static AtomicU32> {
    let page = CONTROL.get(vcpu).and_then(Once::get)?;
    Some(page.word32(offset_of!(EvtchnFifoControlBlock, ready)))
}

/// Returns a port's event word.
pub fn word(port: u32) -> &'static AtomicU32 {
    let page = usize::try_from(port / WORDS_PER_PAGE).ok().and_then(|page| WORDS.get(page));
    let page = page.and_then(Once::get).expect("the port has an event word");
    page.word32(usize::try_from(port % WORDS_PER_PAGE * 4).unwrap_or(usize::MAX))
}

/// Takes every pending, unmasked port of a processor, highest priority first.
pub(super) fn scan(number: usize, mut take: impl FnMut(u32)) {
    let Some(control) = CONTROL.get(number).and_then(Once::get) else { return };
    let ready_word = control.word32(offset_of!(EvtchnFifoControlBlock, ready));
    let mut ready = ready_word.swap(0, Ordering::SeqCst);
    while ready != 0 {
        let queue = usize::try_from(ready.trailing_zeros()).unwrap_or(usize::MAX);
        if !scan_queue(number, *control, queue, &mut take) {
            ready &= ready - 1;
        }
        ready |= ready_word.swap(0, Ordering::SeqCst);
    }
}

/// Takes the first port of a queue; returns whether there may be more.
fn scan_queue(
    number: usize,
    control: SharedPage,
    queue: usize,
    take: &mut impl FnMut(u32),
) -> bool {
    let Some(saved) = HEADS.get(number).and_then(|heads| heads.get(queue)) else { return false };
    let mut head = saved.load(Ordering::SeqCst);
    if head == 0 {
        let offset = offset_of!(EvtchnFifoControlBlock, head) + queue * 4;
        head = control.word32(offset).load(Ordering::SeqCst);
    }
    if head == 0 {
        return false;
    }
    let event = word(head);
    let before = event.load(Ordering::SeqCst);
    let ready = before & 1 << EVTCHN_FIFO_PENDING != 0 && before & 1 << EVTCHN_FIFO_MASKED == 0;
    // Unlink it, and learn what comes next.
    let linked = 1 << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK;
    let unlinked = event.fetch_and(!linked, Ordering::SeqCst);
    let next = unlinked & EVTCHN_FIFO_LINK_MASK;
    saved.store(next, Ordering::SeqCst);
    if ready {
        event.fetch_and(!(1 << EVTCHN_FIFO_PENDING), Ordering::SeqCst);
        take(head);
    }
    next != 0
}

pub(super) fn mask(port: u32) {
    word(port).fetch_or(1 << EVTCHN_FIFO_MASKED, Ordering::SeqCst);
}

pub(super) fn is_masked(port: u32) -> bool {
    word(port).load(Ordering::SeqCst) & 1 << EVTCHN_FIFO_MASKED != 0
}

pub(super) fn is_pending(port: u32) -> bool {
    word(port).load(Ordering::SeqCst) & 1 << EVTCHN_FIFO_PENDING != 0
}

pub(super) fn clear(port: u32) {
    word(port).fetch_and(!(1 << EVTCHN_FIFO_PENDING), Ordering::SeqCst);
}
