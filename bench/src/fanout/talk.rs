//! Members that all talk: each goes on once it has heard all the others.

use std::time::{Duration, Instant};

use super::{
    latency::Latencies,
    message::{self, Frame},
    room::Room,
};
use crate::Result;

pub(super) struct Talk {
    room: Room,
    members: Vec<Member>,
}

#[derive(Default)]
struct Member {
    /// How many messages it has sent.
    sent: usize,
    /// What it has said last, and before that: nobody hears more than one round after another.
    said: [Option<(Frame, Instant)>; 2],
    /// How many others it has heard in this round, and the sum of their numbers.
    heard: usize,
    sum: usize,
}

impl Talk {
    pub(super) fn new(room: Room) -> Self {
        let members = (0..room.len()).map(|_| Member::default()).collect();
        Self { room, members }
    }

    pub(super) fn talk(&mut self, length: Duration) -> Result<Latencies> {
        let mut latencies = Latencies::new();
        let end = Instant::now() + length;
        let count = self.members.len();
        for who in 0..count {
            self.say(who)?;
        }
        // Once the time is up, who is behind catches up with the one that is ahead.
        let (mut silent, mut last) = (0, usize::MAX);
        while silent < count {
            let now = Instant::now();
            if now >= end && last == usize::MAX {
                last = self.members.iter().map(|member| member.sent).max().unwrap_or(0);
            }
            for who in self.room.ready()? {
                for _ in 0..self.hear(who, &mut latencies)? {
                    if self.members[who].sent < last {
                        self.say(who)?;
                    } else {
                        silent += 1;
                    }
                }
            }
        }
        Ok(latencies)
    }

    fn say(&mut self, who: usize) -> Result {
        let member = &mut self.members[who];
        let round = member.sent;
        let mut there = Vec::new();
        let frame = message::write(who, round, &mut there);
        member.said[round % 2] = Some((frame, Instant::now()));
        member.sent += 1;
        self.room.send(who, &there)
    }

    /// Reads what is there for one member, and gives how often it has now heard all the others: twice
    /// if they have all gone on since it was read for.
    fn hear(&mut self, who: usize, latencies: &mut Latencies) -> Result<usize> {
        let Self { room, members } = self;
        let count = members.len();
        let (mut heard, mut sum, mut rounds) = (members[who].heard, members[who].sum, 0);
        room.read(who, |frame, now| {
            let (from, odd) = message::sender(frame);
            let said = members.get(from).and_then(|member| member.said[odd].as_ref());
            let Some((_, at)) = said.filter(|(said, _)| said == frame) else {
                return Err("what came is not what was sent".into());
            };
            heard += 1;
            sum += from;
            latencies.record(now - *at);
            if heard == count - 1 {
                // With the sum it is sure enough that it was each of the others once.
                if sum != count * (count - 1) / 2 - who {
                    return Err("a member was heard twice".into());
                }
                (heard, sum) = (0, 0);
                rounds += 1;
            }
            Ok(())
        })?;
        (members[who].heard, members[who].sum) = (heard, sum);
        Ok(rounds)
    }
}
