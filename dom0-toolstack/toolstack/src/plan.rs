//! What must be done to build a domain, decided before anything is: [`DomainConfig`] → [`BuildPlan`].
//!
//! Pure: the host is an argument. [`crate::build`] carries a plan out; its `Display` is the dry run.

use std::collections::BTreeSet;
use std::fmt;

use xen_sys::Gfn;

use crate::config::domain::{DomainConfig, Pinning};
use crate::error::{Error, Result};
use crate::layout::{self, MIB_2, PAGE, Region};

/// What a plan depends on beside the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// The node of each CPU.
    pub cpu_nodes: Vec<u32>,
    /// Memory that can be given away, in KiB.
    pub free_kib: u64,
}

/// The sizes of what is loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Images {
    /// Offset of the kernel above the memory's start.
    pub text_offset: u64,
    /// What the kernel takes in memory.
    pub kernel_size: u64,
    /// What is loaded of it.
    pub kernel_length: u64,
    /// Size of the ramdisk.
    pub ramdisk_length: Option<u64>,
}

/// Everything that building a domain needs and the configuration does not say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BuildPlan {
    /// Banks of memory, from the bottom up.
    pub memory: Vec<Region>,
    /// The same in pieces that the hypervisor may map as large as they are.
    pub extents: Vec<Extents>,
    /// Limit of memory in KiB, with some over for the magic pages.
    pub limit_kib: u64,
    /// Size of the pool for the domain's page tables, in bytes.
    pub paging_pool: u64,
    /// Where the kernel is loaded, and entered.
    pub kernel: Region,
    /// Where the ramdisk is loaded.
    pub ramdisk: Option<Region>,
    /// Where the device tree is loaded.
    pub device_tree: Region,
    /// CPUs that each vCPU may run on, where not on all.
    pub affinity: Vec<Option<BTreeSet<u32>>>,
}

/// A run of equally large pieces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extents {
    /// Each has `1 << order` frames.
    pub order: u32,
    /// The first frame.
    pub first: Gfn,
    /// How many pieces.
    pub count: u64,
}

/// Room for the device tree: a thousand vCPUs would not fill it.
const DEVICE_TREE_ROOM: u64 = 64 << 10;
/// Ramdisk and device tree begin this far into memory where they fit, as libxl has it.
const MODULES_OFFSET: u64 = 128 << 20;
/// Over the target, for magic pages and the like.
const SLACK_KIB: u64 = 1024;

impl BuildPlan {
    /// Decides; refuses what the host or the domain's own size cannot hold.
    pub fn new(config: &DomainConfig, images: &Images, host: &Host) -> Result<Self> {
        // A guest's balloon driver takes the memory that it was started with for its maximum: the
        // domain is given that, and the driver gives back what is above its target.
        let memory = banks(config.max_memory_kib * 1024);
        let paging_pool = paging_pool(config.max_vcpus, config.max_memory_kib);
        check_free_memory(config, paging_pool, host)?;
        let bank = memory.first().copied().unwrap_or(Region { base: 0, size: 0 });
        let kernel = Region { base: bank.base + images.text_offset, size: images.kernel_length };
        let (ramdisk, device_tree) = place_modules(bank, config.memory_kib, images)?;
        Ok(Self {
            extents: memory.iter().flat_map(|bank| extents(*bank)).collect(),
            memory,
            limit_kib: config.max_memory_kib + SLACK_KIB,
            paging_pool,
            kernel,
            ramdisk,
            device_tree,
            affinity: affinity(config, host)?,
        })
    }
}

/// Memory of `bytes` in the guest's banks.
fn banks(bytes: u64) -> Vec<Region> {
    let mut left = bytes;
    let mut banks = Vec::new();
    for bank in layout::RAM {
        let size = left.min(bank.size);
        if size > 0 {
            banks.push(Region { base: bank.base, size });
        }
        left -= size;
    }
    banks
}

/// `region` in runs of 1 GiB, 2 MiB and 4 KiB pieces, each aligned to its size.
fn extents(region: Region) -> Vec<Extents> {
    let mut runs: Vec<Extents> = Vec::new();
    let (mut base, end) = (region.base, region.end());
    while base < end {
        let order = [18_u32, 9, 0]
            .into_iter()
            .find(|order| {
                let size = PAGE << order;
                base % size == 0 && end - base >= size
            })
            .unwrap_or(0);
        match runs.last_mut() {
            Some(run) if run.order == order => run.count += 1,
            _ => runs.push(Extents { order, first: Gfn(base / PAGE), count: 1 }),
        }
        base += PAGE << order;
    }
    runs
}

