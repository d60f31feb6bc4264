//! `xl cpupool-create`

use std::collections::BTreeSet;
use std::path::Path;

use toolstack::build;
use toolstack::config::{Config, CpuList, Kind};
use toolstack::cpupool::{self, Scheduler};
use toolstack::plain;
use xen_sys::sysctl::Sysctl;

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-create",
    operands: "[options] [<ConfigFile>] [Variable=value ...]",
    summary: "Create a new CPU pool",
    details: "The variables are name, sched, cpus and nodes, as xlcpupool.cfg(5) has them. CPUs must be in \
              no pool: take them out of Pool-0 with cpupool-cpu-remove first.",
    flags: &[
        Flag::new('f', Some("defconfig"), "Use the given configuration file").with_value("FILE"),
        Flag::new('n', Some("dryrun"), "Dry run - prints the resulting configuration"),
    ],
    listed: true,
    run,
};

/// What a configuration asks for.
#[derive(Debug, Eq, PartialEq)]
struct Wanted {
    name: String,
    scheduler: Scheduler,
    cpus: BTreeSet<u32>,
}

/// What the host has.
struct Host {
    nodes: Vec<u32>,
    free: BTreeSet<u32>,
    scheduler: Scheduler,
}

fn failed(text: impl Into<String>) -> Failure {
    Failure::Failed(FAILURE, text.into())
}

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let mut file = parsed.value('f').map(str::to_owned);
    let mut text = String::new();
    for operand in &parsed.operands {
        if operand.contains('=') {
            text.push_str(&format!("\n{operand}"));
        } else if file.is_none() {
            file = Some(operand.clone());
        } else {
            return Err(Failure::Usage(format!("'{operand}' is neither an option nor key=value.")));
        }
    }
    if let Some(file) = &file {
        let contents = std::fs::read_to_string(file).map_err(|error| {
            failed(format!("Failed to read config file: {file}: {}", plain(&error)))
        })?;
        text = contents + &text;
    }
    text.push('\n');
    let source = file.as_deref().unwrap_or("command line");
    let config = Config::parse(source, &text, &[]);
    let config =
        config.map_err(|error| failed(toolstack::config::Error::from(error).to_string()))?;
    let xen = context.xen()?;
    let host = Host {
        nodes: build::host(xen)?.cpu_nodes,
        free: xen.free_cpus()?,
        scheduler: Scheduler(xen.scheduler()?),
    };
    let wanted = wanted(&config, file.as_deref(), &host)?;
    let store = context.store()?;
    if cpupool::find(xen, store, &wanted.name).is_ok() {
        return Err(failed(format!("Pool name \"{}\" already exists", wanted.name)));
    }
    print(&format!(
        "Using config file \"{source}\"\ncpupool name:   {}\nscheduler:      {}\nnumber of cpus: {}\n",
        wanted.name,
        wanted.scheduler.name(),
        wanted.cpus.len()
    ))?;
    if parsed.has('n') || context.dry_run {
        return Ok(());
    }
    let made = cpupool::create(xen, store, &wanted.name, wanted.scheduler, &wanted.cpus);
    made.map(drop).map_err(|error| failed(format!("error on creating cpupool: {error}")))
}

fn wanted(config: &Config, file: Option<&str>, host: &Host) -> Outcome<Wanted> {
    let value = |key: &str| config.get(key).map(|setting| &setting.value.kind);
    let text = |key: &str| match value(key) {
        Some(Kind::Text(text) | Kind::Number(text)) => Some(text.as_str()),
        _ => None,
    };
    let list = |key: &str| match value(key) {
        Some(Kind::List(items)) => Some(items.iter().filter_map(|item| match &item.kind {
            Kind::Text(text) | Kind::Number(text) => Some(text.as_str()),
            Kind::List(_) => None,
        })),
        _ => None,
    };
    let base = file.and_then(|file| Path::new(file).file_name()?.to_str());
    let name = text("name").or(base).ok_or_else(|| failed("Missing cpupool name!"))?;
    let scheduler = match text("sched") {
        None => host.scheduler,
        Some(name) => Scheduler::from_name(name).ok_or_else(|| failed("Unknown scheduler"))?,
    };
    let mut cpus = BTreeSet::new();
    if let Some(nodes) = list("nodes") {
        let nodes: Vec<&str> = nodes.collect();
        for (cpu, node) in (0..).zip(&host.nodes) {
            if nodes.contains(&node.to_string().as_str()) && host.free.contains(&cpu) {
                cpus.insert(cpu);
            }
        }
        if cpus.is_empty() {
            return Err(failed("no free cpu found"));
        }
    } else {
        let terms = match list("cpus") {
            Some(list) => list.collect::<Vec<_>>().join(","),
            None => text("cpus").unwrap_or_default().to_owned(),
        };
        if !terms.is_empty() {
            let list = CpuList::parse(&terms).map_err(|bad| failed(bad.to_string()))?;
            cpus = list.resolve(&host.nodes);
            if cpus.is_empty() {
                return Err(failed(format!("cpu {terms} illegal or not free")));
            }
        }
    }
    match cpus.iter().find(|cpu| !host.free.contains(cpu)) {
        Some(cpu) => Err(failed(format!("cpu {cpu} illegal or not free"))),
        None => Ok(Wanted { name: name.into(), scheduler, cpus }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, file: Option<&str>) -> Result<Wanted, String> {
        let host = Host { nodes: vec![0, 0, 1, 1], free: [1, 2].into(), scheduler: Scheduler(6) };
        let config = Config::parse("c", text, &[]).unwrap();
        wanted(&config, file, &host).map_err(|failure| match failure {
            Failure::Failed(_, text) | Failure::Usage(text) | Failure::Misuse(text) => text,
            Failure::Silent(_) => String::new(),
        })
    }

    #[test]
    fn a_pool_has_a_name_a_scheduler_and_free_cpus() {
        let pool = read("name='p'\nsched='rtds'\ncpus=['1','2']\n", None).unwrap();
        let expected = Wanted { name: "p".into(), scheduler: Scheduler::RTDS, cpus: [1, 2].into() };
        assert_eq!(pool, expected);
        let pool = read("cpus='1-2'\n", Some("/etc/xen/fast")).unwrap();
        assert_eq!((pool.name.as_str(), pool.cpus.len()), ("fast", 2));
        assert_eq!(read("name='p'\nnodes=['1']\n", None).unwrap().cpus, [2].into());
        assert!(read("name='p'\n", None).unwrap().cpus.is_empty());
    }

    #[test]
    fn what_cannot_be_is_said_in_xl_s_words() {
        assert_eq!(read("cpus='1'\n", None).unwrap_err(), "Missing cpupool name!");
        assert_eq!(read("name='p'\nsched='x'\n", None).unwrap_err(), "Unknown scheduler");
        assert_eq!(read("name='p'\ncpus=['0']\n", None).unwrap_err(), "cpu 0 illegal or not free");
        assert_eq!(read("name='p'\ncpus='9'\n", None).unwrap_err(), "cpu 9 illegal or not free");
        assert_eq!(read("name='p'\nnodes=['7']\n", None).unwrap_err(), "no free cpu found");
    }
}
