//! What is said in the rows with compression: JSON as services send it, the same in each run.

use std::fmt::Write;

/// So many different messages that none meets itself in a window, and two at least.
pub(crate) fn messages(size: usize) -> Vec<String> {
    // 32 KiB is the largest window.
    let count = (64 * 1024 / size).max(2);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    (0..count).map(|_| message(size, &mut numbers)).collect()
}

/// An array of records, of exactly this size in bytes.
fn message(size: usize, numbers: &mut Numbers) -> String {
    const NAMES: [&str; 12] = [
        "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "juniper",
        "kestrel", "lagoon",
    ];
    const NOTE: &str = "{\"note\":\"";
    const END: &str = "\"}]";
    let mut json = String::from("[");
    loop {
        let mut record = String::new();
        let id = 100_000 + numbers.below(900_000);
        let name = NAMES[numbers.below(NAMES.len())];
        let (whole, hundredths) = (numbers.below(2000), numbers.below(100));
        let amount = numbers.below(500);
        let open = numbers.below(2) == 0;
        let (minute, second, milli) = (numbers.below(60), numbers.below(60), numbers.below(1000));
        write!(
            record,
            "{{\"id\":{id},\"name\":\"{name}\",\"price\":{whole}.{hundredths:02},\
             \"amount\":{amount},\"open\":{open},\
             \"at\":\"2026-03-14T15:{minute:02}:{second:02}.{milli:03}Z\"}},"
        )
        .expect("a string takes everything");
        if json.len() + record.len() + NOTE.len() + END.len() > size {
            break;
        }
        json += &record;
    }
    // The rest is a note, of words and never of one letter over and over.
    json += NOTE;
    while json.len() + END.len() < size {
        let room = size - END.len() - json.len();
        let word = NAMES[numbers.below(NAMES.len())];
        json += &word[..word.len().min(room)];
        if word.len() < room {
            json.push(' ');
        }
    }
    json + END
}

/// Numbers without an order that anyone would notice (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn messages_are_json_of_the_size_and_differ() {
        for size in [1024, 64 * 1024] {
            let messages = messages(size);
            assert!(messages.len() * size >= 64 * 1024);
            for (n, message) in messages.iter().enumerate() {
                assert_eq!(message.len(), size);
                let json: serde_json::Value = serde_json::from_str(message).expect("JSON");
                assert!(json.as_array().is_some_and(|records| records.len() > 5));
                assert!(!messages[..n].contains(message));
            }
        }
    }
}
