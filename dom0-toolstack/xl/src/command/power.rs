//! What `xl shutdown` and `xl reboot` have in common: asking guests, and waiting for them.

use toolstack::domain::{self, End, Request};
use xen_sys::DomId;
use xen_sys::sysctl::Sysctl;

use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

/// Options of both.
pub(super) const FLAGS: [Flag; 3] = [
    Flag::new('a', Some("all"), "All domains"),
    Flag::new('w', Some("wait"), "Wait for the domain(s) to stop"),
    Flag::new('F', None, "Fall back to an ACPI event, which guests on Arm do not have"),
];

/// Asks the domains meant, and waits where asked to.
pub(super) fn run(context: &Context, parsed: &Parsed, request: Request, doing: &str) -> Outcome {
    let (xen, store) = (context.xen()?, context.store()?);
    let domains: Vec<DomId> = if parsed.has('a') {
        if !parsed.operands.is_empty() {
            return Err(Failure::Usage("-a means all domains: no domain can be named".into()));
        }
        let all = xen.domains(DomId(1))?;
        all.iter().filter(|info| !info.dying).map(|info| info.domain).collect()
    } else {
        if parsed.operands.is_empty() {
            let text = "You must specify -a or a domain id.\n";
            return Err(Failure::Failed(FAILURE, text.into()));
        }
        vec![context.domain(parsed.operand(0))?]
    };
    let mut watched = Vec::new();
    for domain in domains {
        watched.push((domain, domain::uuid(&context.info(domain)?)));
        eprintln!("{doing} domain {domain}");
        domain::request(xen, store, domain, request)?;
    }
    if !parsed.has('w') {
        return Ok(());
    }
    eprintln!("Waiting for {} domains", watched.len());
    for (domain, uuid) in watched {
        let text = match domain::wait_for_end(xen, store, domain, uuid)? {
            End::Destroyed => format!("Domain {domain} has been destroyed"),
            End::ShutDown(info) => {
                let code = info.shutdown.map_or(0, |reason| reason.code());
                format!("Domain {domain} has been shut down, reason code {code}")
            }
        };
        eprintln!("{text}");
    }
    Ok(())
}
