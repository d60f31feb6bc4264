//! Debug keys: one letter, one report (`xl debug-keys`, or Ctrl-A three times and the letter).

use crate::state::Hypervisor;
use core::fmt;
use core::sync::atomic::Ordering;
use hv_core::lifecycle::{Dying, Lifecycle};

/// A key and what it prints.
struct Key {
    letter: u8,
    help: &'static str,
    action: fn(&Hypervisor),
}

const KEYS: &[Key] = &[
    Key { letter: b'h', help: "list the keys", action: help },
    Key { letter: b'q', help: "domains and their virtual processors", action: domains },
    Key { letter: b'r', help: "processors and what they run", action: processors },
    Key { letter: b'm', help: "memory in use and free", action: memory },
    Key { letter: b'e', help: "open event channels", action: ports },
    Key { letter: b'R', help: "restart the machine", action: restart },
];

/// Carries out debug key `letter`.
pub fn press(hv: &Hypervisor, letter: u8) {
    match KEYS.iter().find(|key| key.letter == letter) {
        Some(key) => (key.action)(hv),
        None => hv.print(format_args!(
            "no debug key '{}': 'h' lists them",
            char::from(letter).escape_default()
        )),
    }
}

fn help(hv: &Hypervisor) {
    hv.print(format_args!("debug keys:"));
    for key in KEYS {
        hv.print(format_args!("  {}  {}", char::from(key.letter), key.help));
    }
}

/// A domain's state in words.
struct State<'a>(&'a Lifecycle);

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.dying(), self.0.shutdown()) {
            (Dying::Done, _) => f.write_str("dead, its memory still in use by others"),
            (Dying::Underway, _) => f.write_str("dying"),
            (Dying::No, Some(reason)) => write!(f, "shut down (reason {})", reason.0),
            (Dying::No, None) if self.0.is_paused() => f.write_str("paused"),
            (Dying::No, None) => f.write_str("running"),
        }
    }
}

fn domains(hv: &Hypervisor) {
    for domain in hv.all_domains() {
        let life = domain.life.lock().clone();
        let pages = hv.frames.lock().account(domain.id).map_or(0, |account| account.total);
        hv.print(format_args!("{}: {}, {pages} pages", domain.id, State(&life)));
        for vcpu in domain.vcpus() {
            let (holds, cpu) = {
                let scheduler = hv.scheduler.lock();
                (scheduler.holds(vcpu.sched), scheduler.cpu_of(vcpu.sched))
            };
            let waiting = vcpu.waiting.load(Ordering::SeqCst);
            hv.print(format_args!(
                "  {:?}: on {cpu:?}, held by {holds:?}, waiting {waiting}",
                vcpu.who.vcpu
            ));
        }
    }
}

fn processors(hv: &Hypervisor) {
    let now = hv.machine.now();
    for processor in &hv.processors {
        let idle = hv.scheduler.lock().idle_time(processor.id, now);
        let loaded = *processor.loaded.lock();
        match loaded {
            Some(who) => hv.print(format_args!("{:?}: {who}, idle {} ns", processor.id, idle.0)),
            None => hv.print(format_args!("{:?}: nobody, idle {} ns", processor.id, idle.0)),
        }
    }
}

fn memory(hv: &Hypervisor) {
    let (free, managed) = {
        let frames = hv.frames.lock();
        (frames.free(), frames.managed())
    };
    hv.print(format_args!("{free} frames free of {managed}"));
}

fn ports(hv: &Hypervisor) {
    for domain in hv.all_domains() {
        let open = domain.ports.lock().open_ports();
        hv.print(format_args!("{}: {open} open event channels", domain.id));
    }
}

fn restart(hv: &Hypervisor) {
    hv.print(format_args!("restarting the machine, as the debug key says"));
    hv.machine.power_off(true);
}
