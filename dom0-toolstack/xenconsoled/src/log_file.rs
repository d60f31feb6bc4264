//! Files that keep what guests and the hypervisor say.
//!
//! A guest decides how much it says, so each file has a limit: it must not fill Dom0's disk.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a file. The next byte begins another; the one before is kept, those before it are not.
const LIMIT: u64 = 16 << 20;

/// A log that is only ever added to, and of which the latest is kept.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// The bytes in the file, unless somebody else made it shorter.
    length: u64,
    limit: u64,
    style: Style,
    /// The next byte begins a line.
    line_start: bool,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Style {
    /// Begin lines with the time.
    pub(crate) stamp: bool,
    /// Write escape characters as dots.
    pub(crate) replace_escape: bool,
}

impl LogFile {
    /// Opens the log `name` in `directory`, making both where missing.
    pub(crate) fn open(directory: &Path, name: &str, style: Style) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(name);
        let (file, length) = append(&path)?;
        let mut log = Self { path, file, length, limit: LIMIT, style, line_start: true };
        if style.stamp {
            log.write(b"Logfile Opened\n")?;
        }
        Ok(log)
    }

    /// Opens the file anew by its name: the old one was rotated away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.length) = append(&self.path)?;
        Ok(())
    }

    /// Adds `bytes`, which are few beside the limit.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut text = if self.style.stamp {
            stamped(bytes, &mut self.line_start, &stamp(SystemTime::now()))
        } else {
            bytes.to_vec()
        };
        if self.style.replace_escape {
            for byte in text.iter_mut().filter(|byte| **byte == 0x1b) {
                *byte = b'.';
            }
        }
        let added = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.length.saturating_add(added) > self.limit {
            self.make_room(added)?;
        }
        self.length = self.length.saturating_add(added);
        self.file.write_all(&text)
    }

    /// Begins another file, unless `added` bytes have room in this one after all.
    fn make_room(&mut self, added: u64) -> io::Result<()> {
        // It may have been emptied, as `logrotate` does with `copytruncate`.
        self.length = self.file.metadata()?.len();
        if self.length.saturating_add(added) <= self.limit {
            return Ok(());
        }
        let mut earlier = self.path.clone().into_os_string();
        earlier.push(".1");
        match std::fs::rename(&self.path, earlier) {
            Ok(()) => self.reopen(),
            // Somebody else moved it away.
            Err(error) if error.kind() == ErrorKind::NotFound => self.reopen(),
            // The limit holds even where nothing can be kept.
            Err(_) => {
                self.file.set_len(0)?;
                self.length = 0;
                Ok(())
            }
        }
    }
}

/// Returns the name of a guest's log; what could leave the directory is replaced.
pub(crate) fn guest_log_name(guest: &str, suffix: &str) -> String {
    let safe: String = guest
        .chars()
        .map(|letter| if matches!(letter, '/' | '\0') { '_' } else { letter })
        .collect();
    format!("guest-{safe}{suffix}.log")
}

/// Opens a file to add to it; returns also how long it is.
fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Puts the time before each line; a carriage return after a line's end goes.
fn stamped(bytes: &[u8], line_start: &mut bool, stamp: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + stamp.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut line = line;
        if *line_start {
            while let Some(rest) = line.strip_prefix(b"\r") {
                line = rest;
            }
            if line.is_empty() {
                continue;
            }
            text.extend_from_slice(stamp.as_bytes());
        }
        text.extend_from_slice(line);
        *line_start = line.ends_with(b"\n");
    }
    text
}

/// Returns `[2026-11-22 16:00:00] ` in UTC.
fn stamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (days, time) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    format!(
        "[{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}] ",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// Returns year, month and day of a number of days since 1970-01-01, by the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that a leap day is a year's last; eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use xenstore::cage::Cage;
    use xenstore::daemon::Log;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "[1970-01-01 00:00:00] "),
            (951_782_399, "[2000-02-28 23:59:59] "),
            (951_782_400, "[2000-02-29 00:00:00] "),
            (1_735_689_599, "[2024-12-31 23:59:59] "),
            (1_795_363_200, "[2026-11-22 16:00:00] "),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn each_line_is_stamped_once_however_it_arrives() {
        let mut start = true;
        let mut text = Vec::new();
        for piece in ["ab", "c\r\n\r", "de\n", "\n"] {
            text.extend(stamped(piece.as_bytes(), &mut start, "T "));
        }
        assert_eq!(String::from_utf8(text).unwrap(), "T abc\r\nT de\nT \n");
    }

    #[test]
    fn a_log_rotated_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let style = Style { stamp: false, replace_escape: true };
        let name = guest_log_name("../x", "");
        let mut log = LogFile::open(&directory.path().join("new"), &name, style).unwrap();
        log.write(b"one\x1b[1m").unwrap();
        let path = directory.path().join("new/guest-.._x.log");
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        log.write(b"two").unwrap();
        log.reopen().unwrap();
        log.write(b"three").unwrap();
        assert_eq!(std::fs::read(directory.path().join("old")).unwrap(), b"one.[1mtwo");
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
    }

    /// A log `guest-x.log` of at most ten bytes, in a directory of its own.
    fn small_log(directory: &Path) -> LogFile {
        let style = Style { stamp: false, replace_escape: false };
        let mut log = LogFile::open(directory, &guest_log_name("x", ""), style).unwrap();
        log.limit = 10;
        log
    }

    fn content(directory: &Path, name: &str) -> String {
        std::fs::read_to_string(directory.join(name)).unwrap()
    }

    #[test]
    fn a_guest_that_never_stops_keeps_two_files_of_limited_size() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small_log(directory.path());
        for number in 0..100 {
            log.write(format!("{number:03}\n").as_bytes()).unwrap();
        }
        assert_eq!(content(directory.path(), "guest-x.log.1"), "096\n097\n");
        assert_eq!(content(directory.path(), "guest-x.log"), "098\n099\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_was_in_a_log_before_counts_and_what_was_taken_out_does_not() {
        let directory = tempfile::tempdir().unwrap();
        small_log(directory.path()).write(b"12345678").unwrap();
        let mut log = small_log(directory.path());
        log.write(b"abc").unwrap();
        assert_eq!(content(directory.path(), "guest-x.log.1"), "12345678");
        assert_eq!(content(directory.path(), "guest-x.log"), "abc");
        log.write(b"defghi").unwrap();
        log.file.set_len(0).unwrap();
        log.write(b"jkl").unwrap();
        assert_eq!(content(directory.path(), "guest-x.log.1"), "12345678");
        assert_eq!(content(directory.path(), "guest-x.log"), "jkl");
    }

    #[test]
    fn a_log_that_cannot_be_moved_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("guest-x.log.1")).unwrap();
        let mut log = small_log(directory.path());
        for piece in ["12345678", "abc"] {
            log.write(piece.as_bytes()).unwrap();
        }
        assert_eq!(content(directory.path(), "guest-x.log"), "abc");
    }

    #[test]
    fn a_caged_daemon_moves_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small_log(directory.path());
        let writes = vec![directory.path()];
        let cage = Cage { writes, reads: Vec::new(), runs_programs: false };
        // A thread can be caged by itself.
        std::thread::scope(|scope| {
            let caged = scope.spawn(|| {
                cage.close(&Log::open("test"));
                log.write(b"12345678").and_then(|()| log.write(b"abc")).unwrap();
            });
            caged.join().unwrap();
        });
        assert_eq!(content(directory.path(), "guest-x.log.1"), "12345678");
        assert_eq!(content(directory.path(), "guest-x.log"), "abc");
    }
}
