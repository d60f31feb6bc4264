//! A blocking client of the store, over the daemon's socket or the kernel's connection.
//!
//! [`Store`] has the operations on nodes; [`Client`] offers them outside and [`Transaction`]
//! inside a transaction. Watch events that arrive among replies are kept for
//! [`Client::next_event`].
//!
//! A daemon that is started again is connected to again, with all watches; each fires once more,
//! since something may have changed meanwhile, and a transaction is tried again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::permission::Permission;
use crate::wire::{Decoder, Failure, Kind, Message, PAYLOAD_MAX};

/// Where the daemon listens.
pub const SOCKET_PATH: &str = "/var/run/xenstored/socket";
/// The kernel's connection to the store.
pub const KERNEL_PATH: &str = "/dev/xen/xenbus";

/// How long a daemon may take to be there again, where nothing else is said.
const RETURNS_WITHIN: Duration = Duration::from_secs(20);
/// How often one request is sent again: one that kills daemons must not kill them for ever.
const RESENDS: u32 = 3;

/// Why a request had no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused.
    #[error("{what}: {failure}")]
    Refused {
        /// What was asked, for people.
        what: String,
        /// The server's reason.
        failure: Failure,
    },
    /// The connection failed.
    #[error("connection to xenstore: {0}")]
    Connection(#[from] io::Error),
    /// Neither a socket nor the kernel's connection could be opened.
    #[error("cannot reach xenstore at {path}: {source} (is xenstored running?)")]
    Unreachable {
        /// What was tried last.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server's answer is not one.
    #[error("xenstore answered out of protocol: {0}")]
    Protocol(&'static str),
    /// The request is longer than any may be.
    #[error("{what}: longer than xenstore's limit of 4096 bytes")]
    TooLong {
        /// What was asked, for people.
        what: String,
    },
}

impl Error {
    /// Returns the server's reason, if it was the server who refused.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Refused { failure, .. } => Some(*failure),
            Self::Connection(_)
            | Self::Unreachable { .. }
            | Self::Protocol(_)
            | Self::TooLong { .. } => None,
        }
    }
}

/// The outcome of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// A watch that fired.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WatchEvent {
    /// What changed; when the watch was set up, the watched path itself.
    pub path: String,
    /// The token given with the watch.
    pub token: String,
}

/// Operations on nodes, in or out of a transaction.
///
/// Paths are absolute; a domain's own client may use relative ones.
pub trait Store {
    /// Sends a request whose payload is `payload` and returns the reply's payload.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection broke.
    fn request(&self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>>;

    /// Reads a node's value.
    ///
    /// # Errors
    ///
    /// ENOENT where there is no such node, EACCES where it may not be read.
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.request(Kind::Read, &strings(&[path]))
    }

    /// Reads a node's value as text; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    fn read_string(&self, path: &str) -> Result<String> {
        self.read(path).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// Reads a node's value as text, or nothing where there is no such node.
    ///
    /// # Errors
    ///
    /// As [`Store::read`], less ENOENT.
    fn read_optional(&self, path: &str) -> Result<Option<String>> {
        absent(self.read_string(path))
    }

    /// Returns whether a node is there and may be read.
    ///
    /// # Errors
    ///
    /// As [`Store::read`], less ENOENT.
    fn exists(&self, path: &str) -> Result<bool> {
        absent(self.read(path)).map(|value| value.is_some())
    }

    /// Sets a node's value, making it and its parents where they are missing.
    ///
    /// # Errors
    ///
    /// EACCES, ENOSPC by quota.
    fn write(&self, path: &str, value: &str) -> Result<()> {
        self.write_bytes(path, value.as_bytes())
    }

