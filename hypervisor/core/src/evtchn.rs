//! Event channels: the port table of one domain.
//!
//! [`PortTable`] holds what each port is bound to, decides what a request changes, and makes events
//! pending in the guest's own memory by either of the two ABIs. Whoever is to be told comes back as
//! [`Notify`] and [`Delivery`]; `hypervisor` raises the interrupts and wakes the processors.
//!
//! Requests that touch two domains take both tables; the caller locks them in the order of the
//! domains' numbers. A send does not: the event travels as a value, and [`PortTable::receive`] checks
//! that the other end still is what it was.

mod fifo;
mod notify;
mod slots;
mod two_level;
mod virq;

pub use fifo::LINK_BITS;
pub use notify::{Arrival, Delivery, Event, Notify, Told, VcpuSet};
pub use virq::{Handlers, VIRQ_COUNT, Virq};

use crate::{
    addr::{MachineAddr, Mfn, PAGE_SIZE},
    ids::{DomId, Port, VcpuId},
    memory::FrameMemory,
};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use fifo::Fifo;
use hypercall_abi::errno::Errno;
use slots::{Binding, Slots};

/// Bytes of a `vcpu_info`.
pub const VCPU_INFO_SIZE: usize = 48;

/// Why an event channel request was refused.
///
/// As large as a register: a result with it is then moved by registers, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum EvtchnError {
    /// The port is out of range, closed, or not of a kind the request is for.
    BadPort,
    /// There is no such virtual interrupt, or it cannot be bound on that processor.
    BadVirq,
    /// The domain has no such virtual processor.
    NoSuchVcpu,
    /// The virtual interrupt is bound already.
    Bound,
    /// Every port is in use.
    NoFreePort,
    /// A priority past the least urgent one.
    BadPriority,
    /// The port is closed or the hypervisor's own.
    NotUsable,
    /// The request needs the FIFO ABI, and the domain uses the other.
    NoPriorities,
    /// The event array cannot grow before there is a control block.
    NoControlBlock,
    /// The control block is misplaced, or the processor has one.
    BadControlBlock,
    /// The event array is at its full size.
    ArrayFull,
    /// The `vcpu_info` is registered already.
    Registered,
    /// The hypervisor has no memory for more ports of this domain.
    NoMemory,
}

impl From<EvtchnError> for Errno {
    fn from(error: EvtchnError) -> Self {
        match error {
            EvtchnError::BadPort
            | EvtchnError::BadVirq
            | EvtchnError::BadPriority
            | EvtchnError::BadControlBlock => Self::EINVAL,
            EvtchnError::NoSuchVcpu => Self::ENOENT,
            EvtchnError::Bound => Self::EEXIST,
            EvtchnError::NoFreePort | EvtchnError::ArrayFull => Self::ENOSPC,
            EvtchnError::NotUsable => Self::EACCES,
            EvtchnError::NoPriorities => Self::ENOSYS,
            EvtchnError::NoControlBlock => Self::EOPNOTSUPP,
            EvtchnError::Registered => Self::EBUSY,
            EvtchnError::NoMemory => Self::ENOMEM,
        }
    }
}

/// What is at a port, for `EVTCHNOP_status`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Nothing.
    Closed,
    /// It waits for a domain to bind to it.
    Unbound(DomId),
    /// It is one end of a channel; the other is given.
    Interdomain(DomId, Port),
    /// The hypervisor raises it.
    Virq(Virq),
    /// The domain raises it itself.
    Ipi,
}

/// The table at the other end of a request that concerns two ports.
#[derive(Debug)]
pub enum Peer<'a> {
    /// There is no other end.
    Nobody,
    /// Both ends are in the same domain.
    Itself,
    /// The other domain's table.
    Other(&'a mut PortTable),
}

/// What a poll found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a processor that is to wait must be blocked"]
pub enum Poll {
    /// One of the ports is pending.
    Ready,
    /// None is; the processor counts as polling and comes back in a [`Notify`].
    Wait,
}

