//! A guest's virtual UART: its rings are a page of the guest's, its interrupt a line of its controller,
//! and the hypervisor has one end of the event channel to the console daemon.

use super::Domain;
use crate::machine::Memory;
use crate::state::Hypervisor;
use hv_core::addr::Gfn;
use hv_core::evtchn::EvtchnError;
use hv_core::grant::Access;
use hv_core::ids::{DomId, Irq, Port, VcpuId};
use hv_core::vpl011::{Answer, Tell, Vpl011};
use hypercall_abi::arch_arm::GUEST_VPL011_SPI;
use hypercall_abi::errno::Errno;

/// The interrupt of a guest's UART, which no device may have then.
pub(super) const INTERRUPT: Irq =
    Irq::new(GUEST_VPL011_SPI).expect("it is a shared interrupt's number");

/// Why a domain could not be given a UART.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UartError {
    /// It has one.
    Exists,
    /// It was created without shared interrupts, or a device has the one.
    NoInterrupt,
    /// The page for the rings is none of its own memory.
    NoRing,
    /// There is no port for it.
    Port(EvtchnError),
}

impl From<UartError> for Errno {
    fn from(error: UartError) -> Self {
        match error {
            UartError::Exists | UartError::NoInterrupt | UartError::NoRing => Self::EINVAL,
            UartError::Port(error) => error.into(),
        }
    }
}

impl Hypervisor {
    /// Gives `domain` a UART with its rings at `gfn`; returns the port that `console` may bind to.
    pub fn give_uart(&self, domain: &Domain, gfn: Gfn, console: DomId) -> Result<Port, UartError> {
        if domain.uart.lock().is_some() {
            return Err(UartError::Exists);
        }
        let free = {
            let vgic = domain.vgic.lock();
            vgic.spis() > 0 && !vgic.is_hardware(INTERRUPT)
        };
        if !free {
            return Err(UartError::NoInterrupt);
        }
        let ring = self.hold_ram(domain, gfn, Access::Write).ok_or(UartError::NoRing)?;
        let mut ports = domain.ports.lock();
        match ports.alloc_for_hypervisor(self.machine.memory(), console) {
            Ok(port) => {
                // Before anybody can close the port, so that a domain's end finds both or neither.
                *domain.uart.lock() = Some(Vpl011::new(ring, port));
                Ok(port)
            }
            Err(error) => {
                drop(ports);
                self.put_page(ring);
                Err(UartError::Port(error))
            }
        }
    }

    /// Takes the UART back, with its port and its page. No lock may be held.
    pub fn take_uart(&self, domain: &Domain) {
        let Some(uart) = domain.uart.lock().take() else { return };
        let port = uart.port().number();
        let peer = domain.ports.lock().peer(port);
        self.close_port(domain, port, peer);
        self.put_page(uart.ring());
    }

    /// Has `action` access the UART, sets its interrupt's line and tells the console daemon.
    pub fn access_uart(
        &self,
        domain: &Domain,
        action: impl FnOnce(&mut Vpl011, &Memory) -> Answer,
    ) -> Answer {
        let mut slot = domain.uart.lock();
        let Some(uart) = slot.as_mut() else { return Answer::Refused };
        let answer = action(uart, self.machine.memory());
        let port = uart.port();
        // Under the lock, so that two processors' changes reach the line in this order.
        let kick = domain.vgic.lock().set_line(VcpuId(0), INTERRUPT, uart.interrupt());
        drop(slot);
        self.wake(domain, kick);
        if let Answer::Done { tell: Tell::Daemon, .. } = answer {
            let delivery = domain.ports.lock().send_for_hypervisor(port);
            self.deliver(domain, delivery);
        }
        answer
    }

    /// Has the UART look what the console daemon did.
    pub fn hear_of_uart(&self, domain: &Domain) {
        // A domain at its end has none any more.
        let _ = self.access_uart(domain, |uart, memory| {
            uart.heard(memory);
            Answer::Done { value: 0, tell: Tell::Nobody }
        });
    }
}
