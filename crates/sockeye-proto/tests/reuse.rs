//! Is the memory of long messages taken from where it is told to come from, and given back there?

use std::cell::RefCell;

use sockeye_proto::{Event, Extension, Inbound, Limits, Memory, Message, Role, outbound};

const LONG: usize = 4096;

thread_local! {
    static SHELF: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers of this thread, and so of one test.
struct Shelf;

impl Memory for Shelf {
    const LONG: usize = LONG;

    fn take(least: usize, most: usize) -> Option<Vec<u8>> {
        SHELF.with_borrow_mut(|shelf| {
            let fits = |buffer: &Vec<u8>| (least..=most).contains(&buffer.capacity());
            Some(shelf.swap_remove(shelf.iter().position(fits)?))
        })
    }

    fn give_back(buffer: Vec<u8>) {
        assert!(buffer.capacity() >= LONG);
        SHELF.with_borrow_mut(|shelf| shelf.push(buffer));
    }
}

fn shelf() -> Vec<usize> {
    SHELF.with_borrow(|shelf| shelf.iter().map(Vec::capacity).collect())
}

/// A message that comes in two parts.
fn receive(inbound: &mut Inbound<Shelf>, message: &Message<'_>) -> Message<'static> {
    let mut wire = Vec::new();
    let client = Role::Client { masking_key: || [1, 2, 3, 4] };
    outbound::message(&client, message, &mut wire);
    let (begin, mut end) = wire.split_at_mut(message.len() - 10);
    let mut begin = &mut begin[..];
    assert_eq!(inbound.next(&mut begin), Ok(None));
    match inbound.next(&mut end) {
        Ok(Some(Event::Message(message))) => message.into_owned(),
        other => panic!("a message was expected, and not {other:?}"),
    }
}

fn inbound(limits: &Limits) -> Inbound<Shelf> {
    Inbound::with_memory(&Role::Server, limits, Extension::None)
}

#[test]
fn a_long_message_gives_its_memory_back_once_nobody_has_it_and_the_next_one_lies_there() {
    let mut inbound = inbound(&Limits::default());
    for text in ["ä".repeat(5000), "ö".repeat(4000)] {
        let message = receive(&mut inbound, &Message::from(&text));
        let copy = message.clone();
        assert_eq!(message.as_text(), Some(&*text));
        drop(message);
        assert!(shelf().is_empty(), "someone has it still");
        drop(copy);
        assert_eq!(shelf(), [10_000], "the one buffer, made for the first message");
    }
}

#[test]
fn a_binary_message_is_what_was_sent_whatever_lay_in_the_buffer_before() {
    let mut inbound = inbound(&Limits::default());
    Shelf::give_back(vec![7; 20_000]);
    let data: Vec<u8> = (0..16_000_u32).map(|number| number as u8).collect();
    let message = receive(&mut inbound, &Message::from(&data));
    assert_eq!(message.as_bytes(), data);
    assert!(shelf().is_empty());
}

#[test]
fn a_message_takes_no_buffer_beyond_its_limit() {
    let mut inbound = inbound(&Limits::default().message_size(8000));
    Shelf::give_back(vec![0; 20_000]);
    let message = receive(&mut inbound, &Message::from(&[0; 8000]));
    assert_eq!(shelf(), [20_000]);
    drop(message);
    assert_eq!(shelf(), [20_000, 8000]);
}

#[test]
fn who_keeps_a_message_does_not_keep_a_buffer_of_more_than_twice_its_size() {
    let mut inbound = inbound(&Limits::default());
    Shelf::give_back(vec![0; 100_000]);
    let message = receive(&mut inbound, &Message::from(&[9; 10_000]));
    assert_eq!(shelf(), [100_000], "given back at once");
    assert_eq!(message.as_bytes(), [9; 10_000]);
}

#[test]
fn a_short_message_has_nothing_to_do_with_it() {
    let mut inbound = inbound(&Limits::default());
    drop(receive(&mut inbound, &Message::from("a".repeat(1000))));
    assert!(shelf().is_empty());
}
