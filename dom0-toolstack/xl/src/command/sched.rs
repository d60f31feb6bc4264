//! What `xl sched-credit`, `sched-credit2` and `sched-rtds` have in common: which domains and pools they speak of.

use std::fmt::Write;

use toolstack::cpupool::{self, Scheduler};
use xen_sys::DomId;
use xen_sys::sysctl::{Cpupool, Sysctl};

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

/// How one scheduler's parameters are printed.
pub(super) struct Layout {
    /// Which scheduler.
    pub(super) scheduler: Scheduler,
    /// The line above the domains.
    pub(super) header: &'static str,
    /// A domain's line.
    pub(super) line: fn(&Context, DomId) -> Outcome<String>,
    /// What stands behind a pool's name.
    pub(super) pool: fn(&Context, u32) -> Outcome<String>,
}

impl Layout {
    /// All domains of all pools with this scheduler, or of the one pool that was named.
    pub(super) fn overview(&self, context: &Context, only: Option<&str>) -> Outcome<String> {
        let (xen, store) = (context.xen()?, context.store()?);
        let only = only.map(|name| named(context, name)).transpose()?;
        let mut text = String::new();
        for pool in cpupool::all(xen)? {
            let wanted = only.as_ref().is_none_or(|only| only.id == pool.id);
            if !wanted || pool.scheduler != self.scheduler.0 {
                continue;
            }
            let name = cpupool::name(store, pool.id)?;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "Cpupool {name}: {}", (self.pool)(context, pool.id)?);
            text.push_str(self.header);
            for info in xen.domains(DomId::DOM0)? {
                if info.cpupool == pool.id {
                    text.push_str(&(self.line)(context, info.domain)?);
                }
            }
        }
        Ok(text)
    }

    /// Prints one domain, which must be in a pool with this scheduler.
    pub(super) fn domain(&self, context: &Context, domain: DomId) -> Outcome {
        print(self.header)?;
        self.require(context, domain)?;
        print(&(self.line)(context, domain)?)
    }

    /// Refuses a domain that has another scheduler.
    pub(super) fn require(&self, context: &Context, domain: DomId) -> Outcome {
        let pool = context.info(domain)?.cpupool;
        let other = cpupool::all(context.xen()?)?.into_iter().find(|found| found.id == pool);
        let other = Scheduler(other.map_or(0, |found| found.scheduler));
        if other == self.scheduler {
            return Ok(());
        }
        let (other, this) = (other.name(), self.scheduler.name());
        let text = format!("libxl_domain_sched_params_get returned {other} not {this}.");
        Err(Failure::Failed(FAILURE, text))
    }
}

/// The pool that was named, or the first one.
pub(super) fn named(context: &Context, name: &str) -> Outcome<Cpupool> {
    cpupool::find(context.xen()?, context.store()?, name)
        .map_err(|_| Failure::Failed(FAILURE, format!("unknown cpupool '{name}'")))
}

/// The pool that the first operand of a command names, which needs `operands` of them.
pub(super) fn pool(
    context: &Context,
    parsed: &Parsed,
    command: &Command,
    operands: usize,
) -> Outcome<Cpupool> {
    parsed.require(command.name, operands)?;
    named(context, parsed.operand(0))
}

/// Refuses options that do not go together.
pub(super) fn check(parsed: &Parsed, of_domains: &[char], of_pools: &[char]) -> Outcome {
    let any = |letters: &[char]| letters.iter().any(|letter| parsed.has(*letter));
    let wrong = |text: &str| Err(Failure::Failed(FAILURE, text.into()));
    // With credit2 -s comes before -d; with credit the two do not go together.
    let of_pool = parsed.has('p') || parsed.has('s') && of_pools.len() > 1;
    if of_pool && (parsed.has('d') || any(of_domains)) {
        return wrong("Specifying a cpupool or schedparam is not allowed with domain options.");
    }
    if !parsed.has('d') && any(of_domains) {
        return wrong("Must specify a domain.");
    }
    if !parsed.has('s') && any(of_pools) {
        return wrong("Must specify schedparam to set schedule parameter values.");
    }
    Ok(())
}