/// Guest frames that were in use and are not any more, each with one reference to be dropped.
#[derive(Debug)]
#[must_use = "the frames stay referenced until each is released"]
pub struct Pinned(pub ArrayVec<Mfn, MOST_PINNED>);

/// The frames of the event array, then a control block and a `vcpu_info` for each processor.
const MOST_PINNED: usize = fifo::MAX_FRAMES + 2 * VcpuSet::CAPACITY as usize;

/// What setting a pending bit did.
struct Raised {
    /// The bit was clear.
    newly: bool,
    /// The upcall must be raised.
    upcall: bool,
}

#[derive(Clone, Debug, Default)]
struct VcpuEvents {
    info: Option<MachineAddr>,
    registered: bool,
    virqs: [u32; VIRQ_COUNT],
    polls_for: Option<Port>,
}

/// The ports of one domain.
#[derive(Debug)]
pub struct PortTable {
    dom: DomId,
    last_port: u32,
    shared_info: MachineAddr,
    slots: Slots,
    fifo: Option<Fifo>,
    /// The memory of the FIFO ABI's state while the domain uses the other.
    spare: Option<Fifo>,
    vcpus: Vec<VcpuEvents>,
    polling: VcpuSet,
    /// Whom a [`Notify`] had no room for.
    told: Told,
    resetting: bool,
    sealed: bool,
}

impl PortTable {
    /// Creates the table of `dom`, whose ports may go up to `last_port`, with `vcpus` virtual
    /// processors (no more than [`VcpuSet::CAPACITY`]) and its `shared_info` page at the given place.
    ///
    /// Every port is closed. All that ports up to `room` and both ABIs need is allocated here; later
    /// only [`PortTable::widen`] allocates. Processor 0 uses the `vcpu_info` in the shared page until it
    /// registers one.
    pub fn new(
        dom: DomId,
        last_port: u32,
        room: u32,
        vcpus: u32,
        shared_info: MachineAddr,
    ) -> Self {
        let vcpus = vcpus.min(VcpuSet::CAPACITY) as usize;
        let spare = Some(Fifo::new(vcpus));
        let mut vcpus = alloc::vec![VcpuEvents::default(); vcpus];
        if let Some(first) = vcpus.first_mut() {
            first.info = Some(shared_info);
        }
        Self {
            dom,
            last_port,
            shared_info,
            slots: Slots::with_room(ports_up_to(last_port.min(room))),
            fifo: None,
            spare,
            vcpus,
            polling: VcpuSet::default(),
            told: Told::default(),
            resetting: false,
            sealed: false,
        }
    }

    /// Returns how many bytes [`PortTable::new`] allocates at most.
    pub const fn bytes(last_port: u32, room: u32, vcpus: u32) -> usize {
        let last = if last_port < room { last_port } else { room };
        let vcpus = vcpus as usize;
        Slots::bytes(ports_up_to(last)) + Fifo::bytes(vcpus) + vcpus * size_of::<VcpuEvents>()
    }

    /// Says whether a new port may find no room, so that [`PortTable::widen`] has to come first.
    ///
    /// Never for a domain all of whose ports have had room from the start.
    pub fn is_tight(&self) -> bool {
        self.slots.is_tight(self.last_port.min(fifo::PORTS - 1))
    }

    /// Allocates for more ports.
    pub fn widen(&mut self) -> Result<(), EvtchnError> {
        let last = self.last_port.min(fifo::PORTS - 1);
        self.slots.widen(last)
    }

    /// Opens a port that `remote` may bind to.
    pub fn alloc_unbound(
        &mut self,
        memory: &impl FrameMemory,
        remote: DomId,
    ) -> Result<Port, EvtchnError> {
        self.open(memory, Binding::Unbound { remote }, VcpuId(0))
    }

