//! The TCP or UDP checksum of a frame: finding it, checking it, and preparing it for whoever fills it in (RFC 1071, RFC 793, RFC 768, RFC 8200).

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a frame's checksum is, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// First byte after the IP header, and after the packet.
    start: usize,
    end: usize,
    /// The checksum's own two bytes.
    at: usize,
    /// Sum of the pseudo header.
    pseudo: u32,
    protocol: u8,
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_be_bytes)
}

fn sum(bytes: &[u8]) -> u32 {
    let (words, last) = bytes.as_chunks::<2>();
    let words: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    words + last.first().map_or(0, |byte| u32::from(*byte) << 8)
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX)
}

/// Finds the checksum of a whole, unfragmented TCP or UDP packet.
fn place(frame: &[u8]) -> Option<Place> {
    const HEADER: usize = 14;
    let (start, end, protocol, addresses) = match word(frame, 12)? {
        IPV4 => {
            let length = usize::from(frame.get(HEADER)? & 0xf) * 4;
            let fragment = word(frame, HEADER + 6)? & 0x3fff;
            if length < 20 || fragment != 0 {
                return None;
            }
            // What is to be cut may be longer than its header can say.
            let total = match word(frame, HEADER + 2)? {
                0 => frame.len() - HEADER,
                total => usize::from(total),
            };
            let protocol = *frame.get(HEADER + 9)?;
            (HEADER + length, HEADER + total, protocol, frame.get(HEADER + 12..HEADER + 20)?)
        }
        IPV6 => {
            let start = HEADER + 40;
            let end = match word(frame, HEADER + 4)? {
                0 => frame.len(),
                payload => start + usize::from(payload),
            };
            (start, end, *frame.get(HEADER + 6)?, frame.get(HEADER + 8..HEADER + 40)?)
        }
        _ => return None,
    };
    let (offset, header) = match protocol {
        TCP => (16, 20),
        UDP => (6, 8),
        _ => return None,
    };
    if end > frame.len() || start + header > end {
        return None;
    }
    let length = u32::try_from(end - start).ok()?;
    let pseudo = sum(addresses) + u32::from(protocol) + (length & 0xffff) + (length >> 16);
    Some(Place { start, end, at: start + offset, pseudo, protocol })
}

/// Returns whether a frame's TCP or UDP checksum is right, or it has none.
pub fn is_right(frame: &[u8]) -> bool {
    let Some(place) = place(frame) else { return true };
    if place.protocol == UDP && word(frame, place.at) == Some(0) {
        // Over IPv4 that means none; over IPv6 it is not allowed.
        return word(frame, 12) == Some(IPV4);
    }
    let packet = frame.get(place.start..place.end).unwrap_or_default();
    fold(place.pseudo + sum(packet)) == 0xffff
}

/// Puts the pseudo header's sum where the checksum goes, for the other side to finish; returns whether there is such a place.
pub fn prepare(frame: &mut [u8]) -> bool {
    let Some(place) = place(frame) else { return false };
    store(frame, place.at, fold(place.pseudo))
}

/// Fills in the checksum; returns whether the frame has one.
pub fn fill(frame: &mut [u8]) -> bool {
    let Some(place) = place(frame) else { return false };
    store(frame, place.at, 0);
    let packet = frame.get(place.start..place.end).unwrap_or_default();
    let value = match !fold(place.pseudo + sum(packet)) {
        0 if place.protocol == UDP => 0xffff,
        value => value,
    };
    store(frame, place.at, value)
}

fn store(frame: &mut [u8], at: usize, value: u16) -> bool {
    let to = frame.get_mut(at..at + 2);
    to.map(|to| to.copy_from_slice(&value.to_be_bytes())).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A TCP segment with a known checksum, as it was on a wire (RFC 1071's rules by hand).
    fn tcp_v4(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(IPV4.to_be_bytes());
        let total = u16::try_from(40 + payload.len()).unwrap();
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 80, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_checksum_worked_out_by_hand_is_found() {
        let mut frame = tcp_v4(&[0xab]);
        assert!(fill(&mut frame));
        // 0a00+0001+0a00+0002 + 0006 + 0015 + 0050+1234+0001+0002+5010+0100 + ab00 = 122b5, folded 22b6.
        assert_eq!(word(&frame, 14 + 20 + 16), Some(!0x22b6));
        assert!(is_right(&frame));
    }

    #[test]
    fn padding_behind_the_packet_is_not_covered() {
        let mut frame = tcp_v4(b"x");
        fill(&mut frame);
        frame.extend([9; 20]);
        assert!(is_right(&frame));
    }

    #[test]
    fn what_is_prepared_and_finished_by_sums_is_right() {
        let mut frame = tcp_v4(b"hello");
        assert!(prepare(&mut frame));
        // Whoever finishes it sums from the TCP header on.
        let value = !fold(sum(&frame[34..]));
        store(&mut frame, 34 + 16, value);
        assert!(is_right(&frame));
    }

    #[test]
    fn fragments_and_other_protocols_have_none() {
        let mut frame = tcp_v4(b"x");
        frame[14 + 6] = 0x20;
        assert!(!fill(&mut frame) && is_right(&frame));
        let mut frame = tcp_v4(b"x");
        frame[14 + 9] = 1;
        assert!(!prepare(&mut frame));
        assert!(!prepare(&mut [0; 60]));
    }

    proptest! {
        #[test]
        fn no_frame_is_too_strange(mut frame in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..3u8) {
            if frame.len() > 30 {
                match kind {
                    0 => frame[12..15].copy_from_slice(&[8, 0, 0x45]),
                    1 => frame[12..14].copy_from_slice(&[0x86, 0xdd]),
                    _ => {}
                }
            }
            is_right(&frame);
            prepare(&mut frame);
            if fill(&mut frame) {
                prop_assert!(is_right(&frame));
            }
        }

        #[test]
        fn one_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 1..60), at: usize, bit in 0..8u8) {
            let mut frame = tcp_v4(&payload);
            fill(&mut frame);
            let at = 34 + at % (frame.len() - 34);
            frame[at] ^= 1 << bit;
            prop_assert!(!is_right(&frame));
        }
    }
}
