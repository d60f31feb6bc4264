//! CPU lists as xl writes them: `all`, `0-3,5,^1`, `nodes:0-1,^node:1`.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

/// A list of host CPUs as written; which CPUs it means depends on the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CpuList {
    terms: Vec<Term>,
}

/// Host CPUs.
pub type CpuSet = BTreeSet<u32>;

#[derive(Clone, Debug, Eq, PartialEq)]
struct Term {
    excluded: bool,
    what: What,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum What {
    All,
    Cpus(RangeInclusive<u32>),
    Nodes(RangeInclusive<u32>),
}

/// A list that cannot be understood: what is wrong, and at which bytes of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a CPU list: {problem}")]
pub struct BadCpuList {
    /// The part that is wrong.
    pub text: String,
    /// What was expected.
    pub problem: &'static str,
    /// First byte of the part.
    pub start: usize,
}

/// More CPUs than any host has; keeps `0-4000000000` from filling memory.
const LARGEST: u32 = 4095;

impl CpuList {
    /// Parses a list.
    pub fn parse(text: &str) -> Result<Self, BadCpuList> {
        let mut terms = Vec::new();
        let mut start = 0;
        for part in text.split(',') {
            let lead = part.len() - part.trim_start().len();
            let bad =
                |problem| BadCpuList { text: part.trim().into(), problem, start: start + lead };
            terms.push(Term::parse(part.trim()).map_err(bad)?);
            start += part.len() + 1;
        }
        Ok(Self { terms })
    }

    /// The CPUs meant, on a host whose CPU `i` is on node `nodes[i]`.
    ///
    /// As in Xen's xl the terms count in order, and a list that begins with an exclusion means all others.
    pub fn resolve(&self, nodes: &[u32]) -> CpuSet {
        let mut cpus = CpuSet::new();
        for term in &self.terms {
            let meant = (0_u32..).zip(nodes).filter(|(cpu, node)| match &term.what {
                What::All => true,
                What::Cpus(range) => range.contains(cpu),
                What::Nodes(range) => range.contains(node),
            });
            for (cpu, _) in meant {
                if term.excluded {
                    cpus.remove(&cpu);
                } else {
                    cpus.insert(cpu);
                }
            }
        }
        cpus
    }

    /// The one CPU meant by a list that is only a number.
    pub fn from_number(cpu: u32) -> Self {
        Self { terms: vec![Term { excluded: false, what: What::Cpus(cpu..=cpu) }] }
    }

    /// Whether every CPU is meant, on any host.
    pub fn is_all(&self) -> bool {
        matches!(self.terms.as_slice(), [Term { excluded: false, what: What::All }])
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (excluded, rest) = match text.strip_prefix(['^', '!']) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest == "all" {
            let what = What::All;
            return if excluded {
                Err("`^all` leaves no CPU")
            } else {
                Ok(Self { excluded, what })
            };
        }
        let nodes = rest.strip_prefix("nodes:").or_else(|| rest.strip_prefix("node:"));
        // The exclusion mark may stand on either side of the prefix.
        let (excluded, numbers) = match nodes.and_then(|nodes| nodes.strip_prefix('^')) {
            Some(numbers) => (true, numbers),
            None => (excluded, nodes.unwrap_or(rest)),
        };
        if nodes.is_some() && numbers == "all" {
            return Ok(Self { excluded, what: What::Nodes(0..=LARGEST) });
        }
        let range = range(numbers)?;
        let what = if nodes.is_some() { What::Nodes(range) } else { What::Cpus(range) };
        Ok(Self { excluded, what })
    }
}

fn range(text: &str) -> Result<RangeInclusive<u32>, &'static str> {
    const EXPECTED: &str =
        "expected a number, a range as in 0-3, `all`, or one of these after ^ or nodes:";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_not_a_number| EXPECTED);
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err("the range ends before it begins");
    }
    if last > LARGEST {
        return Err("no host has that many CPUs");
    }
    Ok(first..=last)
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if term.excluded {
                f.write_str("^")?;
            }
            let (prefix, range) = match &term.what {
                What::All => {
                    f.write_str("all")?;
                    continue;
                }
                What::Cpus(range) => ("", range),
                What::Nodes(range) => ("node:", range),
            };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{prefix}{first}")?,
                (first, last) => write!(f, "{prefix}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen CPUs on four nodes, as in xl.cfg(5)'s examples.
    const NODES: [u32; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];

    fn cpus(text: &str) -> Vec<u32> {
        CpuList::parse(text).unwrap().resolve(&NODES).into_iter().collect()
    }

    #[test]
    fn the_manual_s_examples_mean_what_the_manual_says() {
        assert_eq!(cpus("all").len(), 16);
        assert_eq!(cpus("0-3,5,^1"), [0, 2, 3, 5]);
        assert_eq!(cpus("nodes:0-3,^node:2"), [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15]);
        assert_eq!(cpus("1,node:1,^6"), [1, 4, 5, 7]);
        assert_eq!(cpus("all,^node:1,^0"), [1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn cpus_that_the_host_lacks_are_not_meant() {
        assert_eq!(cpus("15-20"), [15]);
        assert!(cpus("99").is_empty());
    }

    #[test]
    fn a_bad_list_says_which_part_is_bad() {
        let bad = CpuList::parse("0-3, banana").unwrap_err();
        assert_eq!((bad.text.as_str(), bad.start), ("banana", 5));
        assert!(CpuList::parse("3-1").is_err());
        assert!(CpuList::parse("").is_err());
        assert!(CpuList::parse("0-4000000000").is_err());
        assert!(CpuList::parse("^all").is_err());
    }

    #[test]
    fn a_list_is_printed_as_it_would_be_written() {
        assert_eq!(CpuList::parse("0-3,5,^1,node:2").unwrap().to_string(), "0-3,5,^1,node:2");
    }
}
