//! All kinds of bad behaviour at once, by chance, from four vCPUs: `play=campaign`, with `calls=`
//! calls from `seed=`.
//!
//! Calls with arguments by chance, mappings of its own grants for writing and for reading, bursts
//! of ports, words of the FIFO ABI, a broken xenstore ring, registers of the interrupt controller,
//! memory that comes and goes, a vCPU that goes off and on, and translation tables that change
//! while calls name addresses behind them. At its end it breaks the console's ring, too.

use super::prey::Prey;
use super::stage::{self, HOLES, READ_ONLY, Stage, WORDS, WRITABLE};
use super::{CALLS, call, counted, looks_like_an_answer};
use crate::chance::{self, Chance, setting};
use crate::suite::{Outcome, check, check_eq, hole};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use hypercall_abi::event_channel::{
    EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_PENDING,
    EVTCHNOP_BIND_VCPU, EVTCHNOP_SEND, EVTCHNOP_SET_PRIORITY, EVTCHNOP_STATUS, EVTCHNOP_UNMASK,
};
use hypercall_abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_OKAY,
    GnttabCopy, GnttabCopyPtr,
};
use hypercall_abi::hypercall::{EVENT_CHANNEL_OP, MEMORY_OP};
use hypercall_abi::ids::DOMID_SELF;
use pv_guest_lib::hypercall::{event_channel, grant_table, sched};
use pv_guest_lib::{cpu, gic, probe, say, smp, system_register, time, try_write_system_register};
use spin::Once;

const VCPUS: usize = 4;
/// How often the last vCPU goes off and is started again.
const LIVES: u64 = 8;
/// After how much of its part the first vCPU tells how far all have come.
const PROGRESS: u64 = 20_000;
/// Where the tables' addresses begin when `T1SZ` is 25.
const WINDOW: u64 = 0xffff_ff80_0000_0000;

static STAGE: Once<Stage> = Once::new();
/// Calls that each vCPU makes.
static SHARE: AtomicU64 = AtomicU64::new(0);
/// Calls that each vCPU has made.
static MADE: [AtomicU64; VCPUS] = [const { AtomicU64::new(0) }; VCPUS];
static ENDED: AtomicUsize = AtomicUsize::new(0);
static LIFE: AtomicU64 = AtomicU64::new(0);
static ODD: AtomicU64 = AtomicU64::new(0);

/// Kinds of behaviour.
#[derive(Clone, Copy)]
enum Kind {
    Arguments,
    Behind,
    Grants,
    Copies,
    ReadOnly,
    Ports,
    Words,
    Store,
    Tables,
    Interrupts,
    Memory,
    Turns,
}

/// Each kind, as its chances out of all.
const KINDS: [(Kind, u64, &str); 12] = [
    (Kind::Arguments, 400, "arguments"),
    (Kind::Behind, 160, "behind tables that change"),
    (Kind::Grants, 80, "mappings"),
    (Kind::Copies, 60, "copies"),
    (Kind::ReadOnly, 40, "mappings for reading"),
    (Kind::Ports, 6, "bursts of ports"),
    (Kind::Words, 40, "event words"),
    (Kind::Store, 2, "xenstore's ring"),
    (Kind::Tables, 120, "tables"),
    (Kind::Interrupts, 20, "interrupt controller"),
    (Kind::Memory, 60, "memory"),
    (Kind::Turns, 20, "turns"),
];

/// How often each kind was played.
static PLAYED: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

/// Plays with as many calls as the command line says.
pub(super) fn play() -> Outcome {
    on_all_vcpus(chance::calls())
}

/// Plays with a few calls, as one of the tests.
pub(super) fn in_short() -> Outcome {
    on_all_vcpus(chance::calls() * 2)
}

