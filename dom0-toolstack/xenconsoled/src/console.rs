//! One console of one domain: its ring, its event channel, its terminal and its log.

use std::io::ErrorKind;
use std::ops::Deref;
use std::time::Instant;

use xen_sys::evtchn::EventChannels;
use xen_sys::gntdev::{GrantDevice, GrantMapping};
use xen_sys::privcmd::{ForeignMapping, Privcmd};
use xen_sys::{DomId, Gfn, GrantRef, Port, SharedPages};
use xenstore::client::{Client, Store};

use crate::log_file::{LogFile, guest_log_name};
use crate::output::{EventRate, Output};
use crate::ring::Ring;
use crate::service::Settings;
use crate::terminal::Terminal;

/// The kinds of console a domain may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The paravirtual one.
    Console,
    /// The emulated UART.
    Uart,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 2] = [Self::Console, Self::Uart];

    /// Returns where below the domain's path its nodes are.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Uart => "vuart/0",
        }
    }

    const fn log_suffix(self) -> &'static str {
        match self {
            Self::Console => "",
            Self::Uart => "-vuart0",
        }
    }
}

/// The devices consoles are reached through.
#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) events: EventChannels,
    pub(crate) grants: Option<GrantDevice>,
    pub(crate) privcmd: Privcmd,
}

#[derive(Debug)]
enum Page {
    Granted(GrantMapping),
    Foreign(ForeignMapping),
}

impl Deref for Page {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        match self {
            Self::Granted(mapping) => mapping,
            Self::Foreign(mapping) => mapping,
        }
    }
}

/// A connected console.
#[derive(Debug)]
pub(crate) struct Console {
    domain: DomId,
    /// Gone with the domain; what it wrote is still shown.
    ring: Option<Ring<Page>>,
    /// Our end, and the guest's that it is bound to.
    ports: Option<(Port, Port)>,
    frame: Gfn,
    /// The port stays masked until then.
    quiet_until: Option<Instant>,
    rate: EventRate,
    output: Output,
    pub(crate) terminal: Terminal,
    /// Something may have been typed.
    pub(crate) typed: bool,
    log: Option<LogFile>,
}

impl Console {
    /// Connects the console whose nodes are below `path`; nothing where there is none, or none
    /// for this daemon.
    ///
    /// # Errors
    ///
    /// The ring or the event channel cannot be had, or xenstore fails.
    pub(crate) fn connect(
        domain: DomId,
        kind: Kind,
        path: &str,
        devices: &Devices,
        store: &Client,
        settings: &Settings,
    ) -> anyhow::Result<Option<Self>> {
        let Some((frame, remote)) = announced(path, store)? else { return Ok(None) };
        let ring = Ring::new(map(domain, kind, frame, devices)?);
        let limit = number(store, &format!("{path}/limit"))?;
        let terminal = Terminal::open()?;
        let port = devices.events.bind_interdomain(domain, remote)?;
        let log = if settings.log_guests { open_log(domain, kind, store, settings)? } else { None };
        store.write(&format!("{path}/tty"), &terminal.name())?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let mut console = Self {
            domain,
            ring: Some(ring),
            ports: Some((port, remote)),
            frame,
            quiet_until: None,
            rate: EventRate::new(Instant::now()),
            output: Output::new(limit, settings.discard_overflow),
            terminal,
            typed: false,
            log,
        };
        console.take_output(devices)?;
        Ok(Some(console))
    }

    /// Binds anew where the domain announces another ring or event channel.
    ///
    /// # Errors
    ///
    /// As [`Console::connect`].
    pub(crate) fn refresh(
        &mut self,
        kind: Kind,
        path: &str,
        devices: &Devices,
        store: &Client,
    ) -> anyhow::Result<()> {
        let Some((frame, remote)) = announced(path, store)? else { return Ok(()) };
        if frame != self.frame {
            self.ring = Some(Ring::new(map(self.domain, kind, frame, devices)?));
            self.frame = frame;
        }
        if self.ports.is_none_or(|(_, bound)| bound != remote) {
            if let Some((port, _)) = self.ports.take() {
                devices.events.unbind(port)?;
            }
            let port = devices.events.bind_interdomain(self.domain, remote)?;
            self.ports = Some((port, remote));
        }
        self.take_output(devices)
    }

    /// Returns our end of the event channel.
    pub(crate) fn port(&self) -> Option<Port> {
        self.ports.map(|(port, _)| port)
    }

    /// Handles an event of the guest, whose port is masked until [`Console::wake`] if it sends
    /// too many.
    pub(crate) fn event(&mut self, now: Instant, devices: &Devices) -> anyhow::Result<()> {
        self.quiet_until = self.rate.event(now);
        if self.quiet_until.is_none() && self.output.has_room() {
            self.unmask(devices)?;
        }
        self.take_output(devices)?;
        self.pass_input(devices)
    }

