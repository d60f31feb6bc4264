//! What can go wrong between us and the hypervisor, told so that a person can act on it.

use rustix::io::Errno;

use crate::ids::DomId;

/// Result of a call to the hypervisor or one of its device nodes.
pub type Result<T> = core::result::Result<T, Error>;

/// A failed call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// A device node could not be opened.
    #[error("cannot open {path}: {} (is this Dom0, and are the xen modules loaded?)", text(*.errno))]
    Open {
        /// The device node.
        path: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A hypercall was refused.
    #[error("{call}: {}", text(*.errno))]
    Call {
        /// The operation's name in the public headers.
        call: &'static str,
        /// The hypervisor's answer.
        errno: Errno,
    },
    /// A hypercall about one domain was refused.
    #[error("{call} on domain {domain}: {}", text(*.errno))]
    Domain {
        /// The operation's name in the public headers.
        call: &'static str,
        /// The domain asked about.
        domain: DomId,
        /// The hypervisor's answer.
        errno: Errno,
    },
    /// An operation on a device node was refused.
    #[error("{operation}: {}", text(*.errno))]
    Device {
        /// What was asked of the kernel.
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The hypervisor's answer does not fit its own interface.
    #[error("{call}: the hypervisor's answer makes no sense")]
    Nonsense {
        /// The operation's name in the public headers.
        call: &'static str,
    },
}

impl Error {
    /// The error number behind this error, if there is one.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. }
            | Self::Call { errno, .. }
            | Self::Domain { errno, .. }
            | Self::Device { errno, .. } => Some(*errno),
            Self::Nonsense { .. } => None,
        }
    }

    /// Whether the error number behind this error is `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno)
    }

    /// The same error, said of `domain`.
    #[must_use]
    pub fn of(self, domain: DomId) -> Self {
        match self {
            Self::Call { call, errno } => Self::Domain { call, domain, errno },
            other => other,
        }
    }
}

/// The name of an error number that hypercalls use (`public/errno.h`), for messages and logs.
pub const fn errno_name(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::SRCH => "ESRCH",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::TOOBIG => "E2BIG",
        Errno::NOEXEC => "ENOEXEC",
        Errno::BADF => "EBADF",
        Errno::CHILD => "ECHILD",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::FAULT => "EFAULT",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::XDEV => "EXDEV",
        Errno::NODEV => "ENODEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::INVAL => "EINVAL",
        Errno::NFILE => "ENFILE",
        Errno::MFILE => "EMFILE",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::MLINK => "EMLINK",
        Errno::DOM => "EDOM",
        Errno::RANGE => "ERANGE",
        Errno::DEADLK => "EDEADLK",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTEMPTY => "ENOTEMPTY",
        Errno::NODATA => "ENODATA",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::ILSEQ => "EILSEQ",
        Errno::NOTSUP => "EOPNOTSUPP",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::NOBUFS => "ENOBUFS",
        Errno::ISCONN => "EISCONN",
        Errno::NOTCONN => "ENOTCONN",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => "unknown error",
    }
}

/// The kernel's words for `errno`, with its name.
fn text(errno: Errno) -> String {
    let full = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let words = full.split(" (os error").next().unwrap_or(&full);
    format!("{words} ({})", errno_name(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_call_the_domain_and_the_number() {
        let error = Error::Call { call: "XEN_DOMCTL_pausedomain", errno: Errno::SRCH }.of(DomId(7));
        assert_eq!(
            error.to_string(),
            "XEN_DOMCTL_pausedomain on domain 7: No such process (ESRCH)"
        );
        assert!(error.is(Errno::SRCH));
    }
}
