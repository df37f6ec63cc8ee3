//! What is said in the rows with fan-out: a short text that tells who said it, and when.

use sockeye_proto::{Message, Role, outbound};

/// Length of a text, in bytes.
pub(super) const LENGTH: usize = 60;

/// Length of a text as a server sends it.
pub(super) const FRAME: usize = 2 + LENGTH;

pub(super) type Frame = [u8; FRAME];

/// The message of a member in a round, as this client's frame behind others, and as it is going to
/// come from the server.
pub(super) fn write(from: usize, round: usize, there: &mut Vec<u8>) -> Frame {
    const CLIENT: Role = Role::Client { masking_key: || [0x37, 0xfa, 0x21, 0x3d] };
    let text = format!(r#"{{"from":"{from:05}","round":"{round:07}","text":"Good evening all"}}"#);
    let message = Message::from(text.as_str());
    outbound::message(&CLIENT, &message, there);
    let mut back = Vec::with_capacity(FRAME);
    outbound::message(&Role::Server, &message, &mut back);
    back.try_into().expect("all messages have the same length")
}

/// Who it claims to be from, and whether of an odd round.
pub(super) fn sender(frame: &Frame) -> (usize, usize) {
    const FROM: usize = 2 + r#"{"from":""#.len();
    const ROUND: usize = FROM + 5 + r#"","round":""#.len();
    let digit = |at: usize| usize::from(frame[at].wrapping_sub(b'0'));
    let from = (FROM..FROM + 5).fold(0, |number, at| number * 10 + digit(at));
    (from, digit(ROUND + 6) % 2)
}

#[cfg(test)]
mod tests {
    use super::{FRAME, LENGTH, sender, write};

    #[test]
    fn a_frame_tells_who_sent_it_and_whether_the_round_is_odd() {
        for (from, round) in [(0, 0), (1, 1), (499, 1234567), (10_000, 9_999_998)] {
            let mut there = Vec::new();
            let back = write(from, round, &mut there);
            assert_eq!(back[..2], [0x81, LENGTH as u8]);
            assert_eq!(there.len(), FRAME + 4);
            assert_eq!(sender(&back), (from, round % 2));
        }
    }
}