    /// Opens a port that `remote` may bind to and whose events come to the hypervisor.
    pub fn alloc_for_hypervisor(
        &mut self,
        memory: &impl FrameMemory,
        remote: DomId,
    ) -> Result<Port, EvtchnError> {
        let port = self.open(memory, Binding::Unbound { remote }, VcpuId(0))?;
        if let Some(slot) = self.slots.get_mut(port) {
            slot.hypervisor = true;
        }
        Ok(port)
    }

    /// Binds a new port to `remote_port` of the `remote` table, which must wait for this domain.
    ///
    /// The new port is pending at once: the other side may have sent before there was anybody here.
    pub fn bind_interdomain(
        &mut self,
        memory: &impl FrameMemory,
        remote: Peer<'_>,
        remote_port: u32,
    ) -> Result<(Port, Notify), EvtchnError> {
        let waiting = Binding::Unbound { remote: self.dom };
        let remote_port = Port(remote_port);
        let local = self.vacant(memory)?;
        let (remote, remote_dom) = match remote {
            Peer::Nobody => return Err(EvtchnError::BadPort),
            Peer::Itself => (&mut self.slots, self.dom),
            Peer::Other(table) => (&mut table.slots, table.dom),
        };
        let there = remote.get_mut(remote_port).ok_or(EvtchnError::BadPort)?;
        if there.binding != waiting {
            return Err(EvtchnError::BadPort);
        }
        there.binding = Binding::Interdomain { remote: self.dom, port: local };
        let here = Binding::Interdomain { remote: remote_dom, port: remote_port };
        self.slots.take(local, here, VcpuId(0));
        Ok((local, self.set_pending(memory, local)))
    }

    /// Binds a new port to a virtual interrupt of processor `vcpu`, which must be 0 for a global one.
    pub fn bind_virq(
        &mut self,
        memory: &impl FrameMemory,
        virq: u32,
        vcpu: u32,
    ) -> Result<Port, EvtchnError> {
        let virq = Virq::new(virq).ok_or(EvtchnError::BadVirq)?;
        if virq.is_global() && vcpu != 0 {
            return Err(EvtchnError::BadVirq);
        }
        let vcpu = self.vcpu(vcpu)?;
        if self.virq_port(virq, vcpu).is_some() {
            return Err(EvtchnError::Bound);
        }
        let port = self.open(memory, Binding::Virq(virq), vcpu)?;
        self.set_virq_port(virq, vcpu, port.number());
        Ok(port)
    }

    /// Opens a port that the domain raises itself, for `vcpu`.
    pub fn bind_ipi(&mut self, memory: &impl FrameMemory, vcpu: u32) -> Result<Port, EvtchnError> {
        let vcpu = self.vcpu(vcpu)?;
        self.open(memory, Binding::Ipi, vcpu)
    }

    /// Returns the domain at the other end of `port`, whose table [`Self::close`] needs.
    pub fn peer(&self, port: u32) -> Option<DomId> {
        match self.slots.get(Port(port))?.binding {
            Binding::Interdomain { remote, .. } => Some(remote),
            Binding::Closed | Binding::Unbound { .. } | Binding::Virq(_) | Binding::Ipi => None,
        }
    }

    /// Closes `port` for the guest. The other end, if there is one, waits for this domain again.
    ///
    /// `peer` must be the table of [`Self::peer`]; if the port has changed hands since, the request
    /// fails as if it had come while the port was closed.
    pub fn close(
        &mut self,
        memory: &impl FrameMemory,
        port: u32,
        peer: Peer<'_>,
    ) -> Result<(), EvtchnError> {
        let slot = self.slots.get(Port(port)).ok_or(EvtchnError::BadPort)?;
        if slot.hypervisor {
            return Err(EvtchnError::BadPort);
        }
        self.close_any(memory, port, peer)
    }

