//! `xl create`

use std::path::{Path, PathBuf};

use toolstack::build::{self, Built, Sources};
use toolstack::config::domain::DomainConfig;
use toolstack::config::{self, Config};
use toolstack::domain;
use toolstack::plan::BuildPlan;
use toolstack::{json, plain};
use uuid::Uuid;

use super::{Command, console};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::monitor;
use crate::outcome::{FAILURE, Failure, NO_CONFIG, NOT_CREATED, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "create",
    operands: "<ConfigFile> [options] [vars]",
    summary: "Create a domain from config file <filename>",
    details: "The domain is made as its configuration says and, unless -p is given, let run. A process of its own \
              stays behind for each domain and does what on_poweroff, on_reboot and on_crash say; its log \
              is /var/log/xen/xl-NAME.log. [vars] are settings as in the file, which they replace: \
              'memory=512'. A file named without a path is also looked for in /etc/xen. Should xl be killed \
              half way, the next xl command takes back what there is of the domain.",
    flags: &[
        Flag::new('c', None, "Connect to the console after the domain is created"),
        Flag::new('d', None, "Enable debug messages: show what is built where"),
        Flag::new('e', None, "Do not wait in the background for the death of the domain"),
        Flag::new('F', None, "Run in foreground until death of the domain"),
        Flag::new('f', Some("defconfig"), "Use the given configuration file").with_value("FILE"),
        Flag::new('n', Some("dryrun"), "Dry run - prints the resulting configuration"),
        Flag::new('p', None, "Leave the domain paused after it is created"),
        Flag::new('q', Some("quiet"), "Quiet"),
        Flag::new('V', Some("vncviewer"), "Accepted; there is no display"),
        Flag::new('A', Some("vncviewer-autopass"), "Accepted; there is no display"),
        Flag::new('I', Some("ignore-global-affinity-masks"), "Accepted; there are none"),
    ],
    listed: true,
    run,
};

/// Where configurations named without a path are looked for, too.
const DIRECTORY: &str = "/etc/xen";

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let (file, overrides) = file_and_overrides(parsed)?;
    if !parsed.has('q') {
        eprintln!("Parsing config from {}", file.display());
    }
    let text = text(&file, &overrides)?;
    let (config, remarks) = read(&file, &overrides)?;
    if !parsed.has('q') {
        for remark in remarks {
            eprintln!("{remark}\n");
        }
    }
    if parsed.has('d') || context.verbosity > 0 {
        eprint!("{}", plan(context, &config)?);
    }
    if parsed.has('n') || context.dry_run {
        let uuid = config.uuid.unwrap_or_else(Uuid::new_v4);
        return print(&json::pretty(&json::config(&config, uuid)));
    }
    let built = {
        let _alone = context.lock()?;
        let (xen, store) = (context.xen()?, context.store()?);
        let built = build::create(xen, store, &context.files, &config, &text)
            .map_err(|error| Failure::from(error).with_status(NOT_CREATED))?;
        start(context, parsed, built, &config.name).inspect_err(|_| {
            // Without its monitor, or unable to run, it is of no use; why is what the user must hear.
            let _ = domain::take_back(xen, store, &context.files, built.domain, built.uuid);
        })?;
        build::finish(&context.files, built)?;
        built
    };
    if parsed.has('c') {
        console::attach(context, built.domain, "pv", 0)?;
    }
    if parsed.has('F') { monitor::run(context, built.domain, built.uuid) } else { Ok(()) }
}

/// Lets a built domain run, watched by a process of its own, as far as that was asked for.
fn start(context: &Context, parsed: &Parsed, built: Built, name: &str) -> Outcome {
    if !parsed.has('e') && !parsed.has('F') {
        monitor::spawn(built, name)?;
    }
    if !parsed.has('p') {
        build::unpause(context.xen()?, built.domain)?;
    }
    Ok(())
}

/// The configuration's file, and the settings that were typed.
fn file_and_overrides(parsed: &Parsed) -> Outcome<(PathBuf, Vec<String>)> {
    let mut file = parsed.value('f').map(str::to_owned);
    let mut overrides = Vec::new();
    for operand in &parsed.operands {
        if operand.contains('=') {
            overrides.push(operand.clone());
        } else if file.is_none() {
            file = Some(operand.clone());
        } else {
            return Err(Failure::Usage(format!("'{operand}' is neither an option nor key=value.")));
        }
    }
    let Some(file) = file else {
        let text = "Config file not specified and none in save file";
        return Err(Failure::Failed(NO_CONFIG, text.into()));
    };
    let path = PathBuf::from(&file);
    let elsewhere = Path::new(DIRECTORY).join(&file);
    let path =
        if !path.exists() && !file.contains('/') && elsewhere.exists() { elsewhere } else { path };
    Ok((path, overrides))
}

/// The file's text with the typed settings below it: what the domain is made anew from.
pub(super) fn text(file: &Path, overrides: &[String]) -> Outcome<String> {
    let bytes = std::fs::read(file).map_err(|error| {
        let text = format!("Failed to read config file: {}: {}", file.display(), plain(&error));
        Failure::Failed(NOT_CREATED, text)
    })?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    for line in overrides {
        text.push('\n');
        text.push_str(line);
    }
    text.push('\n');
    Ok(text)
}

pub(super) fn read(
    file: &Path,
    overrides: &[String],
) -> Outcome<(DomainConfig, Vec<config::Diagnostic>)> {
    let wrong = |error: config::Error| {
        let text = format!("{error}\n\nFailed to parse config {}", file.display());
        Failure::Failed(FAILURE, text)
    };
    let config = Config::load(file, overrides).map_err(wrong)?;
    DomainConfig::from_config(&config).map_err(wrong)
}

/// What would be built where, on this host.
fn plan(context: &Context, config: &DomainConfig) -> Outcome<BuildPlan> {
    let xen = context.xen()?;
    let sources = Sources::open(config)?;
    Ok(BuildPlan::new(config, &sources.images(), &build::host(xen)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Parsed {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Parsed::new("create", COMMAND.flags, &words).unwrap()
    }

    #[test]
    fn file_and_settings_are_told_apart_in_any_order() {
        let (file, settings) = file_and_overrides(&parse("vcpus=2 -p /a.cfg memory=64")).unwrap();
        assert_eq!(file, Path::new("/a.cfg"));
        assert_eq!(settings, ["vcpus=2", "memory=64"]);
        let (file, _) = file_and_overrides(&parse("-f /b.cfg name='x'")).unwrap();
        assert_eq!(file, Path::new("/b.cfg"));
        assert!(file_and_overrides(&parse("/a.cfg /b.cfg")).is_err());
        assert!(matches!(file_and_overrides(&parse("-p")), Err(Failure::Failed(6, _))));
    }
}
