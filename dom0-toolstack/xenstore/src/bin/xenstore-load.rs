//! Works a xenstored as a host with many guests does, and says what that took.
//!
//! The guests are simulated: the nodes that `xl create` makes for a guest with a disk and a network
//! card, a connection of its own with the watches of its front and back ends, the steps by which
//! those find each other, `xl list`, and the end. It speaks to any xenstored over its socket.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use rustix::process::Resource;
use xenstore::client::{Client, Error, SOCKET_PATH, Store, Transaction};
use xenstore::permission::{Access, Permission};

/// The first simulated guest's number: no real one is near.
const FIRST: u16 = 20_000;
/// The domain that has the back ends: not Dom0, whose kernel would look for the guests.
const DRIVER: u16 = 19_999;
/// The nodes of a device's two ends, beside those that say where the other end is.
const FRONT: [(&str, &str); 4] =
    [("state", "1"), ("handle", "0"), ("virtual-device", "51712"), ("device-type", "disk")];
const BACK: [(&str, &str); 6] = [
    ("state", "1"),
    ("online", "1"),
    ("removable", "0"),
    ("bootable", "1"),
    ("params", "/var/lib/xen/images/guest.img"),
    ("hotplug-status", "connected"),
];

/// Writes of 1,000 bytes of which the slowest is looked for: a daemon may put work off, and do it all in one.
const WRITES: usize = 5000;

/// Whose the nodes are: a simulated guest's cannot be its own, since Xen's xenstored refuses an owner that is no domain.
const OWNER: Permission = Permission::new(0, Access::NONE);

/// Works a xenstored as a host with many guests does.
#[derive(Debug, Parser)]
#[command(name = "xenstore-load", version)]
struct Arguments {
    /// How many guests there are.
    #[arg(short, long, default_value_t = 1000)]
    guests: u16,
    /// Where the daemon listens.
    #[arg(short, long, default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// The daemon's process: also print the time and memory it took itself.
    #[arg(short, long)]
    pid: Option<u32>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenstore-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Times steps and prints a line for each.
struct Meter<'a> {
    arguments: &'a Arguments,
}

impl Meter<'_> {
    fn step(
        &self,
        name: &str,
        operations: usize,
        body: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (began, daemon_began) = (Instant::now(), self.daemon_time()?);
        body().with_context(|| name.to_owned())?;
        let (took, daemon) = (began.elapsed().as_nanos(), self.daemon_time()? - daemon_began);
        let count = u64::try_from(operations.max(1))?;
        let each = u64::try_from(took)? / count;
        println!("{name}: {operations} times, {each} ns each, {} ns of the daemon", daemon / count);
        Ok(())
    }

    /// Returns the nanoseconds that the daemon has run.
    fn daemon_time(&self) -> anyhow::Result<u64> {
        let Some(pid) = self.arguments.pid else { return Ok(0) };
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        Ok(text.split_whitespace().next().context("an empty schedstat")?.parse()?)
    }

    fn print_memory(&self) -> anyhow::Result<()> {
        let Some(pid) = self.arguments.pid else { return Ok(()) };
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        println!("memory: {}", line.context("no VmRSS")?.trim());
        Ok(())
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit)?;
    let guests: Vec<u16> = (FIRST..).take(usize::from(arguments.guests)).collect();
    let connect = || Client::connect_to(&arguments.socket);
    let (tool, meter) = (connect()?, Meter { arguments });

    meter.step("create a guest's nodes", guests.len(), || {
        guests.iter().try_for_each(|guest| create(&tool, *guest)).map_err(Into::into)
    })?;
    let mut clients = Vec::new();
    meter.step("connect and set 8 watches", guests.len(), || {
        for guest in &guests {
            let client = connect()?;
            watch(&client, *guest)?;
            clients.push((*guest, client));
        }
        Ok(())
    })?;
    meter.step("front and back ends meet", guests.len(), || {
        clients.iter().try_for_each(|(guest, client)| meet(&tool, client, *guest))
    })?;
    meter.step("read a guest's name and memory", guests.len(), || {
        for guest in &guests {
            tool.read(&format!("/local/domain/{guest}/name"))?;
            tool.read(&format!("/local/domain/{guest}/memory/target"))?;
        }
        Ok(())
    })?;
    meter.step("list the domains", 20, || {
        for _ in 0..20 {
            let found = tool.directory("/local/domain")?.len();
            ensure!(found >= guests.len(), "{found} domains of {}", guests.len());
        }
        Ok(())
    })?;
    meter.step("change a guest's memory in a transaction", guests.len(), || {
        guests.iter().try_for_each(|guest| set_memory(&tool, *guest)).map_err(Into::into)
    })?;
    println!("slowest of {WRITES} writes: {} ns", slowest_write(&tool, &guests)?.as_nanos());
    meter.print_memory()?;
    meter.step("close a guest's connection", guests.len(), || {
        clients.clear();
        // The daemon has closed all when it answers a connection made after them.
        Ok(connect()?.exists("/").map(drop)?)
    })?;
    meter.step("remove a guest's nodes", guests.len(), || {
        guests.iter().try_for_each(|guest| remove(&tool, *guest)).map_err(Into::into)
    })
}

