//! Copies its first disk to its second, reads both back, and tells whether they are the same.
//!
//! With one disk it is filled with a pattern and checked. `queues=`, `order=` and `segments=` on
//! the command line say how the disks are used; with `forever=1` it does so again and again, until
//! it is told to shut down.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[expect(clippy::indexing_slicing, reason = "the lengths are this file's own")]
mod guest {
    extern crate alloc;

    use alloc::vec;
    use pv_guest_lib::block::{Disk, DiskError, Options, SECTOR};
    use pv_guest_lib::control::{Control, Request};
    use pv_guest_lib::time::Instant;
    use pv_guest_lib::xenstore::StoreError;
    use pv_guest_lib::{say, tree};

    pv_guest_lib::entry!(main);

    const CHUNK: usize = 256 << 10;

    fn main() {
        let asked = run().unwrap_or_else(|error| {
            say!("failed: {error}");
            None
        });
        let wait = || Control::new().and_then(|control| control.wait());
        if let Ok(request) = asked.map_or_else(wait, Ok) {
            request.perform();
        }
    }

    fn option(name: &str) -> Option<u32> {
        let words = tree::get().command_line.split_whitespace();
        words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).next()
    }

    /// Does the work; returns what was asked for meanwhile.
    fn run() -> Result<Option<Request>, DiskError> {
        let usual = Options::default();
        let options = Options {
            queues: option("queues").unwrap_or(usual.queues),
            ring_order: option("order").unwrap_or(usual.ring_order),
            segments: option("segments")
                .and_then(|most| most.try_into().ok())
                .unwrap_or(usual.segments),
            persistent: option("persistent") != Some(0),
        };
        let mut disks = vec![];
        for number in Disk::list().map_err(|error| DiskError::Bus(error.into()))? {
            let disk = Disk::open(number, options)?;
            say!("disk {number}: {:?}", disk.info());
            disks.push(disk);
        }
        work(&disks)?;
        let asked = if option("forever").is_some() { Some(again(&disks)?) } else { None };
        for disk in disks {
            disk.close()?;
        }
        say!("done");
        Ok(asked)
    }

    fn work(disks: &[Disk]) -> Result<(), DiskError> {
        match disks {
            [] => {
                say!("there is no disk");
                Ok(())
            }
            [disk] => check(disk),
            [from, to, ..] => copy(from, to),
        }
    }

    /// Works until something is asked for, which is returned.
    fn again(disks: &[Disk]) -> Result<Request, DiskError> {
        let bus = |error: StoreError| DiskError::Bus(error.into());
        let control = Control::new().map_err(bus)?;
        let mut rounds = 1;
        loop {
            if let Some(request) = control.try_next().map_err(bus)? {
                say!("{rounds} rounds without an error");
                return Ok(request);
            }
            work(disks)?;
            rounds += 1;
        }
    }

    fn copy(from: &Disk, to: &Disk) -> Result<(), DiskError> {
        let began = Instant::now();
        let mut bytes = vec![0; CHUNK];
        let mut back = vec![0; CHUNK];
        let sectors = from.sectors().min(to.sectors());
        let step = (CHUNK / SECTOR) as u64;
        for sector in (0..sectors).step_by(CHUNK / SECTOR) {
            let len = usize::try_from((sectors - sector).min(step)).unwrap_or(0) * SECTOR;
            from.read(sector, &mut bytes[..len])?;
            to.write(sector, &bytes[..len])?;
            to.read(sector, &mut back[..len])?;
            if bytes[..len] != back[..len] {
                say!("sector {sector} and what follows differs");
                return Err(DiskError::Failed);
            }
        }
        to.flush()?;
        say!("copied and compared {} sectors", sectors);
        say!("it took {} ms", began.elapsed().as_millis());
        Ok(())
    }

    fn check(disk: &Disk) -> Result<(), DiskError> {
        let sectors = disk.sectors().min(1 << 14);
        let pattern = |sector: u64, round: u64| {
            sector.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round)
        };
        let step = (CHUNK / SECTOR) as u64;
        let mut bytes = vec![0; CHUNK];
        for round in 0..2 {
            for sector in (0..sectors / step * step).step_by(CHUNK / SECTOR) {
                for (index, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    *word = pattern(sector * 64 + index as u64, round).to_ne_bytes();
                }
                disk.write(sector, &bytes)?;
            }
            disk.flush()?;
            for sector in (0..sectors / step * step).step_by(CHUNK / SECTOR) {
                disk.read(sector, &mut bytes)?;
                for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                    if *word != pattern(sector * 64 + index as u64, round).to_ne_bytes() {
                        say!("sector {sector} and what follows is not what was written");
                        return Err(DiskError::Failed);
                    }
                }
            }
        }
        // Sectors that begin and end in the middle of pages, and what is not on the disk.
        let mut odd = vec![0x5a; 3 * SECTOR];
        disk.write(5, &odd)?;
        odd.fill(0);
        disk.read(5, &mut odd)?;
        if odd.iter().any(|byte| *byte != 0x5a) {
            return Err(DiskError::Failed);
        }
        if disk.read(disk.sectors(), &mut odd) != Err(DiskError::Range) {
            say!("what is not on the disk was read");
            return Err(DiskError::Failed);
        }
        if disk.info().discard {
            match disk.discard(0, 8, false) {
                Ok(()) | Err(DiskError::Unsupported) => {}
                Err(error) => return Err(error),
            }
        }
        say!("wrote and checked {} sectors", sectors);
        Ok(())
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
