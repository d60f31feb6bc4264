//! Asking a server: one request at a time, its answer checked.

use super::message::{Entry, HEADER, Malformed, Reader, Writer, kind};
use alloc::string::String;
use alloc::vec::Vec;

/// The tag of all requests but the first, which has none.
const TAG: u16 = 1;
const NO_TAG: u16 = u16::MAX;
const NO_FID: u32 = u32::MAX;
/// The fid of the folder that is shared.
const ROOT: u32 = 0;
const VERSION: &str = "9P2000.u";
/// Bytes of a message that are not its data, at the most.
const OVERHEAD: u32 = 24;
const TRUNCATE: u8 = 0x10;

/// How messages travel.
pub trait Transport {
    /// Why they do not.
    type Error;
    /// Sends a request and returns its answer: a whole message, of at most `max` bytes.
    fn exchange(&mut self, request: &[u8], max: u32) -> Result<Vec<u8>, Self::Error>;
}

/// Why something with the folder failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum P9Error<E> {
    /// The transport.
    Transport(E),
    /// The server refused, with one of Linux's error numbers.
    Refused {
        /// The number.
        errno: u32,
        /// The server's words.
        text: String,
    },
    /// The server sent something no honest one sends; it says what.
    Lied(&'static str),
    /// The path has a part that is empty, `.`, `..`, or too many parts.
    Path,
}

impl<E> From<Malformed> for P9Error<E> {
    fn from(_: Malformed) -> Self {
        Self::Lied("a message is malformed")
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
    /// Writing anew: what was there is lost.
    Replace,
}

impl Mode {
    fn number(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::ReadWrite => 2,
            Self::Replace => 1 | TRUNCATE,
        }
    }
}

/// An open file, good until it is closed.
#[derive(Debug)]
pub struct File {
    fid: u32,
}

/// A connection to a folder.
pub struct Client<T> {
    transport: T,
    max: u32,
    next: u32,
    free: Vec<u32>,
}

type Answer<R, T> = Result<R, P9Error<<T as Transport>::Error>>;

impl<T: Transport> Client<T> {
    /// Makes a client for messages of at most `max` bytes; [`connect`](Self::connect) comes first.
    pub fn new(transport: T, max: u32) -> Self {
        Self { transport, max, next: ROOT + 1, free: Vec::new() }
    }

    /// Agrees with the server on the size of messages and takes up the folder.
    pub fn connect(&mut self) -> Answer<(), T> {
        let hello = Writer::new(kind::VERSION, NO_TAG).u32(self.max).text(VERSION);
        let answer = self.ask(kind::VERSION, hello)?;
        let mut answer = Reader::new(&answer);
        let agreed = answer.u32()?;
        if agreed > self.max || agreed < 2 * OVERHEAD {
            return Err(P9Error::Lied("the server wants messages of another size"));
        }
        if answer.text()? != VERSION {
            return Err(P9Error::Refused { errno: 0, text: String::from("another version") });
        }
        self.max = agreed;
        let attach = Writer::new(kind::ATTACH, TAG).u32(ROOT).u32(NO_FID).text("").text("").u32(0);
        self.ask(kind::ATTACH, attach).map(drop)
    }

    /// Returns the transport.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Asks; returns what follows the answer's header.
    fn ask(&mut self, asked: u8, request: Writer) -> Answer<Vec<u8>, T> {
        let request = request.finish();
        let mut answer = self.transport.exchange(&request, self.max).map_err(P9Error::Transport)?;
        let tag = if asked == kind::VERSION { NO_TAG } else { TAG };
        let (kind, answered, mut rest) = Reader::message(&answer)?;
        if answered != tag {
            return Err(P9Error::Lied("an answer is to another request"));
        }
        if kind == kind::ERROR + 1 {
            let text = rest.text()?;
            return Err(P9Error::Refused { errno: rest.u32()?, text });
        }
        if kind != asked + 1 {
            return Err(P9Error::Lied("an answer is of another kind"));
        }
        answer.drain(..HEADER);
        Ok(answer)
    }

