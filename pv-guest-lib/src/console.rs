//! The hypervisor's console, whole lines at a time, and `log` on it.

use crate::hypercall::console_io;
use alloc::string::String;
use core::fmt::{Arguments, Write};
use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

static LINE: Mutex<()> = Mutex::new(());

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

/// Lets `log` come here.
pub(crate) fn init() {
    // A second logger is refused, and there is no second.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Debug);
}

/// Prints one line; those of several processors do not mix.
pub fn print(line: Arguments<'_>) {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
    crate::cpu::without_interrupts(|| {
        let _one_at_a_time = LINE.lock();
        console_io::write(text.as_bytes());
    });
}

/// Prints one line: `println!`'s twin.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::console::print(format_args!($($part)*)) };
}

/// Prints a line without lock or heap, since their holder may be what failed.
pub(crate) fn last_words(line: Arguments<'_>) {
    struct Direct;
    impl Write for Direct {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            console_io::write(text.as_bytes());
            Ok(())
        }
    }
    // Writing there cannot fail.
    let _ = writeln!(Direct, "{line}");
}
