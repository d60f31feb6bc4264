//! Limits for domains other than the toolstack's, and the rate at which they may write.
//!
//! Names and default values are those of Xen's C xenstored, so that `xenstore-control quota`
//! reads alike.

use std::time::Duration;

macro_rules! quotas {
    ($($(#[$doc:meta])* $field:ident, $name:literal, $value:expr;)*) => {
        /// The limits.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Quotas { $($(#[$doc])* pub $field: usize,)* }

        impl Default for Quotas {
            fn default() -> Self {
                Self { $($field: $value,)* }
            }
        }

        impl Quotas {
            /// Returns every limit by name.
            pub fn list(&self) -> Vec<(&'static str, usize)> {
                vec![$(($name, self.$field),)*]
            }

            /// Sets a limit; says whether there is one of that name.
            pub fn set(&mut self, name: &str, value: usize) -> bool {
                match name {
                    $($name => self.$field = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

quotas! {
    /// Nodes a domain may own.
    nodes, "nodes", 1000;
    /// Watches a domain may have.
    watches, "watches", 128;
    /// Transactions a domain may have open.
    transactions, "transactions", 10;
    /// Replies a domain may leave unread before its next request is read.
    outstanding, "outstanding", 20;
    /// Nodes one transaction may touch.
    transaction_nodes, "transaction-nodes", 1024;
    /// Bytes of nodes, watches and unread messages of a domain.
    memory, "memory", 2_621_440;
    /// Bytes of a node: value, children's names and permissions.
    node_size, "node-size", 2048;
    /// Entries in a node's permissions.
    permissions, "node-permissions", 5;
    /// Bytes of a path, less the domain's own prefix.
    path, "path-max", 2048;
}

/// Writes one domain may do in a second while others have transactions open.
const WRITES_PER_SECOND: f64 = 200.0;
/// Writes it may do at once after a rest.
const BURST: f64 = 50.0;

/// So many looks at nodes cost as much as a write: no ordinary request needs as many.
const LOOKS_FOR_A_WRITE: usize = 64;

/// How fast a domain may write where that makes the transactions of others fail.
///
/// As in Xen, a write costs only while somebody else has a transaction open. A reset of the domain's
/// ring costs as much, always; so does a request that needs much work.
#[derive(Clone, Copy, Debug)]
pub struct WriteRate {
    credit: f64,
    updated: Duration,
}

impl WriteRate {
    /// Starts with a full credit.
    pub const fn new(now: Duration) -> Self {
        Self { credit: BURST, updated: now }
    }

    /// Takes the price of a write.
    pub fn charge(&mut self, now: Duration) {
        self.earn(now);
        self.credit -= 1.0;
    }

    /// Takes the price of a request that looked at so many nodes.
    ///
    /// Connections take turns by the message. One about a path of 1,000 levels may look at each of
    /// them, where another message looks at one: it waits accordingly, and the others do not.
    pub fn charge_looks(&mut self, looks: usize, now: Duration) {
        for _ in 0..looks / LOOKS_FOR_A_WRITE {
            self.charge(now);
        }
    }

    /// Returns how long the domain has to wait before its next request is read.
    pub fn wait(&mut self, now: Duration) -> Option<Duration> {
        self.earn(now);
        (self.credit < 0.0).then(|| Duration::from_secs_f64(-self.credit / WRITES_PER_SECOND))
    }

    fn earn(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.updated).as_secs_f64();
        self.credit = (self.credit + elapsed * WRITES_PER_SECOND).min(BURST);
        self.updated = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let mut rate = WriteRate::new(Duration::ZERO);
        for _ in 0..50 {
            rate.charge(Duration::ZERO);
        }
        assert_eq!(rate.wait(Duration::ZERO), None);
        rate.charge(Duration::ZERO);
        let wait = rate.wait(Duration::ZERO).unwrap();
        assert!(wait <= Duration::from_millis(6), "{wait:?}");
        assert_eq!(rate.wait(Duration::from_millis(6)), None);
    }

    #[test]
    fn limits_are_set_by_the_name_they_are_listed_under() {
        let mut quotas = Quotas::default();
        for (name, value) in Quotas::default().list() {
            assert!(quotas.set(name, value + 1));
        }
        assert!(quotas.list().iter().zip(Quotas::default().list()).all(|(a, b)| a.1 == b.1 + 1));
        assert!(!quotas.set("colour", 1));
    }
}
