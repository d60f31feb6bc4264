//! Files that keep what guests and the hypervisor say.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A log that is only ever added to.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
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
        let file = append(&path)?;
        let mut log = Self { path, file, style, line_start: true };
        if style.stamp {
            log.write(b"Logfile Opened\n")?;
        }
        Ok(log)
    }

    /// Opens the file anew by its name: the old one was rotated away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }

    /// Adds `bytes`.
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
        self.file.write_all(&text)
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

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
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
}