fn on_all_vcpus(calls: u64) -> Outcome {
    let stage = Stage::set()?;
    STAGE.call_once(|| stage);
    SHARE.store(calls / VCPUS as u64, Ordering::SeqCst);
    let (started, before) = (time::Instant::now(), CALLS.load(Ordering::Relaxed));
    for number in 1..VCPUS {
        smp::start(number, part)?;
    }
    cpu::without_interrupts(first_part);
    let patience = setting("patience=", 300) * 1000;
    let done = time::wait_until(patience, || {
        restart_last();
        let _ = sched::yield_now();
        ENDED.load(Ordering::SeqCst) == VCPUS
    });
    let made = MADE.each_ref().map(|made| made.load(Ordering::SeqCst));
    check!(done, "not all came to their end: {made:?} calls");
    check_eq!(ODD.load(Ordering::SeqCst), 0);
    // Back to what start-up made of it.
    gic::init_distributor();
    let calls = CALLS.load(Ordering::Relaxed) - before;
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    say!(
        "campaign: {calls} calls by {VCPUS} vCPUs in {milliseconds} ms, {} a second",
        calls * 1000 / milliseconds
    );
    for ((_, _, name), played) in KINDS.iter().zip(&PLAYED) {
        say!("campaign: {} times {name}", played.load(Ordering::Relaxed));
    }
    super::alive()
}

/// Starts the last vCPU again whenever it has gone off, as long as it has calls to make.
fn restart_last() {
    let last = VCPUS - 1;
    if !smp::is_on(last) && LIFE.load(Ordering::SeqCst) < LIVES {
        let _ = smp::start(last, part);
    }
}

fn first_part() {
    let mut player = Player::new(0);
    let share = SHARE.load(Ordering::SeqCst);
    let mut told = 0;
    while let Some(made) = MADE.first().map(|made| made.load(Ordering::Relaxed))
        && made < share
    {
        player.some(64);
        restart_last();
        if share > PROGRESS && made / PROGRESS > told {
            told = made / PROGRESS;
            say!("campaign: {} calls so far", CALLS.load(Ordering::Relaxed));
        }
    }
    ENDED.fetch_add(1, Ordering::SeqCst);
}

fn part() {
    let number = cpu::number();
    cpu::disable_interrupts();
    let mut share = SHARE.load(Ordering::SeqCst);
    let last = number == VCPUS - 1;
    let life = if last { LIFE.fetch_add(1, Ordering::SeqCst) } else { 0 };
    if last {
        share = share * (life + 1) / LIVES;
    }
    let mut player = Player::new(number as u64 | life << 8);
    while MADE.get(number).is_some_and(|made| made.load(Ordering::Relaxed) < share) {
        player.some(64);
    }
    player.give_back();
    if !last || life + 1 == LIVES {
        ENDED.fetch_add(1, Ordering::SeqCst);
    }
}

/// One vCPU's part.
struct Player {
    stage: &'static Stage,
    prey: Prey,
    chance: Chance,
    mapped: Vec<(u32, u64)>,
    ports: Vec<u32>,
    total: u64,
}

impl Player {
    fn new(number: u64) -> Self {
        let stage = STAGE.get().expect("the stage is set before anybody plays");
        let total = KINDS.iter().map(|(_, chances, _)| chances).sum();
        let (mapped, ports) = (Vec::new(), Vec::new());
        Self {
            stage,
            prey: Prey::keeping_ports(),
            chance: Chance::start(number),
            mapped,
            ports,
            total,
        }
    }

    /// Behaves badly some times.
    fn some(&mut self, times: u64) {
        for _ in 0..times {
            let mut left = self.chance.below(self.total);
            let mut chosen = KINDS.iter().zip(&PLAYED).filter(|((_, chances, _), _)| {
                let here = left < *chances;
                left = left.saturating_sub(*chances);
                here
            });
            let Some(((kind, ..), played)) = chosen.next() else { continue };
            played.fetch_add(1, Ordering::Relaxed);
            self.behave(*kind);
        }
        if let Some(made) = MADE.get(cpu::number()) {
            made.fetch_add(times, Ordering::Relaxed);
        }
    }

    fn behave(&mut self, kind: Kind) {
        let said = match kind {
            Kind::Arguments => self.prey.one(&mut self.chance),
            Kind::Behind => self.behind(),
            Kind::Grants => self.grants(),
            Kind::Copies => self.copies(),
            Kind::ReadOnly => self.read_only(),
            Kind::Ports => self.burst(),
            Kind::Words => self.words(),
            Kind::Store => self.store(),
            Kind::Tables => self.tables(),
            Kind::Interrupts => self.interrupts(),
            Kind::Memory => self.memory(),
            Kind::Turns => self.turns(),
        };
        let (number, operation, answer) = said;
        if !looks_like_an_answer(answer) {
            ODD.fetch_add(1, Ordering::SeqCst);
            let vcpu = cpu::number();
            say!("campaign: vCPU {vcpu}: call {number}, operation {operation} gave {answer:#x}");
        }
    }

