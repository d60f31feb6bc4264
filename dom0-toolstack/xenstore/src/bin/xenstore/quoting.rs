//! Values that may hold any byte, written so that they fit a line and can be read back.

/// Returns a value as printable text: what is no plain character is escaped.
pub(crate) fn escape(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value {
        match byte {
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            0..=7 => text.push_str(&format!("\\{byte:03o}")),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// Returns the bytes an escaped text stands for.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            value.push(*first);
            continue;
        }
        let Some((letter, after)) = rest.split_first() else { break };
        rest = after;
        match letter {
            b't' => value.push(b'\t'),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b'x' => value.push(digits(&mut rest, 2, 16).unwrap_or(b'x')),
            b'0'..=b'7' => {
                let mut whole = text.as_bytes().get(text.len() - rest.len() - 1..).unwrap_or(rest);
                value.push(digits(&mut whole, 3, 8).unwrap_or(*letter));
                rest = whole;
            }
            other => value.push(*other),
        }
    }
    value
}

/// Takes up to `most` digits and returns the low byte of their number.
fn digits(rest: &mut &[u8], most: usize, radix: u32) -> Option<u8> {
    let count =
        rest.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let (number, after) = rest.split_at_checked(count).filter(|(number, _)| !number.is_empty())?;
    *rest = after;
    let number = u32::from_str_radix(std::str::from_utf8(number).ok()?, radix).ok()?;
    number.to_le_bytes().first().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped_as_xenstore_utils_do() {
        assert_eq!(
            escape(b"a b~\\\t\n\r\x00\x07\x08\x7f\xff"),
            "a b~\\\\\\t\\n\\r\\000\\007\\x08\\x7f\\xff"
        );
    }

    #[test]
    fn odd_escapes_do_no_harm() {
        assert_eq!(unescape("a\\"), b"a");
        assert_eq!(unescape("\\q\\x"), b"qx");
        assert_eq!(unescape("\\1234"), b"S4");
    }

    proptest! {
        #[test]
        fn an_escaped_value_is_read_back(value in prop::collection::vec(any::<u8>(), 0..40)) {
            // A digit after `\xN` would join it: escapes are always two digits, so none does.
            prop_assert_eq!(unescape(&escape(&value)), value);
        }
    }
}