    /// Closes `port` whoever uses it: for the end of the domain.
    pub fn close_any(
        &mut self,
        memory: &impl FrameMemory,
        port: u32,
        peer: Peer<'_>,
    ) -> Result<(), EvtchnError> {
        let port = Port(port);
        let slot = self.slots.get(port).ok_or(EvtchnError::BadPort)?;
        match slot.binding {
            Binding::Closed => return Err(EvtchnError::BadPort),
            Binding::Unbound { .. } | Binding::Ipi => (),
            Binding::Virq(virq) => {
                let vcpu = if virq.is_global() { VcpuId(0) } else { slot.vcpu };
                self.set_virq_port(virq, vcpu, 0);
            }
            Binding::Interdomain { remote, port: remote_port } => {
                let here = Binding::Interdomain { remote: self.dom, port };
                let there = match peer {
                    Peer::Itself if remote == self.dom => self.slots.get_mut(remote_port),
                    Peer::Other(table) if remote == table.dom => table.slots.get_mut(remote_port),
                    Peer::Nobody | Peer::Itself | Peer::Other(_) => {
                        return Err(EvtchnError::BadPort);
                    }
                };
                if let Some(there) = there
                    && there.binding == here
                {
                    there.binding = Binding::Unbound { remote: self.dom };
                }
            }
        }
        match &self.fifo {
            None => two_level::clear_pending(memory, self.shared_info, port),
            Some(fifo) => fifo.clear_pending(memory, port),
        }
        self.slots.release(port);
        Ok(())
    }

    /// Sends an event on `port`.
    pub fn send(&mut self, memory: &impl FrameMemory, port: u32) -> Result<Delivery, EvtchnError> {
        let port = Port(port);
        let slot = self.slots.get(port).ok_or(EvtchnError::BadPort)?;
        if slot.hypervisor {
            return Err(EvtchnError::BadPort);
        }
        match slot.binding {
            Binding::Closed | Binding::Virq(_) => Err(EvtchnError::BadPort),
            Binding::Unbound { .. } => Ok(Delivery::Nowhere),
            Binding::Ipi => Ok(Delivery::Here(self.set_pending(memory, port))),
            Binding::Interdomain { remote, port: remote_port } => {
                let event =
                    Event { dom: remote, port: remote_port, from: self.dom, from_port: port };
                if remote != self.dom {
                    return Ok(Delivery::To(event));
                }
                match self.receive(memory, event) {
                    Arrival::Guest(notify) => Ok(Delivery::Here(notify)),
                    Arrival::Hypervisor(_) => Ok(Delivery::To(event)),
                }
            }
        }
    }

    /// Sends an event from the hypervisor's own `port` ([`Self::alloc_for_hypervisor`]).
    pub fn send_for_hypervisor(&self, port: Port) -> Delivery {
        match self.slots.get(port) {
            Some(slot) if slot.hypervisor => match slot.binding {
                Binding::Interdomain { remote, port: remote_port } => Delivery::To(Event {
                    dom: remote,
                    port: remote_port,
                    from: self.dom,
                    from_port: port,
                }),
                Binding::Closed | Binding::Unbound { .. } | Binding::Virq(_) | Binding::Ipi => {
                    Delivery::Nowhere
                }
            },
            _ => Delivery::Nowhere,
        }
    }

    /// Takes an event from another domain. One from a port that is not at the other end any more is
    /// dropped.
    pub fn receive(&mut self, memory: &impl FrameMemory, event: Event) -> Arrival {
        let from = Binding::Interdomain { remote: event.from, port: event.from_port };
        match self.slots.get(event.port) {
            Some(slot) if slot.binding == from && slot.hypervisor => {
                Arrival::Hypervisor(event.port)
            }
            Some(slot) if slot.binding == from => {
                Arrival::Guest(self.set_pending(memory, event.port))
            }
            _ => Arrival::Guest(Notify::NO),
        }
    }

