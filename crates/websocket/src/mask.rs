//! Masking, RFC 6455 section 5.3: every byte a client sends is XORed with a four-byte key.

/// Unmasks `data` in place, eight bytes at a time, and returns the key as it applies to the byte after
/// `data`, so that a payload can be unmasked as it arrives.
pub(crate) fn unmask(data: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = key;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ twice).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    let mut next = key;
    next.rotate_left(tail.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_byte_is_xored_with_the_key_byte_at_its_index_modulo_four(
            data in prop::collection::vec(any::<u8>(), 0..100),
            key: [u8; 4],
        ) {
            let expected: Vec<u8> = data.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut unmasked = data;
            unmask(&mut unmasked, key);
            prop_assert_eq!(unmasked, expected);
        }

        #[test]
        fn a_payload_may_be_unmasked_in_pieces(
            data in prop::collection::vec(any::<u8>(), 0..100),
            cuts in prop::collection::vec(0usize..100, 0..5),
            key: [u8; 4],
        ) {
            let mut whole = data.clone();
            unmask(&mut whole, key);

            let mut pieces = data;
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(pieces.len())).collect();
            cuts.extend([0, pieces.len()]);
            cuts.sort_unstable();
            let mut rolling = key;
            for window in cuts.windows(2) {
                rolling = unmask(&mut pieces[window[0]..window[1]], rolling);
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}
