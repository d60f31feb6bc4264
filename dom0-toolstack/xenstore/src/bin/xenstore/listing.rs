//! `xenstore ls`: the tree, one node a line.
//!
//! On a terminal's width lines are cut and permissions aligned; with `-f` whole paths are shown.

use std::io::{self, Write};

use anyhow::Context;
use xenstore::client::{Client, Store};
use xenstore::permission::Permission;
use xenstore::wire::Failure;

use crate::quoting::escape;

/// What a quoted value needs beside itself: ` = "..."`.
const TAG_WIDTH: usize = 8;

/// How lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Style {
    /// Whole paths instead of indented names.
    pub(crate) flat: bool,
    /// Permissions after each value.
    pub(crate) permissions: bool,
    /// Width at which lines are cut.
    pub(crate) width: usize,
}

/// Writes all nodes below `path`.
pub(crate) fn list(
    client: &Client,
    path: &str,
    style: Style,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    below(client, path, 0, style, output)
}

fn below(
    client: &Client,
    path: &str,
    depth: usize,
    style: Style,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let names = match client.directory(path) {
        Ok(names) => names,
        // A node that went away while we listed is no longer news.
        Err(error) if depth > 0 && error.failure() == Some(Failure::ENOENT) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("xs_directory ({path})")),
    };
    for name in names {
        let separator = if path.ends_with('/') { "" } else { "/" };
        let child = format!("{path}{separator}{name}");
        let value = client.read(&child).ok();
        let permissions = style.permissions.then(|| client.get_perms(&child).unwrap_or_default());
        let label = if style.flat { &child } else { &name };
        write_line(output, label, depth, value.as_deref(), permissions.as_deref(), style)?;
        below(client, &child, depth + 1, style, output)?;
    }
    Ok(())
}

fn write_line(
    output: &mut impl Write,
    label: &str,
    depth: usize,
    value: Option<&[u8]>,
    permissions: Option<&[Permission]>,
    style: Style,
) -> io::Result<()> {
    let indented = if style.flat {
        label.to_owned()
    } else {
        let shown: String =
            label.chars().take(style.width.saturating_sub(TAG_WIDTH + depth)).collect();
        format!("{:depth$}{shown}", "")
    };
    // As in xenstore-utils, a whole path does not count towards the width.
    let mut width = if style.flat { 0 } else { indented.len() };
    write!(output, "{indented}")?;
    match value {
        None => writeln!(output, ":")?,
        Some(value) if style.width < width + value.len() + TAG_WIDTH => {
            let shown = style.width.saturating_sub(TAG_WIDTH + width);
            let text: String = escape(value).chars().take(shown).collect();
            write!(output, " = \"{text}\\...\"")?;
        }
        Some(value) => {
            let text = format!(" = \"{}\"", escape(value));
            width += text.len();
            write!(output, "{text}")?;
            if permissions.is_some() {
                let desired = if style.flat { 0 } else { style.width.min(60) };
                let filling = (width + 1..desired).map(|at| if at % 2 == 1 { '.' } else { ' ' });
                write!(output, " {}", filling.collect::<String>())?;
            }
        }
    }
    if let Some(permissions) = permissions {
        let entries: Vec<String> = permissions.iter().map(Permission::to_string).collect();
        write!(output, "  ({})", entries.join(","))?;
    }
    writeln!(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenstore::permission::Access;

    fn line(label: &str, depth: usize, value: &str, style: Style) -> String {
        let permissions = [Permission::new(0, Access::NONE), Permission::new(7, Access::READ)];
        let permissions = style.permissions.then_some(&permissions[..]);
        let mut output = Vec::new();
        write_line(&mut output, label, depth, Some(value.as_bytes()), permissions, style).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn names_are_indented_by_their_depth() {
        let style = Style { flat: false, permissions: false, width: 80 };
        assert_eq!(line("state", 3, "4", style), "   state = \"4\"\n");
    }

    #[test]
    fn long_values_are_cut_at_the_width_but_not_when_flat() {
        let style = Style { flat: false, permissions: false, width: 20 };
        assert_eq!(line("abcd", 0, "0123456789", style), "abcd = \"01234567\\...\"\n");
        let style = Style { flat: true, permissions: false, width: usize::MAX / 2 };
        assert_eq!(line("/abcd", 0, "0123456789", style), "/abcd = \"0123456789\"\n");
    }

    #[test]
    fn permissions_stand_in_a_column() {
        let style = Style { flat: false, permissions: true, width: 80 };
        let text = line("name", 1, "x", style);
        assert_eq!(text.find("  (n0,r7)"), Some(60));
        let style = Style { flat: true, permissions: true, width: usize::MAX / 2 };
        assert_eq!(line("/name", 1, "x", style), "/name = \"x\"   (n0,r7)\n");
    }
}
