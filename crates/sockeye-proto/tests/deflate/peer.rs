//! The other end's DEFLATE, by hand from RFC 1951 and for clearness alone: both know nothing but
//! bits, and say how far back a reference goes.

use std::collections::HashMap;

/// A message as the peer inflates it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inflated {
    pub(crate) message: Vec<u8>,
    /// The longest way back of a reference, in bytes.
    pub(crate) farthest: usize,
    /// The longest way back beyond the beginning of the message.
    pub(crate) before: usize,
}

/// Inflates `payload` with the tail behind it (RFC 7692 section 7.2.2), after `window`.
pub(crate) fn inflate(window: &[u8], payload: &[u8]) -> Result<Inflated, &'static str> {
    let data = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
    let mut input = Bits { data: &data, at: 0 };
    let mut state = State { output: window.to_vec(), start: window.len(), farthest: 0, before: 0 };
    while input.at < 8 * data.len() {
        let is_final = input.take(1)? == 1;
        match input.take(2)? {
            0 => stored(&mut input, &mut state)?,
            1 => {
                let mut lengths = [8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                coded(&mut input, &mut state, &Code::new(&lengths), &Code::new(&[5; 30]))?;
            }
            2 => {
                let (literals, distances) = dynamic(&mut input)?;
                coded(&mut input, &mut state, &literals, &distances)?;
            }
            _ => return Err("block type 3"),
        }
        if is_final {
            input.align();
        }
    }
    let message = state.output.split_off(state.start);
    Ok(Inflated { message, farthest: state.farthest, before: state.before })
}

struct State {
    output: Vec<u8>,
    start: usize,
    farthest: usize,
    before: usize,
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Result<usize, &'static str> {
        let mut value = 0;
        let mut have = 0;
        while have < count {
            let byte = self.data.get(self.at / 8).ok_or("ends within a block")?;
            let bits = (8 - self.at % 8).min(count - have);
            value |= (usize::from(*byte) >> (self.at % 8) & ((1 << bits) - 1)) << have;
            have += bits;
            self.at += bits;
        }
        Ok(value)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }
}

/// A canonical code (RFC 1951 section 3.2.2): how many symbols have each length, and which.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        let mut symbols = Vec::new();
        for (length, count) in counts.iter_mut().enumerate().skip(1) {
            symbols.extend((0..lengths.len()).filter(|symbol| lengths[*symbol] == length));
            *count = lengths.iter().filter(|l| **l == length).count();
        }
        Self { counts, symbols }
    }

    fn symbol(&self, input: &mut Bits<'_>) -> Result<usize, &'static str> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= input.take(1)?;
            if code < first + count {
                return Ok(self.symbols[index + code - first]);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err("no such code")
    }
}

fn stored(input: &mut Bits<'_>, state: &mut State) -> Result<(), &'static str> {
    input.align();
    let length = input.take(16)?;
    if input.take(16)? != length ^ 0xffff {
        return Err("a length that does not match its complement");
    }
    for _ in 0..length {
        state.output.push(input.take(8)? as u8);
    }
    Ok(())
}

fn dynamic(input: &mut Bits<'_>) -> Result<(Code, Code), &'static str> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let literals = input.take(5)? + 257;
    let distances = input.take(5)? + 1;
    let codes = input.take(4)? + 4;
    let mut lengths = [0; 19];
    for at in &ORDER[..codes] {
        lengths[*at] = input.take(3)?;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (value, times) = match code.symbol(input)? {
            16 => (*lengths.last().ok_or("repeats nothing")?, input.take(2)? + 3),
            17 => (0, input.take(3)? + 3),
            18 => (0, input.take(7)? + 11),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(value, times));
    }
    let (literals, distances) = lengths.split_at(literals);
    Ok((Code::new(literals), Code::new(distances)))
}

/// Base and extra bits of the length codes from 257 on (RFC 1951 section 3.2.5).
const LENGTHS: [(usize, usize); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// The same of the distance codes: two for each number of extra bits, but for the first.
fn distance(code: usize) -> (usize, usize) {
    if code < 4 {
        return (code + 1, 0);
    }
    let extra = code / 2 - 1;
    (((2 + code % 2) << extra) + 1, extra)
}

fn coded(
    input: &mut Bits<'_>,
    state: &mut State,
    literals: &Code,
    distances: &Code,
) -> Result<(), &'static str> {
    loop {
        match literals.symbol(input)? {
            literal @ 0..=255 => state.output.push(literal as u8),
            256 => return Ok(()),
            code => {
                let (base, extra) = *LENGTHS.get(code - 257).ok_or("no such length")?;
                let length = base + input.take(extra)?;
                let (base, extra) = distance(distances.symbol(input)?);
                let back = base + input.take(extra)?;
                let into = state.output.len() - state.start;
                let from = state.output.len().checked_sub(back).ok_or("too far back")?;
                state.farthest = state.farthest.max(back);
                state.before = state.before.max(back.saturating_sub(into));
                for at in from..from + length {
                    state.output.push(state.output[at]);
                }
            }
        }
    }
}

/// How the peer compresses: in which blocks, and with references how far back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) block: Block,
    /// BFINAL is set, and the empty block stands behind it (RFC 7692 section 7.2.3.4).
    pub(crate) is_final: bool,
    /// The bytes in one block.
    pub(crate) block_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Stored,
    Literals,
    References,
}

