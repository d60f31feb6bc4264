//! The file in which what the server wrote down is kept, for a daemon that comes after a kill.
//!
//! It lies in memory (`/run`) and is of one boot of the kernel: domains do not outlive it. It grows
//! by a frame a step and is written anew when most of it is of the past.

use std::fs::{File, OpenOptions, read, remove_file, rename};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xenstore::record::{self, Record};
use xenstore::server::{Restored, restore};

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// A file is not written anew before it has this many bytes.
const SHORTEST: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    boot: String,
    epoch: u32,
    file: Option<File>,
    length: u64,
    longest: u64,
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
        (Self { path, boot, epoch, file: None, length: 0, longest: 0 }, earlier)
    }

    /// Writes all there is, so that the file says that and nothing else.
    pub(crate) fn write(&mut self, snapshot: &[u8]) -> io::Result<()> {
        let mut records = Vec::new();
        let (boot, epoch) = (self.boot.as_str().into(), self.epoch);
        Record::Header { version: record::VERSION, boot, epoch }.encode(&mut records);
        records.extend_from_slice(snapshot);
        let frame = record::frame(&records);
        let new = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&frame)?;
        rename(&new, &self.path)?;
        self.file = Some(file);
        self.length = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        self.longest = self.length.saturating_mul(3).max(SHORTEST);
        Ok(())
    }

    /// Adds the records of a step.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(ErrorKind::NotFound.into()) };
        let frame = record::frame(records);
        file.write_all(&frame)?;
        self.length += u64::try_from(frame.len()).unwrap_or_default();
        Ok(())
    }

    /// Returns whether most of the file is of the past.
    pub(crate) fn is_long(&self) -> bool {
        self.length > self.longest
    }

    /// Takes the file away, since it would tell something else than what is.
    pub(crate) fn remove(&mut self) {
        self.file = None;
        // Without a file nothing is restored, and that is all that can be had.
        let _removed = remove_file(&self.path);
        let _removed = remove_file(self.path.with_extension("new"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_found_and_another_boots_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut state, earlier) = StateFile::open(&path);
        assert!(earlier.is_none());
        state.write(&[]).unwrap();
        let mut records = Vec::new();
        let permissions = vec![xenstore::permission::Permission::parse("n7").unwrap()];
        Record::Node { path: "/x".into(), value: b"1"[..].into(), permissions: permissions.into() }
            .encode(&mut records);
        state.append(&records).unwrap();
        let (mut next, earlier) = StateFile::open(&path);
        let earlier = earlier.unwrap();
        assert_eq!(earlier.server.tree().get("/x").unwrap().value, b"1");
        assert_eq!((earlier.epoch, next.epoch), (0, 1));
        next.boot.push('x');
        next.write(&[]).unwrap();
        assert!(StateFile::open(&path).1.is_none());
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
