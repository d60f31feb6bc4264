//! The guest's console: whole lines out, bytes in, and `log` on it.
//!
//! A domain has a ring that the toolstack reads (`public/io/console.h`). Dom0 has none and uses the hypervisor's own console, which other
//! domains may not.

use crate::byte_ring::{Layout, Reader, Writer};
use crate::event::Channel;
use crate::hypercall::{HypercallError, console_io, event_channel, hvm};
use crate::lock::Lock;
use crate::page::{SIZE, SharedPage, SharedPages};
use crate::ring::RingError;
use crate::{map, time, wait};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Arguments, Write};
use core::future::poll_fn;
use core::mem::offset_of;
use core::task::Poll;
use hypercall_abi::hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::io::console::{XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface};
use log::{LevelFilter, Log, Metadata, Record};
use spin::Once;

/// How long a line waits for somebody to read what is there, before it is dropped.
const PATIENCE_MILLISECONDS: u64 = 200;

/// The ring's place and port.
#[derive(Clone, Copy)]
struct Place {
    page: SharedPages,
    port: u32,
}

static PLACE: Lock<Option<Place>> = Lock::new(None);
static OUTPUT: Lock<Option<Writer>> = Lock::new(None);
static LINE: Lock<()> = Lock::new(());

struct Logger;
static LOGGER: Logger = Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        print(format_args!("{:5} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Finds the ring and lets `log` come here.
pub(crate) fn init() {
    find_ring();
    // A second logger is refused, and there is no second.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Debug);
}

/// Finds the domain's ring; a domain that was resumed elsewhere finds another.
pub(crate) fn find_ring() {
    let parameter = |index| hvm::get_param(DOMID_SELF, index).unwrap_or(0);
    let frame = parameter(HVM_PARAM_CONSOLE_PFN);
    let port = u32::try_from(parameter(HVM_PARAM_CONSOLE_EVTCHN)).unwrap_or(0);
    if frame == 0 || port == 0 || frame >= map::MEMORY_END / SIZE {
        return;
    }
    map::make_memory(frame * SIZE, SIZE);
    // SAFETY: the toolstack put the console's page there; nothing else of this library reaches it, but as shared.
    let page = unsafe { SharedPage::at(frame * SIZE) }.pages();
    PLACE.with(|place| *place = Some(Place { page, port }));
    OUTPUT.with(|output| *output = Some(Writer::new(output_ring(page))));
}

fn output_ring(page: SharedPages) -> Layout {
    Layout {
        data: page,
        start: offset_of!(XenconsInterface, output),
        size: u32::try_from(XENCONS_OUT_SIZE).unwrap_or(u32::MAX),
        indices: page,
        producer: offset_of!(XenconsInterface, out_prod),
        consumer: offset_of!(XenconsInterface, out_cons),
    }
}

fn input_ring(page: SharedPages) -> Layout {
    Layout {
        data: page,
        start: offset_of!(XenconsInterface, input),
        size: u32::try_from(XENCONS_IN_SIZE).unwrap_or(u32::MAX),
        indices: page,
        producer: offset_of!(XenconsInterface, in_prod),
        consumer: offset_of!(XenconsInterface, in_cons),
    }
}

/// Puts as many bytes out as there is room for; returns how many. All of them, where there is no ring.
fn put(bytes: &[u8]) -> Result<usize, RingError> {
    let written = OUTPUT.with(|output| output.as_mut().map(|writer| writer.write(bytes)));
    match written {
        None => {
            console_io::write(bytes);
            Ok(bytes.len())
        }
        Some(written) => {
            let written = written?;
            if written > 0 {
                notify();
            }
            Ok(written)
        }
    }
}

fn notify() {
    if let Some(place) = PLACE.with(|place| *place) {
        // A console that nobody serves has no port to tell; its ring fills up, and lines are dropped.
        let _ = event_channel::send(place.port);
    }
}

/// Puts all bytes out, waiting for room; gives up when nobody reads for a while.
fn put_all(bytes: &[u8]) {
    let mut rest = bytes;
    let mut deadline = time::now() + time::microseconds(PATIENCE_MILLISECONDS * 1000);
    while !rest.is_empty() {
        match put(rest) {
            Ok(0) if time::now() >= deadline => return,
            Ok(0) => wait::milliseconds(1),
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                deadline = time::now() + time::microseconds(PATIENCE_MILLISECONDS * 1000);
            }
            Err(_) => return,
        }
    }
}

fn has_ring() -> bool {
    PLACE.with(|place| place.is_some())
}

/// Prints one line; those of several processors do not mix.
pub fn print(line: Arguments<'_>) {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{line}");
    text.push_str(if has_ring() { "\r\n" } else { "\n" });
    LINE.with(|()| put_all(text.as_bytes()));
}

/// Prints one line: `println!`'s twin.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::console::print(format_args!($($part)*)) };
}