    /// Names an address behind tables that others change at this moment.
    fn behind(&mut self) -> (u64, u64, i64) {
        let address = WINDOW + self.chance.below(16) * 4096;
        // Some structures lie across two pages.
        let offset = self.chance.of(&[0, 8, 256, 4088, 4092]).unwrap_or_default();
        self.prey.one_at(address + offset, &mut self.chance)
    }

    /// Maps and unmaps the page that this domain grants itself.
    fn grants(&mut self) -> (u64, u64, i64) {
        if self.mapped.len() > 64 || self.chance.below(3) == 0 && !self.mapped.is_empty() {
            let index = usize::try_from(self.chance.below(self.mapped.len() as u64)).unwrap_or(0);
            let (handle, at) = self.mapped.swap_remove(index);
            // The wrong place and a handle twice are tried as well.
            let at = at ^ ((self.chance.below(8) / 7) << 12);
            let _ = counted(grant_table::unmap(handle, at));
            let _ = counted(grant_table::unmap(handle, at));
        } else {
            let frame = hole(self.chance.below(HOLES));
            self.map(WRITABLE, frame, GNTMAP_HOST_MAP);
        }
        (0, 0, 0)
    }

    fn map(&mut self, reference: u32, frame: u64, flags: u32) {
        let at = frame << 12;
        let mapping = counted(grant_table::map(self.stage.own, reference, at, flags));
        if let Ok(mapping) = mapping.map_err(drop)
            && mapping.status == GNTST_OKAY
        {
            self.mapped.push((mapping.handle, at));
        }
    }

    /// Copies between references and frames by chance, also over the ends of pages.
    fn copies(&mut self) -> (u64, u64, i64) {
        let references = self.stage.table.frames() * 512;
        let mut end = |grant| {
            let reference = match self.chance.below(3) {
                0 => self.chance.below(u64::from(references) + 8),
                _ => u64::from(WRITABLE) + self.chance.below(2),
            };
            let frame = if grant { reference } else { self.stage.granted.frame() };
            let offset = self.chance.of(&[0, 8, 2048, 4095, 4096]).unwrap_or_default();
            GnttabCopyPtr { frame_or_ref: frame, domid: DOMID_SELF, offset, ..Default::default() }
        };
        let (source, dest) = (end(true), end(true));
        let flags = GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF;
        let len = self.chance.of(&[0, 1, 8, 2048, 4096, u16::MAX]).unwrap_or_default();
        let item = GnttabCopy { source, dest, len, flags, ..Default::default() };
        let _ = counted(grant_table::copy(item));
        (0, 0, 0)
    }

    /// Maps the page for reading, writes there, and lets calls read their structures there.
    ///
    /// QEMU 10, unlike 7, ends where the hypervisor asks whether it may write there (`AT
    /// S12E1W`: an assertion of `do_ats_write`), so calls that answer there are made only where the
    /// command line says `answers=read-only`.
    fn read_only(&mut self) -> (u64, u64, i64) {
        let at = hole(HOLES + self.chance.below(4));
        self.map(READ_ONLY, at, GNTMAP_HOST_MAP | GNTMAP_READONLY);
        // SAFETY: the page is one for reading, or nothing is there.
        let _ = unsafe { probe::store64(at << 12, 1) };
        let _ = probe::load64(at << 12);
        let reads = [EVTCHNOP_SEND, EVTCHNOP_UNMASK, EVTCHNOP_BIND_VCPU, EVTCHNOP_SET_PRIORITY];
        let mut operation = self.chance.of(&reads).unwrap_or(EVTCHNOP_SEND);
        if chance::word("answers=") == Some("read-only") {
            operation = EVTCHNOP_STATUS;
        }
        let address = (at << 12) + self.chance.below(512) * 8;
        let operation = u64::from(operation);
        let answer = call(EVENT_CHANNEL_OP, [operation, address, 0, 0, 0]);
        (EVENT_CHANNEL_OP, operation, answer)
    }