    /// Raises a virtual interrupt, of `vcpu` if it is not a global one.
    pub fn raise(&mut self, memory: &impl FrameMemory, virq: Virq, vcpu: VcpuId) -> Notify {
        let bound_on = if virq.is_global() { VcpuId(0) } else { vcpu };
        match self.virq_port(virq, bound_on) {
            Some(port) => self.set_pending(memory, port),
            None => Notify::NO,
        }
    }

    /// Says whether raising `virq` would reach anybody.
    pub fn listens(&self, virq: Virq, vcpu: VcpuId) -> bool {
        let bound_on = if virq.is_global() { VcpuId(0) } else { vcpu };
        self.virq_port(virq, bound_on).is_some()
    }

    /// Says what is at `port` and which processor it tells.
    pub fn status(&self, port: u32) -> Result<(Status, VcpuId), EvtchnError> {
        let slot = self.slots.get(Port(port)).ok_or(EvtchnError::BadPort)?;
        let status = match slot.binding {
            Binding::Closed => Status::Closed,
            Binding::Unbound { remote } => Status::Unbound(remote),
            Binding::Interdomain { remote, port } => Status::Interdomain(remote, port),
            Binding::Virq(virq) => Status::Virq(virq),
            Binding::Ipi => Status::Ipi,
        };
        Ok((status, slot.vcpu))
    }

    /// Lets `port` tell `vcpu` from now on.
    pub fn bind_vcpu(&mut self, port: u32, vcpu: u32) -> Result<(), EvtchnError> {
        let vcpu = self.vcpu(vcpu)?;
        let slot = self.slots.get_mut(Port(port)).ok_or(EvtchnError::BadPort)?;
        match slot.binding {
            _ if slot.hypervisor => Err(EvtchnError::BadPort),
            Binding::Virq(virq) if !virq.is_global() => Err(EvtchnError::BadPort),
            Binding::Closed | Binding::Ipi => Err(EvtchnError::BadPort),
            Binding::Virq(_) | Binding::Unbound { .. } | Binding::Interdomain { .. } => {
                slot.vcpu = vcpu;
                Ok(())
            }
        }
    }

    /// Clears the mask of `port`; an event that waited behind it is raised.
    pub fn unmask(&mut self, memory: &impl FrameMemory, port: u32) -> Result<Notify, EvtchnError> {
        let port = Port(port);
        let slot = self.slots.get(port).ok_or(EvtchnError::BadPort)?;
        if !slot.is_usable() {
            return Ok(Notify::NO);
        }
        let vcpu = slot.vcpu;
        match &self.fifo {
            None => {
                let raised = two_level::unmask(memory, self.shared_info, self.info(vcpu), port);
                Ok(Notify::new(raised.then_some(vcpu), false))
            }
            Some(fifo) if fifo.unmask(memory, port) => Ok(self.set_pending(memory, port)),
            Some(_) => Ok(Notify::NO),
        }
    }

    /// Sets the priority of `port`; an event in a queue already stays there.
    pub fn set_priority(&mut self, port: u32, priority: u32) -> Result<(), EvtchnError> {
        let slot = self.slots.get_mut(Port(port)).ok_or(EvtchnError::BadPort)?;
        if self.fifo.is_none() {
            return Err(EvtchnError::NoPriorities);
        }
        if !slot.is_usable() {
            return Err(EvtchnError::NotUsable);
        }
        slot.priority = u8::try_from(priority)
            .ok()
            .filter(|priority| *priority <= fifo::LEAST_PRIORITY)
            .ok_or(EvtchnError::BadPriority)?;
        Ok(())
    }

