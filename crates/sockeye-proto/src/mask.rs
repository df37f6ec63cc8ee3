//! Masking: XOR with a repeating key of four bytes, in place (RFC 6455 section 5.3).
#![allow(unsafe_code, reason = "AVX2 loads and stores, chosen at run time")]

/// A masking key that keeps its place, so that a payload can be unmasked as it arrives in pieces.
///
/// ```
/// use sockeye_proto::Mask;
///
/// let mut payload = *b"Hello";
/// let (first, rest) = payload.split_at_mut(3);
/// let mut mask = Mask::new([0x37, 0xfa, 0x21, 0x3d]);
/// mask.apply(first);
/// mask.apply(rest);
/// assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    key: [u8; 4],
}

impl Mask {
    /// Starts at the first byte of a payload.
    pub fn new(key: [u8; 4]) -> Self {
        Self { key }
    }

    /// Masks or unmasks the next bytes of the payload; the operation is its own inverse.
    #[inline]
    pub fn apply(&mut self, bytes: &mut [u8]) {
        xor(bytes, self.key);
        self.key.rotate_left(bytes.len() % 4);
    }
}

/// From this length on the wider registers pay for the detection, which is one atomic load.
const WORTH_SIMD: usize = 64;

#[inline]
fn xor(bytes: &mut [u8], key: [u8; 4]) {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= WORTH_SIMD && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        return unsafe { xor_avx2(bytes, key) };
    }
    xor_portable(bytes, key);
}

/// Eight bytes at a time; on aarch64, where NEON is always there, the compiler widens it.
#[inline]
fn xor_portable(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn xor_avx2(bytes: &mut [u8], key: [u8; 4]) {
    use std::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256,
    };
    let wide = _mm256_set1_epi32(i32::from_ne_bytes(key));
    let (blocks, rest) = bytes.as_chunks_mut::<32>();
    for block in blocks {
        let at = block.as_mut_ptr().cast::<__m256i>();
        // SAFETY: `at` points to the 32 bytes of `block`, which is borrowed mutably; the unaligned
        // load and store ask for no alignment.
        unsafe { _mm256_storeu_si256(at, _mm256_xor_si256(_mm256_loadu_si256(at), wide)) };
    }
    // 32 is a multiple of the key's length, so the key stands where it stood.
    xor_portable(rest, key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as the RFC writes it: octet i of the payload is XORed with octet i MOD 4 of the key.
    fn oracle(bytes: &mut [u8], key: [u8; 4]) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    proptest! {
        #[test]
        fn every_path_agrees_with_the_rule_at_every_alignment(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            key: [u8; 4],
            start in 0usize..40,
        ) {
            let start = start.min(bytes.len());
            let mut expected = bytes.clone();
            oracle(&mut expected[start..], key);

            let mut chosen = bytes.clone();
            xor(&mut chosen[start..], key);
            prop_assert_eq!(&chosen, &expected);

            let mut portable = bytes;
            xor_portable(&mut portable[start..], key);
            prop_assert_eq!(&portable, &expected);
        }

        #[test]
        fn pieces_give_what_the_whole_gives(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            key: [u8; 4],
            cuts in prop::collection::vec(0usize..300, 0..6),
        ) {
            let mut whole = bytes.clone();
            Mask::new(key).apply(&mut whole);

            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut pieces = bytes;
            let mut mask = Mask::new(key);
            for pair in cuts.windows(2) {
                mask.apply(&mut pieces[pair[0]..pair[1]]);
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}
