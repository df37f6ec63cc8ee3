//! Whatever the order in which threads come to the locks: is nothing slept through, and nobody lost?
//!
//! `loom` runs each of these in every order, but for those with more than a few forced switches between
//! threads: `RUSTFLAGS="--cfg sockeye_loom" cargo test -p sockeye --lib interleavings`. All
//! other tests need the locks of std.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex as StdMutex},
    task::{Context, Poll},
};

use loom::{future::block_on, thread};
use sockeye_proto::{CloseCode, Role};

use crate::{
    Config, Hub, Overflow, Socket,
    outbox::{Taken, signal},
    registry::Owner,
    socket::Agreed,
};

/// A few switches find what there is to find; each more takes ten times as long.
fn every_order(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 10_000;
    model.check(test);
}

fn connection(hub: &Hub, config: Config) -> Owner {
    let socket = Socket::new(Role::Server, hub, None, Arc::new(config), Agreed::default());
    Owner { socket }
}

/// What the connection's task does of its own: it takes, writes and parks, until `is_done` says so.
struct Task<'a> {
    owner: &'a Owner,
    written: usize,
    others_too: bool,
    /// Signals that it acts upon; each is noted once.
    attention: u8,
    seen: u8,
}

impl<'a> Task<'a> {
    fn new(owner: &'a Owner, attention: u8) -> Self {
        Self { owner, written: 0, others_too: false, attention, seen: 0 }
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, is_done: impl Fn(&Self) -> bool) -> Poll<()> {
        let shared = &self.owner.socket.0;
        let outbox = &shared.outbox;
        loop {
            for bit in (0..8).map(|bit| 1 << bit).filter(|bit| bit & self.attention != 0) {
                if outbox.has(bit & !self.seen) {
                    self.seen |= bit;
                }
            }
            match outbox.take(std::mem::take(&mut self.others_too)) {
                Taken::Nothing => {}
                Taken::Others => {
                    self.others_too = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Taken::Queue(mut queue) => {
                    let count = queue.single().expect("short messages").len();
                    assert!(queue.advance(count));
                    self.written += count;
                    outbox.on_written(&shared.config, count, Some(queue));
                    continue;
                }
            }
            if is_done(self) {
                return Poll::Ready(());
            }
            if outbox.park(cx.waker(), self.attention & !self.seen, 0, None) {
                return Poll::Pending;
            }
        }
    }

    /// Deadlocks, which is a failure, if a wake-up is missed.
    fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        block_on(poll_fn(|cx| self.poll_until(cx, &is_done)));
    }
}

/// A frame of "a".
const FRAME: usize = 3;

#[test]
fn what_two_threads_send_is_written_without_a_further_wake() {
    every_order(|| {
        let owner = connection(&Hub::new(), Config::default());
        let senders = [(); 2].map(|()| {
            let socket = owner.socket.clone();
            thread::spawn(move || {
                socket.send("a");
            })
        });
        let mut task = Task::new(&owner, 0);
        task.run_until(|task| task.written == 2 * FRAME);
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(owner.socket.buffered(), 0);
    });
}

#[test]
fn what_is_sent_while_the_task_is_in_a_turn_is_written() {
    every_order(|| {
        let owner = connection(&Hub::new(), Config::default());
        let socket = owner.socket.clone();
        let sender = thread::spawn(move || {
            socket.send("a");
        });
        let mut task = Task::new(&owner, 0);
        let mut turns = 0;
        block_on(poll_fn(|cx| {
            // The handler is polled, says something of its own once, and waits.
            let outbox = &owner.socket.0.outbox;
            outbox.set_turn(true);
            if turns == 0 {
                owner.socket.send("a");
            }
            turns += 1;
            outbox.set_turn(false);
            task.poll_until(cx, |task| task.written == 2 * FRAME)
        }));
        sender.join().unwrap();
    });
}

#[test]
fn a_signal_is_seen_whoever_sends_meanwhile() {
    for given in [signal::CLOSE, signal::TERMINATE, signal::OVERFLOW] {
        every_order(move || {
            let config = Config::default().backpressure(2, 2, Overflow::Close);
            let owner = connection(&Hub::new(), config);
            let socket = owner.socket.clone();
            let signaller = thread::spawn(move || match given {
                signal::CLOSE => socket.close(CloseCode::NORMAL, ""),
                signal::TERMINATE => socket.terminate(),
                // The first one is taken, whatever its length.
                _ => {
                    while socket.send("a")
                        != crate::SendStatus::Dropped(crate::DropReason::Overflow)
                    {
                        thread::yield_now();
                    }
                }
            });
            let mut task = Task::new(&owner, given);
            if given == signal::OVERFLOW {
                // It takes nothing: what is sent stays.
                block_on(poll_fn(|cx| {
                    if owner.socket.0.outbox.has(given) {
                        return Poll::Ready(());
                    }
                    let queue = crate::queue::Queue::default();
                    let parked = owner.socket.0.outbox.park(cx.waker(), given, 0, Some(&queue));
                    if !parked {
                        cx.waker().wake_by_ref();
                    }
                    Poll::Pending
                }));
            } else {
                let socket = owner.socket.clone();
                let sender = thread::spawn(move || {
                    socket.send("a");
                });
                task.run_until(|task| task.seen & given != 0);
                sender.join().unwrap();
            }
            signaller.join().unwrap();
        });
    }
}

#[test]
fn who_waits_is_told_what_is_written_and_of_the_end() {
    every_order(|| {
        let owner = connection(&Hub::new(), Config::default());
        let socket = owner.socket.clone();
        let waiting = thread::spawn(move || {
            socket.send("a");
            block_on(socket.flushed())
        });
        Task::new(&owner, 0).run_until(|task| task.written == FRAME);
        waiting.join().unwrap().expect("it is written");
        let socket = owner.socket.clone();
        let waiting = thread::spawn(move || block_on(socket.closed()));
        drop(owner);
        assert_eq!(waiting.join().unwrap().code, CloseCode::ABNORMAL);
    });
}