    /// Gives `vcpu` its control block, `offset` bytes into `frame`, and with the first one switches to
    /// the FIFO ABI. The events pending by then wait for their words ([`Self::expand_array`]).
    ///
    /// On success the frame stays in use until it comes back in a [`Pinned`].
    pub fn init_control(
        &mut self,
        memory: &impl FrameMemory,
        vcpu: u32,
        frame: Mfn,
        offset: u32,
    ) -> Result<(), EvtchnError> {
        let vcpu = self.vcpu(vcpu)?;
        let last = PAGE_SIZE - u64::from(fifo::CONTROL_BLOCK_SIZE);
        if u64::from(offset) > last || !offset.is_multiple_of(8) {
            return Err(EvtchnError::BadControlBlock);
        }
        if self.fifo.as_ref().is_some_and(|fifo| fifo.has_control(vcpu)) {
            return Err(EvtchnError::BadControlBlock);
        }
        if self.fifo.is_none() {
            self.save_pending(memory);
        }
        let spare = &mut self.spare;
        let fifo = self
            .fifo
            .get_or_insert_with(|| spare.take().expect("the state is either in use or spare"));
        fifo.set_control(vcpu, MachineAddr::new(frame.base().raw() + u64::from(offset)));
        Ok(())
    }

    /// Adds `frame` to the event array and raises the events that waited for it.
    ///
    /// On success the frame stays in use until it comes back in a [`Pinned`].
    pub fn expand_array(
        &mut self,
        memory: &impl FrameMemory,
        frame: Mfn,
    ) -> Result<Notify, EvtchnError> {
        let fifo = self.fifo.as_mut().ok_or(EvtchnError::NoControlBlock)?;
        if !fifo.may_grow() {
            return Err(EvtchnError::ArrayFull);
        }
        let ports = fifo.grow(frame);
        let mut more = false;
        for port in ports.start..ports.end.min(self.slots.len()) {
            if self.slots.get(Port(port)).is_some_and(|slot| slot.pending) {
                let notify = self.set_pending(memory, Port(port));
                more |= !notify.is_none();
                notify.upcall().into_iter().for_each(|vcpu| self.told.upcalls.insert(vcpu));
            }
        }
        Ok(Notify::new(None, more))
    }

    /// Says whether the domain uses the FIFO ABI and may grow its array: what
    /// [`Self::expand_array`] will say, before a frame is looked up for it.
    pub fn may_expand(&self) -> Result<(), EvtchnError> {
        let fifo = self.fifo.as_ref().ok_or(EvtchnError::NoControlBlock)?;
        if fifo.may_grow() { Ok(()) } else { Err(EvtchnError::ArrayFull) }
    }

    /// Goes back to the 2-level ABI; returns the frames the other one used.
    pub fn reset_abi(&mut self) -> Pinned {
        let mut frames = ArrayVec::new();
        if let Some(mut fifo) = self.fifo.take() {
            fifo.take_frames(|frame| frames.push(frame));
            self.spare = Some(fifo);
        }
        Pinned(frames)
    }

    /// Forgets all guest memory, for the end of the domain; returns the frames that were in use.
    pub fn take_frames(&mut self) -> Pinned {
        let Pinned(mut frames) = self.reset_abi();
        for vcpu in &mut self.vcpus {
            if let Some(info) = vcpu.info.take()
                && vcpu.registered
            {
                frames.push(info.frame());
            }
        }
        Pinned(frames)
    }

    /// Starts a reset; says whether none was going on.
    pub const fn begin_reset(&mut self) -> bool {
        !core::mem::replace(&mut self.resetting, true)
    }

    /// Says whether a reset is going on.
    pub const fn is_resetting(&self) -> bool {
        self.resetting
    }

    /// Refuses new ports from now on: the domain is at its end.
    pub const fn seal(&mut self) {
        self.sealed = true;
    }

    /// Ends a reset.
    pub const fn end_reset(&mut self) {
        self.resetting = false;
    }

    /// Returns the first open port from `from` on, to walk the table and close everything; those the
    /// hypervisor listens on only if `all`.
    pub fn next_open(&self, from: u32, all: bool) -> Option<u32> {
        if self.slots.open() == 0 {
            return None;
        }
        let mut from = from;
        loop {
            let port = self.slots.next_taken(from)?;
            if all || self.slots.get(port).is_some_and(|slot| !slot.hypervisor) {
                return Some(port.number());
            }
            from = port.number().saturating_add(1);
        }
    }

