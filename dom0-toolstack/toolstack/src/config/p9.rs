//! A shared folder's specification of xl.cfg(5), `p9=`: text → [`P9`].

use super::reader::{Bad, parts};

/// The tag where none is given.
const TAG: &str = "Xen";
/// Where folders are that no path is given for.
const PATH: &str = "/var/log/xen/guests";

/// One folder of the backend's domain, shared with the guest by `xen-9pfsd`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct P9 {
    /// What the guest knows it by.
    pub tag: String,
    /// The folder.
    pub path: String,
    /// Domain that shares it.
    pub backend: Option<String>,
    /// Most files below the folder; 0 for any number.
    pub max_files: u32,
    /// Most files that the guest has open at a time; 0 for the daemon's own limit.
    pub max_open_files: u32,
    /// Most MiB that are used below the folder; 0 for any number.
    pub max_space: u32,
    /// Whether the oldest file goes when there are too many, or too large ones.
    pub auto_delete: bool,
}

impl P9 {
    /// Parses a specification of the domain `name`'s; an error tells the bytes that are wrong.
    pub fn parse(text: &str, name: &str) -> Result<Self, Bad> {
        let mut folder = Self {
            tag: TAG.into(),
            path: format!("{PATH}/{name}"),
            backend: None,
            max_files: 0,
            max_open_files: 0,
            max_space: 0,
            auto_delete: false,
        };
        let (mut served, mut secured) = (false, false);
        for (part, span) in parts(text) {
            let bad = |what: String, expected: &str| Bad::new(what, expected, span.clone());
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim_end(), value.trim_start());
            match key {
                "type" if value == "xen_9pfsd" => served = true,
                "security_model" if value == "none" => secured = true,
                "security_model" => {
                    return Err(bad(
                        format!("there is no security model `{value}`"),
                        "expected security_model=none",
                    ));
                }
                "tag" => folder.tag = value.into(),
                "path" if is_path(value) => folder.path = value.into(),
                "path" => {
                    return Err(bad(
                        format!("`{value}` cannot be shared"),
                        "expected a path from the root, which is not the root, without // and without a / at its end",
                    ));
                }
                "backend" => folder.backend = Some(value.into()),
                "max-files" | "max-open-files" | "max-space" | "auto-delete" => {
                    let number = value.parse().map_err(|_not_a_number| {
                        bad(format!("`{value}` is not a number"), "expected a number")
                    })?;
                    match key {
                        "max-files" => folder.max_files = number,
                        "max-open-files" => folder.max_open_files = number,
                        "max-space" => folder.max_space = number,
                        _ => folder.auto_delete = number != 0,
                    }
                }
                "type" => return Err(bad(format!("`{value}` does not share folders"), SERVED)),
                key => {
                    return Err(bad(
                        format!("unknown p9 parameter `{key}`"),
                        "expected type, tag, security_model, path, backend, max-files, max-open-files, max-space \
                         or auto-delete",
                    ));
                }
            }
        }
        if !served {
            // Xen's default is QEMU, which has no part in our guests.
            return Err(Bad::new("the folder has no server", SERVED, 0..text.len()));
        }
        if !secured {
            let what = "the folder has no security model";
            return Err(Bad::new(what, "expected security_model=none", 0..text.len()));
        }
        Ok(folder)
    }
}

const SERVED: &str = "expected type=xen_9pfsd, the only server there is";

/// Whether the daemon takes `path`: it makes what is missing of it, and refuses these.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && !path.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<P9, String> {
        P9::parse(text, "web")
            .map_err(|bad| format!("{} ({}) at `{}`", bad.what, bad.expected, &text[bad.span]))
    }

    #[test]
    fn what_is_not_said_is_as_in_xl() {
        let folder = parse("type=xen_9pfsd,security_model=none").unwrap();
        assert_eq!((&*folder.tag, &*folder.path), ("Xen", "/var/log/xen/guests/web"));
        assert_eq!((folder.max_files, folder.max_open_files, folder.max_space), (0, 0, 0));
        assert!(!folder.auto_delete && folder.backend.is_none());
    }

    #[test]
    fn all_of_it_is_read_with_spaces_around() {
        let folder = parse(
            "tag = share, path=/srv/a b, security_model= none, type=xen_9pfsd, backend=files, max-files=5,\
             max-open-files=6, max-space=7, auto-delete=1",
        );
        let expected = P9 {
            tag: "share".into(),
            path: "/srv/a b".into(),
            backend: Some("files".into()),
            max_files: 5,
            max_open_files: 6,
            max_space: 7,
            auto_delete: true,
        };
        assert_eq!(folder, Ok(expected));
    }

    #[test]
    fn what_no_server_takes_is_refused_where_it_stands() {
        let rest = "type=xen_9pfsd,security_model=none";
        for (text, words) in [
            (
                String::from("tag=a,path=/srv,security_model=none"),
                "no server (expected type=xen_9pfsd",
            ),
            (String::from("type=qemu"), "`qemu` does not share folders"),
            (String::from("type=xen_9pfsd"), "no security model"),
            (format!("{rest},security_model=mapped"), "at `security_model=mapped`"),
            (format!("{rest},path=srv"), "at `path=srv`"),
            (format!("{rest},path=/"), "`/` cannot be shared"),
            (format!("{rest},path=/srv/"), "cannot be shared"),
            (format!("{rest},path=/srv//a"), "cannot be shared"),
            (format!("{rest},max-files=-1"), "`-1` is not a number"),
            (format!("{rest},colour=red"), "unknown p9 parameter `colour`"),
            (format!("{rest},"), "unknown p9 parameter ``"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