#[test]
fn input_that_waits_for_what_is_untaken_goes_on_once_it_is_taken() {
    every_order(|| {
        let owner = connection(&Hub::new(), Config::default());
        owner.socket.0.outbox.on_handed_over();
        let socket = owner.socket.clone();
        let taker = thread::spawn(move || {
            socket.0.outbox.on_taken(signal::UNTAKEN | signal::ANSWERING);
        });
        block_on(poll_fn(|cx| {
            let outbox = &owner.socket.0.outbox;
            if !outbox.has(signal::UNTAKEN) {
                return Poll::Ready(());
            }
            if !outbox.park(cx.waker(), 0, signal::UNTAKEN, None) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }));
        taker.join().unwrap();
    });
}

#[test]
fn who_joins_while_the_last_one_leaves_is_a_member() {
    every_order(|| {
        let hub = Hub::new();
        let (ana, bob) = (connection(&hub, Config::default()), connection(&hub, Config::default()));
        let room = hub.room("lobby");
        assert!(room.join(&ana.socket));
        let (left, socket) = (room.clone(), ana.socket.clone());
        let leaving = thread::spawn(move || assert!(left.leave(&socket)));
        assert!(room.join(&bob.socket));
        assert!(room.broadcast("a").sent() >= 1, "it is a member from the return of the call on");
        leaving.join().unwrap();
        assert_eq!(room.members(), std::slice::from_ref(&bob.socket));
        assert!(room.leave(&bob.socket));
        assert!(hub.find(crate::hub::Kind::Room, "lobby").is_none());
    });
}

#[test]
fn who_joins_and_announces_while_the_last_one_leaves_is_heard() {
    every_order(|| {
        let hub = Hub::new();
        let (ana, bob) = (connection(&hub, Config::default()), connection(&hub, Config::default()));
        let room = hub.room("lobby");
        let held = Arc::new(());
        assert!(room.join(&ana.socket));
        room.announce(|_| None::<String>);
        let (left, socket) = (room.clone(), ana.socket.clone());
        let leaving = thread::spawn(move || assert!(left.leave(&socket)));
        assert!(room.join(&bob.socket));
        let owned = held.clone();
        room.announce(move |_| {
            let _ = &owned;
            None::<String>
        });
        leaving.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 2, "it is there to announce");
        drop(bob);
        assert_eq!(Arc::strong_count(&held), 1, "and goes with the last member");
    });
}

#[test]
fn a_connection_that_ends_while_it_takes_is_left_nowhere() {
    every_order(|| {
        let hub = Hub::new();
        let ana = connection(&hub, Config::default());
        let socket = ana.socket.clone();
        let taking = thread::spawn(move || {
            socket.subscribe("news");
            socket.identify("ana");
        });
        drop(ana);
        taking.join().unwrap();
        assert_eq!((hub.topics().len(), hub.sockets().len()), (0, 0));
        assert_eq!(hub.user("ana").sockets(), []);
    });
}

#[test]
fn a_connection_that_ends_while_it_becomes_present_is_left_nowhere() {
    every_order(|| {
        let hub = Hub::new();
        let ana = connection(&hub, Config::default());
        let (room, socket) = (hub.room("lobby"), ana.socket.clone());
        let entering = room.clone();
        let taking = thread::spawn(move || {
            entering.join(&socket);
            let _ = entering.presence().track(&socket, 1);
        });
        drop(ana);
        taking.join().unwrap();
        assert!(room.is_empty());
        assert!(room.presence().watch().snapshot().present.is_empty());
    });
}

#[test]
fn a_subscription_of_one_name_is_one_whoever_makes_and_ends_it() {
    every_order(|| {
        let hub = Hub::new();
        let ana = connection(&hub, Config::default());
        ana.socket.subscribe("news");
        let socket = ana.socket.clone();
        let other = thread::spawn(move || {
            let was = socket.unsubscribe("news");
            let is_new = socket.subscribe("news");
            (was, is_new)
        });
        let was = ana.socket.unsubscribe("news");
        let (others, is_new) = other.join().unwrap();
        assert!(was || others, "one of the two has ended it");
        assert_eq!(ana.socket.is_subscribed("news"), hub.subscribers("news") == 1);
        // It was made anew unless this came between the two of the other.
        assert!(is_new);
        ana.socket.unsubscribe("news");
        assert!(hub.topics().is_empty());
    });
}

#[test]
fn a_publication_reaches_who_is_subscribed_before_it_and_all_in_one_order() {
    every_order(|| {
        let hub = Hub::new();
        let ana = connection(&hub, Config::default());
        let bob = connection(&hub, Config::default());
        ana.socket.subscribe("news");
        bob.socket.subscribe("news");
        let sent = Arc::new(StdMutex::new(0));
        let (publishing, total) = (hub.clone(), sent.clone());
        let publisher = thread::spawn(move || {
            let count = publishing.publish("news", "a").sent();
            *total.lock().unwrap() += count;
        });
        *sent.lock().unwrap() += hub.publish("news", "b").sent();
        publisher.join().unwrap();
        assert_eq!(*sent.lock().unwrap(), 4);
        let written = [&ana, &bob].map(|owner| {
            let Taken::Queue(queue) = owner.socket.0.outbox.take(true) else { panic!("nothing") };
            queue.single().expect("short messages").to_vec()
        });
        assert_eq!(written[0], written[1]);
    });
}