    /// Opens ports as long as there are any, a few hundred at most, and closes some.
    fn burst(&mut self) -> (u64, u64, i64) {
        for _ in 0..self.chance.below(256) {
            let port = match self.chance.below(3) {
                0 => counted(event_channel::bind_ipi(0)),
                _ => counted(event_channel::alloc_unbound(DOMID_SELF, DOMID_SELF)),
            };
            let Ok(port) = port else { break };
            self.ports.push(port);
            if self.chance.below(4) == 0 {
                self.ports.extend(counted(event_channel::bind_interdomain(self.stage.own, port)));
            }
        }
        let kept = usize::try_from(self.chance.below(64)).unwrap_or_default();
        for port in self.ports.split_off(kept.min(self.ports.len())) {
            let _ = counted(event_channel::close(port));
        }
        (0, 0, 0)
    }

    /// Writes event words, which are the guest's to write.
    fn words(&mut self) -> (u64, u64, i64) {
        let bits = [EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_PENDING];
        for _ in 0..8 {
            let page = self.chance.of(&self.stage.words);
            let Some(page) = page else { break };
            let word = usize::try_from(self.chance.below(WORDS as u64)).unwrap_or_default();
            let bit = self.chance.of(&bits).unwrap_or_default();
            let link = u32::try_from(self.chance.below(1 << 17)).unwrap_or_default();
            page.word32(word * 4).store(1 << bit | link, Ordering::Relaxed);
        }
        if let Some(port) = self.chance.of(&self.ports) {
            let _ = counted(event_channel::send(port));
            let _ = counted(event_channel::unmask(port));
        }
        (0, 0, 0)
    }

    /// Breaks xenstore's ring, asks for anything in it, and resets it.
    fn store(&mut self) -> (u64, u64, i64) {
        const REQUESTS: usize = 1024;
        const CONSUMED: usize = 2048;
        const PRODUCED: usize = 2052;
        const CONNECTION: usize = 2068;
        let Some(ring) = self.stage.store else { return (0, 0, 0) };
        for place in 0..16 {
            let place = (place * 8) % REQUESTS;
            ring.page.word64(place).store(self.prey.word(&mut self.chance), Ordering::Relaxed);
        }
        let consumed = ring.page.word32(CONSUMED).load(Ordering::Relaxed);
        let step = self.chance.of(&[16, 40, 1024, 1025, u32::MAX]).unwrap_or_default();
        // A header that is believed: its kind, number, transaction and length.
        if self.chance.below(2) == 0 {
            let start = usize::try_from(consumed % 1024).unwrap_or_default() & !3;
            let header = [self.chance.below(28), self.chance.below(9), 0, 24];
            for (word, value) in header.into_iter().enumerate() {
                let value = u32::try_from(value).unwrap_or_default();
                ring.page.word32((start + word * 4) % REQUESTS).store(value, Ordering::Relaxed);
            }
        }
        ring.page.word32(PRODUCED).store(consumed.wrapping_add(step), Ordering::SeqCst);
        if self.chance.below(4) == 0 {
            ring.page.word32(CONNECTION).store(1, Ordering::SeqCst);
        }
        let _ = counted(event_channel::send(ring.port));
        (0, 0, 0)
    }

    /// Changes an entry of the tables, or this vCPU's idea of them.
    fn tables(&mut self) -> (u64, u64, i64) {
        const TABLE: u64 = 3;
        const USED: u64 = 1 << 10;
        const SHARED: u64 = 3 << 8;
        const READ_ONLY_BELOW: u64 = 1 << 62;
        let [first, second, third] = self.stage.tables;
        let target = self.chance.of(&self.stage.targets).unwrap_or_default() << 12;
        let page = target | TABLE | USED | SHARED;
        let index = usize::try_from(self.chance.below(16)).unwrap_or_default();
        match self.chance.below(16) {
            0 => first.word64(0).store(0, Ordering::SeqCst),
            1 => first
                .word64(0)
                .store(first.frame() << 12 | TABLE | READ_ONLY_BELOW, Ordering::SeqCst),
            2 => second.word64(0).store(0, Ordering::SeqCst),
            3 => second
                .word64(0)
                .store(second.frame() << 12 | TABLE | READ_ONLY_BELOW, Ordering::SeqCst),
            // Two MiB where there is no memory of this domain.
            4 => second.word64(0).store(hole(0) << 12 & !0x1f_ffff | 1 | USED, Ordering::SeqCst),
            5 => self.roots(),
            6 => third.word64(index * 8).store(0, Ordering::SeqCst),
            7 => third.word64(index * 8).store(page | 1 << 7, Ordering::SeqCst),
            8 => third.word64(index * 8).store(page & !USED, Ordering::SeqCst),
            9 => third.word64(index * 8).store(page | 1 << 2, Ordering::SeqCst),
            10 => third.word64(index * 8).store(page | 1 << 52, Ordering::SeqCst),
            _ => {
                first.word64(0).store(second.frame() << 12 | TABLE, Ordering::SeqCst);
                second.word64(0).store(third.frame() << 12 | TABLE, Ordering::SeqCst);
                third.word64(index * 8).store(page, Ordering::SeqCst);
            }
        }
        (0, 0, 0)
    }