    /// Moves the `vcpu_info` of `vcpu` to `info`, which lies in one frame and is aligned to 8 bytes.
    ///
    /// What the old place held is carried over, and everything counts as pending there, lest an event
    /// be lost that was raised before. On success the frame stays in use until it comes back in a
    /// [`Pinned`].
    pub fn register_vcpu_info(
        &mut self,
        memory: &impl FrameMemory,
        vcpu: VcpuId,
        info: MachineAddr,
    ) -> Result<Notify, EvtchnError> {
        let events = self.vcpus.get_mut(vcpu.index()).ok_or(EvtchnError::NoSuchVcpu)?;
        if events.registered {
            return Err(EvtchnError::Registered);
        }
        if let Some(old) = events.info {
            let mut bytes = [0; VCPU_INFO_SIZE];
            memory.read(old, &mut bytes);
            memory.write(info, &bytes);
        }
        events.info = Some(info);
        events.registered = true;
        two_level::select_all(memory, info);
        memory.swap_u8(info, 1);
        Ok(Notify::new(Some(vcpu), false))
    }

    /// Returns where the `vcpu_info` of `vcpu` is, if it has one.
    pub fn vcpu_info(&self, vcpu: VcpuId) -> Option<MachineAddr> {
        self.info(vcpu)
    }

    /// Looks whether one of `ports` is pending; if none is, `vcpu` counts as polling for them.
    pub fn poll(
        &mut self,
        memory: &impl FrameMemory,
        vcpu: VcpuId,
        ports: &[u32],
    ) -> Result<Poll, EvtchnError> {
        for port in ports {
            let port = Port(*port);
            self.slots.get(port).ok_or(EvtchnError::BadPort)?;
            let pending = match &self.fifo {
                None => two_level::is_pending(memory, self.shared_info, port),
                Some(fifo) => fifo.is_pending(memory, port),
            };
            if pending {
                return Ok(Poll::Ready);
            }
        }
        let events = self.vcpus.get_mut(vcpu.index()).ok_or(EvtchnError::NoSuchVcpu)?;
        events.polls_for = match ports {
            [port] => Some(Port(*port)),
            _ => None,
        };
        self.polling.insert(vcpu);
        Ok(Poll::Wait)
    }

    /// Counts `vcpu` as polling no more: its time ran out, or it woke for another reason.
    pub const fn stop_polling(&mut self, vcpu: VcpuId) {
        self.polling.remove(vcpu);
    }

    /// Takes the processors that a [`Notify`] with more of them did not name.
    pub fn take_told(&mut self) -> Told {
        core::mem::take(&mut self.told)
    }

    /// Says whether `vcpu` still counts as polling.
    pub const fn is_polling(&self, vcpu: VcpuId) -> bool {
        self.polling.contains(vcpu)
    }

    /// Says whether `port` is pending in its guest, and whether the guest has it masked.
    pub fn flags(&self, memory: &impl FrameMemory, port: u32) -> (bool, bool) {
        let port = Port(port);
        match &self.fifo {
            None => (
                two_level::is_pending(memory, self.shared_info, port),
                two_level::is_masked(memory, self.shared_info, port),
            ),
            Some(fifo) => (fifo.is_pending(memory, port), fifo.is_masked(memory, port)),
        }
    }

    /// Says how many ports are open.
    pub const fn open_ports(&self) -> u32 {
        self.slots.open()
    }

    /// Opens the lowest free port.
    fn open(
        &mut self,
        memory: &impl FrameMemory,
        binding: Binding,
        vcpu: VcpuId,
    ) -> Result<Port, EvtchnError> {
        let port = self.vacant(memory)?;
        self.slots.take(port, binding, vcpu);
        Ok(port)
    }

