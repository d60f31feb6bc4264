//! Domains' rings and event channels, and what the hypervisor says of the domains.

use std::collections::BTreeMap;
use std::ops::Deref;

use anyhow::Context;
use xen_sys::domctl::Domctl;
use xen_sys::evtchn::{EventChannels, Virq};
use xen_sys::gntdev::{GrantDevice, GrantMapping};
use xen_sys::privcmd::{ForeignMapping, Privcmd};
use xen_sys::{DomId, Errno, Gfn, GrantRef, Port, SharedPages, store_ring};
use xenstore::link::{Input, Link};
use xenstore::record::Record;
use xenstore::ring::{Ring, RingError};
use xenstore::server::{DomainState, Introduction, RingState};
use xenstore::wire::Failure;

/// Everything that needs the hypervisor.
#[derive(Debug)]
pub(crate) struct Domains {
    events: EventChannels,
    grants: Option<GrantDevice>,
    privcmd: Privcmd,
    exceptions: Port,
    connected: BTreeMap<u16, Connected>,
    ports: BTreeMap<Port, u16>,
}

/// What a pending port means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// This domain wrote to or read from its ring.
    Ring(u16),
    /// Some domain shut down or died.
    Exception,
}

#[derive(Debug)]
struct Connected {
    link: Link<Page>,
    port: Port,
    /// The domain must be told that its ring changed.
    changed: bool,
}

#[derive(Debug)]
enum Page {
    Granted(GrantMapping),
    Foreign(ForeignMapping),
    Kernel(SharedPages),
}

impl Deref for Page {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        match self {
            Self::Granted(mapping) => mapping,
            Self::Foreign(mapping) => mapping,
            Self::Kernel(pages) => pages,
        }
    }
}

impl Domains {
    /// Opens the devices and connects the local kernel's own ring, as an earlier daemon left it.
    ///
    /// Also returns what that daemon had not sent.
    pub(crate) fn open(earlier: Option<&RingState>) -> anyhow::Result<(Self, Vec<u8>)> {
        let events = EventChannels::open()?;
        let exceptions = events
            .bind_virq(Virq::DomainException)
            .context("cannot hear of domains' ends (does another xenstored run?)")?;
        let page = store_ring::map().context("cannot map the kernel's xenstore ring")?;
        let port = events
            .bind_interdomain(DomId::DOM0, store_ring::port()?)
            .context("cannot bind the kernel's xenstore event channel")?;
        let mut domains = Self {
            events,
            grants: GrantDevice::open().ok(),
            privcmd: Privcmd::open()?,
            exceptions,
            connected: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        let ring = Ring::new(Page::Kernel(page));
        let (link, unsent) = match earlier {
            Some(state) => Link::resume(ring, state),
            None => (Link::new(ring), Vec::new()),
        };
        domains.insert(0, link, port);
        domains.notify(0);
        Ok((domains, unsent))
    }

    /// Connects a domain's ring as an earlier daemon left it; returns what that had not sent.
    pub(crate) fn resume(&mut self, number: u16, state: &RingState) -> xen_sys::Result<Vec<u8>> {
        let domain = DomId(number);
        let page = self.map(domain, Gfn(state.gfn))?;
        let port = self.events.bind_interdomain(domain, Port(state.port))?;
        let (link, unsent) = Link::resume(Ring::new(page), state);
        self.insert(number, link, port);
        // It may have been told of something by a channel whose other end was closed.
        self.notify(number);
        Ok(unsent)
    }

    /// Returns [`Domains::record`] where the domain was not told of all that was taken.
    pub(crate) fn change(&self, domain: u16) -> Option<Record<'_>> {
        let known = self.connected.get(&domain)?;
        if known.link.is_settled() { None } else { self.record(domain) }
    }

