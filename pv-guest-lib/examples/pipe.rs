//! Two guests and a pipe between them, over grants and events; the hypervisor must let guests share (`xsm=dummy`).
//!
//! Started with `role=offer`, it waits for a domain's number in `data/peer`, offers that domain a pipe, and sends back whatever comes, each
//! byte plus one. Started with `peer=N`, it uses the pipe of domain N and checks what comes back.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[expect(clippy::indexing_slicing, reason = "the lengths are this file's own")]
mod guest {
    extern crate alloc;

    use alloc::vec::Vec;
    use alloc::{format, vec};
    use pv_guest_lib::control::Control;
    use pv_guest_lib::pipe::{Offer, Pipe, PipeError};
    use pv_guest_lib::time::Instant;
    use pv_guest_lib::xenstore::{self, Scope, Watch};
    use pv_guest_lib::{say, tree};

    pv_guest_lib::entry!(main);

    const BYTES: usize = 1 << 20;

    fn main() {
        let peer = tree::get().command_line.split_whitespace();
        let peer = peer.filter_map(|word| word.strip_prefix("peer=")?.parse().ok()).next();
        let result = match peer {
            None => answer(),
            Some(peer) => ask(peer),
        };
        match result {
            Ok(()) => say!("done"),
            Err(error) => say!("failed: {error:?}"),
        }
        if let Ok(request) = Control::new().and_then(|control| control.wait()) {
            request.perform();
        }
    }

    fn answer() -> Result<(), PipeError> {
        let watch = Watch::new("data/peer")?;
        let peer = loop {
            watch.next()?;
            if let Ok(peer) = Scope::PLAIN.read_as("data/peer") {
                break peer;
            }
        };
        let pipe = Pipe::offer(peer)?;
        let Offer { reference, port } = pipe.offered();
        xenstore::write("data/pipe", &format!("{reference} {port}"))?;
        xenstore::let_read("data/pipe", peer)?;
        say!("offered a pipe to domain {peer}");
        let mut bytes = vec![0; 3000];
        let mut total = 0;
        while total < BYTES {
            let len = pipe.read(&mut bytes)?;
            for byte in &mut bytes[..len] {
                *byte = byte.wrapping_add(1);
            }
            pipe.write_all(&bytes[..len])?;
            total += len;
        }
        pipe.flush()?;
        say!("sent {total} bytes back");
        Ok(())
    }

    fn ask(peer: u16) -> Result<(), PipeError> {
        let path = format!("/local/domain/{peer}/data/pipe");
        let watch = Watch::new(&path)?;
        let (reference, port) = loop {
            let words = xenstore::read(&path).unwrap_or_default();
            let mut numbers = words.split(' ').map(str::parse);
            if let (Some(Ok(reference)), Some(Ok(port))) = (numbers.next(), numbers.next()) {
                break (reference, port);
            }
            // Until it may be read there is no event for this domain.
            let _ = watch.next_within(100);
        };
        let pipe = Pipe::accept(peer, Offer { reference, port })?;
        let began = Instant::now();
        let mut sent = 0usize;
        let mut received = 0usize;
        let mut bytes = vec![0; 2000];
        while received < BYTES {
            let chunk = (BYTES - sent).min(1500);
            let out: Vec<u8> = (sent..sent + chunk).map(byte).collect();
            sent += pipe.try_write(&out)?;
            let len =
                if sent < BYTES { pipe.try_read(&mut bytes)? } else { pipe.read(&mut bytes)? };
            for (offset, got) in bytes[..len].iter().enumerate() {
                if *got != byte(received + offset).wrapping_add(1) {
                    say!("byte {} is wrong", received + offset);
                    return Err(PipeError::Closed);
                }
            }
            received += len;
            if len == 0 && sent < BYTES {
                pipe.wait()?;
            }
        }
        say!("{BYTES} bytes went there and came back");
        say!("it took {} ms", began.elapsed().as_millis());
        Ok(())
    }

    fn byte(index: usize) -> u8 {
        u8::try_from(index * 7 % 251).unwrap_or(0)
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
