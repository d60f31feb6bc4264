//! The file in which what the server wrote down is kept, for a daemon that comes after a kill.
//!
//! It lies in memory (`/run`) and is of one boot of the kernel: domains do not outlive it. It grows
//! by a frame a step. When most of it is of the past, a new one is written beside it, a bit with each
//! step: first all there was when that began, then the steps since. Until the new one has everything
//! and takes its name, the old one counts and has each step.

use std::fs::{File, OpenOptions, read, remove_file, rename};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xenstore::record::{self, Frame, Record};
use xenstore::server::{Restored, Snapshot, restore};

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// A file is not written anew before it has this many bytes.
const SHORTEST: u64 = 1 << 20;
/// Bytes of a new file that are written with a step, beside as many as the step itself has.
const BIT: usize = 2 << 10;
/// Bytes of an old file that are given back with a step: all at once would take as long as many steps.
const GIVEN_BACK: u64 = 64 << 10;

/// The file.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    boot: String,
    epoch: u32,
    file: Option<File>,
    length: u64,
    longest: u64,
    new: Option<NewFile>,
    old: Option<OldFile>,
}

/// A file that will take the other's place.
#[derive(Debug)]
struct NewFile {
    file: File,
    length: u64,
    snapshot: Snapshot,
    /// The snapshot is written.
    complete: bool,
    /// Bytes of the other file that are in this one, or of before the snapshot.
    copied: u64,
    frame: Frame,
}

/// A file whose place another took.
#[derive(Debug)]
struct OldFile {
    file: File,
    length: u64,
}

impl StateFile {
    /// Looks at what an earlier daemon of this boot left at `path`.
    pub(crate) fn open(path: &Path) -> (Self, Option<Restored>) {
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned();
        let earlier = read(path)
            .ok()
            .and_then(|bytes| restore(record::read(&bytes).0))
            .filter(|restored| restored.boot == boot);
        let epoch = earlier.as_ref().map_or(0, |restored| restored.epoch.saturating_add(1));
        let path = path.to_owned();
        let file =
            Self { path, boot, epoch, file: None, length: 0, longest: 0, new: None, old: None };
        (file, earlier)
    }

    /// Writes all there is, so that the file says that and nothing else.
    pub(crate) fn write(&mut self, snapshot: Snapshot) -> io::Result<()> {
        // Nothing before the snapshot counts, whatever the file has.
        self.renew(snapshot)?;
        while self.new.is_some() {
            self.write_new(usize::MAX)?;
        }
        self.old = None;
        Ok(())
    }

    /// Begins to write the file anew; `snapshot` is what the file says now.
    pub(crate) fn renew(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(true).mode(0o600);
        let file = options.open(self.new_path())?;
        let mut frame = Frame::default();
        let (boot, epoch) = (self.boot.as_str().into(), self.epoch);
        frame.add(&Record::Header { version: record::VERSION, boot, epoch });
        let copied = self.length;
        let mut new = NewFile { file, length: 0, snapshot, complete: false, copied, frame };
        new.write_frame()?;
        self.new = Some(new);
        Ok(())
    }

