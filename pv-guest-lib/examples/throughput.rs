//! Says how long its first disk takes for `disk=8` MiB, and serves the network's part of the question: TCP port 9 takes what it is sent and
//! port 19 sends without end (RFC 863, 864). Its address is on its command line: `ip=192.168.77.40/24`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec;
    use core::time::Duration;
    use pv_guest_lib::block::{Disk, DiskError, Options, SECTOR};
    use pv_guest_lib::net::smoltcp::Stack;
    use pv_guest_lib::time::Instant;
    use pv_guest_lib::{say, tree};

    const DISCARD: u16 = 9;
    const WITHOUT_END: u16 = 19;
    const BUFFER: usize = 256 << 10;
    /// Bytes the disk is asked for at a time.
    const CHUNK: usize = 256 << 10;
    const TIMES: usize = 3;

    pv_guest_lib::entry!(main);

    fn main() {
        if let Some(size) = option("disk")
            && let Err(error) = disk(size << 20)
        {
            say!("throughput: no disk: {error}");
        }
        match Stack::from_command_line() {
            Ok(stack) => network(stack),
            Err(error) => say!("throughput: no network: {error}"),
        }
    }

    fn option(name: &str) -> Option<u64> {
        let words = tree::get().command_line.split_whitespace();
        words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).next()
    }

    /// Reads and writes so many bytes a few times, and tells of the quickest.
    fn disk(size: u64) -> Result<(), DiskError> {
        let disks = Disk::list().map_err(|error| DiskError::Bus(error.into()))?;
        let Some(first) = disks.first() else {
            say!("throughput: there is no disk");
            return Ok(());
        };
        let disk = Disk::open(*first, Options::default())?;
        let mut bytes = vec![0; CHUNK];
        let mut took = [Duration::MAX; 2];
        for _ in 0..TIMES {
            let sectors = || (0..size / SECTOR as u64).step_by(CHUNK / SECTOR);
            let began = Instant::now();
            for sector in sectors() {
                disk.read(sector, &mut bytes)?;
            }
            let written = Instant::now();
            for sector in sectors() {
                disk.write(sector, &bytes)?;
            }
            disk.flush()?;
            let [read, write] = took;
            took = [read.min(written - began), write.min(written.elapsed())];
        }
        let [read, write] = took.map(|time| time.as_nanos());
        say!("throughput: {size} bytes read in {read} ns, written in {write} ns");
        disk.close()
    }

    fn network(mut stack: Stack) {
        // Two for each port: one listens while the other's connection ends.
        let sockets = [DISCARD, DISCARD, WITHOUT_END, WITHOUT_END];
        let sockets = sockets.map(|port| (stack.add_tcp(BUFFER), port));
        say!("throughput: ready");
        loop {
            if let Err(error) = stack.poll() {
                say!("throughput: the interface was closed: {error}");
            }
            for (handle, port) in sockets {
                let socket = stack.tcp(handle);
                if !socket.is_open() {
                    // The port is not 0 and the socket is closed.
                    let _ = socket.listen(port);
                }
                while socket.can_recv() {
                    // It was asked whether there is something.
                    let _ = socket.recv(|bytes| (bytes.len(), ()));
                }
                while port == WITHOUT_END && socket.can_send() {
                    let _ = socket.send(|room| {
                        room.fill(0);
                        (room.len(), ())
                    });
                }
                if !socket.may_recv() && socket.may_send() {
                    socket.close();
                }
            }
            stack.wait();
        }
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
