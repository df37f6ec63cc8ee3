//! A peer that keeps every rule and uses all of them, and what may go wrong on the way.

use proptest::{prelude::*, sample::Index};
use sockeye_proto::{Extension, Role};

use crate::common::*;

/// Frames, and bytes behind the close frame if the last one is one.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) frames: Vec<Frame>,
    trailing: Vec<u8>,
}

/// A frame before it is masked, if it is.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    first: u8,
    key: [u8; 4],
    payload: Vec<u8>,
}

impl Stream {
    /// What the peer of `role` sends.
    pub(crate) fn bytes(&self, role: &Role) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.frames.iter().flat_map(|frame| frame.bytes(role)).collect();
        bytes.extend_from_slice(&self.trailing);
        bytes
    }
}

impl Frame {
    pub(crate) fn bytes(&self, role: &Role) -> Vec<u8> {
        let mut bytes = header(role, self.first, self.payload.len() as u64);
        let mut key = [0; 4];
        if is_server(role) {
            key = self.key;
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&key);
        }
        bytes.extend(self.payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        bytes
    }

    pub(crate) fn is_control(&self) -> bool {
        self.first & 0x0f >= CLOSE
    }

    pub(crate) fn is_close(&self) -> bool {
        self.first & 0x0f == CLOSE
    }

    pub(crate) fn is_final(&self) -> bool {
        self.first & FIN != 0
    }
}

/// Messages with control frames in and between them, and perhaps a close frame at the end.
pub(crate) fn valid(extension: Extension) -> impl Strategy<Value = Stream> {
    let part = prop_oneof![3 => message(extension), 1 => control().prop_map(|frame| vec![frame])];
    let end = prop::option::of((close(), prop::collection::vec(any::<u8>(), 0..20)));
    (prop::collection::vec(part, 0..6), end).prop_map(|(parts, end)| {
        let mut frames = parts.concat();
        let mut trailing = Vec::new();
        if let Some((close, behind)) = end {
            frames.push(close);
            trailing = behind;
        }
        Stream { frames, trailing }
    })
}

/// A message in one fragment or several, with control frames between some of them.
fn message(extension: Extension) -> impl Strategy<Value = Vec<Frame>> {
    let letters = prop_oneof!["\\PC{0,60}", "[a-z\u{e9}\u{20ac}\u{1f980}]{100,200}"];
    let bytes = prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..300),
        1 => any::<u8>().prop_map(|byte| vec![byte; 70_000]),
    ];
    let kind_and_payload = prop_oneof![
        letters.prop_map(|letters| (TEXT, letters.into_bytes())),
        bytes.clone().prop_map(|bytes| (BINARY, bytes)),
        bytes.prop_map(move |bytes| match extension {
            Extension::Rsv1 => (RSV1 | TEXT, bytes),
            _ => (BINARY, bytes),
        }),
    ];
    let cuts = prop::collection::vec((any::<Index>(), prop::option::of(control())), 0..5);
    (kind_and_payload, cuts, any::<[u8; 4]>()).prop_map(|((kind, payload), cuts, key)| {
        let (ends, controls): (Vec<_>, Vec<_>) = cuts.into_iter().unzip();
        let mut ends: Vec<_> = ends.iter().map(|end| end.index(payload.len() + 1)).collect();
        ends.sort_unstable();
        let (mut frames, mut start, mut first) = (Vec::new(), 0, kind);
        for (end, control) in ends.into_iter().zip(controls) {
            frames.push(Frame { first, key, payload: payload[start..end].to_vec() });
            frames.extend(control);
            (start, first) = (end, CONTINUATION);
        }
        frames.push(Frame { first: FIN | first, key, payload: payload[start..].to_vec() });
        frames
    })
}

fn control() -> impl Strategy<Value = Frame> {
    let payload = prop::collection::vec(any::<u8>(), 0..=125);
    (prop_oneof![Just(PING), Just(PONG)], any::<[u8; 4]>(), payload)
        .prop_map(|(opcode, key, payload)| Frame { first: FIN | opcode, key, payload })
}

fn close() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![1000u16..=1003, 1007u16..=1014, 3000u16..=4999];
    let payload = prop::option::of((code, "\\PC{0,30}")).prop_map(|payload| match payload {
        Some((code, reason)) => [&code.to_be_bytes(), reason.as_bytes()].concat(),
        None => Vec::new(),
    });
    (any::<[u8; 4]>(), payload).prop_map(|(key, payload)| Frame {
        first: FIN | CLOSE,
        key,
        payload,
    })
}

/// One thing done to the bytes of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Flip(u8),
    Set(u8),
    Insert(u8),
    Remove,
    CutOff,
}

impl Change {
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>, at: &Index) {
        if bytes.is_empty() {
            return;
        }
        let at = at.index(bytes.len());
        match self {
            Self::Flip(bit) => bytes[at] ^= 1 << (bit % 8),
            Self::Set(byte) => bytes[at] = *byte,
            Self::Insert(byte) => bytes.insert(at, *byte),
            Self::Remove => drop(bytes.remove(at)),
            Self::CutOff => bytes.truncate(at),
        }
    }
}

impl Arbitrary for Change {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            3 => any::<u8>().prop_map(Self::Flip),
            2 => any::<u8>().prop_map(Self::Set),
            1 => any::<u8>().prop_map(Self::Insert),
            1 => Just(Self::Remove),
            1 => Just(Self::CutOff),
        ]
        .boxed()
    }
}