    fn fid(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Goes to a path from the folder: names with `/` between them; nothing is the folder itself.
    fn walk(&mut self, path: &str) -> Answer<u32, T> {
        const MOST: usize = 16;
        let path = path.trim_matches('/');
        let names: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        if names.len() > MOST || names.iter().any(|name| matches!(*name, "" | "." | "..")) {
            return Err(P9Error::Path);
        }
        let fid = self.fid();
        let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
        let mut request = Writer::new(kind::WALK, TAG).u32(ROOT).u32(fid).u16(count);
        for name in &names {
            request = request.text(name);
        }
        let answer = self.ask(kind::WALK, request);
        let reached = match answer {
            Ok(answer) => Reader::new(&answer).u16()?,
            Err(error) => {
                self.free.push(fid);
                return Err(error);
            }
        };
        if reached > count {
            return Err(P9Error::Lied("it went further than asked"));
        }
        if reached < count {
            // The fid is not in use then.
            self.free.push(fid);
            return Err(P9Error::Refused { errno: 2, text: String::from("no such name") });
        }
        Ok(fid)
    }

    fn forget(&mut self, asked: u8, fid: u32) -> Answer<(), T> {
        let done = self.ask(asked, Writer::new(asked, TAG).u32(fid));
        // Whatever the server says, the fid is gone.
        self.free.push(fid);
        done.map(drop)
    }

    /// Opens a file.
    pub fn open(&mut self, path: &str, mode: Mode) -> Answer<File, T> {
        let fid = self.walk(path)?;
        let request = Writer::new(kind::OPEN, TAG).u32(fid).u8(mode.number());
        match self.ask(kind::OPEN, request) {
            Ok(_) => Ok(File { fid }),
            Err(error) => {
                let _ = self.forget(kind::CLUNK, fid);
                Err(error)
            }
        }
    }

    /// Makes a new file, open for reading and writing, which its owner alone may use.
    pub fn create(&mut self, path: &str) -> Answer<File, T> {
        let path = path.trim_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(P9Error::Path);
        }
        let fid = self.walk(folder)?;
        let request = Writer::new(kind::CREATE, TAG).u32(fid).text(name).u32(0o600);
        match self.ask(kind::CREATE, request.u8(Mode::ReadWrite.number()).text("")) {
            Ok(_) => Ok(File { fid }),
            Err(error) => {
                let _ = self.forget(kind::CLUNK, fid);
                Err(error)
            }
        }
    }

    /// Reads from a place of a file; returns how many bytes came, 0 at its end.
    pub fn read(&mut self, file: &File, offset: u64, to: &mut [u8]) -> Answer<usize, T> {
        let most = (self.max - OVERHEAD) as usize;
        let asked = u32::try_from(to.len().min(most)).unwrap_or(u32::MAX);
        let request = Writer::new(kind::READ, TAG).u32(file.fid).u64(offset).u32(asked);
        let answer = self.ask(kind::READ, request)?;
        let mut answer = Reader::new(&answer);
        let count = answer.u32()?;
        if count > asked {
            return Err(P9Error::Lied("it read more than asked"));
        }
        let bytes = answer.bytes(count as usize)?;
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(bytes.len())
    }

    /// Writes to a place of a file; returns how many bytes went.
    pub fn write(&mut self, file: &File, offset: u64, from: &[u8]) -> Answer<usize, T> {
        let most = (self.max - OVERHEAD) as usize;
        let from = from.get(..from.len().min(most)).unwrap_or_default();
        let asked = u32::try_from(from.len()).unwrap_or(u32::MAX);
        let request = Writer::new(kind::WRITE, TAG).u32(file.fid).u64(offset).u32(asked);
        let answer = self.ask(kind::WRITE, request.bytes(from))?;
        let count = Reader::new(&answer).u32()?;
        if count > asked {
            return Err(P9Error::Lied("it wrote more than asked"));
        }
        Ok(count as usize)
    }

    /// Closes a file.
    pub fn close(&mut self, file: File) -> Answer<(), T> {
        self.forget(kind::CLUNK, file.fid)
    }

    /// Removes a file or an empty folder.
    pub fn remove(&mut self, path: &str) -> Answer<(), T> {
        let fid = self.walk(path)?;
        self.forget(kind::REMOVE, fid)
    }

    /// Asks what a name is.
    pub fn stat(&mut self, path: &str) -> Answer<Entry, T> {
        let fid = self.walk(path)?;
        let answer = self.ask(kind::STAT, Writer::new(kind::STAT, TAG).u32(fid));
        self.forget(kind::CLUNK, fid)?;
        Ok(Entry::read_stat(&answer?)?)
    }

    /// Reads a whole file of at most `most` bytes.
    pub fn read_all(&mut self, path: &str, most: usize) -> Answer<Vec<u8>, T> {
        let file = self.open(path, Mode::Read)?;
        let result = self.drain(&file, most);
        self.close(file)?;
        result
    }

    fn drain(&mut self, file: &File, most: usize) -> Answer<Vec<u8>, T> {
        let mut all = Vec::new();
        loop {
            let before = all.len();
            all.resize(before + (self.max as usize).min(most + 1 - before.min(most)), 0);
            let count = {
                let to = all.get_mut(before..).unwrap_or_default();
                self.read(file, before as u64, to)?
            };
            all.truncate(before + count);
            if all.len() > most {
                return Err(P9Error::Refused { errno: 27, text: String::from("it is too long") });
            }
            if count == 0 {
                return Ok(all);
            }
        }
    }

    /// Writes a whole file, which is made if need be.
    pub fn write_all(&mut self, path: &str, bytes: &[u8]) -> Answer<(), T> {
        let file = match self.open(path, Mode::Replace) {
            Err(P9Error::Refused { errno: 2, .. }) => self.create(path)?,
            file => file?,
        };
        let mut at = 0;
        let mut result = Ok(());
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.write(&file, at as u64, rest) {
                Ok(0) => result = Err(P9Error::Lied("it wrote nothing")),
                Ok(count) => {
                    at += count;
                    continue;
                }
                Err(error) => result = Err(error),
            }
            break;
        }
        self.close(file)?;
        result
    }

    /// Lists a folder of at most a MiB of names.
    pub fn list(&mut self, path: &str) -> Answer<Vec<Entry>, T> {
        Ok(Entry::read_all(&self.read_all(path, 1 << 20)?)?)
    }
}
