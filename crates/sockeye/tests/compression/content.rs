//! What messages may have in them.

use std::{fmt, sync::LazyLock};

use proptest::prelude::*;

use crate::{
    deflate::{Block, Style},
    wire::{BINARY, TEXT},
};

/// A message: what it is, and its payload.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl fmt::Debug for Content {
    /// Without most of the payload, which would fill the screen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = self.payload[..self.payload.len().min(8)].escape_ascii();
        write!(f, "{} bytes of {} {begin}", self.payload.len(), self.opcode)
    }
}

/// Bytes that no compressor makes shorter.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    NOISE[..length].to_vec()
}

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..200_000).map(step).collect()
});

/// A text of about this length.
pub(crate) fn json(seed: usize, length: usize) -> String {
    let one = |n: usize| format!("{{\"id\":{},\"name\":\"player {}\"}},", n * seed % 997, n % 13);
    let mut text = String::new();
    for n in 1..=length {
        if text.len() >= length {
            break;
        }
        text.push_str(&one(n));
    }
    text.truncate(length);
    text
}

/// Messages that refer to one another, do not, or have nothing in them; short ones, and such that
/// are queued by reference.
pub(crate) fn contents() -> impl Strategy<Value = Content> {
    let length = prop_oneof![4 => 0usize..600, 2 => 600usize..5000, 1 => 15_000usize..40_000];
    let text = (1usize..40, length.clone())
        .prop_map(|(seed, length)| (TEXT, json(seed, length).into_bytes()));
    let noisy = length.clone().prop_map(|length| (BINARY, noise(length)));
    let same = (any::<u8>(), length).prop_map(|(byte, length)| (BINARY, vec![byte; length]));
    // What was there before, just within a window and just beyond it.
    let again = (6u32..13, 0usize..600, 1usize..4)
        .prop_map(|(bits, more, times)| (BINARY, noise((1 << bits) - 50 + more).repeat(times)));
    let empty = prop_oneof![Just((TEXT, Vec::new())), Just((BINARY, Vec::new()))];
    prop_oneof![4 => text, 2 => noisy, 1 => same, 3 => again, 1 => empty]
        .prop_map(|(opcode, payload)| Content { opcode, payload })
}

/// How the peer compresses, if it does.
pub(crate) fn styles() -> impl Strategy<Value = Option<Style>> {
    let block = prop_oneof![
        1 => Just(Block::Stored),
        1 => Just(Block::Literals),
        4 => Just(Block::References),
    ];
    let style = (block, any::<bool>(), 200usize..60_000)
        .prop_map(|(block, is_final, block_size)| Style { block, is_final, block_size });
    prop::option::weighted(0.8, style)
}

pub(crate) const PLAIN_STYLE: Style =
    Style { block: Block::References, is_final: false, block_size: 60_000 };