/// Compresses `message` after `window`, all of which it may refer to, with its fixed codes.
pub(crate) fn deflate(window: &[u8], size: usize, message: &[u8], style: Style) -> Vec<u8> {
    let all = [window, message].concat();
    let places = if style.block == Block::References { places(&all) } else { HashMap::new() };
    let mut out = Writer::default();
    let mut at = window.len();
    while at < all.len() {
        let end = all.len().min(at + style.block_size);
        out.put(usize::from(style.is_final), 1);
        if style.block == Block::Stored {
            out.put(0, 2);
            out.align();
            out.put(end - at, 16);
            out.put((end - at) ^ 0xffff, 16);
            all[at..end].iter().for_each(|byte| out.put(usize::from(*byte), 8));
            at = end;
        } else {
            out.put(1, 2);
            while at < end {
                let (length, back) = if style.block == Block::References {
                    longest_match(&all[..end], &places, at, size)
                } else {
                    (1, 0)
                };
                if length < 3 {
                    out.literal(usize::from(all[at]));
                    at += 1;
                } else {
                    out.reference(length, back);
                    at += length;
                }
            }
            out.literal(256);
        }
        if style.is_final {
            out.align();
        }
    }
    // The header of the last block: the rest is cut off (RFC 7692 section 7.2.1).
    out.put(0, 3);
    out.bytes
}

/// A block with codes of its own and nothing but its end, and an empty stored one for alignment.
pub(crate) fn empty_dynamic_block() -> Vec<u8> {
    let mut out = Writer::default();
    out.put(0b100, 3);
    // 257 literal codes and one for distances; the lengths of 18 codes for lengths follow.
    out.put(0, 5);
    out.put(0, 5);
    out.put(14, 4);
    // The code 18, which is many zeros, has the bit 1, and the code 1 the bit 0.
    (0..18).for_each(|at| out.put(usize::from(at == 2 || at == 17), 3));
    for zeros in [138, 118] {
        out.put(1, 1);
        out.put(zeros - 11, 7);
    }
    // The end of the block and a distance have one bit each, and this is the end.
    out.put(0, 3);
    out.put(0, 3);
    out.align();
    out.bytes.extend([0x00, 0x00, 0xff, 0xff]);
    out.bytes
}

/// Where each three bytes stand.
type Places = HashMap<[u8; 3], Vec<usize>>;

fn places(all: &[u8]) -> Places {
    let mut places = Places::new();
    for (at, three) in all.windows(3).enumerate() {
        places.entry([three[0], three[1], three[2]]).or_default().push(at);
    }
    places
}

/// The farthest of the longest, so that the whole of the window is used; of many, a few are tried.
fn longest_match(all: &[u8], places: &Places, at: usize, size: usize) -> (usize, usize) {
    let mut best = (1, 0);
    let Some(three) = all.get(at..at + 3) else { return best };
    let Some(places) = places.get(three) else { return best };
    let first = places.partition_point(|from| *from < at.saturating_sub(size));
    let last = places.partition_point(|from| *from < at);
    let near = last.saturating_sub(8).max(first);
    for from in places[first..last.min(first + 8)].iter().chain(&places[near..last]) {
        let pairs = all[*from..].iter().zip(&all[at..]);
        let length = pairs.take(258).take_while(|(a, b)| a == b).count();
        if length > best.0 {
            best = (length, at - from);
        }
    }
    best
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    used: usize,
}

impl Writer {
    fn put(&mut self, value: usize, count: usize) {
        for n in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("a byte was just pushed, or is not full");
            *last |= ((value >> n & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    fn align(&mut self) {
        self.used = self.used.next_multiple_of(8);
    }

    /// A Huffman code, which begins with its most significant bit.
    fn code(&mut self, code: usize, length: usize) {
        (0..length).rev().for_each(|n| self.put(code >> n & 1, 1));
    }

    /// The fixed codes (RFC 1951 section 3.2.6).
    fn literal(&mut self, symbol: usize) {
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    fn reference(&mut self, length: usize, back: usize) {
        let code = LENGTHS.iter().rposition(|(base, _)| *base <= length).expect("3 or more");
        let (base, extra) = LENGTHS[code];
        self.literal(257 + code);
        self.put(length - base, extra);
        let code = (0..30).rev().find(|code| distance(*code).0 <= back).expect("1 or more");
        let (base, extra) = distance(code);
        self.code(code, 5);
        self.put(back - base, extra);
    }
}
