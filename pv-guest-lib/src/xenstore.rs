//! The store: small values by path, shared with Dom0 (`docs/misc/xenstore.txt`, `public/io/xs_wire.h`).
//!
//! The functions wait, with the vCPU asleep, for the store's answer; other processors and handlers go on meanwhile. Paths that
//! do not start with `/` are below the domain's own, `/local/domain/N`.
//!
//! ```ignore
//! let name = xenstore::read("name")?;
//! xenstore::transaction(|store| {
//!     store.write("data/one", "1")?;
//!     store.write("data/two", "2")
//! })?;
//! let watch = xenstore::Watch::new("control/shutdown")?;
//! let path = watch.next()?;
//! ```

pub mod connection;
pub mod message;

#[cfg(target_os = "none")]
pub use client::{
    Scope, Watch, directory, events, let_read, read, reconnect, remove, transaction, write,
};

use crate::byte_ring::Layout;
use crate::page::SharedPages;
use crate::ring::RingError;
use core::fmt;
use core::mem::offset_of;
use hypercall_abi::io::xs_wire::{XENSTORE_RING_SIZE, XenstoreDomainInterface};

#[cfg(target_os = "none")]
pub(crate) mod client;

/// Why an operation of the store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such node.
    NoEntry,
    /// The node is not for this domain.
    Denied,
    /// Somebody else changed what a transaction looked at.
    Again,
    /// It is there already.
    Exists,
    /// This domain may not have more nodes, watches or transactions, or larger ones.
    Quota,
    /// The store refused for another reason.
    Refused,
    /// The request is longer than 4096 bytes.
    TooLong,
    /// The value is not text, or not the number that is wanted.
    NotText,
    /// The store's indices make no sense; the connection is over.
    Ring(RingError),
    /// The store's messages make no sense; the connection is over.
    BadMessage,
    /// The store was restarted before it answered.
    Lost,
    /// This domain has no store.
    NoStore,
}

impl From<RingError> for StoreError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoEntry => "there is no such node",
            Self::Denied => "the node is not for this domain",
            Self::Again => "somebody else changed what the transaction looked at",
            Self::Exists => "it is there already",
            Self::Quota => "this domain may not have more in the store",
            Self::Refused => "the store refused",
            Self::TooLong => "the request is longer than 4096 bytes",
            Self::NotText => "the value is not what is wanted",
            Self::Ring(error) => return error.fmt(formatter),
            Self::BadMessage => "the store's messages make no sense",
            Self::Lost => "the store was restarted before it answered",
            Self::NoStore => "this domain has no store",
        })
    }
}

impl core::error::Error for StoreError {}

/// Returns the two rings of the store's page: requests, responses.
pub fn rings(page: SharedPages) -> [Layout; 2] {
    let size = u32::try_from(XENSTORE_RING_SIZE).unwrap_or(u32::MAX);
    let ring = |start, producer, consumer| Layout {
        data: page,
        start,
        size,
        indices: page,
        producer,
        consumer,
    };
    [
        ring(
            offset_of!(XenstoreDomainInterface, req),
            offset_of!(XenstoreDomainInterface, req_prod),
            offset_of!(XenstoreDomainInterface, req_cons),
        ),
        ring(
            offset_of!(XenstoreDomainInterface, rsp),
            offset_of!(XenstoreDomainInterface, rsp_prod),
            offset_of!(XenstoreDomainInterface, rsp_cons),
        ),
    ]
}
