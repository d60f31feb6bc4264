//! What a platform knows of its board that no device tree says.

/// A board, or a family of them.
#[derive(Debug)]
pub struct Board {
    /// Its name, for people.
    pub name: &'static str,
    /// What the root of its device tree says in `compatible`; any one of these.
    pub compatible: &'static [&'static str],
    /// Serial ports to complain at before the device tree has named one.
    pub early_serial: &'static [(SerialModel, u64)],
    /// Where the watchdog is that restarts the machine when there is no PSCI.
    pub watchdog: Option<u64>,
}

/// What kind of serial port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SerialModel {
    /// Arm's PL011.
    Pl011,
    /// The Raspberry Pi's mini-UART.
    Mini,
}

impl Board {
    /// Says whether a device tree is of this board, by its `compatible`.
    pub fn is_described_by<T: AsRef<str>>(&self, compatible: &[T]) -> bool {
        compatible.iter().any(|name| self.compatible.contains(&name.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_known_by_any_of_its_names() {
        let board = Board {
            name: "a board",
            compatible: &["maker,chip", "maker,other"],
            early_serial: &[],
            watchdog: None,
        };
        assert!(board.is_described_by(&["maker,model", "maker,other"]));
        assert!(!board.is_described_by(&["maker,model"]));
        assert!(!board.is_described_by::<&str>(&[]));
    }
}
