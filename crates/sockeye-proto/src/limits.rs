//! Every bound on what a peer may make this side hold or do.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a peer may ask of this side; all bounds are safe by default.
///
/// ```
/// use sockeye_proto::Limits;
///
/// let limits = Limits::default().message_size(16 * 1024 * 1024).fragments(1000);
/// assert_eq!(limits.message_size, 16 * 1024 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message, in bytes; default 1 MiB. Beyond it the connection ends with 1009, as
    /// soon as a header announces it.
    ///
    /// This is also what a connection holds at most for a message that is not complete: the memory
    /// grows with what has arrived, spare capacity included, and fragments cost nothing extra.
    /// WARNING: so much memory, times the number of connections, is in the peers' hands.
    ///
    /// For a compressed message it bounds what it inflates to; as it comes it may be longer by an eighth,
    /// as what cannot be compressed gets longer.
    pub message_size: usize,
    /// The longest single frame, in bytes; default `usize::MAX`, which leaves it to
    /// [`message_size`](Self::message_size). Beyond it the connection ends with 1009.
    pub frame_size: usize,
    /// How many times its own length a compressed message may inflate to; default `u32::MAX`, which
    /// leaves it to [`message_size`](Self::message_size). Beyond it the connection ends with 1009.
    ///
    /// DEFLATE comes to about 1000 with the same byte over and over, and honest messages of the
    /// same shape, each referring to the one before, come to 50 and more. Up to 4 KiB are never too
    /// much.
    pub inflation: u32,
    /// The most fragments of one message; default 131,072. Beyond it the connection ends with 1008.
    /// What grows with it is the time spent on frames that carry nothing.
    pub fragments: u32,
    /// How long a message may take from its first byte to its last; default 60 s. Beyond it the
    /// connection ends with 1008. Time in which this side did not read does not count.
    pub message_time: Duration,
    /// The most pings and pongs in a second; default 1000. Beyond it the connection ends with 1008.
    /// From 65,535 on there is no limit. Answers never queue up, whatever this is: see
    /// [`ControlFrames`](crate::ControlFrames).
    pub control_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: MIB,
            frame_size: usize::MAX,
            inflation: u32::MAX,
            fragments: 131_072,
            message_time: Duration::from_secs(60),
            control_rate: 1000,
        }
    }
}

impl Limits {
    /// Sets [`message_size`](Self::message_size), in bytes.
    #[must_use]
    pub fn message_size(mut self, bytes: usize) -> Self {
        self.message_size = bytes;
        self
    }

    /// Sets [`frame_size`](Self::frame_size), in bytes.
    #[must_use]
    pub fn frame_size(mut self, bytes: usize) -> Self {
        self.frame_size = bytes;
        self
    }

    /// Sets [`inflation`](Self::inflation), as a ratio to one.
    #[must_use]
    pub fn inflation(mut self, ratio: u32) -> Self {
        self.inflation = ratio;
        self
    }

    /// Sets [`fragments`](Self::fragments).
    #[must_use]
    pub fn fragments(mut self, count: u32) -> Self {
        self.fragments = count;
        self
    }

    /// Sets [`message_time`](Self::message_time).
    #[must_use]
    pub fn message_time(mut self, time: Duration) -> Self {
        self.message_time = time;
        self
    }

    /// Sets [`control_rate`](Self::control_rate), in frames per second.
    #[must_use]
    pub fn control_rate(mut self, per_second: u32) -> Self {
        self.control_rate = per_second;
        self
    }
}
