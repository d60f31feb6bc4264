//! Event channels as values: bound when made, closed when dropped, waited for by polling, by a handler, or by a task.

use super::set_up;
use crate::cpu;
use crate::hypercall::{HypercallError, event_channel as ops};
use crate::lock::Lock;
use crate::wait;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Poll, Waker};
use hypercall_abi::ids::DOMID_SELF;

/// What is called at an event, with interrupts kept out.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// What is known of a port.
struct State {
    /// Events so far, which may run over.
    fired: AtomicU32,
    waiting: Lock<Waiting>,
}

#[derive(Default)]
struct Waiting {
    waker: Option<Waker>,
    handler: Option<Handler>,
}

static PORTS: Lock<BTreeMap<u32, Arc<State>>> = Lock::new(BTreeMap::new());

/// Tells whoever waits for a port's event.
pub(super) fn fire(port: u32) {
    let Some(state) = PORTS.with(|ports| ports.get(&port).cloned()) else { return };
    state.fired.fetch_add(1, Ordering::SeqCst);
    let (waker, handler) =
        state.waiting.with(|waiting| (waiting.waker.take(), waiting.handler.clone()));
    if let Some(handler) = handler {
        handler();
    }
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One end of an event channel.
pub struct Channel {
    port: u32,
    state: Arc<State>,
    /// Whether the port is closed when this is dropped.
    ours: bool,
}

impl Channel {
    /// Opens a port that `remote` may bind to; it needs to be told the port.
    pub fn unbound(remote: u16) -> Result<Self, HypercallError> {
        set_up()?;
        Self::watch(ops::alloc_unbound(DOMID_SELF, remote)?, true)
    }

    /// Binds to a port that `remote` opened for this domain.
    pub fn interdomain(remote: u16, port: u32) -> Result<Self, HypercallError> {
        set_up()?;
        Self::watch(ops::bind_interdomain(remote, port)?, true)
    }

    /// Binds to a virtual interrupt of a vCPU.
    pub fn virq(virq: u32, vcpu: u32) -> Result<Self, HypercallError> {
        set_up()?;
        Self::watch(ops::bind_virq(virq, vcpu)?, true)
    }

    /// Makes a channel whose events come to a vCPU of this domain.
    pub fn ipi(vcpu: u32) -> Result<Self, HypercallError> {
        set_up()?;
        Self::watch(ops::bind_ipi(vcpu)?, true)
    }

    /// Uses a port that was bound for this domain by the toolstack; it stays open.
    pub fn adopt(port: u32) -> Result<Self, HypercallError> {
        set_up()?;
        Self::watch(port, false)
    }

    fn watch(port: u32, ours: bool) -> Result<Self, HypercallError> {
        let state =
            Arc::new(State { fired: AtomicU32::new(0), waiting: Lock::new(Waiting::default()) });
        PORTS.with(|ports| ports.insert(port, Arc::clone(&state)));
        let channel = Self { port, state, ours };
        ops::unmask(port)?;
        Ok(channel)
    }

    /// Returns the port's number, which the other end needs.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Tells the other end.
    pub fn notify(&self) -> Result<(), HypercallError> {
        ops::send(self.port)
    }

    /// Names the vCPU that events come to.
    pub fn bind_vcpu(&self, vcpu: u32) -> Result<(), HypercallError> {
        ops::bind_vcpu(self.port, vcpu)
    }

    /// Returns how many events came so far, modulo 2³².
    pub fn fired(&self) -> u32 {
        self.state.fired.load(Ordering::SeqCst)
    }

    /// Names what is called at each event, with interrupts kept out; `None` calls nothing.
    pub fn set_handler(&self, handler: Option<Handler>) {
        // What was there is dropped outside the lock.
        let _old =
            self.state.waiting.with(|waiting| core::mem::replace(&mut waiting.handler, handler));
    }

    /// Wakes a task at the next event; an earlier task is forgotten.
    pub fn set_waker(&self, waker: &Waker) {
        let waker = waker.clone();
        let _old = self.state.waiting.with(|waiting| waiting.waker.replace(waker));
    }

    /// Waits, in an async task, for an event beyond the `seen` that came before, and updates `seen`.
    pub async fn next(&self, seen: &mut u32) {
        poll_fn(|context| {
            self.set_waker(context.waker());
            let fired = self.fired();
            if fired == *seen {
                return Poll::Pending;
            }
            *seen = fired;
            Poll::Ready(())
        })
        .await;
    }

    /// Waits, with the vCPU asleep, until `done` is true; it is asked again after every event of any channel.
    pub fn wait_until(&self, done: impl FnMut() -> bool) {
        wait::until(done);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let _state = PORTS.with(|ports| ports.remove(&self.port));
        if self.ours {
            // The port is this domain's, and closing it cannot fail.
            let _ = ops::close(self.port);
        }
    }
}

/// Returns how many channels are in use.
pub fn channels() -> usize {
    PORTS.with(|ports| ports.len())
}

/// Says that what other processors wait for may have come true.
pub(super) fn told() {
    wait::kick_others(cpu::number());
}
