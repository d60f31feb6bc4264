//! A daemon's cage: the system calls and the files that are left to it once it serves.
//!
//! A guest that takes a daemon over through its ring gets what the daemon can do. seccomp takes
//! away the calls that it never makes, Landlock the files that it never writes. Both hold for what
//! the daemon runs too, and for the program that a live update puts in its place.
//!
//! A call that is not on the list fails with `ENOSYS`, as on a kernel that lacks it, and kills
//! nobody. The C library and the standard library then fall back on an older call; and a call that
//! we forgot must not end the daemon that all guests depend on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::daemon::Log;

/// Set in the environment of a program that is in its predecessor's cage.
///
/// A second cage inside the first would hold no more, and Linux allows 16 of Landlock's.
pub const CAGED: &str = "DOMUS_CAGED";

/// What a daemon needs while it serves.
#[derive(Clone, Debug)]
pub struct Cage<'daemon> {
    /// The directories in which it makes, writes and removes files.
    pub writes: Vec<&'daemon Path>,
    /// The directories in which it reads files, and runs programs if it runs any.
    pub reads: Vec<&'daemon Path>,
    /// Whether it runs programs.
    pub runs_programs: bool,
}

impl Cage<'_> {
    /// Locks this process in, for good. What the kernel cannot do is left out, with a line that
    /// says so.
    pub fn close(&self, log: &Log) {
        if std::env::var_os(CAGED).is_some() {
            return;
        }
        match self.close_files() {
            Ok(RulesetStatus::FullyEnforced) => {}
            Ok(RulesetStatus::PartiallyEnforced) => {
                log.line("this kernel's Landlock is old: it protects files only in part");
            }
            Ok(RulesetStatus::NotEnforced) => {
                log.line("this kernel has no Landlock: the daemon may reach all files");
            }
            Err(error) => {
                log.line(format_args!("no Landlock, the daemon may reach all files: {error:#}"));
            }
        }
        if let Err(error) = self.close_calls() {
            log.line(format_args!("no seccomp, the daemon may make all system calls: {error:#}"));
        }
    }

    fn close_files(&self) -> anyhow::Result<RulesetStatus> {
        // Those of Linux 6.2; on an older kernel the crate leaves out what that lacks.
        let all = AccessFs::from_all(ABI::V3);
        let mut read = AccessFs::ReadFile | AccessFs::ReadDir;
        // What is only written is not run: no right to execute is given there.
        let written =
            all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::Refer);
        if self.runs_programs {
            read |= AccessFs::Execute;
        }
        let status = Ruleset::default()
            .handle_access(all)?
            .create()?
            .add_rules(path_beneath_rules(&self.reads, read))?
            .add_rules(path_beneath_rules(&self.writes, written))?
            .restrict_self()?;
        Ok(status.ruleset)
    }

    fn close_calls(&self) -> anyhow::Result<()> {
        let program = self.filter().context("cannot make the filter")?;
        Ok(apply_filter(&program)?)
    }

    fn filter(&self) -> anyhow::Result<BpfProgram> {
        let local = [libc::SYS_socket, libc::SYS_socketpair].map(|call| (call, Argument::LOCAL));
        let own = [(libc::SYS_prlimit64, Argument::OWN)];
        let memory = [libc::SYS_mmap, libc::SYS_mprotect];
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            CALLS.iter().chain(OLD_CALLS).map(|call| (*call, Vec::new())).collect();
        for (call, argument) in local.into_iter().chain(own) {
            rules.insert(call, vec![argument.rule()?]);
        }
        for call in memory {
            // The loader of a program maps code.
            let rule = if self.runs_programs { vec![] } else { vec![Argument::NO_CODE.rule()?] };
            rules.insert(call, rule);
        }
        if self.runs_programs {
            rules.extend(PROGRAM_CALLS.iter().map(|call| (*call, Vec::new())));
        }
        let target = TargetArch::try_from(std::env::consts::ARCH)?;
        let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, target)?;
        Ok(filter.try_into()?)
    }
}

/// Takes the calls away by which a program changes the kernel or looks into other programs.
///
/// For a program that makes guests and runs hotplug scripts. These open any image, mount, and make
/// interfaces: a list of what they need would have nearly all calls in it.
///
/// # Errors
///
/// The kernel has no seccomp.
pub fn leave_the_kernel_alone() -> anyhow::Result<()> {
    let denied = KERNEL_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, refused, target)?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}

