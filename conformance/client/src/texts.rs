//! Texts for compression, the same on every run.

use std::fmt::Write;

/// Text of which a tenth or less is left when it is compressed.
pub(crate) fn prose(length: usize, seed: usize) -> String {
    let sentence = |n: usize| format!("The {}th sentence, and so on; ", n * n % 13 * 7919 + seed);
    let mut text: String = (0..=length / 20).map(sentence).collect();
    text.truncate(length);
    text
}

/// Text without repetitions, of which most is left when it is compressed.
pub(crate) fn digits(length: usize, seed: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (seed as u64) << 32;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        write!(text, "{state:016x}").expect("a string takes everything");
    }
    text.truncate(length);
    text
}