/// The size libxl gives: 256 pages a vCPU, one for each MiB of memory, and some.
fn paging_pool(vcpus: u32, memory_kib: u64) -> u64 {
    let mib = memory_kib.div_ceil(1024);
    let kib = 4 * (256 * u64::from(vcpus) + mib + 128);
    kib * 1024
}

fn check_free_memory(config: &DomainConfig, paging_pool: u64, host: &Host) -> Result<()> {
    let needed_kib = config.max_memory_kib + 2 * SLACK_KIB + paging_pool / 1024;
    if needed_kib <= host.free_kib {
        return Ok(());
    }
    Err(Error::NoMemory { needed_mib: needed_kib.div_ceil(1024), free_mib: host.free_kib / 1024 })
}

/// Places ramdisk and device tree behind each other where libxl does.
fn place_modules(
    bank: Region,
    memory_kib: u64,
    images: &Images,
) -> Result<(Option<Region>, Region)> {
    let ramdisk_size = images.ramdisk_length.unwrap_or(0).next_multiple_of(PAGE);
    let modules = ramdisk_size + DEVICE_TREE_ROOM;
    let kernel_start = bank.base + images.text_offset;
    let kernel_end = (kernel_start + images.kernel_size).next_multiple_of(MIB_2);
    let preferred = bank.base + MODULES_OFFSET;
    let top = bank.end().saturating_sub(modules) / MIB_2 * MIB_2;
    let base = if bank.end() >= preferred + modules && kernel_end <= preferred {
        preferred
    } else if top >= kernel_end {
        top
    } else if bank.end() >= kernel_end + modules {
        kernel_end
    } else {
        let needed_kib = (kernel_end - bank.base + modules).div_ceil(1024);
        return Err(Error::ImagesTooLarge { needed_kib, memory_kib });
    };
    let ramdisk = images.ramdisk_length.map(|size| Region { base, size });
    Ok((ramdisk, Region { base: base + ramdisk_size, size: DEVICE_TREE_ROOM }))
}

fn affinity(config: &DomainConfig, host: &Host) -> Result<Vec<Option<BTreeSet<u32>>>> {
    let resolve = |list: &crate::config::CpuList| {
        if list.is_all() {
            return Ok(None);
        }
        let cpus = list.resolve(&host.cpu_nodes);
        if cpus.is_empty() {
            let last = u32::try_from(host.cpu_nodes.len().saturating_sub(1)).unwrap_or(u32::MAX);
            return Err(Error::NoSuchCpus { list: list.to_string(), last });
        }
        Ok(Some(cpus))
    };
    match &config.cpus {
        Pinning::Anywhere => Ok(vec![None; config.max_vcpus as usize]),
        Pinning::All(list) => Ok(vec![resolve(list)?; config.max_vcpus as usize]),
        Pinning::Each(lists) => (0..config.max_vcpus as usize)
            .map(|vcpu| lists.get(vcpu).map_or(Ok(None), resolve))
            .collect(),
    }
}

