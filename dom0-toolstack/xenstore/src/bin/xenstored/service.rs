//! The loop: waits, gives each connection its turn, carries out the server's effects.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xenstore::daemon::Log;
use xenstore::server::{ConnectionId, Effect, MayRead, Server};
use xenstore::wire::{Failure, Message};

use crate::domains::{Domains, Event, Input};
use crate::sockets::{Closed, Listener, Sockets};

const LISTENER: Token = Token(0);
const EVENTS: Token = Token(1);
const STOP: Token = Token(2);
/// Messages of one connection between two looks for events.
const ROUNDS: u32 = 16;

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
    start: Instant,
    /// Connections that may have something to say.
    ready: BTreeSet<ConnectionId>,
    ring_of: BTreeMap<ConnectionId, u16>,
}

impl Service {
    /// Opens everything; `with_domains` is false where no hypervisor is wanted.
    pub(crate) fn new(socket: &Path, with_domains: bool, log: Log) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let listener = Listener::bind(socket, registry, LISTENER)?;
        let (stop, ender) = std::os::unix::net::UnixStream::pair()?;
        stop.set_nonblocking(true)?;
        let mut stop = mio::net::UnixStream::from_std(stop);
        registry.register(&mut stop, STOP, Interest::READABLE)?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, ender.try_clone()?)?;
        }
        // Without a file of its own to open again, a hang-up means nothing here.
        signal_hook::flag::register(SIGHUP, std::sync::Arc::default())?;
        let mut server = Server::default();
        let mut ring_of = BTreeMap::new();
        let domains = with_domains.then(Domains::open).transpose()?;
        if let Some(domains) = &domains {
            let descriptor = domains.events().as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), EVENTS, Interest::READABLE)?;
            ring_of.insert(server.connect_domain(0), 0);
        }
        let ready = ring_of.keys().copied().collect();
        Ok(Self {
            server,
            sockets: Sockets::default(),
            listener,
            domains,
            poll,
            stop,
            log,
            start: Instant::now(),
            ready,
            ring_of,
        })
    }

    /// Serves until a signal says to end.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(128);
        let mut wait = Some(Duration::ZERO);
        loop {
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error).context("cannot wait for events");
                }
                _ => {}
            }
            self.server.set_time(self.start.elapsed());
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
            match self.sockets.add(id, stream, self.poll.registry()) {
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
        wait
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
        let message = match domains.next_message(domain) {
            Input::Message(message) => Some(message),
            Input::Nothing => None,
            Input::Reset => {
                self.server.reset(id);
                None
            }
            Input::Broken(error) => {
                self.log.line(format_args!("domain {domain} is ignored: {error:?} in its ring"));
                self.server.reset(id);
                None
            }
        };
        if message.is_none() {
            domains.notify(domain);
        }
        message
    }

    /// Sends what waits and carries out effects until there are none.
    fn flush_all(&mut self) {
        loop {
            for effect in self.server.take_effects() {
                self.carry_out(effect);
            }
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
                        self.log.line(text);
                        self.server.reset(id);
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
                let outcome = match &mut self.domains {
                    Some(domains) => domains.introduce(&request),
                    None => Err(Failure::ENOSYS),
                };
                if let Err(failure) = outcome {
                    let domain = request.domain;
                    self.log.line(format_args!("cannot connect domain {domain}: {failure}"));
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
                self.log.line("a program that does not read its events is disconnected");
                self.close(id);
            }
            Effect::Log(line) => self.log.line(line),
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.sockets.remove(id, self.poll.registry());
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
