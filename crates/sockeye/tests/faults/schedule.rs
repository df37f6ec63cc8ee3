//! What may happen: random pipes, faults, messages and behaviour.

use std::{ops::Range, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use sockeye::{Bytes, CloseCode, Config, Message, Utf8Bytes, testing::Faults};

use crate::side::Who;

/// One connection from its begin to its end.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// Capacity of the pipe, in bytes.
    pub(crate) pipe: usize,
    /// In what the server reads and writes, and in what the client reads and writes.
    pub(crate) flaws: [Flaw; 4],
    /// The server's and the client's.
    pub(crate) scripts: [Script; 2],
    /// Who closes once all has arrived, if nobody has before.
    pub(crate) last: Who,
    /// Who closes at which millisecond through a clone of the socket.
    pub(crate) close_at: Option<(Who, u64)>,
    /// Where the pipe breaks: one of the four lanes.
    pub(crate) crack: Option<(usize, Crack)>,
}

/// What goes wrong in one direction without anything being lost.
#[derive(Clone, Debug)]
pub(crate) struct Flaw {
    behind_handshake: bool,
    every: Option<u64>,
    splits: Vec<u64>,
    delays: Vec<(u64, u64)>,
}

/// What breaks a direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crack {
    at: u64,
    behind_handshake: bool,
    kind: CrackKind,
}

#[derive(Clone, Copy, Debug)]
enum CrackKind {
    Truncated,
    Reset,
    /// Nothing comes any more, and nobody says so.
    Silent,
}

/// What one side does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// With a `Handler`, or in a loop around a `WebSocket`.
    pub(crate) is_handler: bool,
    pub(crate) says: Vec<Word>,
    /// So many of them it says as soon as the connection is open, in its own turn.
    pub(crate) at_once: usize,
    /// Sends each message back.
    pub(crate) echoes: bool,
    /// How many milliseconds it thinks over each message.
    pub(crate) slow: u64,
    /// Stops talking under backpressure.
    pub(crate) polite: bool,
    /// The water marks: of a few bytes, or out of reach.
    pub(crate) is_pressed: bool,
    /// After so many messages it leaves.
    pub(crate) leaves: Option<(usize, Leave)>,
}

/// A message, and what goes before it.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// In milliseconds.
    pub(crate) pause: u64,
    pub(crate) ping: bool,
    pub(crate) payload: Payload,
}

/// Of which a message is made, as it is too long to be printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    is_text: bool,
    is_owned: bool,
    length: usize,
    seed: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Leave {
    Close(CloseCode, String),
    /// Drops its handle; a handler, which has none, closes with 1001 as that does.
    Drop,
}

impl Payload {
    pub(crate) fn message(self) -> Message<'static> {
        let mut state = u64::from(self.seed) << 16 | self.length as u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        if self.is_text {
            let mut text = String::with_capacity(self.length + 4);
            while text.len() < self.length {
                text.push(['a', 'Z', ' ', '\n', 'é', '€', '😀', '\0'][next() as usize % 8]);
            }
            Message::from(Utf8Bytes::from(text))
        } else {
            let mut data = Vec::with_capacity(self.length + 4);
            while data.len() < self.length {
                data.extend(next().to_ne_bytes());
            }
            data.truncate(self.length);
            Message::from(Bytes::from(data))
        }
    }

    pub(crate) fn is_owned(self) -> bool {
        self.is_owned
    }
}

impl Script {
    pub(crate) fn config(&self, close_timeout: Duration) -> Config {
        let (low, high) = if self.is_pressed { (10, 100) } else { (usize::MAX, usize::MAX) };
        Config::default()
            .water_marks(low, high)
            .outbox_limit(usize::MAX)
            .close_timeout(close_timeout)
    }

    fn length(&self) -> usize {
        self.says.iter().map(|word| word.payload.length + 20).sum()
    }
}

impl Schedule {
    /// What the good end of the pipe would see: faults of a lane, with its crack.
    pub(crate) fn faults(&self, lane: usize) -> Faults {
        let flaw = &self.flaws[lane];
        let crack = self.crack.filter(|(broken, _)| *broken == lane).map(|(_, crack)| crack);
        let behind = crack.map_or(flaw.behind_handshake, |crack| crack.behind_handshake);
        let mut faults = Faults::new();
        if behind {
            faults = faults.behind_handshake();
        }
        if let Some(every) = flaw.every {
            faults = faults.split_every(every.max(self.length() as u64 / MOST_PIECES));
        }
        for byte in &flaw.splits {
            faults = faults.split_at(*byte);
        }
        for (byte, delay) in &flaw.delays {
            faults = faults.delay_at(*byte, Duration::from_millis(*delay));
        }
        match crack.map(|crack| (crack.kind, crack.at)) {
            None => faults,
            Some((CrackKind::Truncated, at)) => faults.truncate_at(at),
            Some((CrackKind::Reset, at)) => faults.reset_at(at),
            Some((CrackKind::Silent, at)) => faults.delay_at(at, FOR_EVER),
        }
    }

    pub(crate) fn pipe(&self) -> usize {
        self.pipe.max(self.length() / MOST_PIECES as usize)
    }

    /// All that may be on the wire in one direction, and a little more.
    fn length(&self) -> usize {
        self.scripts.iter().map(Script::length).sum()
    }