    /// Sets this vCPU's registers for the upper half of addresses, in which nothing of this guest
    /// is.
    fn roots(&mut self) {
        let [first, ..] = self.stage.tables;
        let kept = system_register!("tcr_el1") & !(0xffff << 16);
        // 39 bits of 4 KiB pages, mostly.
        let usual = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 14;
        let upper = if self.chance.below(4) == 0 { self.chance.next() & 0xffff } else { usual };
        let target = self.chance.of(&self.stage.targets).unwrap_or_default();
        let root = if self.chance.below(4) == 0 { target } else { first.frame() };
        // SAFETY: this guest has nothing in the upper half, and its lower half stays as it is.
        let _ = unsafe { try_write_system_register!("ttbr1_el1", root << 12) };
        // SAFETY: as above.
        let _ = unsafe { try_write_system_register!("tcr_el1", kept | upper << 16) };
        // Its own view may stay stale; the hypervisor must not mind.
    }

    /// Reads and writes registers of the interrupt controller.
    fn interrupts(&mut self) -> (u64, u64, i64) {
        let gicd = gic::distributor().base();
        let offset = self.chance.below(0x1000);
        let _ = probe::load32(gicd + (offset & !3));
        let _ = probe::load8(gicd + offset);
        // SAFETY: a register of the interrupt controller without LPIs changes no memory.
        let _ = unsafe { probe::store64(gicd + (offset & !7), self.chance.next()) };
        (0, 0, 0)
    }

    /// Changes memory: that of a page to spare, of devices, of domains that are not there.
    fn memory(&mut self) -> (u64, u64, i64) {
        let registers = gic::distributor().base() >> 12;
        let prey = self.prey;
        for page in [prey.requests, prey.arrays] {
            for place in 0..16 {
                let word = prey.word(&mut self.chance);
                // Memory over the interrupt controller would be the guest's own end.
                let word = if word == registers { 0 } else { word };
                page.word64(place * 8).store(word, Ordering::Relaxed);
            }
        }
        let operations = [0, 1, 6, 7, 11, 15, 16, 17, 23, 24, 25, 26, 27, 28];
        let operation = self.chance.of(&operations).unwrap_or_default();
        let address = prey.requests.address() + self.chance.below(8) * 8;
        (MEMORY_OP, operation, call(MEMORY_OP, [operation, address, 0, 0, 0]))
    }

    /// Gives way, or waits for an event that does not come.
    fn turns(&mut self) -> (u64, u64, i64) {
        let _ = counted(sched::yield_now());
        let timeout = time::nanoseconds() + self.chance.below(100_000);
        let port = self.chance.of(&self.ports).unwrap_or_default();
        let _ = counted(sched::poll(&[port], timeout));
        (0, 0, 0)
    }

    fn give_back(&mut self) {
        for (handle, at) in self.mapped.drain(..) {
            let _ = counted(grant_table::unmap(handle, at));
        }
        for port in self.ports.drain(..) {
            let _ = counted(event_channel::close(port));
        }
    }
}

/// Breaks the console's ring, so that nothing can be said any more.
pub(super) fn break_console() {
    const CONSUMED: usize = 3080;
    const PRODUCED: usize = 3084;
    let Some(ring) = stage::console() else { return };
    // What was said is read first.
    time::wait_until(2000, || {
        let [consumed, produced] =
            [CONSUMED, PRODUCED].map(|at| ring.page.word32(at).load(Ordering::SeqCst));
        consumed == produced
    });
    let mut chance = Chance::start(0xc0);
    for _ in 0..1000 {
        for at in [3072, 3076, CONSUMED, PRODUCED] {
            let value = u32::try_from(chance.next() & 0xffff_ffff).unwrap_or_default();
            ring.page.word32(at).store(value, Ordering::SeqCst);
        }
        let _ = counted(event_channel::send(ring.port));
    }
}