    /// Sets a node's value to any bytes, making it and its parents where they are missing.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    fn write_bytes(&self, path: &str, value: &[u8]) -> Result<()> {
        let mut payload = strings(&[path]);
        payload.extend_from_slice(value);
        self.request(Kind::Write, &payload).map(drop)
    }

    /// Makes a node with no value if it is not there.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    fn mkdir(&self, path: &str) -> Result<()> {
        self.request(Kind::Mkdir, &strings(&[path])).map(drop)
    }

    /// Removes a node and all below it; no error where it is missing but its parent is there.
    ///
    /// # Errors
    ///
    /// ENOENT where its parent is missing, EACCES, EINVAL for the root.
    fn rm(&self, path: &str) -> Result<()> {
        self.request(Kind::Rm, &strings(&[path])).map(drop)
    }

    /// Returns the names of a node's children, however many.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    fn directory(&self, path: &str) -> Result<Vec<String>> {
        match self.request(Kind::Directory, &strings(&[path])) {
            Ok(list) => Ok(split_strings(&list)),
            Err(error) if error.failure() == Some(Failure::E2BIG) => directory_by_parts(self, path),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of a node's children, or none where there is no such node.
    ///
    /// # Errors
    ///
    /// As [`Store::read`], less ENOENT.
    fn directory_or_empty(&self, path: &str) -> Result<Vec<String>> {
        absent(self.directory(path)).map(Option::unwrap_or_default)
    }

    /// Returns who may read and write a node; the first entry is the owner's.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    fn get_perms(&self, path: &str) -> Result<Vec<Permission>> {
        split_strings(&self.request(Kind::GetPerms, &strings(&[path]))?)
            .iter()
            .map(|text| Permission::parse(text).ok_or(Error::Protocol("a permission it cannot be")))
            .collect()
    }

    /// Sets who may read and write a node; the first entry names the owner.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    fn set_perms(&self, path: &str, permissions: &[Permission]) -> Result<()> {
        let mut payload = strings(&[path]);
        for permission in permissions {
            payload.extend_from_slice(permission.to_string().as_bytes());
            payload.push(0);
        }
        self.request(Kind::SetPerms, &payload).map(drop)
    }
}

/// A connection to the store.
#[derive(Debug)]
pub struct Client {
    channel: RefCell<Channel>,
}

impl Client {
    /// Connects to the local daemon, else through the kernel (`XENSTORED_PATH` names another
    /// socket).
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when nobody answers.
    pub fn connect() -> Result<Self> {
        if let Some(path) = std::env::var_os("XENSTORED_PATH") {
            return Self::connect_to(Path::new(&path));
        }
        match Self::connect_to(Path::new(SOCKET_PATH)) {
            Ok(client) => Ok(client),
            Err(first) => Self::open_kernel(Path::new(KERNEL_PATH)).map_err(|_| first),
        }
    }

    /// Connects to a daemon's socket.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`].
    pub fn connect_to(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(|source| unreachable(path, source))?;
        let client = Self::from_stream(stream);
        client.channel.borrow_mut().socket = Some(path.to_owned());
        Ok(client)
    }

