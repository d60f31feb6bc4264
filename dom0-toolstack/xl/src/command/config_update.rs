//! `xl config-update`

use std::path::PathBuf;

use toolstack::config::Config;
use toolstack::config::domain::DomainConfig;
use toolstack::userdata::Item;
use toolstack::{domain, json};

use super::{Command, create};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "config-update",
    operands: "<Domain> <ConfigFile> [options] [vars]",
    summary: "Update the saved configuration of a running domain, used when rebuilding the domain after reboot",
    details: "Reads the configuration file and the settings that follow it, as create does, and keeps \
              them for the next time that the domain is made anew. Nothing of the running domain \
              changes. A configuration that is wrong leaves the old one in place.",
    flags: &[
        Flag::new('f', Some("defconfig"), "Use the given configuration file").with_value("FILE"),
        Flag::new('d', None, "Enable debug messages: print the resulting configuration"),
        Flag::new('q', None, "Quiet"),
    ],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.operands.is_empty() {
        return Err(Failure::Misuse("xl config-update requires a domain argument".into()));
    }
    let domain = context.domain(parsed.operand(0))?;
    let mut file = parsed.value('f').map(PathBuf::from);
    let mut overrides = Vec::new();
    for operand in parsed.operands.get(1..).unwrap_or_default() {
        if operand.contains('=') {
            overrides.push(operand.clone());
        } else if file.is_none() {
            file = Some(operand.into());
        } else {
            return Err(Failure::Usage(format!("'{operand}' is neither an option nor key=value.")));
        }
    }
    let Some(file) = file else {
        return Err(Failure::Failed(FAILURE, "Config file not specified".into()));
    };
    let text = create::text(&file, &overrides)?;
    let (mut config, remarks) = create::read(&file, &overrides)?;
    if !parsed.has('q') {
        for remark in remarks {
            eprintln!("{remark}\n");
        }
    }
    let uuid = domain::uuid(&context.info(domain)?);
    // It stays the same domain, whatever the text says.
    config.name = context.name(domain)?;
    let json = json::config(&config, uuid);
    if parsed.has('d') || context.dry_run {
        print(&json::pretty(&json))?;
    }
    if context.dry_run {
        return Ok(());
    }
    check(&text)?;
    eprintln!("setting dom{domain} configuration");
    context.files.write(domain, uuid, Item::Config, &text)?;
    Ok(context.files.write(domain, uuid, Item::LibxlJson, &json.to_string())?)
}

/// What is kept is read back when the domain is made anew: it must be readable as it is kept.
fn check(text: &str) -> Outcome {
    let wrong = |error: toolstack::config::Error| Failure::Failed(FAILURE, error.to_string());
    let config = Config::parse("kept", text, &[]).map_err(|error| wrong(error.into()))?;
    DomainConfig::from_config(&config).map(drop).map_err(wrong)
}
