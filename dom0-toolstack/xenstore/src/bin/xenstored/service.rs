//! The loop: waits, gives each connection its turn, carries out the server's effects.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xenstore::complaints::Complaints;
use xenstore::daemon::{Log, look_again};
use xenstore::link::Input;
use xenstore::record::Record;
use xenstore::server::{
    ConnectionId, DomainState, Effect, Handover, MayRead, Restored, RingState, Server, Snapshot,
};
use xenstore::wire::{Failure, Message};

use crate::domains::{Domains, Event};
use crate::handover;
use crate::sockets::{Closed, Listener, Sockets};
use crate::state_file::StateFile;

const LISTENER: Token = Token(0);
const EVENTS: Token = Token(1);
const STOP: Token = Token(2);
/// Messages of one connection between two looks for events.
const ROUNDS: u32 = 16;

/// How long after a failure the state file is tried again.
const STATE_RETRY: Duration = Duration::from_secs(10);

/// The daemon.
#[derive(Debug)]
pub(crate) struct Service {
    server: Server,
    sockets: Sockets,
    listener: Listener,
    domains: Option<Domains>,
    poll: Poll,
    stop: mio::net::UnixStream,
    log: Log,
    complaints: Complaints,
    start: Instant,
    /// Connections that may have something to say.
    ready: BTreeSet<ConnectionId>,
    ring_of: BTreeMap<ConnectionId, u16>,
    state: Option<StateFile>,
    /// The state file could not be written: it is gone until then.
    state_fails_until: Option<Instant>,
    /// Domains of whose rings something was read that is not written down.
    read_from: BTreeSet<u16>,
    /// Requests came without an event: there must be another round.
    came_meanwhile: bool,
    handover: Option<Handover>,
}

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where to listen.
    pub(crate) socket: PathBuf,
    /// Whether there is a hypervisor with domains.
    pub(crate) with_domains: bool,
    /// Where the state is kept, if it is.
    pub(crate) state: Option<PathBuf>,
    /// Whether an earlier daemon's state is left out.
    pub(crate) fresh: bool,
}