    /// Opens the kernel's connection.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`].
    pub fn open_kernel(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| unreachable(path, source))?;
        Ok(Self::from_fd(file.into()))
    }

    /// Sets how long a daemon that went away is waited for; while none is there, each request and
    /// each look for events fails and tries to connect once.
    pub fn set_patience(&self, patience: Duration) {
        self.channel.borrow_mut().patience = patience;
    }

    /// Speaks over a socket that is connected already.
    pub fn from_stream(stream: UnixStream) -> Self {
        Self::from_fd(stream.into())
    }

    fn from_fd(fd: OwnedFd) -> Self {
        Self {
            channel: RefCell::new(Channel {
                file: File::from(fd),
                decoder: Decoder::default(),
                events: VecDeque::new(),
                next_request: 0,
                socket: None,
                watches: Vec::new(),
                generation: 0,
                patience: RETURNS_WITHIN,
            }),
        }
    }

    /// Runs `body` in a transaction, again and again while it meets other changes.
    ///
    /// An error of `body` drops the transaction and is returned. `body` must not start another
    /// transaction on the same connection's result and may run more than once.
    ///
    /// # Errors
    ///
    /// `body`'s, or the server's other than EAGAIN.
    pub fn transaction<T, E: From<Error>>(
        &self,
        mut body: impl FnMut(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        loop {
            let transaction = self.start_transaction()?;
            let value = match body(&transaction) {
                // Its failure may only be that its transaction went with its daemon.
                Err(_) if transaction.generation != self.generation() => continue,
                outcome => outcome?,
            };
            match transaction.commit() {
                Ok(()) => return Ok(value),
                Err(error) if error.failure() == Some(Failure::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Starts a transaction; one that is dropped without a commit changes nothing.
    ///
    /// # Errors
    ///
    /// EBUSY or ENOSPC where the caller has too many.
    pub fn start_transaction(&self) -> Result<Transaction<'_>> {
        let reply = self.ask(Kind::TransactionStart, 0, b"\0")?;
        let id = number(&reply).ok_or(Error::Protocol("a transaction without a number"))?;
        Ok(Transaction { client: self, id, open: true, generation: self.generation() })
    }

    /// Returns how often a daemon that went away was connected to again.
    ///
    /// A descriptor of [`Client::event_fd`] is of one such connection and no other.
    pub fn generation(&self) -> u64 {
        self.channel.borrow().generation
    }

    /// Watches a path and all below it; an event for the path itself arrives at once.
    ///
    /// # Errors
    ///
    /// EEXIST where this path and token are watched already.
    pub fn watch(&self, path: &str, token: &str) -> Result<()> {
        self.set_watch(Watch { path: path.to_owned(), token: token.to_owned(), depth: None })
    }

    /// Watches a path and `depth` levels below it.
    ///
    /// # Errors
    ///
    /// As [`Client::watch`]; EINVAL where the daemon knows no depths.
    pub fn watch_depth(&self, path: &str, token: &str, depth: u32) -> Result<()> {
        let (path, token) = (path.to_owned(), token.to_owned());
        self.set_watch(Watch { path, token, depth: Some(depth) })
    }

    fn set_watch(&self, watch: Watch) -> Result<()> {
        self.ask(Kind::Watch, 0, &watch.payload())?;
        self.channel.borrow_mut().watches.push(watch);
        Ok(())
    }

    /// Ends a watch; events of it that were not taken yet are dropped.
    ///
    /// # Errors
    ///
    /// ENOENT where it was not there.
    pub fn unwatch(&self, path: &str, token: &str) -> Result<()> {
        let mut channel = self.channel.borrow_mut();
        channel.watches.retain(|known| known.path != path || known.token != token);
        drop(channel);
        self.ask(Kind::Unwatch, 0, &strings(&[path, token]))?;
        self.channel.borrow_mut().events.retain(|event| event.token != token);
        Ok(())
    }

    /// Waits for the next watch event; `None` as `timeout` waits for ever. Returns nothing when
    /// the time is up.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<Option<WatchEvent>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut channel = self.channel.borrow_mut();
        loop {
            if let Some(event) = channel.events.pop_front() {
                return Ok(Some(event));
            }
            while let Some(message) = channel.next_buffered()? {
                channel.keep_event(&message)?;
            }
            if !channel.events.is_empty() {
                continue;
            }
            if !channel.wait_readable(deadline)? {
                return Ok(None);
            }
            if let Err(error) = channel.fill() {
                channel.reconnect(error)?;
            }
        }
    }

    /// Returns a descriptor that becomes readable when something arrives.
    ///
    /// Take all events with [`Client::next_event`] and a zero timeout before waiting for it:
    /// events that came among replies make it readable no more.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn event_fd(&self) -> Result<OwnedFd> {
        Ok(self.channel.borrow().file.as_fd().try_clone_to_owned()?)
    }

    /// Connects a domain: its ring is at frame `gfn`, its end of the event channel is `port`.
    ///
    /// # Errors
    ///
    /// EACCES from other domains, EINVAL where the ring or the channel cannot be used.
    pub fn introduce(&self, domid: u16, gfn: u64, port: u32) -> Result<()> {
        let payload = strings(&[&domid.to_string(), &gfn.to_string(), &port.to_string()]);
        self.ask(Kind::Introduce, 0, &payload).map(drop)
    }

    /// Disconnects a domain.
    ///
    /// # Errors
    ///
    /// ENOENT where it is not connected.
    pub fn release(&self, domid: u16) -> Result<()> {
        self.ask(Kind::Release, 0, &strings(&[&domid.to_string()])).map(drop)
    }

    /// Lets the domain's next shutdown be reported again.
    ///
    /// # Errors
    ///
    /// ENOENT where it is not connected.
    pub fn resume(&self, domid: u16) -> Result<()> {
        self.ask(Kind::Resume, 0, &strings(&[&domid.to_string()])).map(drop)
    }

    /// Gives `domid` the rights of `target`.
    ///
    /// # Errors
    ///
    /// ENOENT where either is not connected.
    pub fn set_target(&self, domid: u16, target: u16) -> Result<()> {
        let payload = strings(&[&domid.to_string(), &target.to_string()]);
        self.ask(Kind::SetTarget, 0, &payload).map(drop)
    }

    /// Returns whether a domain is connected.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn is_introduced(&self, domid: u16) -> Result<bool> {
        let reply = self.ask(Kind::IsDomainIntroduced, 0, &strings(&[&domid.to_string()]))?;
        Ok(reply.first() == Some(&b'T'))
    }

    /// Returns the path that a domain's relative paths stand under.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn get_domain_path(&self, domid: u16) -> Result<String> {
        let reply = self.ask(Kind::GetDomainPath, 0, &strings(&[&domid.to_string()]))?;
        Ok(text(&reply))
    }

    /// Sends a command to the daemon itself and returns its words.
    ///
    /// # Errors
    ///
    /// EINVAL for a command it does not know.
    pub fn control(&self, words: &[&str]) -> Result<String> {
        self.ask(Kind::Control, 0, &strings(words)).map(|reply| text(&reply))
    }

    fn ask(&self, kind: Kind, transaction_id: u32, payload: &[u8]) -> Result<Vec<u8>> {
        let describe = || describe(kind, payload);
        let mut channel = self.channel.borrow_mut();
        let mut resends = 0;
        let reply = loop {
            match channel.exchange(kind, transaction_id, payload) {
                Err(error @ Error::Connection(_)) if resends < RESENDS => {
                    channel.reconnect(error)?;
                    resends += 1;
                    if transaction_id != 0 {
                        return Err(lost(describe()));
                    }
                }
                outcome => break outcome?,
            }
        };
        if reply.kind == kind.number() {
            return Ok(reply.payload);
        }
        if reply.kind != Kind::Error.number() {
            return Err(Error::Protocol("a reply of another kind"));
        }
        let name = reply.payload.strip_suffix(b"\0").unwrap_or(&reply.payload);
        let failure = Failure::from_name(name).unwrap_or(Failure::EINVAL);
        Err(Error::Refused { what: describe(), failure })
    }
}