    /// Adds the records of a step.
    pub(crate) fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        self.add(frame)?;
        if let Some(OldFile { file, length }) = &mut self.old {
            *length = length.saturating_sub(GIVEN_BACK);
            file.set_len(*length)?;
        }
        if self.old.as_ref().is_some_and(|old| old.length == 0) {
            self.old = None;
        }
        if self.new.is_some() {
            // More than the step added, so that it comes to an end.
            self.write_new(BIT + frame.len())?;
        }
        Ok(())
    }

    /// Returns whether most of the file is of the past, and nothing is done about it yet.
    pub(crate) fn is_long(&self) -> bool {
        self.length > self.longest && self.new.is_none()
    }

    /// Takes the file away, since it would tell something else than what is.
    pub(crate) fn remove(&mut self) {
        (self.file, self.new, self.old) = (None, None, None);
        self.length = 0;
        // Without a file nothing is restored, and that is all that can be had.
        let _removed = remove_file(&self.path);
        let _removed = remove_file(self.new_path());
    }

    fn add(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(ErrorKind::NotFound.into()) };
        file.write_all(frame)?;
        self.length += bytes(frame.len());
        Ok(())
    }

    /// Writes some of the new file, which takes its place when it has everything.
    fn write_new(&mut self, most: usize) -> io::Result<()> {
        let Some(new) = &mut self.new else { return Ok(()) };
        if !new.complete {
            new.snapshot.take(&mut new.frame, most);
            new.complete = new.frame.records().is_empty();
            if !new.complete {
                return new.write_frame();
            }
        }
        if let Some(file) = &self.file {
            new.copy(file, self.length, bytes(most))?;
        }
        if new.copied == self.length {
            self.take_place()?;
        }
        Ok(())
    }

    fn take_place(&mut self) -> io::Result<()> {
        rename(self.new_path(), &self.path)?;
        let Some(new) = self.new.take() else { return Ok(()) };
        self.old = self.file.replace(new.file).map(|file| OldFile { file, length: self.length });
        self.length = new.length;
        self.longest = self.length.saturating_mul(3).max(SHORTEST);
        Ok(())
    }

    fn new_path(&self) -> PathBuf {
        self.path.with_extension("new")
    }
}

impl NewFile {
    fn write_frame(&mut self) -> io::Result<()> {
        let frame = self.frame.seal();
        self.file.write_all(frame)?;
        self.length += bytes(frame.len());
        self.frame.clear();
        Ok(())
    }

    /// Copies at most so many bytes of the steps since the snapshot, of a file of this length.
    fn copy(&mut self, other: &File, length: u64, most: u64) -> io::Result<()> {
        let count = (length - self.copied).min(most);
        let mut steps = vec![0; usize::try_from(count).unwrap_or(BIT)];
        other.read_exact_at(&mut steps, self.copied)?;
        self.file.write_all(&steps)?;
        self.copied += bytes(steps.len());
        self.length += bytes(steps.len());
        Ok(())
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use xenstore::server::{ConnectionId, Server};
    use xenstore::wire::{Kind, Message};

    use super::*;

    type Nodes = Vec<(String, Vec<u8>)>;

    /// A server, what is written down of it, and the file.
    struct Kept {
        server: Server,
        tool: ConnectionId,
        state: StateFile,
        directory: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let mut server = Server::default();
            let tool = server.connect_tool();
            server.keep_journal();
            let (mut state, _) = StateFile::open(&directory.path().join("state"));
            state.write(server.snapshot(Vec::new(), &[])).unwrap();
            Self { server, tool, state, directory }
        }

        /// Has the server do something, and returns the frame of it.
        fn step(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
            let payload = payload.to_vec();
            let message =
                Message { kind: kind.number(), request_id: 0, transaction_id: 0, payload };
            self.server.handle(self.tool, &message);
            let journal = self.server.journal().unwrap();
            let frame = journal.seal().to_vec();
            journal.clear();
            frame
        }

        fn write(&mut self, path: &str, value: &[u8]) -> Vec<u8> {
            self.step(Kind::Write, &[path.as_bytes(), b"\0", value].concat())
        }

        fn renew(&mut self) {
            self.state.renew(self.server.snapshot(Vec::new(), &[])).unwrap();
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("state")
        }

        /// What a daemon started now would find.
        fn found(&self) -> Nodes {
            nodes(&StateFile::open(&self.path()).1.expect("there is a state").server)
        }

        fn is_told(&self) -> bool {
            self.found() == nodes(&self.server)
        }
    }

    fn nodes(server: &Server) -> Nodes {
        let all = server.tree().paths();
        let mut nodes: Nodes =
            all.map(|(path, node)| (path.to_string(), node.value.clone())).collect();
        nodes.sort();
        nodes
    }