    /// Returns how far a domain's ring was used, to be written down.
    pub(crate) fn record(&self, domain: u16) -> Option<Record<'_>> {
        Some(self.connected.get(&domain)?.link.record(domain))
    }

    /// Tells a domain which requests were taken, now that what they did is written down; returns
    /// whether there are more, of which no event may tell.
    pub(crate) fn settle(&mut self, domain: u16) -> bool {
        match self.connected.get_mut(&domain) {
            Some(known) if !known.link.is_settled() => {
                known.changed = true;
                known.link.settle()
            }
            _ => false,
        }
    }

    /// Lets a domain start afresh.
    pub(crate) fn restart(&mut self, domain: u16) {
        if let Some(known) = self.connected.get_mut(&domain) {
            known.link.restart();
            known.changed = true;
        }
    }

    /// Returns the domains that are connected.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.connected.keys().copied()
    }

    /// The descriptor to wait for events with.
    pub(crate) fn events(&self) -> &EventChannels {
        &self.events
    }

    /// Takes the next event; its port fires again from now on.
    pub(crate) fn next_event(&self) -> anyhow::Result<Option<Event>> {
        while let Some(port) = self.events.pending()? {
            // Unmasked before it is handled: what comes meanwhile is then not lost.
            self.events.unmask(port)?;
            if port == self.exceptions {
                return Ok(Some(Event::Exception));
            }
            if let Some(domain) = self.ports.get(&port) {
                return Ok(Some(Event::Ring(*domain)));
            }
        }
        Ok(None)
    }

    /// Connects a domain as the server was asked to.
    pub(crate) fn introduce(&mut self, request: &Introduction) -> Result<(), Failure> {
        let (domain, remote) = (DomId(request.domain), Port(request.port));
        if let Some(known) = self.connected.get_mut(&request.domain) {
            // A channel the domain has closed already need not be closed again.
            let _closed = self.events.unbind(known.port);
            self.ports.remove(&known.port);
            known.port =
                self.events.bind_interdomain(domain, remote).map_err(|error| failure(&error))?;
            self.ports.insert(known.port, request.domain);
        } else {
            let page = self.map(domain, Gfn(request.gfn)).map_err(|error| failure(&error))?;
            let port =
                self.events.bind_interdomain(domain, remote).map_err(|error| failure(&error))?;
            self.insert(request.domain, Link::new(Ring::new(page)), port);
        }
        self.restart(request.domain);
        self.notify(request.domain);
        Ok(())
    }

    /// Unmaps a domain's ring and closes the event channel.
    pub(crate) fn disconnect(&mut self, domain: u16) {
        if let Some(known) = self.connected.remove(&domain) {
            self.ports.remove(&known.port);
            // The other end may be gone with its domain; ours closes with it.
            let _closed = self.events.unbind(known.port);
        }
    }

    /// Asks the hypervisor how a domain is.
    pub(crate) fn state(&self, domain: u16) -> DomainState {
        match self.privcmd.domain_info(DomId(domain)) {
            Ok(info) if info.dying => DomainState::Gone,
            Ok(info) if info.shutdown.is_some() => DomainState::Shutdown,
            Ok(_) => DomainState::Running,
            Err(error) if error.is(Errno::SRCH) => DomainState::Gone,
            // Not known now; the next exception asks again.
            Err(_) => DomainState::Running,
        }
    }

    /// Returns the next message in a domain's ring.
    pub(crate) fn next_message(&mut self, domain: u16) -> Input {
        let Some(known) = self.connected.get_mut(&domain) else { return Input::Nothing };
        let input = known.link.next_message();
        known.changed |= matches!(input, Input::Broken(_));
        input
    }

    /// Puts as many of `bytes` as there is room for in a domain's ring.
    pub(crate) fn send(&mut self, domain: u16, bytes: &[u8]) -> Result<usize, RingError> {
        let Some(known) = self.connected.get_mut(&domain) else { return Ok(0) };
        let sent = known.link.send(bytes);
        known.changed |= sent != Ok(0);
        sent
    }

    /// Tells a domain of what changed in its ring since the last time.
    pub(crate) fn notify(&mut self, domain: u16) {
        if let Some(known) = self.connected.get_mut(&domain)
            && std::mem::take(&mut known.changed)
        {
            // A domain that closed its end hears of nothing any more, and that is its own doing.
            let _told = self.events.notify(known.port);
        }
    }

    fn map(&self, domain: DomId, gfn: Gfn) -> xen_sys::Result<Page> {
        let granted = self.grants.as_ref().map(|grants| grants.map(domain, GrantRef::XENSTORE));
        match granted {
            Some(Ok(mapping)) => Ok(Page::Granted(mapping)),
            Some(Err(_)) | None => self.privcmd.map_foreign(domain, &[gfn]).map(Page::Foreign),
        }
    }

    fn insert(&mut self, domain: u16, link: Link<Page>, port: Port) {
        self.ports.insert(port, domain);
        self.connected.insert(domain, Connected { link, port, changed: true });
    }
}

fn failure(error: &xen_sys::Error) -> Failure {
    match error.errno() {
        Some(Errno::NOENT | Errno::SRCH) => Failure::ENOENT,
        Some(Errno::NOMEM) => Failure::ENOMEM,
        Some(Errno::ACCESS | Errno::PERM) => Failure::EACCES,
        _ => Failure::EINVAL,
    }
}
