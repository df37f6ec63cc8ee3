//! What the two ends of a connection do, and what they note.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sockeye::{Close, CloseCode, Handler, Message, Result, SendStatus, Session, Socket, WebSocket};
use tokio::{sync::Notify, time::sleep};

use crate::schedule::{Leave, Script, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Server,
    Client,
}

/// One end of the connection: what it is to do, and what became of it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) script: Script,
    notes: Mutex<Notes>,
    changed: Arc<Notify>,
}

/// What happened at one end, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) socket: Option<Socket>,
    pub(crate) opened: usize,
    /// What it has sent, as far as that was taken.
    pub(crate) sent: Vec<Message<'static>>,
    pub(crate) received: Vec<Message<'static>>,
    pub(crate) pings: Vec<u32>,
    pub(crate) heard_pings: Vec<u32>,
    pub(crate) heard_pongs: Vec<u32>,
    pub(crate) ended: Option<Ended>,
    /// What must never be.
    pub(crate) wrong: Vec<String>,
    /// It has had enough, before or after the peer has.
    pub(crate) left: bool,
}

/// How an end of the connection was told of its end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) close: Close,
    /// Of a loop: whether `recv` gave an error, if it was asked to the end.
    pub(crate) recv_failed: Option<bool>,
}

impl Side {
    pub(crate) fn new(script: &Script, changed: &Arc<Notify>) -> Arc<Self> {
        let (script, changed) = (script.clone(), changed.clone());
        Arc::new(Self { script, notes: Mutex::default(), changed })
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.lock().unwrap().clone()
    }

    /// Looks at the notes without a copy of them.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Notes) -> R) -> R {
        look(&self.notes.lock().unwrap())
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.notes.lock().unwrap());
        self.changed.notify_one();
    }

    /// Sends, and notes what was taken: in the order of the queue, as nothing runs in between.
    fn send(&self, socket: &Socket, message: Message<'static>, by_reference: bool) -> SendStatus {
        let mut notes = self.notes.lock().unwrap();
        let status = match &message {
            message if by_reference => socket.send(message.clone()),
            Message::Text(text) => socket.send(&**text),
            Message::Binary(data) => socket.send(&**data),
        };
        if !matches!(status, SendStatus::Dropped(_)) {
            notes.sent.push(message);
        }
        status
    }

    /// Says one word; false if nobody listens any more.
    async fn say(&self, socket: &Socket, number: usize, word: &Word) -> bool {
        if word.ping {
            let number = number as u32;
            if socket.ping(number.to_be_bytes()) {
                self.note(|notes| notes.pings.push(number));
            }
        }
        match self.send(socket, word.payload.message(), word.payload.is_owned()) {
            SendStatus::Queued => true,
            SendStatus::Backpressure { .. } if self.script.polite => {
                socket.writable().await.is_ok()
            }
            SendStatus::Backpressure { .. } => true,
            SendStatus::Dropped(_) => false,
        }
    }

    /// Says what is to be said while others are listened to.
    async fn talk(&self, socket: &Socket) {
        for (number, word) in self.script.says.iter().enumerate().skip(self.script.at_once) {
            sleep(Duration::from_millis(word.pause)).await;
            if !self.say(socket, number, word).await {
                return;
            }
        }
    }

    fn on_open(&self, socket: &Socket) {
        self.note(|notes| {
            notes.opened += 1;
            notes.socket = Some(socket.clone());
        });
        for (number, word) in self.script.says.iter().enumerate().take(self.script.at_once) {
            if word.ping && socket.ping((number as u32).to_be_bytes()) {
                self.note(|notes| notes.pings.push(number as u32));
            }
            self.send(socket, word.payload.message(), word.payload.is_owned());
        }
    }

    /// Whether it is time to leave, and how.
    async fn on_message(&self, socket: &Socket, message: Message<'static>) -> Option<&Leave> {
        let mut count = 0;
        self.note(|notes| {
            if notes.left || notes.ended.is_some() {
                notes.wrong.push("a message after the end".into());
            }
            notes.received.push(message.clone());
            count = notes.received.len();
        });
        if self.script.slow > 0 {
            sleep(Duration::from_millis(self.script.slow)).await;
        }
        if self.script.echoes {
            self.send(socket, message, true);
        }
        let (_, leave) = self.script.leaves.as_ref().filter(|(after, _)| *after == count)?;
        self.note(|notes| notes.left = true);
        Some(leave)
    }

    fn on_end(&self, close: Close, recv_failed: Option<bool>) {
        self.note(|notes| {
            if notes.ended.replace(Ended { close, recv_failed }).is_some() {
                notes.wrong.push("a second end".into());
            }
        });
    }
}

/// A side that is a `Handler`.
pub(crate) struct Scripted(pub(crate) Arc<Side>);

fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

impl Handler for Scripted {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> Result {
        self.0.on_open(&session.socket);
        let (side, socket) = (self.0.clone(), session.socket.clone());
        tokio::spawn(async move { side.talk(&socket).await });
        Ok(())
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        match self.0.on_message(&session.socket, message.into_owned()).await {
            Some(Leave::Close(code, reason)) => session.close(*code, reason),
            Some(Leave::Drop) => session.close(CloseCode::AWAY, ""),
            None => {}
        }
        Ok(())
    }

    async fn ping(&self, _: &mut Session<()>, payload: &[u8]) -> Result {
        // The keep-alive's are empty.
        self.0.note(|notes| notes.heard_pings.extend(number(payload)));
        Ok(())
    }

    async fn pong(&self, _: &mut Session<()>, payload: &[u8]) -> Result {
        self.0.note(|notes| notes.heard_pongs.extend(number(payload)));
        Ok(())
    }

    async fn error(&self, _: &mut Session<()>, error: &sockeye::Error) -> Result {
        self.0.note(|notes| notes.wrong.push(error.to_string()));
        Ok(())
    }

    async fn close(&self, _: &mut Session<()>, close: &Close) -> Result {
        self.0.on_end(close.clone(), None);
        Ok(())
    }
}

/// A side that is a loop around a `WebSocket`.
pub(crate) async fn scripted(side: Arc<Side>, ws: WebSocket) {
    let socket = ws.socket();
    side.on_open(&socket);
    let listen = async {
        let mut ws = ws;
        loop {
            match ws.recv().await {
                Ok(Some(message)) => match side.on_message(&socket, message).await {
                    Some(Leave::Close(code, reason)) => {
                        let close = ws.close(*code, reason).await;
                        return (Some(close), None);
                    }
                    Some(Leave::Drop) => return (None, None),
                    None => {}
                },
                Ok(None) => return (None, Some(false)),
                Err(lost) => return (Some(lost.close), Some(true)),
            }
        }
    };
    let ((told, recv_failed), ()) = tokio::join!(listen, side.talk(&socket));
    let close = socket.closed().await;
    if told.is_some_and(|told| told != close) {
        side.note(|notes| notes.wrong.push("two accounts of one end".into()));
    }
    side.on_end(close, recv_failed);
}
