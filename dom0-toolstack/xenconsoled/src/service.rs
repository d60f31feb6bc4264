//! The loop: domains come and go, guests write, people type, the hypervisor speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xen_sys::evtchn::{EventChannels, Virq};
use xen_sys::gntdev::GrantDevice;
use xen_sys::privcmd::Privcmd;
use xen_sys::sysctl::Sysctl;
use xen_sys::{DomId, Port};
use xenstore::client::Client;
use xenstore::complaints::Complaints;
use xenstore::daemon::{Log, look_again};
use xenstore::path::{INTRODUCE_DOMAIN, RELEASE_DOMAIN};

use crate::console::{Console, Devices, Kind};
use crate::log_file::{LogFile, Style};

const STORE: Token = Token(0);
const EVENTS: Token = Token(1);
const STOP: Token = Token(2);
const HANG_UP: Token = Token(3);
const FIRST_CONSOLE: usize = 16;
/// How often a xenstored that went away is looked for.
const STORE_RETRY: Duration = Duration::from_millis(200);
/// How long the terminal of a domain that ended stays for its readers.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) log_guests: bool,
    pub(crate) log_hypervisor: bool,
    pub(crate) stamp_guests: bool,
    pub(crate) stamp_hypervisor: bool,
    pub(crate) replace_escape: bool,
    pub(crate) discard_overflow: bool,
    pub(crate) directory: PathBuf,
    pub(crate) verbose: bool,
}

impl Settings {
    /// How guests' logs are written.
    pub(crate) fn guest_style(&self) -> Style {
        Style { stamp: self.stamp_guests, replace_escape: self.replace_escape }
    }
}

/// The daemon.
#[derive(Debug)]
pub(crate) struct Service {
    settings: Settings,
    log: Log,
    complaints: Complaints,
    start: Instant,
    store: Client,
    /// Tells of the store's events, for the connection of this generation.
    store_events: (OwnedFd, u64),
    /// No xenstored answers; consoles are served all the same.
    store_is_gone: bool,
    devices: Devices,
    poll: Poll,
    stop: UnixStream,
    hang_up: UnixStream,
    hypervisor: Option<HypervisorLog>,
    watched: BTreeSet<DomId>,
    consoles: BTreeMap<usize, (DomId, Kind, Console)>,
    next_console: usize,
    /// Consoles of domains that ended, until when they stay.
    leaving: BTreeMap<usize, Instant>,
}

#[derive(Debug)]
struct HypervisorLog {
    port: Port,
    file: LogFile,
    index: u32,
}

impl Service {
    /// Connects to everything.
    pub(crate) fn new(settings: Settings, log: Log) -> anyhow::Result<Self> {
        let store = Client::connect()?;
        store.set_patience(Duration::ZERO);
        let devices = Devices {
            events: EventChannels::open()?,
            grants: GrantDevice::open().ok(),
            privcmd: Privcmd::open()?,
        };
        let poll = Poll::new()?;
        let store_events = store.event_fd()?;
        let stop = signal_pipe(&[SIGTERM, SIGINT])?;
        let hang_up = signal_pipe(&[SIGHUP])?;
        for (descriptor, token) in [
            (store_events.as_raw_fd(), STORE),
            (devices.events.as_raw_fd(), EVENTS),
            (stop.as_raw_fd(), STOP),
            (hang_up.as_raw_fd(), HANG_UP),
        ] {
            poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        }
        let hypervisor = settings
            .log_hypervisor
            .then(|| HypervisorLog::open(&settings, &devices))
            .transpose()
            .context("cannot log what the hypervisor says")?;
        store.watch(INTRODUCE_DOMAIN, "domains")?;
        store.watch(RELEASE_DOMAIN, "domains")?;
        Ok(Self {
            settings,
            log,
            complaints: Complaints::default(),
            start: Instant::now(),
            store_events: (store_events, store.generation()),
            store_is_gone: false,
            store,
            devices,
            poll,
            stop,
            hang_up,
            hypervisor,
            watched: BTreeSet::new(),
            consoles: BTreeMap::new(),
            next_console: FIRST_CONSOLE,
            leaving: BTreeMap::new(),
        })
    }

