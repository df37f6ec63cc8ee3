//! Connections that hear what others say, all on this one thread.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::message::{FRAME, Frame};
use crate::{Result, load};

/// A run in which nothing comes for so long has failed.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Takes in what 500 members say in two rounds.
const BUFFER: usize = 64 * 1024;

pub(super) struct Room {
    poll: Poll,
    events: Events,
    /// How long to sleep until something comes.
    patience: Duration,
    members: Vec<Member>,
    buffer: Box<[u8]>,
}

struct Member {
    tcp: TcpStream,
    /// The beginning of a frame.
    rest: Vec<u8>,
}

impl Room {
    pub(super) async fn open(
        port: u16,
        path: &str,
        count: usize,
        patience: Duration,
    ) -> Result<Self> {
        let poll = Poll::new()?;
        let mut connections = load::connect_many(port, path, count).await?;
        // A server answers once it has opened the connection on its side and will deliver to it, which
        // may be later than its answer to the handshake.
        for tcp in &mut connections {
            tcp.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await?;
        }
        let mut members = Vec::with_capacity(count);
        for mut tcp in connections {
            let mut pong = [0; 2];
            tokio::time::timeout(LIMIT, tcp.read_exact(&mut pong)).await??;
            if pong != [0x8a, 0] {
                return Err("a ping was not answered by a pong".into());
            }
            let mut tcp = TcpStream::from_std(tcp.into_std()?);
            poll.registry().register(&mut tcp, Token(members.len()), Interest::READABLE)?;
            members.push(Member { tcp, rest: Vec::new() });
        }
        let (events, buffer) = (Events::with_capacity(1024), vec![0; BUFFER].into());
        Ok(Self { poll, events, patience, members, buffer })
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Waits until there is something to read, and gives for whom.
    pub(super) fn ready(&mut self) -> Result<Vec<usize>> {
        let since = Instant::now();
        loop {
            match self.poll.poll(&mut self.events, Some(self.patience)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ if !self.events.is_empty() => {
                    return Ok(self.events.iter().map(|event| event.token().0).collect());
                }
                _ if since.elapsed() >= LIMIT => return Err("a delivery is missing".into()),
                _ => {}
            }
        }
    }

    /// Reads all that is there for one member, and gives each whole frame and when it was read.
    pub(super) fn read(
        &mut self,
        who: usize,
        mut hear: impl FnMut(&Frame, Instant) -> Result,
    ) -> Result {
        let Self { members, buffer, .. } = self;
        let Member { tcp, rest } = &mut members[who];
        loop {
            buffer[..rest.len()].copy_from_slice(rest);
            let end = match tcp.read(&mut buffer[rest.len()..]) {
                Ok(0) => return Err("the server has ended a connection".into()),
                Ok(read) => rest.len() + read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            let (frames, left) = buffer[..end].as_chunks::<FRAME>();
            for frame in frames {
                hear(frame, now)?;
            }
            rest.clear();
            rest.extend_from_slice(left);
            // A read that has not filled the buffer has taken all, and the next event comes with more.
            if end < BUFFER {
                return Ok(());
            }
        }
    }

    /// Sends something short.
    pub(super) fn send(&mut self, who: usize, frame: &[u8]) -> Result {
        // What a member has sent before has long been read.
        if self.members[who].tcp.write(frame)? != frame.len() {
            return Err("the server does not read".into());
        }
        Ok(())
    }
}