/// What an argument of a call must be.
struct Argument {
    index: u8,
    comparison: SeccompCmpOp,
    value: u64,
}

impl Argument {
    /// Sockets of this machine, never of a network.
    const LOCAL: Self = Self { index: 0, comparison: SeccompCmpOp::Eq, value: 1 }; // AF_UNIX
    /// The limits of this process, of no other.
    const OWN: Self = Self { index: 0, comparison: SeccompCmpOp::Eq, value: 0 };
    /// Memory that is not run: `PROT_EXEC` is 4.
    const NO_CODE: Self = Self { index: 2, comparison: SeccompCmpOp::MaskedEq(4), value: 0 };

    fn rule(&self) -> anyhow::Result<SeccompRule> {
        let (index, comparison) = (self.index, self.comparison.clone());
        let condition =
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, comparison, self.value)?;
        Ok(SeccompRule::new(vec![condition])?)
    }
}

/// The calls of a daemon that serves, and of one that begins: a live update begins in the cage.
const CALLS: &[i64] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ioctl,
    // Sockets, and waiting.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    // The process itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_umask,
    libc::SYS_chdir,
    libc::SYS_setsid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// `kexec_file_load`, which the crate does not name for musl on arm64.
#[cfg(target_arch = "aarch64")]
const KEXEC_FILE_LOAD: i64 = 294;
#[cfg(not(target_arch = "aarch64"))]
const KEXEC_FILE_LOAD: i64 = libc::SYS_kexec_file_load;

/// The calls that change the kernel, or look into other programs.
const KERNEL_CALLS: &[i64] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_userfaultfd,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
];

/// What running a program takes besides.
const PROGRAM_CALLS: &[i64] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pipe2,
];

/// Calls that only older machines have, whose C libraries still make them.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[i64] = &[];

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// A thread can be caged by itself.
    fn in_cage<T: Send>(cage: &Cage<'_>, body: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let caged = scope.spawn(|| {
                cage.close_calls().unwrap();
                body()
            });
            caged.join().unwrap()
        })
    }

    fn cage(runs_programs: bool) -> Cage<'static> {
        Cage { writes: Vec::new(), reads: Vec::new(), runs_programs }
    }

    #[test]
    fn a_caged_daemon_serves_and_reaches_no_network_and_runs_nothing() {
        in_cage(&cage(false), || {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            one.write_all(b"x").unwrap();
            let mut byte = [0];
            other.read_exact(&mut byte).unwrap();
            assert_eq!(byte, *b"x");
            assert!(!std::fs::read("/proc/self/status").unwrap().is_empty());
            let refused = UdpSocket::bind("127.0.0.1:0").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
            let refused = Command::new("/bin/true").status().unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
        });
    }

    #[test]
    fn what_must_leave_the_kernel_alone_still_runs_programs() {
        // A call that needs no privilege: only the cage can refuse it.
        let personality = || Command::new("setarch").args(["-R", "true"]).status().unwrap();
        assert!(personality().success());
        std::thread::scope(|scope| {
            let caged = scope.spawn(|| {
                leave_the_kernel_alone().unwrap();
                assert!(Command::new("true").status().unwrap().success());
                assert!(!personality().success());
                assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
            });
            caged.join().unwrap();
        });
    }

    #[test]
    fn a_program_that_a_caged_daemon_runs_is_in_the_cage_too() {
        let (works, status) = in_cage(&cage(true), || {
            let works = Command::new("/bin/true").status().unwrap().success();
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap();
            (works, String::from_utf8(status.stdout).unwrap())
        });
        assert!(works);
        assert!(status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t1\n"));
    }

    #[test]
    fn files_outside_the_cage_are_refused_where_the_kernel_can() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |directory: &tempfile::TempDir| std::fs::write(directory.path().join("x"), "");
        let cage = Cage { writes: vec![inside.path()], reads: Vec::new(), runs_programs: false };
        std::thread::scope(|scope| {
            let caged = scope.spawn(|| {
                let status = cage.close_files().unwrap();
                write(&inside).unwrap();
                match status {
                    RulesetStatus::NotEnforced => write(&outside).unwrap(),
                    _ => assert!(write(&outside).is_err()),
                }
            });
            caged.join().unwrap();
        });
    }
}
