//! What the toolstack asks of the domain: to end, to start again, to be suspended (`xl shutdown`, `xl reboot`).
//!
//! The request stands in `control/shutdown`; the domain takes it away and does it (`docs/misc/xenstore-paths.pandoc`).

use crate::power;
use crate::suspend;
use crate::xenstore::{self, StoreError, Watch};
use hypercall_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};

const PATH: &str = "control/shutdown";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To end.
    PowerOff,
    /// To start again.
    Reboot,
    /// To stop for being saved or moved, and to go on after that.
    Suspend,
}

impl Request {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "poweroff" | "halt" => Some(Self::PowerOff),
            "reboot" => Some(Self::Reboot),
            "suspend" => Some(Self::Suspend),
            _ => None,
        }
    }

    /// Does what is asked; comes back only from a suspend.
    pub fn perform(self) {
        match self {
            Self::PowerOff => power::shutdown(SHUTDOWN_POWEROFF),
            Self::Reboot => power::shutdown(SHUTDOWN_REBOOT),
            Self::Suspend => {
                if let Err(error) = suspend::suspend() {
                    log::warn!("not suspended: {error:?}");
                }
            }
        }
    }
}

/// The toolstack's requests.
pub struct Control {
    watch: Watch,
}

impl Control {
    /// Tells the toolstack what can be asked, and listens.
    pub fn new() -> Result<Self, StoreError> {
        for feature in ["poweroff", "reboot", "suspend"] {
            // Only tells; a toolstack that does not let it be written asks anyway.
            let _ = xenstore::write(&alloc::format!("control/feature-{feature}"), "1");
        }
        Ok(Self { watch: Watch::new(PATH)? })
    }

    /// Returns what is asked, if anything, without waiting.
    pub fn try_next(&self) -> Result<Option<Request>, StoreError> {
        let mut request = None;
        while let Some(event) = self.watch.try_next() {
            event?;
            request = take()?.or(request);
        }
        Ok(request)
    }

    /// Waits for the next request.
    pub fn wait(&self) -> Result<Request, StoreError> {
        loop {
            self.watch.next()?;
            if let Some(request) = take()? {
                return Ok(request);
            }
        }
    }

    /// Waits in an async task for the next request.
    pub async fn next(&self) -> Result<Request, StoreError> {
        loop {
            self.watch.changed().await?;
            if let Some(request) = take()? {
                return Ok(request);
            }
        }
    }
}

/// Takes the request away, so that the toolstack sees that it was seen.
fn take() -> Result<Option<Request>, StoreError> {
    xenstore::transaction(|store| {
        let text = match store.read(PATH) {
            Err(StoreError::NoEntry) => return Ok(None),
            text => text?,
        };
        let request = Request::parse(&text);
        if request.is_some() {
            store.write(PATH, "")?;
        } else if !text.is_empty() {
            log::warn!("the toolstack asks for {text}, which is not known");
        }
        Ok(request)
    })
}
