//! How a command ends: its exit status and what is said on standard error.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// It was used wrongly: said so, with its usage.
    Usage(String),
    /// The same where Xen's xl ends as if it had failed.
    Misuse(String),
    /// It could not be done; the number is the exit status that Xen's xl has for it.
    Failed(u8, String),
    /// What had to be said was said.
    Silent(u8),
}

/// Exit status for what could not be done.
pub const FAILURE: u8 = 1;
/// Exit status of a command used wrongly.
pub const USAGE: u8 = 2;
/// Exit status of `create` where there is no domain afterwards (libxl's ERROR_FAIL, negated).
pub const NOT_CREATED: u8 = 3;
/// Exit status of `create` without a configuration (libxl's ERROR_INVAL, negated).
pub const NO_CONFIG: u8 = 6;

/// Result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl From<toolstack::Error> for Failure {
    fn from(error: toolstack::Error) -> Self {
        match error {
            // Word for word what scripts have matched for years.
            toolstack::Error::NoSuchDomain { .. } => {
                Self::Failed(FAILURE, format!("{error} (rc=-6)"))
            }
            error => Self::Failed(FAILURE, format!("xl: {error}")),
        }
    }
}

impl From<xen_sys::Error> for Failure {
    fn from(error: xen_sys::Error) -> Self {
        toolstack::Error::from(error).into()
    }
}

impl From<xenstore::client::Error> for Failure {
    fn from(error: xenstore::client::Error) -> Self {
        toolstack::Error::from(error).into()
    }
}

impl Failure {
    /// The same, with another exit status.
    #[must_use]
    pub fn with_status(self, status: u8) -> Self {
        match self {
            Self::Failed(_, text) => Self::Failed(status, text),
            other => other,
        }
    }

    /// Says what there is to say, and returns the exit status.
    pub fn report(&self, usage: &str) -> ExitCode {
        match self {
            Self::Usage(text) | Self::Misuse(text) => {
                eprintln!("{text}\n");
                // Where the usage goes to standard output scripts can page it, as with Xen's xl.
                let _ = print(usage);
                ExitCode::from(if matches!(self, Self::Usage(_)) { USAGE } else { FAILURE })
            }
            Self::Failed(status, text) => {
                eprintln!("{text}");
                ExitCode::from(*status)
            }
            Self::Silent(status) => ExitCode::from(*status),
        }
    }
}

/// Prints `text`; a reader that went away is no failure of ours.
pub fn print(text: &str) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(FAILURE, format!("xl: cannot write: {error}")))
        }
        _ => Ok(()),
    }
}
