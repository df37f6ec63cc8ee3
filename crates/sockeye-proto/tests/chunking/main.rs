//! Do the same bytes give the same events, in whatever pieces they come?

#[path = "../common/mod.rs"]
mod common;
mod oracle;
mod stream;

use common::*;
use proptest::prelude::*;
use sockeye_proto::{Event, Extension, Inbound, Limits, ProtocolError, Role};
use stream::{Change, Stream};

/// Small chunks cut headers, large ones hold several frames.
fn chunk_sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![4 => 1usize..8, 2 => 8usize..200, 1 => 200usize..80_000];
    prop::collection::vec(size, 1..12)
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![Just(Extension::None), Just(Extension::Rsv1)]
}

fn valid() -> impl Strategy<Value = (Extension, Stream)> {
    extension().prop_flat_map(|extension| (Just(extension), stream::valid(extension)))
}

/// Small enough that a stream breaks them often.
fn limits() -> impl Strategy<Value = Limits> {
    (0usize..200, 0usize..200, 1u32..6).prop_map(|(message, frame, fragments)| {
        Limits::default().message_size(message).frame_size(frame).fragments(fragments)
    })
}

/// Feeds the bytes whole, byte by byte and in these chunks, and gives back the one outcome.
fn outcome_of_any_chunking(
    start: impl Fn() -> Inbound,
    bytes: &[u8],
    sizes: &[usize],
) -> Result<Outcome, TestCaseError> {
    let whole = feed(&mut start(), bytes);
    prop_assert_eq!(&feed_in_chunks(&mut start(), bytes, sizes), &whole);
    prop_assert_eq!(&feed_in_chunks(&mut start(), bytes, &[1]), &whole);
    Ok(whole)
}

proptest! {
    #[test]
    fn a_valid_stream_gives_what_the_rfc_says_in_any_chunking(
        (extension, stream) in valid(),
        sizes in chunk_sizes(),
    ) {
        for role in ROLES {
            let bytes = stream.bytes(&role);
            let start = || Inbound::new(&role, &Limits::default(), extension);
            let (events, error) = outcome_of_any_chunking(start, &bytes, &sizes)?;
            prop_assert_eq!(error, None);
            prop_assert_eq!(events, oracle::decode(&bytes));
        }
    }

    #[test]
    fn a_corrupted_stream_gives_the_same_events_and_the_same_error_in_any_chunking(
        (extension, stream) in valid(),
        changes in prop::collection::vec(any::<(Change, prop::sample::Index)>(), 1..4),
        sizes in chunk_sizes(),
    ) {
        for role in ROLES {
            let mut bytes = stream.bytes(&role);
            for (change, at) in &changes {
                change.apply(&mut bytes, at);
            }
            let start = || Inbound::new(&role, &Limits::default(), extension);
            outcome_of_any_chunking(start, &bytes, &sizes)?;
        }
    }

    #[test]
    fn a_stream_beyond_the_limits_breaks_off_with_the_same_error_in_any_chunking(
        (extension, stream) in valid(),
        limits in limits(),
        sizes in chunk_sizes(),
    ) {
        for role in ROLES {
            let bytes = stream.bytes(&role);
            let start = || Inbound::new(&role, &limits, extension);
            let (events, error) = outcome_of_any_chunking(start, &bytes, &sizes)?;
            let expected = oracle::decode(&bytes);
            prop_assert_eq!(&events[..], &expected[..events.len()]);
            prop_assert_eq!(error.is_none(), events.len() == expected.len());
        }
    }

    #[test]
    fn noise_gives_the_same_in_any_chunking(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        extension in extension(),
        sizes in chunk_sizes(),
    ) {
        for role in ROLES {
            let start = || Inbound::new(&role, &Limits::default(), extension);
            outcome_of_any_chunking(start, &noise, &sizes)?;
        }
    }

    #[test]
    fn at_every_byte_it_is_known_whether_a_message_is_open_and_what_frame_comes(
        stream in stream::valid(Extension::None),
    ) {
        for role in ROLES {
            let mut inbound = plain(&role);
            let mut open = false;
            for frame in &stream.frames {
                let bytes = frame.bytes(&role);
                prop_assert_eq!(inbound.at_control_frame(&[]), None);
                for (at, byte) in bytes.iter().enumerate() {
                    // A data frame of no bytes is over with its header, so never "within".
                    let known = inbound.at_control_frame(&bytes[at..]);
                    prop_assert_eq!(known, Some(frame.is_control()));
                    prop_assert_eq!(inbound.at_close_frame(&bytes[at..]), frame.is_close());
                    prop_assert_eq!(inbound.is_incomplete(), open || at > 0);
                    let (_, error) = feed(&mut inbound, &[*byte]);
                    prop_assert_eq!(error, None);
                }
                open = if frame.is_control() { open } else { !frame.is_final() };
                prop_assert_eq!(inbound.is_incomplete(), open);
            }
        }
    }
}

#[test]
fn a_header_cut_off_anywhere_takes_nothing_of_the_frame_behind_it() {
    for role in ROLES {
        for length in [0, 125, 126, 65_536] {
            let payload = vec![b'x'; length];
            let mut bytes = frame(&role, FIN | BINARY, &payload);
            bytes.extend(frame(&role, FIN | PING, b"next"));
            for cut in 1..15 {
                let outcome = feed_in_chunks(&mut plain(&role), &bytes, &[cut, bytes.len()]);
                assert_eq!(outcome, (vec![binary(&payload), ping(b"next")], None));
            }
        }
    }
}

/// The property above holds for "nothing ever comes out" as well, so the generator has to be shown
/// to reach what it is for.
#[test]
fn the_corruptions_reach_every_kind_of_verdict() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let changes = any::<(Change, prop::sample::Index)>();
    let mut seen: Vec<ProtocolError> = Vec::new();
    let mut survived = 0;
    let role = Role::Client { masking_key: || KEY };
    for _ in 0..2000 {
        let (_, stream) = valid().new_tree(&mut runner).expect("a stream").current();
        let (change, at) = changes.new_tree(&mut runner).expect("a change").current();
        let mut bytes = stream.bytes(&role);
        change.apply(&mut bytes, &at);
        let (events, error) = feed(&mut plain(&role), &bytes);
        survived += usize::from(events.iter().any(|event| matches!(event, Event::Message(_))));
        seen.extend(error);
    }
    for error in [
        ProtocolError::ReservedBits,
        ProtocolError::Masked,
        ProtocolError::FragmentedControl,
        ProtocolError::UnexpectedContinuation,
        ProtocolError::ExpectedContinuation,
        ProtocolError::InvalidUtf8,
    ] {
        assert!(seen.contains(&error), "{error} in 2000 corrupted streams");
    }
    assert!(seen.iter().any(|error| matches!(error, ProtocolError::ReservedOpCode(_))));
    assert!(survived > 200, "{survived} of 2000 streams had a message");
}
