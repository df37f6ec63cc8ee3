//! Do the server and the client agree over a bad pipe, and does each fault come at exactly its byte?

mod pipe;
mod run;
mod schedule;
mod side;

use std::{error::Error, time::Duration};

use proptest::{prelude::*, test_runner::Config};
use run::{Outcome, run};
use schedule::{broken, good};
use side::{Ended, Notes};
use sockeye::{CloseCode, ClosedBy, ConnectError, Message};

/// So many schedules, unless `PROPTEST_CASES` says otherwise. One that fails is made smaller for half a
/// minute at most.
fn cases(count: u32) -> Config {
    let mut config =
        Config { failure_persistence: None, max_shrink_time: 30_000, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    config
}

proptest! {
    #![proptest_config(cases(1200))]

    #[test]
    fn every_message_arrives_once_in_order_and_whole_and_both_ends_agree_how_it_ended(
        schedule in good(),
    ) {
        // Whoever closes gives what waits the time that it takes.
        let outcome = run(&schedule, Duration::from_secs(600));
        let Outcome { server, client, is_complete, .. } = &outcome;
        prop_assert!(outcome.connected.is_ok(), "{:?}", outcome.connected);
        for (side, peer) in [(server, client), (client, server)] {
            check_notes(side)?;
            prop_assert_eq!(side.opened, 1);
            check_is_prefix(&side.received, &peer.sent)?;
            // Who leaves may leave behind what it has not taken.
            let took_all = ended(side)?.close.by == ClosedBy::Peer && !side.left;
            if *is_complete || took_all {
                prop_assert_eq!(side.received.len(), peer.sent.len(), "all that was sent");
            }
            check_control(side, peer)?;
        }
        check_agreement(ended(server)?, ended(client)?)?;
        prop_assert_eq!(outcome.tasks, 0);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn over_a_pipe_that_breaks_a_prefix_arrives_and_both_ends_notice_in_time(
        schedule in broken(),
    ) {
        let outcome = run(&schedule, Duration::from_secs(5));
        let Outcome { server, client, .. } = &outcome;
        for (side, peer) in [(server, client), (client, server)] {
            check_notes(side)?;
            check_is_prefix(&side.received, &peer.sent)?;
            check_control(side, peer)?;
            prop_assert_eq!(side.opened, usize::from(side.ended.is_some()));
            if let Some(Ended { close, .. }) = &side.ended {
                if close.clean {
                    let peer = ended(peer)?;
                    prop_assert!(peer.close.by != ClosedBy::Network, "{peer:?}");
                }
                if close.by == ClosedBy::Network {
                    prop_assert!(REASONS.contains(&&*close.reason), "{close:?}");
                    prop_assert_eq!((close.code, close.clean), (CloseCode::ABNORMAL, false));
                }
            }
        }
        if let Err(error) = &outcome.connected {
            prop_assert!(client.ended.is_none() && client.received.is_empty());
            prop_assert!(server.received.is_empty());
            let is_told = match error {
                ConnectError::Http(error) => error.source().is_some() || error.is_incomplete_message(),
                ConnectError::HandshakeTimeout(time) => *time == Duration::from_secs(10),
                _ => false,
            };
            prop_assert!(is_told, "{error:?}");
        }
        prop_assert_eq!(outcome.tasks, 0);
        // The longest of the deadlines, one behind the other.
        let most = schedule.duration() + Duration::from_secs(10 + 40 + 30 + 5 + 3);
        prop_assert!(outcome.duration < most, "{:?}", outcome.duration);
    }
}

/// What a connection may say of its own end when it was not closed.
const REASONS: [&str; 5] = [
    "the connection was reset",
    "the peer ended the connection without a close frame",
    "no answer to a ping",
    "the peer took nothing of what waits for it",
    "the closing handshake was not answered",
];

fn ended(side: &Notes) -> Result<&Ended, TestCaseError> {
    side.ended.as_ref().ok_or_else(|| TestCaseError::fail("a side was not told of the end"))
}

fn check_notes(side: &Notes) -> Result<(), TestCaseError> {
    prop_assert!(side.wrong.is_empty(), "{:?}", side.wrong);
    if let Some(Ended { close, recv_failed: Some(failed) }) = &side.ended {
        prop_assert_eq!(*failed, !close.clean, "`recv` fails where the end was not in order");
    }
    Ok(())
}

fn check_is_prefix(
    received: &[Message<'static>],
    sent: &[Message<'static>],
) -> Result<(), TestCaseError> {
    prop_assert!(received.len() <= sent.len(), "{} of {}", received.len(), sent.len());
    for (place, (received, sent)) in received.iter().zip(sent).enumerate() {
        let lengths = (received.len(), sent.len());
        prop_assert!(received == sent, "message {}, of {:?} bytes", place, lengths);
    }
    Ok(())
}

/// Pings and pongs come once and in order; when there are too many some are left out.
fn check_control(side: &Notes, peer: &Notes) -> Result<(), TestCaseError> {
    let is_part = |part: &[u32], whole: &[u32]| {
        let mut whole = whole.iter();
        part.iter().all(|number| whole.any(|other| other == number))
    };
    prop_assert!(is_part(&side.heard_pings, &peer.pings), "{side:?} {peer:?}");
    prop_assert!(is_part(&side.heard_pongs, &side.pings), "{side:?}");
    Ok(())
}

/// Who says that the other one began agrees with it on code and reason; where both began at the same
/// time, each has its own.
fn check_agreement(server: &Ended, client: &Ended) -> Result<(), TestCaseError> {
    let (server, client) = (&server.close, &client.close);
    prop_assert!(server.clean && client.clean, "{server:?} {client:?}");
    match (server.by, client.by) {
        (ClosedBy::Local, ClosedBy::Peer) | (ClosedBy::Peer, ClosedBy::Local) => {
            prop_assert_eq!((server.code, &server.reason), (client.code, &client.reason));
        }
        (ClosedBy::Local, ClosedBy::Local) => {}
        _ => prop_assert!(false, "nobody began: {server:?} {client:?}"),
    }
    Ok(())
}
