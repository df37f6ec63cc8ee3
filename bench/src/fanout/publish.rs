//! One connection that sends, and many that hear it.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    latency::Latencies,
    message::{self, Frame},
    room::Room,
};
use crate::{Result, load};

pub(super) struct Publisher {
    tcp: TcpStream,
    burst: usize,
    /// How many messages have been sent.
    sent: usize,
}

impl Publisher {
    pub(super) async fn open(port: u16, burst: usize) -> Result<Self> {
        let tcp = load::connect(port, "/publish").await?.into_std()?;
        tcp.set_nonblocking(false)?;
        Ok(Self { tcp, burst, sent: 0 })
    }

    pub(super) fn publish(&mut self, room: &mut Room, length: Duration) -> Result<Latencies> {
        let mut latencies = Latencies::new();
        let end = Instant::now() + length;
        while Instant::now() < end {
            let mut there = Vec::new();
            let said: Vec<_> =
                (0..self.burst).map(|n| message::write(0, self.sent + n, &mut there)).collect();
            let at = Instant::now();
            self.tcp.write_all(&there)?;
            self.sent += self.burst;
            hear(room, &said, at, &mut latencies)?;
        }
        Ok(latencies)
    }
}

/// Waits until all have heard all of this, in its order and nothing else.
fn hear(room: &mut Room, said: &[Frame], at: Instant, latencies: &mut Latencies) -> Result {
    let mut heard = vec![0; room.len()];
    let mut missing = room.len() * said.len();
    while missing > 0 {
        for who in room.ready()? {
            let heard = &mut heard[who];
            room.read(who, |frame, now| {
                if said.get(*heard) != Some(frame) {
                    return Err("what came is not what was sent".into());
                }
                *heard += 1;
                missing -= 1;
                latencies.record(now - at);
                Ok(())
            })?;
        }
    }
    Ok(())
}
