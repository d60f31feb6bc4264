//! Consoles: rings of the guest's, or of its emulated UART, that xenconsoled serves.

use xen_sys::{DomId, Port};
use xenstore::client::{Client, Store};

use super::{Device, Kind};
use crate::error::Result;
use crate::store::{self, owned_by, readable_by};

/// How much of the console xenconsoled keeps while nobody reads.
const LIMIT: u32 = 1 << 20;

/// Makes the nodes of `domain`'s console of some kind, whose ring is at frame `ring` and rings at `port`.
pub fn add(store: &Client, domain: DomId, kind: Kind, ring: u64, port: Port) -> Result<()> {
    let device = Device { domain, kind, devid: 0, backend: DomId::DOM0 };
    let path = device.frontend_path();
    store.transaction(|transaction| {
        store::directory(transaction, &path, &readable_by(domain))?;
        let entries = [
            ("backend", device.backend_path()),
            ("backend-id", device.backend.to_string()),
            ("limit", LIMIT.to_string()),
            ("type", "xenconsoled".into()),
            ("output", "pty".into()),
            ("tty", String::new()),
            ("port", port.to_string()),
            ("ring-ref", ring.to_string()),
        ];
        store::entries(transaction, &path, &entries)?;
        let backend_id = format!("{path}/backend-id");
        Ok::<_, crate::Error>(
            transaction.set_perms(&backend_id, &owned_by(domain, device.backend))?,
        )
    })?;
    device.publish(store, &[], &[("protocol", "vt100".into())])
}
