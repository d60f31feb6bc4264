//! Programs that are connected through the socket.

use std::collections::BTreeMap;
use std::fs::{Permissions, create_dir_all, remove_file, set_permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use xenstore::server::ConnectionId;
use xenstore::wire::{Decoder, Message};

/// The token of a connection is this plus its number.
const FIRST_TOKEN: usize = 16;
/// Bytes that are asked for when a program may have sent some.
const READ_AT_ONCE: usize = 4096;

/// The listening socket, removed when the daemon ends.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, which only the owner may use.
    pub(crate) fn bind(path: &Path, registry: &Registry, token: Token) -> anyhow::Result<Self> {
        let failed = || format!("cannot listen at {}", path.display());
        if let Some(directory) = path.parent() {
            create_dir_all(directory).with_context(failed)?;
        }
        if UnixStream::connect(path).is_ok_and(|stream| stream.peer_addr().is_ok()) {
            anyhow::bail!("another xenstored listens at {}", path.display());
        }
        match remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
        let mut listener = UnixListener::bind(path).with_context(failed)?;
        set_permissions(path, Permissions::from_mode(0o600)).with_context(failed)?;
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Goes on listening where an earlier program listened.
    pub(crate) fn adopt(
        descriptor: OwnedFd,
        path: &Path,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut listener = UnixListener::from_std(descriptor.into());
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Takes the next program that wants to connect, if one does.
    pub(crate) fn accept(&self) -> Option<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Out of descriptors or gone again: the next arrival tells.
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _removed = remove_file(&self.path);
    }
}

/// The connected programs.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    sockets: BTreeMap<ConnectionId, Socket>,
    /// What is read at once, kept so that it need not be cleared each time.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Socket {
    stream: UnixStream,
    decoder: Decoder,
    readable: bool,
    /// The socket took no more, and the poll tells when it does.
    blocked: bool,
}

/// The program went away or broke the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closed;

impl Sockets {
    /// Adds a program, of whose next messages `partial` was read already.
    pub(crate) fn add(
        &mut self,
        id: ConnectionId,
        mut stream: UnixStream,
        partial: &[u8],
        registry: &Registry,
    ) -> io::Result<()> {
        registry.register(&mut stream, token(id), Interest::READABLE)?;
        let mut decoder = Decoder::default();
        decoder.extend(partial);
        let socket = Socket { stream, decoder, readable: true, blocked: false };
        self.sockets.insert(id, socket);
        Ok(())
    }

    /// Returns all programs, with what was read of their next messages and their sockets.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ConnectionId, &[u8], BorrowedFd<'_>)> {
        let all = self.sockets.iter();
        all.map(|(id, socket)| (*id, socket.decoder.rest(), socket.stream.as_fd()))
    }

    /// Returns whether this connection is a program's.
    pub(crate) fn contains(&self, id: ConnectionId) -> bool {
        self.sockets.contains_key(&id)
    }

    /// Forgets a program. Closing its descriptor, of which there is no other, takes it out of the
    /// poll.
    pub(crate) fn remove(&mut self, id: ConnectionId) {
        self.sockets.remove(&id);
    }

    /// Notes that something arrived, and returns whose.
    pub(crate) fn arrived(&mut self, token: Token) -> Option<ConnectionId> {
        let number = token.0.checked_sub(FIRST_TOKEN)?;
        let id = ConnectionId(u32::try_from(number).ok()?);
        self.sockets.get_mut(&id)?.readable = true;
        Some(id)
    }

    /// Takes the next message of a program; nothing where it has not arrived whole.
    pub(crate) fn next_message(&mut self, id: ConnectionId) -> Result<Option<Message>, Closed> {
        let Some(socket) = self.sockets.get_mut(&id) else { return Ok(None) };
        loop {
            if let Some(message) = socket.decoder.next_message().map_err(|_| Closed)? {
                return Ok(Some(message));
            }
            if !socket.readable {
                return Ok(None);
            }
            self.buffer.resize(READ_AT_ONCE, 0);
            match socket.stream.read(&mut self.buffer) {
                Ok(0) => return Err(Closed),
                Ok(count) => {
                    // Less than asked for is all there was: what comes next is told again.
                    socket.readable = count == READ_AT_ONCE;
                    socket.decoder.extend(self.buffer.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => socket.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
    }

    /// Returns whether more may be had from a program without waiting.
    pub(crate) fn has_more(&self, id: ConnectionId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| socket.readable || socket.decoder.pending() > 0)
    }

    /// Sends as many of `bytes` as the socket takes now and returns how many.
    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        registry: &Registry,
    ) -> Result<usize, Closed> {
        let Some(socket) = self.sockets.get_mut(&id) else { return Ok(0) };
        loop {
            match socket.stream.write(bytes) {
                Ok(count) => {
                    socket.watch_room(id, count < bytes.len(), registry)?;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.watch_room(id, true, registry)?;
                    return Ok(0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
    }
}

impl Socket {
    /// Waits for room only while there is none: each answer that is read would wake us otherwise.
    fn watch_room(
        &mut self,
        id: ConnectionId,
        blocked: bool,
        registry: &Registry,
    ) -> Result<(), Closed> {
        if self.blocked == blocked {
            return Ok(());
        }
        self.blocked = blocked;
        let interest =
            if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(&mut self.stream, token(id), interest).map_err(|_| Closed)
    }
}

fn token(id: ConnectionId) -> Token {
    Token(usize::try_from(id.0).unwrap_or(usize::MAX).saturating_add(FIRST_TOKEN))
}
