//! Names of nodes.
//!
//! A [`NodePath`] is absolute and well formed, or one of the special paths that begin with `@`
//! (`docs/misc/xenstore.txt`).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::wire::ABSOLUTE_PATH_MAX;

/// Watched for domains that appear.
pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
/// Watched for domains that stop or go away.
pub const RELEASE_DOMAIN: &str = "@releaseDomain";
/// The special paths that have a node.
pub(crate) const SPECIAL: [&str; 2] = [INTRODUCE_DOMAIN, RELEASE_DOMAIN];

/// The absolute path of a node; cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct NodePath(Arc<str>);

impl NodePath {
    /// Makes a path of what a request named, under `base` where it is relative.
    ///
    /// Returns nothing for a path that can name no node.
    pub fn from_request(text: &[u8], base: &str) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| is_permitted(text))?;
        let path = if text.starts_with(['/', '@']) {
            Arc::from(text)
        } else {
            Arc::from(format!("{base}/{text}"))
        };
        Some(Self(path)).filter(Self::is_well_formed)
    }

    /// Makes a path of one the server itself knows.
    pub(crate) fn known(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is no node of the tree but a special name.
    pub fn is_special(&self) -> bool {
        self.0.starts_with('@')
    }

    /// Returns the parent; the root and the special paths have none.
    pub fn parent(&self) -> Option<Self> {
        self.parent_str().map(|parent| Self(Arc::from(parent)))
    }

    /// Returns the parent without making a path of it.
    pub fn parent_str(&self) -> Option<&str> {
        parent_of(&self.0)
    }

    /// Returns the last part of the path.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the path of a child.
    pub fn child(&self, name: &str) -> Self {
        let above = if &*self.0 == "/" { "" } else { &*self.0 };
        let mut path = String::with_capacity(above.len() + 1 + name.len());
        path.push_str(above);
        path.push('/');
        path.push_str(name);
        Self(Arc::from(path))
    }

    /// Returns how many levels the path has.
    pub fn depth(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'/').count()
    }

    /// Returns the length that counts against a domain's limit: less `/local/domain/N/`.
    pub fn counted_length(&self) -> usize {
        let rest = self.0.strip_prefix("/local/domain/").and_then(|rest| {
            let (domain, rest) = rest.split_once('/')?;
            (domain.len() <= 5 && domain.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
        });
        rest.unwrap_or(&self.0).len()
    }

    fn is_well_formed(&self) -> bool {
        let text = self.as_str();
        text.len() <= ABSOLUTE_PATH_MAX
            && (text == "/" || !text.ends_with('/'))
            && !text.contains("//")
    }
}

impl Borrow<str> for NodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Returns the parent of an absolute path; the root and the special paths have none.
pub fn parent_of(path: &str) -> Option<&str> {
    if !path.starts_with('/') || path == "/" {
        return None;
    }
    match path.rsplit_once('/') {
        Some(("", _)) => Some("/"),
        Some((parent, _)) => Some(parent),
        None => None,
    }
}

fn is_permitted(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<NodePath> {
        NodePath::from_request(text.as_bytes(), "/local/domain/7")
    }

    #[test]
    fn a_relative_path_stands_under_its_domain() {
        assert_eq!(path("data/x").unwrap().as_str(), "/local/domain/7/data/x");
        assert_eq!(path("/tool").unwrap().as_str(), "/tool");
        assert_eq!(path("@releaseDomain").unwrap().as_str(), "@releaseDomain");
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in ["", "/a/", "/a//b", "//", "a b", "/a.b", "/a+b", "/é"] {
            assert_eq!(path(text), None, "{text:?}");
        }
        assert_eq!(NodePath::from_request(b"/a\xff", ""), None);
        assert_eq!(path(&format!("/{}", "a".repeat(ABSOLUTE_PATH_MAX))), None);
        assert!(path(&format!("/{}", "a".repeat(ABSOLUTE_PATH_MAX - 1))).is_some());
    }

    #[test]
    fn parents_end_at_the_root() {
        let leaf = path("/a/b").unwrap();
        assert_eq!(leaf.parent_str(), Some("/a"));
        assert_eq!(leaf.parent().unwrap().parent_str(), Some("/"));
        assert_eq!(path("/").unwrap().parent_str(), None);
        assert_eq!(path("@releaseDomain").unwrap().parent_str(), None);
        assert_eq!(path("/").unwrap().child("a").child("b"), leaf);
        assert_eq!(leaf.name(), "b");
        assert_eq!(leaf.depth(), 2);
    }

    #[test]
    fn the_prefix_of_a_domain_does_not_count() {
        assert_eq!(path("/local/domain/12/abc").unwrap().counted_length(), 3);
        assert_eq!(path("/local/domain/x/abc").unwrap().counted_length(), 19);
        assert_eq!(path("/abc").unwrap().counted_length(), 4);
    }
}
