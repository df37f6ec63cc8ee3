//! Is permessage-deflate offered, answered, sent and taken as RFC 7692 says, within the limits?

#[path = "../common/mod.rs"]
mod common;
mod limits;
mod negotiate;
mod peer;
mod rfc;
mod streams;

use sockeye_proto::deflate::{Context, Deflater, Level, Offer, Parameters, WindowBits};

fn bits(bits: u8) -> WindowBits {
    WindowBits::new(bits).expect("8 to 15")
}

fn level(level: u8) -> Level {
    Level::new(level).expect("1 to 9")
}

/// What has been agreed on with nothing said about it: context takeover and windows of 32 KiB.
fn unbounded() -> Parameters {
    Parameters::default()
}

fn parameters(element: &str) -> Parameters {
    element.parse().expect("a valid answer")
}

fn offer(element: &str) -> Offer {
    element.parse().expect("a valid offer")
}

fn compress(context: &mut Context, message: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    Deflater::new().compress(message, Level::FASTEST, context, &mut compressed);
    compressed
}
