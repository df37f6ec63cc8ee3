//! Compressors and decompressors: large, and so a thread's and not a connection's.

use std::{cell::RefCell, mem, thread::LocalKey};

use sockeye_proto::{
    Limits, Memory, Message, OpCode, ProtocolError,
    deflate::{self, Context, Deflater, Inflater, Level, WindowBits},
};

use crate::pool::LongMessages;

/// How many compressors a thread keeps, some 265 KB each: one for each size of window and level in
/// use. Routes with more of these than this make them anew.
const KEPT_COMPRESSORS: usize = 4;

thread_local! {
    static COMPRESSORS: Kept<Compressor> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSORS: Kept<Decompressor> = const { RefCell::new(Vec::new()) };
}

/// What a thread keeps of one kind, the one used last at the end.
type Kept<T> = RefCell<Vec<T>>;

struct Compressor {
    window_bits: WindowBits,
    level: Level,
    deflater: Deflater,
    compressed: Vec<u8>,
}

#[derive(Default)]
struct Decompressor {
    inflater: Inflater,
    inflated: Vec<u8>,
}

/// Compresses a message, and gives `then` what came of it, if that is shorter.
pub(crate) fn compress_if_shorter<R>(
    message: &[u8],
    level: Level,
    context: &mut Context,
    then: impl FnOnce(Option<&[u8]>) -> R,
) -> R {
    let window_bits = context.window_bits();
    let fits = |kept: &Compressor| (kept.window_bits, kept.level) == (window_bits, level);
    let mut compressor = take(&COMPRESSORS, fits).unwrap_or_else(|| {
        let (deflater, compressed) = (Deflater::new(), Vec::new());
        Compressor { window_bits, level, deflater, compressed }
    });
    let Compressor { deflater, compressed, .. } = &mut compressor;
    // Not kept in its place meanwhile: what follows may wake somebody, who sends.
    let result = then(deflater.compress_if_shorter(message, level, context, compressed));
    if compressor.compressed.capacity() >= LongMessages::LONG {
        compressor.compressed = Vec::new();
    }
    put(&COMPRESSORS, compressor, KEPT_COMPRESSORS);
    result
}

/// Inflates a message.
pub(crate) fn inflate(
    opcode: OpCode,
    payload: &[u8],
    context: &mut Context,
    limits: &Limits,
) -> Result<Message<'static>, ProtocolError> {
    let mut decompressor = take(&DECOMPRESSORS, |_| true).unwrap_or_default();
    let Decompressor { inflater, inflated } = &mut decompressor;
    let result = inflater.inflate_with::<LongMessages>(payload, context, limits, inflated);
    let message = result.and_then(|()| {
        if inflated.capacity() < LongMessages::LONG {
            // The message's one block of memory, of just its length.
            return deflate::message(opcode, inflated).map(Message::into_owned);
        }
        deflate::owned_message::<LongMessages>(opcode, mem::take(inflated))
    });
    if inflated.capacity() >= LongMessages::LONG {
        LongMessages::give_back(mem::take(inflated));
    }
    put(&DECOMPRESSORS, decompressor, 1);
    message
}

/// One that fits, if there is one; a thread that is ending has none.
fn take<T>(kept: &'static LocalKey<Kept<T>>, fits: impl Fn(&T) -> bool) -> Option<T> {
    let take = |kept: &Kept<T>| {
        let mut kept = kept.borrow_mut();
        let place = kept.iter().rposition(fits)?;
        Some(kept.remove(place))
    };
    kept.try_with(take).ok().flatten()
}

/// Keeps it for the next; the one that was not used for longest gives way to it.
fn put<T>(kept: &'static LocalKey<Kept<T>>, item: T, most: usize) {
    let put = |kept: &Kept<T>| {
        let mut kept = kept.borrow_mut();
        let surplus = (kept.len() == most).then(|| kept.remove(0));
        kept.push(item);
        surplus
    };
    let _ = kept.try_with(put);
}