fn back(guest: u16, kind: &str) -> String {
    format!("/local/domain/{DRIVER}/backend/{kind}/{guest}/0")
}

fn front(guest: u16, kind: &str) -> String {
    format!("/local/domain/{guest}/device/{kind}/0")
}

fn create(tool: &Client, guest: u16) -> Result<(), Error> {
    let (own, read) = (Permission::new(guest, Access::BOTH), Permission::new(guest, Access::READ));
    tool.transaction(|transaction| {
        let home = format!("/local/domain/{guest}");
        let write = |name: &str, value: &str| transaction.write(&format!("{home}/{name}"), value);
        transaction.mkdir(&home)?;
        transaction.set_perms(&home, &[OWNER, read])?;
        write("name", &format!("guest-{guest}"))?;
        write("domid", &guest.to_string())?;
        for (name, value) in [("target", "262144"), ("static-max", "262144"), ("videoram", "0")] {
            write(&format!("memory/{name}"), value)?;
        }
        for name in ["control/shutdown", "data", "attr", "error"] {
            write(name, "")?;
            transaction.set_perms(&format!("{home}/{name}"), &[OWNER, own])?;
        }
        for (name, value) in [("ring-ref", "233472"), ("port", "2"), ("limit", "1048576")] {
            write(&format!("console/{name}"), value)?;
        }
        write("cpu/0/availability", "online")?;
        for kind in ["vbd", "vif"] {
            device(transaction, guest, kind)?;
        }
        Ok(())
    })
}

fn device(transaction: &Transaction<'_>, guest: u16, kind: &str) -> Result<(), Error> {
    let (back, front) = (back(guest, kind), front(guest, kind));
    let end = |path: &str, own: Access, other: u16, other_path: &str, label: &str| {
        let list = [OWNER, Permission::new(guest, own)];
        transaction.mkdir(path)?;
        transaction.set_perms(path, &list)?;
        transaction.write(&format!("{path}/{label}"), other_path)?;
        transaction.write(&format!("{path}/{label}-id"), &other.to_string())
    };
    end(&front, Access::BOTH, 0, &back, "backend")?;
    end(&back, Access::READ, guest, &front, "frontend")?;
    for (nodes, path) in [(&FRONT[..], &front), (&BACK[..], &back)] {
        for (name, value) in nodes {
            transaction.write(&format!("{path}/{name}"), value)?;
        }
    }
    Ok(())
}

/// Sets up what a guest's kernel, the back ends and the console daemon watch.
fn watch(client: &Client, guest: u16) -> anyhow::Result<()> {
    let home = format!("/local/domain/{guest}");
    let mut paths = vec![format!("{home}/control/shutdown"), format!("{home}/memory/target")];
    paths.extend([format!("{home}/console"), format!("{home}/cpu")]);
    for kind in ["vbd", "vif"] {
        paths.extend([front(guest, kind) + "/state", back(guest, kind) + "/state"]);
    }
    for path in &paths {
        client.watch(path, "t")?;
        let event = client.next_event(None)?.context("no first event")?;
        ensure!(event.path == *path, "an event for {}", event.path);
    }
    Ok(())
}

/// Goes through the states that a device's ends go through, each telling the other.
fn meet(tool: &Client, client: &Client, guest: u16) -> anyhow::Result<()> {
    for kind in ["vbd", "vif"] {
        for (path, state) in [
            (back(guest, kind), "2"),
            (front(guest, kind), "3"),
            (back(guest, kind), "4"),
            (front(guest, kind), "4"),
        ] {
            let path = format!("{path}/state");
            tool.write(&path, state)?;
            let event = client.next_event(None)?.context("no event")?;
            ensure!(event.path == path, "an event for {} and not {path}", event.path);
            ensure!(client.read_string(&path)? == state, "{path} is not {state}");
        }
    }
    Ok(())
}

fn set_memory(tool: &Client, guest: u16) -> Result<(), Error> {
    tool.transaction(|transaction| {
        let path = format!("/local/domain/{guest}/memory/target");
        let target: u64 = transaction.read_string(&path)?.parse().unwrap_or_default();
        transaction.write(&path, &(target + 4).to_string())
    })
}

/// Returns how long the slowest of many writes took.
fn slowest_write(tool: &Client, guests: &[u16]) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    for (number, guest) in guests.iter().cycle().take(WRITES).enumerate() {
        let (path, value) = (format!("/local/domain/{guest}/data"), format!("{number:01000}"));
        let began = Instant::now();
        tool.write(&path, &value)?;
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

fn remove(tool: &Client, guest: u16) -> Result<(), Error> {
    tool.transaction(|transaction| {
        transaction.rm(&format!("/local/domain/{guest}"))?;
        for kind in ["vbd", "vif"] {
            transaction.rm(&format!("/local/domain/{DRIVER}/backend/{kind}/{guest}"))?;
        }
        Ok(())
    })
}