impl Store for Client {
    fn request(&self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>> {
        self.ask(kind, 0, payload)
    }
}

/// A transaction that went with its daemon, as the server would say it.
fn lost(what: String) -> Error {
    Error::Refused { what, failure: Failure::EAGAIN }
}

/// A transaction: nobody sees its writes before [`Transaction::commit`].
#[derive(Debug)]
pub struct Transaction<'client> {
    client: &'client Client,
    id: u32,
    open: bool,
    generation: u64,
}

impl Transaction<'_> {
    /// Makes all writes visible at once.
    ///
    /// # Errors
    ///
    /// EAGAIN where others changed what this transaction touched.
    pub fn commit(mut self) -> Result<()> {
        self.open = false;
        self.ask(Kind::TransactionEnd, b"T\0").map(drop)
    }

    /// Drops all writes.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn abort(mut self) -> Result<()> {
        self.open = false;
        self.ask(Kind::TransactionEnd, b"F\0").map(drop)
    }

    fn ask(&self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>> {
        if self.generation != self.client.generation() {
            // Another daemon may have given its number to another transaction.
            return Err(lost(describe(kind, payload)));
        }
        self.client.ask(kind, self.id, payload)
    }
}

impl Store for Transaction<'_> {
    fn request(&self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>> {
        self.ask(kind, payload)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // A connection that broke has no transaction any more, so a failure changes nothing.
            drop(self.ask(Kind::TransactionEnd, b"F\0"));
        }
    }
}

#[derive(Debug)]
struct Channel {
    file: File,
    decoder: Decoder,
    events: VecDeque<WatchEvent>,
    next_request: u32,
    /// Where the daemon is found again; nothing for the kernel's connection.
    socket: Option<PathBuf>,
    watches: Vec<Watch>,
    generation: u64,
    /// How long a daemon that went away is waited for.
    patience: Duration,
}

#[derive(Clone, Debug)]
struct Watch {
    path: String,
    token: String,
    depth: Option<u32>,
}

impl Watch {
    fn payload(&self) -> Vec<u8> {
        match self.depth {
            Some(depth) => strings(&[&self.path, &self.token, &depth.to_string()]),
            None => strings(&[&self.path, &self.token]),
        }
    }
}