    #[test]
    fn what_was_written_last_is_found_and_another_boots_is_not() {
        let mut kept = Kept::new();
        let frame = kept.write("/x", b"1");
        kept.state.append(&frame).unwrap();
        let (mut next, earlier) = StateFile::open(&kept.path());
        let earlier = earlier.unwrap();
        assert_eq!(earlier.server.tree().get("/x").unwrap().value, b"1");
        assert_eq!((earlier.epoch, next.epoch), (0, 1));
        next.boot.push('x');
        next.write(kept.server.snapshot(Vec::new(), &[])).unwrap();
        assert!(StateFile::open(&kept.path()).1.is_none());
    }

    #[test]
    fn whenever_the_daemon_is_killed_the_file_has_all_steps_that_were_added() {
        let mut kept = Kept::new();
        for round in 0..2_u8 {
            for number in 0..100_u16 {
                kept.write(&format!("/r{round}/n{number}/x"), &[round; 50]);
            }
            kept.state.write(kept.server.snapshot(Vec::new(), &[])).unwrap();
            assert!(kept.is_told());
            kept.renew();
            for number in 0.. {
                let frame = match number % 3 {
                    0 => kept.write(&format!("/r{round}/n{number}/y"), &[b'y'; 400]),
                    1 => kept.write(&format!("/new/r{round}/n{number}"), b""),
                    _ => kept.step(Kind::Rm, format!("/r{round}/n{}\0", number - 1).as_bytes()),
                };
                let before = kept.found();
                kept.state.add(&frame).unwrap();
                assert!(kept.is_told(), "{number} was added");
                // Killed while it was added.
                let file = read(kept.path()).unwrap();
                for cut in [1, frame.len() / 2, frame.len() - 1] {
                    std::fs::write(kept.path(), &file[..file.len() - cut]).unwrap();
                    assert_eq!(kept.found(), before);
                }
                std::fs::write(kept.path(), &file).unwrap();
                if kept.state.new.is_none() {
                    break;
                }
                kept.state.write_new(BIT + frame.len()).unwrap();
                assert!(kept.is_told(), "{number} was added, and a bit of the new file");
            }
        }
    }

    #[test]
    fn a_long_file_is_written_anew_bit_by_bit_and_the_old_one_given_back() {
        let mut kept = Kept::new();
        for number in 0..2000 {
            kept.write(&format!("/n{number}"), &[b'x'; 100]);
        }
        kept.state.write(kept.server.snapshot(Vec::new(), &[])).unwrap();
        let shortest = kept.state.length;
        let (mut renewals, mut longest) = (0, 0);
        for number in 0..20_000 {
            let frame = kept.write(&format!("/n{}", number % 7), &[b'y'; 300]);
            let written = kept.state.new.as_ref().map_or(0, |new| new.length);
            kept.state.append(&frame).unwrap();
            if let Some(new) = &kept.state.new {
                assert!(new.length - written < bytes(3 * BIT), "{} at once", new.length - written);
            }
            if kept.state.is_long() {
                kept.renew();
                renewals += 1;
            }
            longest = longest.max(kept.state.length);
        }
        assert!((3..12).contains(&renewals), "{renewals} times");
        assert!(longest < SHORTEST + shortest, "{longest} bytes");
        assert!(kept.state.old.is_none());
        assert!(kept.is_told());
    }

    #[test]
    fn a_new_file_that_was_left_half_written_is_begun_again() {
        let mut kept = Kept::new();
        for number in 0..100 {
            kept.write(&format!("/n{number}"), &[b'x'; 100]);
        }
        kept.state.write(kept.server.snapshot(Vec::new(), &[])).unwrap();
        kept.renew();
        let frame = kept.write("/a", b"1");
        kept.state.append(&frame).unwrap();
        assert!(kept.state.new.is_some() && kept.is_told());
        let (mut state, earlier) = StateFile::open(&kept.path());
        state.write(earlier.unwrap().server.snapshot(Vec::new(), &[])).unwrap();
        assert!(kept.is_told() && !kept.state.new_path().exists());
    }

    #[test]
    fn a_file_that_is_none_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for bytes in [&b""[..], b"rubbish", &[0; 100], &[0xff; 100]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(StateFile::open(&path).1.is_none());
        }
    }
}