    /// How long what was planned may take: each pause and delay, one after the other.
    pub(crate) fn duration(&self) -> Duration {
        let words = self.scripts.iter().flat_map(|script| &script.says);
        let pauses: u64 = words.clone().map(|word| word.pause).sum();
        let slow: u64 = self.scripts.iter().map(|script| script.slow).sum();
        let delays: u64 = self.flaws.iter().flat_map(|flaw| &flaw.delays).map(|(_, ms)| ms).sum();
        Duration::from_millis(pauses + slow * 2 * words.count() as u64 + delays)
    }
}

/// In so many pieces the bytes of a schedule are cut: one for each byte, with long messages, would be
/// too slow for thousands of schedules.
const MOST_PIECES: u64 = 300;

/// For what does not come any more. Everybody has given up by then.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

// ---- strategies

/// Schedules in which nothing is lost.
pub(crate) fn good() -> impl Strategy<Value = Schedule> {
    let close_at = option::weighted(0.2, (who(), 0..300_u64));
    (pipe(), [flaw(), flaw(), flaw(), flaw()], scripts(), who(), close_at).prop_map(
        |(pipe, flaws, scripts, last, close_at)| Schedule {
            pipe,
            flaws,
            scripts,
            last,
            close_at,
            crack: None,
        },
    )
}

/// Schedules in which one of the four lanes breaks, if that much ever passes it.
pub(crate) fn broken() -> impl Strategy<Value = Schedule> {
    let kind = prop_oneof![
        2 => Just(CrackKind::Truncated),
        2 => Just(CrackKind::Reset),
        1 => Just(CrackKind::Silent),
    ];
    let at = prop_oneof![3 => 0..250_u64, 1 => 0..2000_u64, 1 => 0..30_000_u64];
    let crack = (at, any::<bool>(), kind);
    let crack = crack.prop_map(|(at, behind_handshake, kind)| Crack { at, behind_handshake, kind });
    (good(), 0..4_usize, crack)
        .prop_map(|(schedule, lane, crack)| Schedule { crack: Some((lane, crack)), ..schedule })
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::Server), Just(Who::Client)]
}

fn pipe() -> impl Strategy<Value = usize> {
    prop_oneof![1..10_usize, 10..500_usize, 500..70_000_usize]
}

fn flaw() -> impl Strategy<Value = Flaw> {
    let byte = || prop_oneof![0..40_u64, 0..1000_u64, 0..30_000_u64];
    let every = prop_oneof![1..10_u64, 10..3000_u64];
    let delay = prop_oneof![3 => 0..30_u64, 1 => 0..2000_u64];
    let delays = vec((byte(), delay), 0..4);
    (any::<bool>(), option::weighted(0.4, every), vec(byte(), 0..6), delays).prop_map(
        |(behind_handshake, every, splits, delays)| Flaw {
            behind_handshake,
            every,
            splits,
            delays,
        },
    )
}

fn scripts() -> impl Strategy<Value = [Script; 2]> {
    // Two that echo would never end.
    (script(), script(), option::of(0..2_usize)).prop_map(|(server, client, echoes)| {
        let mut scripts = [server, client];
        for (side, script) in scripts.iter_mut().enumerate() {
            script.echoes = echoes == Some(side);
        }
        scripts
    })
}

fn script() -> impl Strategy<Value = Script> {
    let slow = prop_oneof![4 => Just(0), 1 => 1..20_u64, 1 => 20..1500_u64];
    let leaves = option::weighted(0.25, (1..8_usize, leave()));
    let manners = any::<(bool, bool, bool)>();
    (manners, vec(word(), 0..8), 0..8_usize, slow, leaves).prop_map(
        |((is_handler, polite, is_pressed), says, at_once, slow, leaves)| Script {
            is_handler,
            at_once: at_once.min(says.len()),
            says,
            echoes: false,
            slow,
            polite,
            is_pressed,
            leaves,
        },
    )
}

fn word() -> impl Strategy<Value = Word> {
    let pause = prop_oneof![5 => Just(0), 2 => 0..20_u64, 1 => 0..1000_u64];
    (pause, prop::bool::weighted(0.2), payload()).prop_map(|(pause, ping, payload)| Word {
        pause,
        ping,
        payload,
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    const KIB: usize = 1024;
    let length: Vec<(u32, Range<usize>)> = vec![
        (10, 0..3),
        (20, 3..130),
        (8, 130..2 * KIB),
        (3, 2 * KIB..15 * KIB),
        (2, 15 * KIB..20 * KIB),
        (1, 20 * KIB..100 * KIB),
    ];
    let length = prop::strategy::Union::new_weighted(length);
    (any::<bool>(), any::<bool>(), length, any::<u32>())
        .prop_map(|(is_text, is_owned, length, seed)| Payload { is_text, is_owned, length, seed })
}

fn leave() -> impl Strategy<Value = Leave> {
    let close = (prop_oneof![Just(1000_u16), 3000..5000_u16], "[a-zé]{0,20}");
    prop_oneof![
        2 => close.prop_map(|(code, reason)| Leave::Close(CloseCode(code), reason)),
        1 => Just(Leave::Drop),
    ]
}