    fn vacant(&mut self, memory: &impl FrameMemory) -> Result<Port, EvtchnError> {
        if self.sealed {
            return Err(EvtchnError::BadPort);
        }
        let ports = if self.fifo.is_some() { fifo::PORTS } else { two_level::PORTS };
        let last = self.last_port.min(ports - 1);
        let fifo = &self.fifo;
        let busy = |port| fifo.as_ref().is_some_and(|fifo| fifo.is_busy(memory, port));
        let port = self.slots.vacant(last, busy).ok_or(EvtchnError::NoFreePort)?;
        self.slots.reach(port)?;
        Ok(port)
    }

    fn set_pending(&mut self, memory: &impl FrameMemory, port: Port) -> Notify {
        let Some(slot) = self.slots.get_mut(port) else {
            return Notify::NO;
        };
        let vcpu = slot.vcpu;
        let info = self.vcpus.get(vcpu.index()).and_then(|events| events.info);
        let raised = match &mut self.fifo {
            None => two_level::set_pending(memory, self.shared_info, info, port),
            Some(fifo) => fifo.set_pending(memory, info, port, slot),
        };
        let more = raised.newly && !self.polling.is_empty() && self.take_pollers(port);
        Notify::new(raised.upcall.then_some(vcpu), more)
    }

    /// Ends the polling of those that wait for `port`; says whether there were any.
    #[cold]
    fn take_pollers(&mut self, port: Port) -> bool {
        let mut any = false;
        for vcpu in self.polling {
            let polls_for = self.vcpus.get(vcpu.index()).and_then(|events| events.polls_for);
            if polls_for.is_none_or(|one| one == port) {
                self.polling.remove(vcpu);
                self.told.pollers.insert(vcpu);
                any = true;
            }
        }
        any
    }

    /// Remembers what the 2-level ABI has pending, for the switch to the other.
    fn save_pending(&mut self, memory: &impl FrameMemory) {
        for port in 1..self.slots.len().min(two_level::PORTS) {
            let pending = two_level::is_pending(memory, self.shared_info, Port(port));
            if let Some(slot) = self.slots.get_mut(Port(port)) {
                slot.pending |= pending;
            }
        }
    }

    fn vcpu(&self, vcpu: u32) -> Result<VcpuId, EvtchnError> {
        let vcpu = VcpuId(vcpu);
        if vcpu.index() < self.vcpus.len() { Ok(vcpu) } else { Err(EvtchnError::NoSuchVcpu) }
    }

    fn info(&self, vcpu: VcpuId) -> Option<MachineAddr> {
        self.vcpus.get(vcpu.index())?.info
    }

    fn virq_port(&self, virq: Virq, vcpu: VcpuId) -> Option<Port> {
        let port = *self.vcpus.get(vcpu.index())?.virqs.get(virq.index())?;
        (port != 0).then_some(Port(port))
    }

    fn set_virq_port(&mut self, virq: Virq, vcpu: VcpuId, port: u32) {
        let entry =
            self.vcpus.get_mut(vcpu.index()).and_then(|events| events.virqs.get_mut(virq.index()));
        if let Some(entry) = entry {
            *entry = port;
        }
    }
}

/// Returns how many ports there are up to `last`, those counted that neither ABI can name.
const fn ports_up_to(last: u32) -> u32 {
    let most = fifo::PORTS - 1;
    if last < most { last + 1 } else { fifo::PORTS }
}

/// Says whether the guest has an upcall to take: an event interrupt that is level-triggered asks so
/// before it is delivered, and a processor does not sleep while it is so.
pub fn upcall_pending(memory: &impl FrameMemory, info: MachineAddr) -> bool {
    memory.load_u8(info) != 0
}

/// Sets `evtchn_upcall_pending`; says whether it was clear.
fn mark_upcall(memory: &impl FrameMemory, info: MachineAddr) -> bool {
    memory.swap_u8(info, 1) == 0
}
