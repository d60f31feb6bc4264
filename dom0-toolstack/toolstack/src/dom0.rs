//! What must be in xenstore before the first domain is made: Dom0's own nodes and the CPU pools' names.

use xen_sys::Xen;
use xen_sys::{DomId, Errno};
use xenstore::client::{Client, Store};

use crate::error::Result;
use crate::layout::PAGE;
use crate::store::{self, domain_path};

/// The name Dom0 gets, if it has none.
const NAME: &str = "Domain-0";

/// Writes the nodes; those that are there already stay as they are. `kernel_page` is how many bytes a page of Dom0's kernel has.
///
/// A kernel with larger pages than Xen's is told no target for its memory. Linux's balloon driver (6.12.118) takes Dom0's current reservation, which
/// Xen counts in its own frames, for a number of its pages, finds itself with several times the target, and gives memory away until there is none.
pub fn initialise(xen: &impl Xen, store: &Client, kernel_page: u64) -> Result<()> {
    let root = domain_path(DomId::DOM0);
    let info = match xen.domain_info(DomId::DOM0) {
        Ok(info) => Some(info),
        Err(error) if error.is(Errno::SRCH) => None,
        Err(error) => return Err(error.into()),
    };
    let mut pools = Vec::new();
    while let Some(pool) = xen.cpupool(pools.last().map_or(0, |last| last + 1))? {
        pools.push(pool.id);
    }
    store.transaction(|transaction| {
        store::entries(transaction, &root, &[("domid", DomId::DOM0.to_string())])?;
        let absent = |path: String, value: String| {
            if transaction.exists(&path)? {
                return Ok(());
            }
            transaction.write(&path, &value)
        };
        absent(format!("{root}/name"), NAME.into())?;
        if let Some(info) = info.as_ref().filter(|_| kernel_page == PAGE) {
            let kib = info.total_pages * 4;
            absent(format!("{root}/memory/target"), kib.to_string())?;
            absent(format!("{root}/memory/static-max"), kib.to_string())?;
        }
        for pool in &pools {
            absent(format!("/local/pool/{pool}/name"), format!("Pool-{pool}"))?;
        }
        for directory in ["/vm", "/libxl"] {
            transaction.mkdir(directory)?;
        }
        Ok(())
    })
}