impl fmt::Display for BuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, what: &str, region: Region| {
            writeln!(f, "{what:<12} {:#012x} - {:#012x}", region.base, region.end())
        };
        for bank in &self.memory {
            line(f, "memory", *bank)?;
        }
        line(f, "kernel", self.kernel)?;
        if let Some(ramdisk) = self.ramdisk {
            line(f, "ramdisk", ramdisk)?;
        }
        line(f, "device tree", self.device_tree)?;
        for run in &self.extents {
            let kib = (PAGE << run.order) / 1024;
            writeln!(
                f,
                "{:<12} {} of {kib} KiB from frame {:#x}",
                "extents", run.count, run.first.0
            )?;
        }
        writeln!(f, "{:<12} {} KiB", "limit", self.limit_kib)?;
        writeln!(f, "{:<12} {} KiB", "paging pool", self.paging_pool / 1024)?;
        for (vcpu, cpus) in self.affinity.iter().enumerate() {
            match cpus {
                None => writeln!(f, "{:<12} anywhere", format!("vcpu {vcpu}"))?,
                Some(cpus) => writeln!(f, "{:<12} on {cpus:?}", format!("vcpu {vcpu}"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MIB: u64 = 1 << 20;

    fn config(text: &str) -> DomainConfig {
        let text = format!("name='d'\nkernel='/k'\n{text}");
        DomainConfig::from_config(&Config::parse("c", &text, &[]).unwrap()).unwrap().0
    }

    fn images(kernel: u64, ramdisk: Option<u64>) -> Images {
        Images {
            text_offset: 0,
            kernel_size: kernel + MIB,
            kernel_length: kernel,
            ramdisk_length: ramdisk,
        }
    }

    fn host() -> Host {
        Host { cpu_nodes: vec![0; 4], free_kib: 1 << 30 }
    }

    #[test]
    fn a_small_guest_is_laid_out_as_libxl_lays_it_out() {
        // The numbers are those that Debian's xl prints for this guest.
        let images = images(37_660_608, Some(0x10_488e));
        let plan = BuildPlan::new(&config("memory=256\nvcpus=2"), &images, &host()).unwrap();
        assert_eq!(plan.memory, [Region { base: 0x4000_0000, size: 256 * MIB }]);
        assert_eq!((plan.kernel.base, plan.kernel.end()), (0x4000_0000, 0x423e_a7c0));
        assert_eq!(plan.ramdisk, Some(Region { base: 0x4800_0000, size: 0x10_488e }));
        assert_eq!(plan.device_tree.base, 0x4810_5000);
        assert_eq!(plan.extents, [Extents { order: 9, first: Gfn(0x4_0000), count: 128 }]);
        assert_eq!(plan.limit_kib, 263_168);
        assert_eq!(plan.paging_pool, 0x38_0000);
    }

    #[test]
    fn memory_comes_in_the_largest_pieces_and_two_banks() {
        let plan = BuildPlan::new(&config("memory=5121"), &images(MIB, None), &host()).unwrap();
        assert_eq!(plan.memory.len(), 2);
        let orders: Vec<_> = plan.extents.iter().map(|run| (run.order, run.count)).collect();
        assert_eq!(orders, [(18, 3), (18, 2), (0, 256)]);
        assert_eq!(plan.extents[1].first, Gfn(0x20_0000));
    }

    #[test]
    fn a_domain_is_given_what_its_balloon_may_ever_hold() {
        let text = "memory=64\nmaxmem=128";
        let plan = BuildPlan::new(&config(text), &images(MIB, None), &host()).unwrap();
        assert_eq!(plan.memory, [Region { base: 0x4000_0000, size: 128 * MIB }]);
        assert_eq!(plan.limit_kib, 129 << 10);
        let small = Host { free_kib: 100 << 10, ..host() };
        assert!(BuildPlan::new(&config(text), &images(MIB, None), &small).is_err());
    }

    #[test]
    fn modules_move_where_they_fit_and_are_refused_where_they_do_not() {
        let plan = |memory: u64, kernel: u64, ramdisk: u64| {
            let config = config(&format!("memory={memory}"));
            BuildPlan::new(&config, &images(kernel * MIB, Some(ramdisk * MIB)), &host())
        };
        assert_eq!(plan(64, 20, 10).unwrap().ramdisk.unwrap().base, 0x4000_0000 + 52 * MIB);
        assert_eq!(plan(512, 200, 10).unwrap().ramdisk.unwrap().base, 0x4000_0000 + 500 * MIB);
        let error = plan(64, 60, 10).unwrap_err().to_string();
        assert!(error.contains("memory of 65536 KiB"), "{error}");
    }

    #[test]
    fn too_little_free_memory_is_said_in_mib() {
        let host = Host { cpu_nodes: vec![0], free_kib: 100 << 10 };
        let error = BuildPlan::new(&config("memory=256"), &images(MIB, None), &host).unwrap_err();
        assert!(error.to_string().contains("and 100 MiB are free"), "{error}");
    }

    #[test]
    fn pinning_is_resolved_against_the_host() {
        let plan = |cpus: &str| {
            let config = config(&format!("vcpus=3\nmemory=64\ncpus={cpus}"));
            BuildPlan::new(&config, &images(MIB, None), &host()).map(|plan| plan.affinity)
        };
        let set = |cpus: &[u32]| Some(cpus.iter().copied().collect());
        assert_eq!(plan("'1-2'").unwrap(), vec![set(&[1, 2]); 3]);
        assert_eq!(plan("['0','all,^3']").unwrap(), [set(&[0]), set(&[0, 1, 2]), None]);
        assert_eq!(plan("'all'").unwrap(), [None, None, None]);
        assert!(plan("'9'").unwrap_err().to_string().contains("CPUs 0 to 3"));
    }
}
