//! `xl generate-documents`, for packaging: the manual pages and the completion, from the commands themselves.

use std::fs;
use std::path::Path;

use toolstack::plain;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};
use crate::{completion, manual};

pub(super) const COMMAND: Command = Command {
    name: "generate-documents",
    operands: "<Directory>",
    summary: "Write manual pages and shell completion below a directory",
    details: "",
    flags: &[],
    listed: false,
    run,
};

fn run(_: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let directory = Path::new(parsed.operand(0));
    for (path, text) in [
        ("man/man1/xl.1", manual::commands()),
        ("man/man5/xl.cfg.5", manual::configuration()),
        ("bash-completion/completions/xl", completion::bash()),
    ] {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)).map_err(|error| {
            Failure::Failed(
                FAILURE,
                format!("xl: cannot write {}: {}", path.display(), plain(&error)),
            )
        })?;
    }
    Ok(())
}