impl Service {
    /// Opens everything and goes on where an earlier daemon ended; `adopted` are the listening
    /// socket and the programs' that it handed on.
    pub(crate) fn new(
        settings: &Settings,
        log: Log,
        adopted: Option<Vec<OwnedFd>>,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let mut adopted = adopted.map(Vec::into_iter);
        let listener = match adopted.as_mut().and_then(Iterator::next) {
            Some(descriptor) => Listener::adopt(descriptor, &settings.socket, registry, LISTENER)?,
            None => Listener::bind(&settings.socket, registry, LISTENER)?,
        };
        let (stop, ender) = std::os::unix::net::UnixStream::pair()?;
        stop.set_nonblocking(true)?;
        let mut stop = mio::net::UnixStream::from_std(stop);
        registry.register(&mut stop, STOP, Interest::READABLE)?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, ender.try_clone()?)?;
        }
        // Without a file of its own to open again, a hang-up means nothing here.
        signal_hook::flag::register(SIGHUP, std::sync::Arc::default())?;
        let (state, restored) = match &settings.state {
            Some(path) => {
                let (state, restored) = StateFile::open(path);
                (Some(state), restored.filter(|_| !settings.fresh))
            }
            None => (None, None),
        };
        let (server, rings, programs) = match restored {
            Some(Restored { server, rings, programs, .. }) => (server, rings, programs),
            None => (Server::default(), BTreeMap::new(), Vec::new()),
        };
        let mut service = Self {
            server,
            sockets: Sockets::default(),
            listener,
            domains: None,
            poll,
            stop,
            log,
            complaints: Complaints::default(),
            start: Instant::now(),
            ready: BTreeSet::new(),
            ring_of: BTreeMap::new(),
            state,
            state_fails_until: None,
            read_from: BTreeSet::new(),
            came_meanwhile: false,
            handover: None,
        };
        service.adopt(programs, adopted.into_iter().flatten());
        if settings.with_domains {
            service.connect_domains(&rings)?;
        }
        if service.state.is_some() {
            service.server.keep_journal();
            service.save(Vec::new());
        }
        Ok(service)
    }

    /// Goes on with the programs whose sockets were handed on.
    fn adopt(
        &mut self,
        programs: Vec<(ConnectionId, Vec<u8>)>,
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) {
        for (id, partial) in programs {
            // After a kill there are none: their programs are told by the end of the connection.
            let Some(descriptor) = descriptors.next() else {
                self.server.disconnect(id);
                continue;
            };
            let stream = mio::net::UnixStream::from_std(descriptor.into());
            match self.sockets.add(id, stream, &partial, self.poll.registry()) {
                Ok(()) => drop(self.ready.insert(id)),
                Err(_) => self.server.disconnect(id),
            }
        }
    }

    /// Connects the kernel's ring and those that an earlier daemon had.
    fn connect_domains(&mut self, rings: &BTreeMap<u16, RingState>) -> anyhow::Result<()> {
        let (mut domains, unsent) = Domains::open(rings.get(&0))?;
        let descriptor = domains.events().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&descriptor), EVENTS, Interest::READABLE)?;
        let id = self.server.connection_of(0).unwrap_or_else(|| self.server.connect_domain(0));
        self.server.resume_output(id, unsent);
        self.ring_of.insert(id, 0);
        for domain in self.server.domains() {
            let (state, ring) = (domains.state(domain), rings.get(&domain));
            if let (Some(id), Some(ring)) = (self.server.connection_of(domain), ring)
                && state != DomainState::Gone
            {
                match domains.resume(domain, ring) {
                    Ok(unsent) => self.server.resume_output(id, unsent),
                    Err(error) => {
                        let text = format_args!("cannot connect domain {domain} again: {error}");
                        self.log.line(text);
                    }
                }
                self.ring_of.insert(id, domain);
            }
            // It may have stopped while there was no daemon to hear of it.
            self.server.domain_state(domain, state);
        }
        self.ready.extend(self.ring_of.keys());
        self.domains = Some(domains);
        Ok(())
    }

    /// Returns where lines go.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Serves until a signal says to end.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(128);
        let mut wait = Some(Duration::ZERO);
        loop {
            if let Some(domains) = &self.domains {
                look_again(&self.poll, domains.events(), EVENTS)?;
            }
            let due = self.complaints.due(self.start.elapsed());
            match self.poll.poll(&mut events, wait.into_iter().chain(due).min()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error).context("cannot wait for events");
                }
                _ => {}
            }
            self.server.set_time(self.start.elapsed());
            self.complaints.settle(&self.log, self.start.elapsed());
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    EVENTS => self.take_events()?,
                    STOP if is_signalled(&self.stop) => return Ok(()),
                    STOP => {}
                    token => self.ready.extend(self.sockets.arrived(token)),
                }
            }
            wait = self.rounds();
            if let Some(handover) = self.handover.take() {
                self.hand_over(&handover);
                wait = Some(Duration::ZERO);
            }
        }
    }

    /// Goes round until nobody is ready, but looks for new events from time to time.
    fn rounds(&mut self) -> Option<Duration> {
        for _ in 1..ROUNDS {
            match self.round() {
                Some(Duration::ZERO) => {}
                wait => return wait,
            }
        }
        self.round()
    }

    fn accept(&mut self) {
        while let Some(stream) = self.listener.accept() {
            let id = self.server.connect_tool();
            match self.sockets.add(id, stream, &[], self.poll.registry()) {
                Ok(()) => drop(self.ready.insert(id)),
                Err(_) => self.server.disconnect(id),
            }
        }
    }

    fn take_events(&mut self) -> anyhow::Result<()> {
        let Some(domains) = &self.domains else { return Ok(()) };
        while let Some(event) = domains.next_event()? {
            match event {
                Event::Ring(domain) => self.ready.extend(self.server.connection_of(domain)),
                Event::Exception => {
                    for domain in self.server.domains() {
                        self.server.domain_state(domain, domains.state(domain));
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives every ready connection one message, and returns how long there is nothing to do.
    fn round(&mut self) -> Option<Duration> {
        let mut wait = None;
        self.flush_all();
        for id in std::mem::take(&mut self.ready) {
            // Its output may have had no room until now.
            self.flush(id);
            match self.server.may_read(id) {
                MayRead::Yes if self.turn(id) => {
                    self.ready.insert(id);
                    wait = Some(Duration::ZERO);
                }
                MayRead::Yes | MayRead::AfterOutput => {}
                MayRead::After(delay) => {
                    self.ready.insert(id);
                    wait = Some(wait.map_or(delay, |sooner: Duration| sooner.min(delay)));
                }
            }
            self.flush_all();
        }
        if std::mem::take(&mut self.came_meanwhile) { Some(Duration::ZERO) } else { wait }
    }

    /// Handles one message of a connection; says whether there may be more.
    fn turn(&mut self, id: ConnectionId) -> bool {
        let message = match self.ring_of.get(&id) {
            Some(domain) => self.ring_message(id, *domain),
            None => match self.sockets.next_message(id) {
                Ok(message) => message,
                Err(Closed) => {
                    self.close(id);
                    None
                }
            },
        };
        let Some(message) = message else { return false };
        self.server.handle(id, &message);
        self.ring_of.contains_key(&id) || self.sockets.has_more(id)
    }

    fn ring_message(&mut self, id: ConnectionId, domain: u16) -> Option<Message> {
        let domains = self.domains.as_mut()?;
        self.read_from.insert(domain);
        match domains.next_message(domain) {
            Input::Message(message) => return Some(message),
            Input::Nothing => {}
            Input::Reset => {
                self.server.reset_by_domain(id);
                self.restart(domain);
            }
            Input::Broken(error) => {
                let text = format_args!("domain {domain} is ignored: {error:?} in its ring");
                self.complaints.line(&self.log, domain, self.start.elapsed(), text);
                self.server.reset_by_domain(id);
            }
        }
        self.commit();
        if let Some(domains) = &mut self.domains {
            domains.notify(domain);
        }
        None
    }

    /// Lets a domain's ring begin afresh, which is written down before it is done: were it the
    /// other way round, a daemon after a kill would look for requests where there are none.
    fn restart(&mut self, domain: u16) {
        self.read_from.remove(&domain);
        self.server.note(&Record::Restarted { domain });
        self.commit();
        if let Some(domains) = &mut self.domains {
            domains.restart(domain);
        }
    }

    /// Writes down what happened since the last time, before anybody hears of it, and only then
    /// takes requests out of rings: a daemon after a kill answers each request once.
    fn commit(&mut self) {
        let read_from = std::mem::take(&mut self.read_from);
        if self.state.is_some() {
            let records = self
                .domains
                .iter()
                .flat_map(|domains| read_from.iter().filter_map(|domain| domains.change(*domain)));
            for record in records {
                self.server.note(&record);
            }
            self.keep();
        }
        let Some(domains) = &mut self.domains else { return };
        for domain in read_from {
            if domains.settle(domain) {
                self.ready.extend(self.server.connection_of(domain));
                self.came_meanwhile = true;
            }
        }
    }

    /// Writes down what the server noted.
    fn keep(&mut self) {
        let (Some(state), Some(journal)) = (&mut self.state, self.server.journal()) else { return };
        if journal.records().is_empty() {
            return;
        }
        let Some(until) = self.state_fails_until else {
            let mut kept = state.append(journal.seal());
            journal.clear();
            if kept.is_ok() && state.is_long() {
                let snapshot = self.snapshot(Vec::new());
                kept = self.state.as_mut().map_or(Ok(()), |state| state.renew(snapshot));
            }
            if let Err(error) = kept {
                self.state_failed(&error);
            }
            return;
        };
        journal.clear();
        if until <= Instant::now() {
            self.save(Vec::new());
        }
    }

    /// Writes the state as a whole, with programs whose sockets are handed on and what else they
    /// need.
    fn save(&mut self, handed_on: Vec<u8>) {
        if let Some(journal) = self.server.journal() {
            // It is in the snapshot.
            journal.clear();
        }
        let snapshot = self.snapshot(handed_on);
        let Some(state) = &mut self.state else { return };
        match state.write(snapshot) {
            Ok(()) => self.state_fails_until = None,
            Err(error) => self.state_failed(&error),
        }
    }

    fn snapshot(&self, handed_on: Vec<u8>) -> Snapshot {
        let programs: Vec<ConnectionId> = if handed_on.is_empty() {
            Vec::new()
        } else {
            self.sockets.all().map(|all| all.0).collect()
        };
        let mut records = handed_on;
        for domain in self.domains.iter().flat_map(Domains::numbers) {
            if let Some(record) = self.domains.as_ref().and_then(|all| all.record(domain)) {
                record.encode(&mut records);
            }
        }
        self.server.snapshot(records, &programs)
    }

    fn state_failed(&mut self, error: &std::io::Error) {
        let now = Instant::now();
        self.log.line(format_args!("cannot keep the state, and would not survive a kill: {error}"));
        if let Some(state) = &mut self.state {
            state.remove();
        }
        self.state_fails_until = Some(now + STATE_RETRY);
    }

    /// Lets another program go on in this one's place; returns only where it cannot.
    fn hand_over(&mut self, handover: &Handover) {
        self.flush_all();
        let error = match handover::check(&handover.program) {
            Ok(()) => {
                let mut records = Vec::new();
                for (id, partial, _) in self.sockets.all() {
                    Record::Socket { number: id.0, partial: partial.into() }.encode(&mut records);
                }
                records.extend_from_slice(&self.server.handover_answer(handover));
                self.save(records);
                if self.state.is_none() || self.state_fails_until.is_some() {
                    anyhow::anyhow!("no state is kept that another program could go on with")
                } else {
                    self.log.line(format_args!("{} takes over", handover.program));
                    let sockets = self.sockets.all().map(|(_, _, socket)| socket);
                    let descriptors: Vec<BorrowedFd<'_>> =
                        std::iter::once(self.listener.as_fd()).chain(sockets).collect();
                    handover::become_other(handover, &descriptors)
                }
            }
            Err(error) => error,
        };
        self.log.line(format_args!("no live update: {error:#}"));
        self.server.handover_failed(handover, &format!("{error:#}"));
        if self.state.is_some() {
            self.save(Vec::new());
        }
        self.flush_all();
    }

    /// Sends what waits and carries out effects until there are none.
    fn flush_all(&mut self) {
        loop {
            for effect in self.server.take_effects() {
                self.carry_out(effect);
            }
            self.commit();
            let dirty = self.server.take_dirty();
            if dirty.is_empty() {
                return;
            }
            for id in dirty {
                self.flush(id);
            }
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let domain = self.ring_of.get(&id).copied();
        while !self.server.output(id).is_empty() {
            let sent = match (domain, &mut self.domains) {
                (Some(domain), Some(domains)) => {
                    domains.send(domain, self.server.output(id)).map_err(|error| {
                        let text = format_args!("domain {domain} is ignored: {error:?}");
                        self.complaints.line(&self.log, domain, self.start.elapsed(), text);
                        self.server.reset_by_domain(id);
                    })
                }
                _ if self.sockets.contains(id) => {
                    let registry = self.poll.registry();
                    let sent = self.sockets.send(id, self.server.output(id), registry);
                    sent.map_err(|Closed| self.close(id))
                }
                _ => Ok(0),
            };
            match sent {
                Ok(0) | Err(()) => break,
                Ok(count) => self.server.sent(id, count),
            }
        }
        if let (Some(domain), Some(domains)) = (domain, &mut self.domains) {
            domains.notify(domain);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Introduce(request) => {
                if request.again {
                    // Nothing of the ring as it was counts any more, whether this succeeds or not.
                    self.restart(request.domain);
                }
                let outcome = match &mut self.domains {
                    Some(domains) => domains.introduce(&request),
                    None => Err(Failure::ENOSYS),
                };
                if let Err(failure) = outcome {
                    let domain = request.domain;
                    let text = format_args!("cannot connect domain {domain}: {failure}");
                    self.complaints.line(&self.log, domain, self.start.elapsed(), text);
                }
                self.server.introduced(&request, outcome);
                if let Some(id) = self.server.connection_of(request.domain) {
                    self.ring_of.insert(id, request.domain);
                    self.ready.insert(id);
                }
            }
            Effect::Disconnect { domain } => {
                if let Some(domains) = &mut self.domains {
                    domains.disconnect(domain);
                }
                self.ring_of.retain(|_, owner| *owner != domain);
            }
            Effect::Close(id) => {
                // Guests cause the events, and the program may come again: Dom0 answers for it.
                let text = "a program that does not read its events is disconnected";
                self.complaints.line(&self.log, 0, self.start.elapsed(), text);
                self.close(id);
            }
            Effect::Log(line) => self.log.line(line),
            Effect::Handover(handover) => self.handover = Some(handover),
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.sockets.remove(id);
        self.server.disconnect(id);
        self.ready.remove(&id);
    }
}

fn is_signalled(stream: &mio::net::UnixStream) -> bool {
    use std::io::Read;
    let mut byte = [0];
    let mut reader = stream;
    matches!(reader.read(&mut byte), Ok(count) if count > 0)
}