    /// Unmasks the port if the guest has waited long enough; returns until when it must wait.
    pub(crate) fn wake(
        &mut self,
        now: Instant,
        devices: &Devices,
    ) -> anyhow::Result<Option<Instant>> {
        if let Some(until) = self.quiet_until.filter(|until| *until <= now) {
            self.quiet_until = None;
            self.rate = EventRate::new(until);
            if self.output.has_room() {
                self.unmask(devices)?;
            }
            self.take_output(devices)?;
        }
        Ok(self.quiet_until)
    }

    /// Shows what waits as far as the terminal takes it.
    pub(crate) fn show(&mut self, devices: &Devices) -> anyhow::Result<()> {
        let had_room = self.output.has_room();
        while !self.output.is_empty() {
            match self.terminal.write(self.output.next()) {
                Ok(count) => self.output.taken(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if !had_room && self.output.has_room() && self.quiet_until.is_none() {
            self.unmask(devices)?;
            self.take_output(devices)?;
        }
        Ok(())
    }

    /// Gives the guest what was typed as far as it has room.
    pub(crate) fn pass_input(&mut self, devices: &Devices) -> anyhow::Result<()> {
        let (Some(ring), Some((port, _))) = (&self.ring, self.ports) else {
            self.typed = false;
            return Ok(());
        };
        let mut passed = 0;
        while self.typed && ring.room() > 0 {
            let mut bytes = [0; 1024];
            let (room, _) = bytes.split_at_mut(ring.room());
            match self.terminal.read(room) {
                Ok(count) => passed += ring.put_input(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.typed = false,
                Err(error) => return Err(error.into()),
            }
        }
        if passed > 0 {
            devices.events.notify(port)?;
        }
        Ok(())
    }

    /// Takes the last output of a domain that ended, and lets go of its memory and channel.
    pub(crate) fn let_go(&mut self, devices: &Devices) {
        // A dead domain can neither be told nor asked, which is no failure here.
        let _taken = self.take_output(devices);
        self.ring = None;
        if let Some((port, _)) = self.ports.take() {
            let _closed = devices.events.unbind(port);
        }
        self.quiet_until = None;
    }

    /// Returns whether all of its output was shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.output.is_empty()
    }

    /// Opens the log anew after it was rotated away.
    pub(crate) fn reopen_log(&mut self) -> std::io::Result<()> {
        self.log.as_mut().map_or(Ok(()), LogFile::reopen)
    }

    fn take_output(&mut self, devices: &Devices) -> anyhow::Result<()> {
        let (Some(ring), Some((port, _))) = (&self.ring, self.ports) else { return Ok(()) };
        if !self.output.has_room() {
            return Ok(());
        }
        let bytes = ring.take_output();
        if bytes.is_empty() {
            return Ok(());
        }
        self.output.push(&bytes);
        let logged = self.log.as_mut().map_or(Ok(()), |log| log.write(&bytes));
        devices.events.notify(port)?;
        Ok(logged?)
    }

    fn unmask(&self, devices: &Devices) -> xen_sys::Result<()> {
        self.ports.map_or(Ok(()), |(port, _)| devices.events.unmask(port))
    }
}

/// Returns the ring's frame and the guest's port, if both are there and meant for this daemon.
fn announced(path: &str, store: &Client) -> anyhow::Result<Option<(Gfn, Port)>> {
    let kind = store.read_optional(&format!("{path}/type"))?;
    let frame = number(store, &format!("{path}/ring-ref"))?;
    let port = number(store, &format!("{path}/port"))?;
    let port = port.and_then(|port| u32::try_from(port).ok());
    Ok(match (kind.as_deref(), frame, port) {
        (None | Some("xenconsoled"), Some(frame), Some(port)) => Some((Gfn(frame), Port(port))),
        _ => None,
    })
}

fn map(domain: DomId, kind: Kind, frame: Gfn, devices: &Devices) -> xen_sys::Result<Page> {
    if kind == Kind::Console
        && let Some(grants) = &devices.grants
        && let Ok(mapping) = grants.map(domain, GrantRef::CONSOLE)
    {
        return Ok(Page::Granted(mapping));
    }
    devices.privcmd.map_foreign(domain, &[frame]).map(Page::Foreign)
}

fn open_log(
    domain: DomId,
    kind: Kind,
    store: &Client,
    settings: &Settings,
) -> anyhow::Result<Option<LogFile>> {
    let name = store.read_optional(&format!("/local/domain/{domain}/name"))?;
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let name = guest_log_name(&name, kind.log_suffix());
    Ok(Some(LogFile::open(&settings.directory, &name, settings.guest_style())?))
}

fn number(store: &Client, path: &str) -> anyhow::Result<Option<u64>> {
    Ok(store.read_optional(path)?.and_then(|text| text.trim().parse().ok()))
}
