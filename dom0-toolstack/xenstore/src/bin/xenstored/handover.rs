//! Another program in this one's place: the sockets pass over a pair of sockets, all else through the
//! state file. The process stays the same, and nobody who is connected notices.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use xenstore::cage::CAGED;
use xenstore::server::Handover;

/// Set in the environment of a program that takes over: its standard input has the sockets.
const HANDED_OVER: &str = "DOMUS_XENSTORED_TAKES_OVER";
/// Descriptors that the kernel lets pass at once, at most 253.
const AT_ONCE: usize = 128;

/// Checks that a program can take over.
///
/// # Errors
///
/// It cannot be run, or is another xenstored, which could make nothing of our state.
pub(crate) fn check(program: &str) -> anyhow::Result<()> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let ours = output.status.success() && output.stdout.starts_with(crate::VERSION_LINE.as_bytes());
    ensure!(ours, "{program} is no xenstored that can take over from this one");
    Ok(())
}

/// Becomes another program that gets these descriptors; returns only where that fails.
pub(crate) fn become_other(handover: &Handover, descriptors: &[BorrowedFd<'_>]) -> anyhow::Error {
    match pass(descriptors) {
        Ok(input) => {
            let mut command = Command::new(&handover.program);
            match &handover.arguments {
                Some(line) => command.args(line.split_whitespace()),
                None => command.args(std::env::args_os().skip(1)),
            };
            // The cage stays with the process.
            let error = command.env(HANDED_OVER, "1").env(CAGED, "1").stdin(input).exec();
            anyhow::Error::new(error).context(format!("cannot run {}", handover.program))
        }
        Err(error) => anyhow::Error::new(error).context("cannot hand the sockets on"),
    }
}

fn pass(descriptors: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let (sender, receiver) = UnixStream::pair()?;
    // Too many for the socket to hold are an error rather than a wait for ever.
    sender.set_nonblocking(true)?;
    for chunk in descriptors.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(chunk));
        sendmsg(&sender, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())?;
    }
    Ok(receiver.into())
}

/// Takes what an earlier program passed on; nothing where there was none.
pub(crate) fn received() -> anyhow::Result<Option<Vec<OwnedFd>>> {
    if std::env::var_os(HANDED_OVER).is_none() {
        return Ok(None);
    }
    let input = io::stdin();
    let descriptors = receive(input.as_fd()).context("cannot take the sockets over")?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(Some(descriptors))
}

fn receive(input: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let slices = &mut [IoSliceMut::new(&mut byte)];
        let message = recvmsg(input, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if message.bytes == 0 {
            return Ok(descriptors);
        }
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = part {
                descriptors.extend(passed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_however_many() {
        let pairs: Vec<(UnixStream, UnixStream)> =
            (0..300).map(|_| UnixStream::pair().unwrap()).collect();
        let theirs: Vec<BorrowedFd<'_>> = pairs.iter().map(|(_, end)| end.as_fd()).collect();
        let input = pass(&theirs).unwrap();
        let received = receive(input.as_fd()).unwrap();
        assert_eq!(received.len(), pairs.len());
        for (index, (descriptor, (ours, _))) in received.into_iter().zip(&pairs).enumerate() {
            let sent = u8::try_from(index % 256).unwrap();
            UnixStream::from(descriptor).write_all(&[sent]).unwrap();
            let (mut ours, mut byte) = (ours, [0]);
            ours.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [sent]);
        }
    }
}