impl Channel {
    fn exchange(&mut self, kind: Kind, transaction_id: u32, payload: &[u8]) -> Result<Message> {
        let request_id = self.next_request;
        self.next_request = request_id.wrapping_add(1);
        let bytes =
            Message { kind: kind.number(), request_id, transaction_id, payload: payload.to_vec() }
                .encode()
                .ok_or_else(|| Error::TooLong { what: describe(kind, payload) })?;
        self.file.write_all(&bytes)?;
        self.reply_to(request_id)
    }

    /// Connects to the daemon that comes after one that went away, and watches what was watched.
    ///
    /// `error` is what tells that it went; it is returned where none comes in time.
    fn reconnect(&mut self, error: Error) -> Result<()> {
        let (Error::Connection(_), Some(socket)) = (&error, self.socket.clone()) else {
            return Err(error);
        };
        let deadline = Instant::now() + self.patience;
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                self.file = File::from(OwnedFd::from(stream));
                self.decoder.clear();
                self.generation += 1;
                match self.watch_again() {
                    Err(Error::Connection(_)) => {}
                    outcome => return outcome,
                }
            }
            if Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn watch_again(&mut self) -> Result<()> {
        for watch in self.watches.clone() {
            self.exchange(Kind::Watch, 0, &watch.payload())?;
        }
        Ok(())
    }

    fn reply_to(&mut self, request_id: u32) -> Result<Message> {
        loop {
            while let Some(message) = self.next_buffered()? {
                if message.kind == Kind::WatchEvent.number() {
                    self.keep_event(&message)?;
                } else if message.request_id == request_id {
                    return Ok(message);
                }
            }
            self.fill()?;
        }
    }

    fn next_buffered(&mut self) -> Result<Option<Message>> {
        self.decoder.next_message().map_err(|_| Error::Protocol("a payload over 4096 bytes"))
    }

    fn keep_event(&mut self, message: &Message) -> Result<()> {
        if message.kind == Kind::WatchEvent.number() {
            let mut words = split_strings(&message.payload).into_iter();
            let (Some(path), Some(token)) = (words.next(), words.next()) else {
                return Err(Error::Protocol("a watch event without path and token"));
            };
            self.events.push_back(WatchEvent { path, token });
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let mut bytes = [0; PAYLOAD_MAX];
        let count = self.file.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.decoder.extend(bytes.get(..count).unwrap_or_default());
        Ok(())
    }

    fn wait_readable(&self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll_readable(self.file.as_fd(), timeout.as_ref()) {
                Ok(ready) => return Ok(ready),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
}

fn poll_readable(fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> rustix::io::Result<bool> {
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timeout)
        .map(|ready| ready > 0)
}

fn directory_by_parts(store: &(impl Store + ?Sized), path: &str) -> Result<Vec<String>> {
    'again: loop {
        let mut list = Vec::new();
        let mut generation = None;
        loop {
            let payload = strings(&[path, &list.len().to_string()]);
            let reply = store.request(Kind::DirectoryPart, &payload)?;
            let end = reply
                .iter()
                .position(|byte| *byte == 0)
                .ok_or(Error::Protocol("a part without a generation"))?;
            let (seen, part) = reply.split_at(end);
            if *generation.get_or_insert_with(|| seen.to_vec()) != seen {
                continue 'again;
            }
            let part = part.get(1..).unwrap_or_default();
            // The list ends with an empty name: one nul more than its last name has.
            if let Some(names) =
                part.strip_suffix(b"\0").filter(|names| names.is_empty() || names.ends_with(b"\0"))
            {
                list.extend_from_slice(names);
                return Ok(split_strings(&list));
            }
            if part.is_empty() {
                return Ok(split_strings(&list));
            }
            list.extend_from_slice(part);
        }
    }
}

fn absent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.failure() == Some(Failure::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreachable(path: &Path, source: io::Error) -> Error {
    Error::Unreachable { path: path.display().to_string(), source }
}

fn describe(kind: Kind, payload: &[u8]) -> String {
    let first = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    format!("xenstore {kind:?} {}", String::from_utf8_lossy(first))
}

fn strings(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend_from_slice(word.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn split_strings(bytes: &[u8]) -> Vec<String> {
    bytes
        .strip_suffix(b"\0")
        .map(|list| list.split(|byte| *byte == 0).map(text).collect())
        .unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
}

fn number(reply: &[u8]) -> Option<u32> {
    text(reply).parse().ok()
}
