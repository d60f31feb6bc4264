//! The commands, one function each.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use xenstore::client::{Client, Store};
use xenstore::permission::Permission;

use crate::arguments::{Command, Options};
use crate::control;
use crate::listing::{self, Style};
use crate::quoting::{escape, unescape};

/// Does what was asked and returns the program's exit code.
pub(crate) fn perform(
    command: Command,
    options: &Options,
    operands: &[String],
    client: &Client,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Chmod => chmod(client, options, operands)?,
        Command::Control => return control::perform(client, operands),
        Command::Exists => return exists(client, operands),
        Command::List => list(client, options, operands)?,
        Command::Ls => ls(client, options, operands)?,
        Command::Read => read(client, options, operands)?,
        Command::Rm => rm(client, options, operands)?,
        Command::Watch => watch(client, options, operands)?,
        Command::Write => write(client, options, operands)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(client: &Client, options: &Options, keys: &[String]) -> anyhow::Result<()> {
    let mut output = Vec::new();
    let result = match keys {
        [_] => read_all(client, options, keys, &mut output),
        // What is printed of several is of one moment.
        _ => in_transaction(client, |store| read_all(store, options, keys, &mut output)),
    };
    // What was read before a path that could not be is printed all the same, as by Xen's client.
    io::stdout().write_all(&output)?;
    result
}

fn read_all(
    store: &dyn Store,
    options: &Options,
    keys: &[String],
    output: &mut Vec<u8>,
) -> anyhow::Result<()> {
    // Another try of the transaction begins anew.
    output.clear();
    for key in keys {
        let value = store.read(key).with_context(|| format!("couldn't read path {key}"))?;
        if options.prefix {
            output.extend_from_slice(format!("{key}: ").as_bytes());
        }
        if options.raw {
            output.extend_from_slice(&value);
        } else {
            output.extend_from_slice(escape(&value).as_bytes());
            output.push(b'\n');
        }
    }
    Ok(())
}

fn list(client: &Client, options: &Options, keys: &[String]) -> anyhow::Result<()> {
    let mut output = String::new();
    let result = list_all(client, options, keys, &mut output);
    io::stdout().write_all(output.as_bytes())?;
    result
}

fn list_all(
    client: &Client,
    options: &Options,
    keys: &[String],
    output: &mut String,
) -> anyhow::Result<()> {
    for key in keys {
        let names = client.directory(key).with_context(|| format!("could not list path {key}"))?;
        for name in names {
            if options.prefix {
                output.push_str(&format!("{}/", key.trim_end_matches('/')));
            }
            output.push_str(&format!("{name}\n"));
        }
    }
    Ok(())
}

fn exists(client: &Client, keys: &[String]) -> anyhow::Result<ExitCode> {
    for key in keys {
        if !client.exists(key)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ls(client: &Client, options: &Options, keys: &[String]) -> anyhow::Result<()> {
    let terminal = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let width = match terminal {
        _ if options.flat => usize::MAX / 2,
        Some(size) if size.ws_col > 0 => usize::from(size.ws_col) - 2,
        _ => 80,
    };
    let style = Style { flat: options.flat, permissions: options.prefix, width };
    let mut output = io::BufWriter::new(io::stdout().lock());
    let root = ["/".to_owned()];
    for key in if keys.is_empty() { &root } else { keys } {
        listing::list(client, key, style, &mut output)?;
    }
    Ok(output.flush()?)
}

fn write(client: &Client, options: &Options, operands: &[String]) -> anyhow::Result<()> {
    in_transaction(client, |store| {
        for [key, text] in operands.as_chunks::<2>().0 {
            let value = if options.raw { text.as_bytes().to_vec() } else { unescape(text) };
            store
                .write_bytes(key, &value)
                .with_context(|| format!("could not write path {key}"))?;
        }
        Ok(())
    })
}

fn rm(client: &Client, options: &Options, keys: &[String]) -> anyhow::Result<()> {
    in_transaction(client, |store| {
        for key in keys {
            let mut path = key.as_str();
            loop {
                store.rm(path).with_context(|| format!("could not remove path {path}"))?;
                let Some((parent, _)) = path.rsplit_once('/') else { break };
                if !options.tidy || !is_bare(store, parent) {
                    break;
                }
                path = parent;
            }
        }
        Ok(())
    })
}

/// Returns whether a node has neither value nor children.
fn is_bare(store: &dyn Store, path: &str) -> bool {
    !path.is_empty()
        && store.read(path).is_ok_and(|value| value.is_empty())
        && store.directory(path).is_ok_and(|names| names.is_empty())
}

fn chmod(client: &Client, options: &Options, operands: &[String]) -> anyhow::Result<()> {
    let Some((key, modes)) = operands.split_first() else { bail!("no key") };
    let permissions: Vec<Permission> = modes
        .iter()
        .map(|mode| {
            Permission::parse(mode)
                .with_context(|| format!("Invalid permission specification: '{mode}'"))
        })
        .collect::<anyhow::Result<_>>()?;
    in_transaction(client, |store| {
        let mut above = Some(key.as_str());
        while let Some(path) = above.filter(|path| !path.is_empty()) {
            set(store, path, &permissions)?;
            above = options.upto.then(|| path.rsplit_once('/').map(|(parent, _)| parent)).flatten();
        }
        if options.recurse {
            chmod_below(store, key, &permissions)?;
        }
        Ok(())
    })
}

fn chmod_below(store: &dyn Store, path: &str, permissions: &[Permission]) -> anyhow::Result<()> {
    for name in store.directory_or_empty(path)? {
        let child = format!("{}/{name}", path.trim_end_matches('/'));
        set(store, &child, permissions)?;
        chmod_below(store, &child, permissions)?;
    }
    Ok(())
}

fn set(store: &dyn Store, path: &str, permissions: &[Permission]) -> anyhow::Result<()> {
    store
        .set_perms(path, permissions)
        .with_context(|| format!("Error occurred setting permissions on '{path}'"))
}

fn watch(client: &Client, options: &Options, keys: &[String]) -> anyhow::Result<()> {
    for key in keys {
        let set = match options.depth {
            Some(depth) => client.watch_depth(key, key, depth),
            None => client.watch(key, key),
        };
        set.with_context(|| format!("Unable to add watch on {key}"))?;
    }
    let mut seen = 0;
    while options.count.is_none_or(|count| seen < count) {
        if let Some(event) = client.next_event(None)? {
            let mut output = io::stdout().lock();
            writeln!(output, "{}", event.path)?;
            output.flush()?;
            seen += 1;
        }
    }
    Ok(())
}

/// Runs `body` in one transaction, or until nothing changed under it.
fn in_transaction<T>(
    client: &Client,
    mut body: impl FnMut(&dyn Store) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    client.transaction(|transaction| body(transaction))
}
