//! Which pings and pongs wait to be sent, and how much can a peer make of them (RFC 6455 sections
//! 5.5.2 and 5.5.3)?

mod common;

use common::*;
use sockeye_proto::{Connection, ControlFrames, outbound::MAX_CONTROL_FRAME};

/// Length of the n-th payload.
type Length = fn(u32) -> usize;

#[test]
fn ten_pings_are_all_answered_in_order() {
    for role in ROLES {
        let mut connection = Connection::new(role);
        let payloads: Vec<_> = (0..10u8).map(|n| vec![n; usize::from(n) * 12]).collect();
        for payload in &payloads {
            connection.on_ping(payload);
        }
        let pongs: Vec<_> = payloads.into_iter().map(|payload| (FIN | PONG, payload)).collect();
        let control = connection.control();
        let (length, wire) = (control.len(), control.take());
        assert_eq!(written(&role, &wire), pongs);
        assert_eq!(length, wire.len());
        assert!(connection.control().is_empty(), "what was taken is not sent again");
    }
}

#[test]
fn own_pings_and_pongs_leave_in_the_order_they_came_in() {
    for role in ROLES {
        let mut connection = Connection::new(role);
        assert!(connection.ping(b"1"));
        connection.on_ping(b"2");
        assert!(connection.ping(&[3; 200]), "cut off, not refused");
        let wire = connection.control().take();
        let expected =
            [(FIN | PING, b"1".to_vec()), (FIN | PONG, b"2".to_vec()), (FIN | PING, vec![3; 125])];
        assert_eq!(written(&role, &wire), expected);
    }
}

#[test]
fn a_flood_of_pings_leaves_a_bounded_number_of_whole_pongs_and_the_latest_is_the_last() {
    for role in ROLES {
        // Lengths of 4 to 125 bytes, all the same or changing, so that the last place has to take
        // frames that are longer and shorter than the one before.
        let varied = |n: u32| 4 + n as usize * 37 % 122;
        let floods: [(Length, u32); 3] = [(|_| 4, 100_000), (|_| 125, 10_000), (varied, 10_000)];
        for (length, pings) in floods {
            let mut connection = Connection::new(role);
            let payload = |n: u32| {
                let mut payload = n.to_be_bytes().to_vec();
                payload.resize(length(n), b'.');
                payload
            };
            for n in 0..pings {
                connection.on_ping(&payload(n));
                assert!(connection.control().len() <= ControlFrames::LIMIT);
            }
            let pongs = written(&role, &connection.control().take());
            let (last, earlier) = pongs.split_last().expect("pongs");
            assert_eq!(*last, (FIN | PONG, payload(pings - 1)));
            let number = |payload: &[u8]| {
                u32::from_be_bytes(*payload.first_chunk().expect("a payload that was sent"))
            };
            let answered: Vec<_> = earlier.iter().map(|(_, payload)| number(payload)).collect();
            for ((first, got), n) in earlier.iter().zip(&answered) {
                assert_eq!((*first, got), (FIN | PONG, &payload(*n)));
            }
            assert_eq!(answered[..25], (0..25).collect::<Vec<_>>(), "the earliest, each");
            assert!(answered.is_sorted_by(|a, b| a < b), "in order, none twice: {answered:?}");
            connection.on_ping(b"again");
            connection.on_ping(b"and again");
            assert_eq!(written(&role, &connection.control().take()).len(), 2);
        }
    }
}

#[test]
fn a_ping_that_finds_no_place_is_refused_and_leaves_no_trace() {
    for role in ROLES {
        let mut connection = Connection::new(role);
        let mut pings = 0;
        while connection.ping(&[0; 125]) {
            pings += 1;
            assert!(pings < 1000, "without a bound");
        }
        // All but the place of one pong: the peer's ping is to be answered whatever waits.
        assert!(pings >= ControlFrames::LIMIT / MAX_CONTROL_FRAME - 1, "{pings} fit");
        assert!(connection.control().len() <= ControlFrames::LIMIT);
        let expected = vec![(FIN | PING, vec![0; 125]); pings];
        assert_eq!(written(&role, &connection.control().take()), expected);
        assert!(connection.ping(b"there is a place again"));
    }
}

/// Its pong is waited for, and the connection is cut when that does not come.
#[test]
fn a_ping_of_our_own_is_not_thrown_out_by_a_flood_of_the_peers() {
    for role in ROLES {
        let mut connection = Connection::new(role);
        while connection.control().len() + 3 * MAX_CONTROL_FRAME <= ControlFrames::LIMIT {
            connection.on_ping(&[b'.'; 125]);
        }
        assert!(connection.ping(&[b'?'; 125]), "the last place but one is ours");
        for n in 0..10 {
            connection.on_ping(&[n]);
            assert!(connection.control().len() <= ControlFrames::LIMIT);
        }
        let frames = written(&role, &connection.control().take());
        assert_eq!(frames.last(), Some(&(FIN | PONG, vec![9])));
        let ours = (FIN | PING, vec![b'?'; 125]);
        assert!(frames.contains(&ours), "a ping was queued and is gone, {role:?}");
    }
}