/// Prints a line without lock or heap, since their holder may be what failed.
pub(crate) fn last_words(line: Arguments<'_>) {
    struct Direct(Option<Place>);
    impl Write for Direct {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let Some(place) = self.0 else {
                console_io::write(text.as_bytes());
                return Ok(());
            };
            // The index in the page is where the last line ended.
            let mut writer = Writer::new(output_ring(place.page));
            let mut rest = text.as_bytes();
            for _ in 0..1000 {
                let written = writer.write(rest).unwrap_or(0);
                rest = rest.get(written..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                let _ = event_channel::send(place.port);
                time::wait_until(1, || false);
            }
            let _ = event_channel::send(place.port);
            Ok(())
        }
    }
    let place = PLACE.try_with(|place| *place).flatten();
    // Writing there cannot fail.
    let _ = write!(Direct(place), "{line}{}", if place.is_some() { "\r\n" } else { "\n" });
}

/// Waits until what was printed has been read, at most a second: what follows may be the end.
pub(crate) fn drain() {
    let Some(place) = PLACE.try_with(|place| *place).flatten() else { return };
    let _ = event_channel::send(place.port);
    time::wait_until(1000, || Writer::new(output_ring(place.page)).is_empty() != Ok(false));
}

/// The console's input, and its output as bytes.
pub struct Console {
    /// Where there is a ring.
    ring: Option<Ring>,
}

struct Ring {
    channel: Arc<Channel>,
    reader: Reader,
}

static TAKEN: Once<()> = Once::new();

impl Console {
    /// Takes the console's input, which one can have at a time.
    pub fn take() -> Result<Self, HypercallError> {
        assert!(!TAKEN.is_completed(), "the console's input was taken already");
        TAKEN.call_once(|| ());
        let Some(place) = PLACE.with(|place| *place) else { return Ok(Self { ring: None }) };
        let channel = Arc::new(Channel::adopt(place.port)?);
        Ok(Self { ring: Some(Ring { channel, reader: Reader::new(input_ring(place.page)) }) })
    }

    /// Reads what was typed, without waiting; returns how many bytes.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        let Some(ring) = &mut self.ring else {
            return Ok(usize::try_from(console_io::read(buffer)).unwrap_or(0));
        };
        let read = ring.reader.read(buffer)?;
        if read > 0 {
            // The other side waits for room, or its port is gone.
            let _ = ring.channel.notify();
        }
        Ok(read)
    }

    /// Waits until something is typed; returns how many bytes were read, 0 only for an empty buffer.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut result = Ok(0);
        let polled = self.ring.is_none();
        loop {
            let deadline = if polled { time::now() + time::microseconds(10_000) } else { u64::MAX };
            wait::until_tick(deadline, || {
                result = self.try_read(buffer);
                result != Ok(0)
            });
            if result != Ok(0) {
                return result;
            }
        }
    }

    /// Waits, in an async task, until something is typed.
    pub async fn read_async(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        poll_fn(|context| {
            if buffer.is_empty() {
                return Poll::Ready(Ok(0));
            }
            match &self.ring {
                Some(ring) => ring.channel.set_waker(context.waker()),
                None => wait::wake_at(time::now() + time::microseconds(10_000), context.waker()),
            }
            match self.try_read(buffer) {
                Ok(0) => Poll::Pending,
                result => Poll::Ready(result),
            }
        })
        .await
    }

    /// Writes bytes as they are; what nobody reads for a while is dropped.
    pub fn write(&mut self, bytes: &[u8]) {
        put_all(bytes);
    }
}