    /// Returns where lines go.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Serves until a signal says to end.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(128);
        self.take_log();
        loop {
            self.complaints.settle(&self.log, self.start.elapsed());
            self.take_watch_events()?;
            self.follow_store()?;
            let mut wait = self.take_turns();
            if self.store_is_gone {
                wait = Some(wait.unwrap_or(STORE_RETRY).min(STORE_RETRY));
            }
            look_again(&self.poll, &self.devices.events, EVENTS)?;
            let due = self.complaints.due(self.start.elapsed());
            match self.poll.poll(&mut events, wait.into_iter().chain(due).min()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error).context("cannot wait for events");
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    // Taken in each round anyway.
                    STORE => {}
                    EVENTS => self.take_events()?,
                    STOP if is_signalled(&self.stop) => return Ok(()),
                    STOP => {}
                    HANG_UP => self.reopen_logs(),
                    Token(number) => {
                        if let Some((_, _, console)) = self.consoles.get_mut(&number) {
                            console.typed |= event.is_readable();
                        }
                    }
                }
            }
        }
    }

    /// Lets each console show and pass what it can; returns how long there is nothing to do.
    fn take_turns(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let mut soonest: Option<Instant> = None;
        for (number, (domain, kind, console)) in &mut self.consoles {
            let turn = console.wake(now, &self.devices).and_then(|until| {
                console.show(&self.devices)?;
                console.pass_input(&self.devices)?;
                Ok(until)
            });
            match turn {
                Ok(until) => soonest = earlier(soonest, until),
                Err(error) => {
                    let text = format_args!("domain {domain}, {kind:?}: {error:#}");
                    self.complaints.line(&self.log, domain.0, self.start.elapsed(), text);
                    self.leaving.entry(*number).or_insert(now);
                }
            }
        }
        let over: Vec<usize> = self
            .leaving
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            self.leaving.remove(&number);
            self.remove(number);
        }
        let soonest = earlier(soonest, self.leaving.values().min().copied());
        soonest.map(|when| when.saturating_duration_since(now))
    }

    fn take_watch_events(&mut self) -> anyhow::Result<()> {
        loop {
            let event = match self.store.next_event(Some(Duration::ZERO)) {
                Ok(event) => event,
                Err(xenstore::client::Error::Connection(error)) => {
                    if !std::mem::replace(&mut self.store_is_gone, true) {
                        self.log.line(format_args!("xenstored is gone: {error}"));
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            self.store_is_gone = false;
            let Some(event) = event else { return Ok(()) };
            if event.token == "domains" {
                self.list_domains();
            } else if let Ok(domain) = event.token.parse() {
                self.refresh(DomId(domain));
            }
        }
    }

    /// Waits for another xenstored's events where one took the place of the last.
    fn follow_store(&mut self) -> anyhow::Result<()> {
        while self.store_events.1 != self.store.generation() {
            let descriptor = self.store_events.0.as_raw_fd();
            self.poll.registry().deregister(&mut SourceFd(&descriptor))?;
            self.store_events = (self.store.event_fd()?, self.store.generation());
            let descriptor = self.store_events.0.as_raw_fd();
            self.poll.registry().register(&mut SourceFd(&descriptor), STORE, Interest::READABLE)?;
            self.log.line("xenstored was started again");
            // What came before the new descriptor was watched makes it readable no more.
            self.take_watch_events()?;
        }
        Ok(())
    }

    fn take_events(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some(port) = self.devices.events.pending()? {
            if self.hypervisor.as_ref().is_some_and(|log| log.port == port) {
                self.devices.events.unmask(port)?;
                self.take_log();
                continue;
            }
            let mut consoles = self.consoles.values_mut();
            if let Some((domain, _, console)) =
                consoles.find(|(_, _, console)| console.port() == Some(port))
                && let Err(error) = console.event(now, &self.devices)
            {
                let text = format_args!("domain {domain}: {error:#}");
                self.complaints.line(&self.log, domain.0, self.start.elapsed(), text);
            }
        }
        Ok(())
    }

    /// Writes a line about a domain, unless it caused too many of late.
    fn complain(&mut self, domain: DomId, text: std::fmt::Arguments<'_>) {
        self.complaints.line(&self.log, domain.0, self.start.elapsed(), text);
    }

    fn list_domains(&mut self) {
        let found = match self.devices.privcmd.domains(DomId(1)) {
            Ok(found) => found,
            Err(error) => {
                // Each domain that comes or goes has them listed.
                self.complain(DomId(0), format_args!("cannot list domains: {error}"));
                return;
            }
        };
        let alive: BTreeSet<DomId> =
            found.iter().filter(|info| !info.dying).map(|info| info.domain).collect();
        let gone: Vec<DomId> = self.watched.difference(&alive).copied().collect();
        for domain in gone {
            self.forget(domain);
        }
        for domain in alive {
            if !self.watched.contains(&domain) {
                self.greet(domain);
            }
        }
    }

    fn greet(&mut self, domain: DomId) {
        for kind in Kind::ALL {
            // The watch fires at once, and that connects the console.
            if let Err(error) = self.store.watch(&path(domain, kind), &domain.to_string()) {
                self.complain(domain, format_args!("domain {domain}: {error}"));
                return;
            }
        }
        self.watched.insert(domain);
        if self.settings.verbose {
            self.log.line(format_args!("new domain {domain}"));
        }
    }

    fn forget(&mut self, domain: DomId) {
        self.watched.remove(&domain);
        for kind in Kind::ALL {
            // The store drops a watch with its domain's nodes or now; either will do.
            let _unwatched = self.store.unwatch(&path(domain, kind), &domain.to_string());
        }
        for (number, (_, _, console)) in
            self.consoles.iter_mut().filter(|(_, (owner, _, _))| *owner == domain)
        {
            console.let_go(&self.devices);
            let _shown = console.show(&self.devices);
            let stay = if console.is_shown() { FAREWELL } else { FAREWELL * 5 };
            self.leaving.entry(*number).or_insert(Instant::now() + stay);
        }
        if self.settings.verbose {
            self.log.line(format_args!("domain {domain} is gone"));
        }
    }

    fn refresh(&mut self, domain: DomId) {
        if !self.watched.contains(&domain) {
            return;
        }
        for kind in Kind::ALL {
            let path = path(domain, kind);
            let mut consoles = self.consoles.iter_mut();
            let known = consoles.find(|(number, (owner, of, _))| {
                *owner == domain && *of == kind && !self.leaving.contains_key(number)
            });
            let outcome = match known {
                Some((_, (_, _, console))) => {
                    console.refresh(kind, &path, &self.devices, &self.store)
                }
                None => self.connect(domain, kind, &path),
            };
            if let Err(error) = outcome {
                self.complain(domain, format_args!("domain {domain}, {kind:?}: {error:#}"));
            }
        }
    }

    fn connect(&mut self, domain: DomId, kind: Kind, path: &str) -> anyhow::Result<()> {
        let (devices, settings) = (&self.devices, &self.settings);
        let console = Console::connect(domain, kind, path, devices, &self.store, settings)?;
        let Some(console) = console else { return Ok(()) };
        self.next_console += 1;
        let number = self.next_console;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let descriptor = console.terminal.descriptor();
        self.poll.registry().register(&mut SourceFd(&descriptor), Token(number), interest)?;
        self.consoles.insert(number, (domain, kind, console));
        Ok(())
    }

    fn remove(&mut self, number: usize) {
        if let Some((_, _, mut console)) = self.consoles.remove(&number) {
            console.let_go(&self.devices);
            let descriptor = console.terminal.descriptor();
            // Closing the descriptor takes it out of the poll anyway.
            let _deregistered = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        }
    }

    fn take_log(&mut self) {
        if let Some(log) = &mut self.hypervisor
            && let Err(error) = log.take(&self.devices)
        {
            // On a full disk that is so for each line that a guest has the hypervisor write.
            let text = format_args!("the hypervisor's log: {error:#}");
            self.complaints.line(&self.log, 0, self.start.elapsed(), text);
        }
    }

    fn reopen_logs(&mut self) {
        // Several hang-ups at once are one.
        while is_signalled(&self.hang_up) {}
        let consoles = self.consoles.values_mut().map(|(_, _, console)| console.reopen_log());
        let hypervisor = self.hypervisor.as_mut().map(|log| log.file.reopen());
        for error in consoles.chain(hypervisor).filter_map(Result::err) {
            self.log.line(format_args!("cannot open a log anew: {error}"));
        }
    }
}

impl HypervisorLog {
    fn open(settings: &Settings, devices: &Devices) -> anyhow::Result<Self> {
        let style =
            Style { stamp: settings.stamp_hypervisor, replace_escape: settings.replace_escape };
        let file = LogFile::open(&settings.directory, "hypervisor.log", style)?;
        let port = devices.events.bind_virq(Virq::ConsoleRing)?;
        Ok(Self { port, file, index: 0 })
    }

    fn take(&mut self, devices: &Devices) -> anyhow::Result<()> {
        let (text, index) = devices.privcmd.read_console_from(self.index)?;
        self.index = index;
        Ok(self.file.write(&text)?)
    }
}

fn path(domain: DomId, kind: Kind) -> String {
    format!("/local/domain/{domain}/{}", kind.directory())
}

fn earlier(first: Option<Instant>, second: Option<Instant>) -> Option<Instant> {
    first.into_iter().chain(second).min()
}

fn signal_pipe(signals: &[i32]) -> anyhow::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, writer.try_clone()?)?;
    }
    Ok(reader)
}

fn is_signalled(stream: &UnixStream) -> bool {
    let (mut reader, mut byte) = (stream, [0]);
    matches!(reader.read(&mut byte), Ok(count) if count > 0)
}
