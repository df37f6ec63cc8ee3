//! What [`Faulty`] does to a stream: each fault at exactly its byte, in its own direction.

use std::{io::ErrorKind, time::Duration};

use sockeye::testing::{Faults, Faulty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};

/// A hundred bytes, each of its own value.
const BYTES: [u8; 100] = {
    let mut bytes = [0; 100];
    let mut i = 0;
    while i < 100 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

async fn within<F: IntoFuture>(what: F) -> F::Output {
    timeout(Duration::from_secs(3600), what).await.expect("it does not take an hour")
}

/// A pipe with faults at one end, and its good end.
fn pipe(reads: Faults, writes: Faults) -> (Faulty<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(1000);
    (Faulty::new(near, reads, writes), far)
}

/// What one read or write after the other passed, and after how many milliseconds; with how it ended.
type Steps = (Vec<(usize, u128)>, Option<ErrorKind>);

/// Reads all that there is behind these faults, `bytes` and then the end.
async fn reads_of(faults: Faults, bytes: &[u8]) -> Steps {
    let (mut faulty, mut far) = pipe(faults, Faults::new());
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let (start, mut steps, mut passed) = (Instant::now(), Vec::new(), Vec::new());
    loop {
        let mut buffer = [0xff; 300];
        match within(faulty.read(&mut buffer)).await {
            Ok(0) => {
                assert_eq!(faulty.read(&mut buffer).await.unwrap(), 0, "it stays the end");
                assert_eq!(passed, bytes[..passed.len()]);
                return (steps, None);
            }
            Ok(count) => {
                steps.push((count, start.elapsed().as_millis()));
                passed.extend_from_slice(&buffer[..count]);
            }
            Err(error) => {
                assert_eq!(passed, bytes[..passed.len()]);
                return (steps, Some(error.kind()));
            }
        }
    }
}

/// Writes `bytes` against these faults, and looks at what arrives.
async fn writes_of(faults: Faults, bytes: &[u8]) -> (Steps, Vec<u8>) {
    let (mut faulty, mut far) = pipe(Faults::new(), faults);
    let (start, mut steps, mut rest, mut failed) = (Instant::now(), Vec::new(), bytes, None);
    while !rest.is_empty() {
        match within(faulty.write(rest)).await {
            Ok(count) => {
                steps.push((count, start.elapsed().as_millis()));
                rest = &rest[count..];
            }
            Err(error) => {
                failed = Some(error.kind());
                break;
            }
        }
    }
    if failed.is_none() {
        faulty.shutdown().await.unwrap();
    }
    let mut arrived = Vec::new();
    within(far.read_to_end(&mut arrived)).await.unwrap();
    ((steps, failed), arrived)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The same faults in both directions pass the same pieces at the same times; all bytes arrive.
async fn assert_pieces(faults: Faults, pieces: &[(usize, u128)]) {
    let expected = (pieces.to_vec(), None);
    assert_eq!(reads_of(faults.clone(), &BYTES).await, expected, "read with {faults:?}");
    let (steps, arrived) = writes_of(faults.clone(), &BYTES).await;
    assert_eq!(steps, expected, "written with {faults:?}");
    assert_eq!(arrived, BYTES);
}

// ---- splits and delays

#[tokio::test(start_paused = true)]
async fn without_faults_it_is_the_stream_itself() {
    assert_pieces(Faults::new(), &[(100, 0)]).await;
    assert_pieces(Faults::new().behind_handshake(), &[(1, 0); 100]).await;
}

#[tokio::test(start_paused = true)]
async fn a_split_ends_a_read_or_write_before_its_byte() {
    assert_pieces(Faults::new().split_at(1), &[(1, 0), (99, 0)]).await;
    assert_pieces(Faults::new().split_at(99), &[(99, 0), (1, 0)]).await;
    let faults = Faults::new().split_at(30).split_at(7).split_at(8).split_at(7);
    assert_pieces(faults, &[(7, 0), (1, 0), (22, 0), (70, 0)]).await;
    for nowhere in [0, 100, 5000] {
        assert_pieces(Faults::new().split_at(nowhere), &[(100, 0)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pieces_have_no_more_bytes_than_was_said() {
    assert_pieces(Faults::new().split_every(40), &[(40, 0), (40, 0), (20, 0)]).await;
    assert_pieces(Faults::new().split_every(1), &[(1, 0); 100]).await;
    assert_pieces(Faults::new().split_every(0), &[(1, 0); 100]).await;
    assert_pieces(Faults::new().split_every(100), &[(100, 0)]).await;
    let faults = Faults::new().split_every(40).split_at(10).split_at(90);
    assert_pieces(faults, &[(10, 0), (40, 0), (40, 0), (10, 0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_byte_and_those_behind_it_come_so_much_later() {
    assert_pieces(Faults::new().delay_at(0, ms(5)), &[(100, 5)]).await;
    assert_pieces(Faults::new().delay_at(99, ms(5)), &[(99, 0), (1, 5)]).await;
    let faults = Faults::new().delay_at(20, ms(7)).delay_at(10, ms(5)).delay_at(5000, ms(9));
    assert_pieces(faults, &[(10, 0), (10, 5), (80, 12)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_a_delayed_byte_is_not_held_back() {
    let (mut faulty, mut far) = pipe(Faults::new().delay_at(3, ms(50)), Faults::new());
    let start = Instant::now();
    let mut buffer = [0; 10];
    far.write_all(b"ab").await.unwrap();
    assert_eq!(faulty.read(&mut buffer).await.unwrap(), 2);
    far.write_all(b"cd").await.unwrap();
    assert_eq!((faulty.read(&mut buffer).await.unwrap(), buffer[0]), (1, b'c'));
    assert_eq!(start.elapsed(), ms(0));
    assert_eq!((faulty.read(&mut buffer).await.unwrap(), buffer[0]), (1, b'd'));
    assert_eq!(start.elapsed(), ms(50));
}

// ---- ends

#[tokio::test(start_paused = true)]
async fn truncated_reads_find_the_end_at_their_byte() {
    for at in [0, 1, 42, 99] {
        let (steps, error) = reads_of(Faults::new().truncate_at(at), &BYTES).await;
        let passed: usize = steps.iter().map(|(count, _)| count).sum();
        assert_eq!((passed as u64, error), (at, None));
    }
    let (steps, error) = reads_of(Faults::new().truncate_at(100), &BYTES).await;
    assert_eq!((steps, error), (vec![(100, 0)], None), "the end was there anyway");
}

#[tokio::test(start_paused = true)]
async fn truncated_reads_leave_the_other_direction_alone() {
    let (mut faulty, mut far) = pipe(Faults::new().truncate_at(2), Faults::new());
    far.write_all(b"hello").await.unwrap();
    let mut read = Vec::new();
    faulty.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"he");
    faulty.write_all(b"answer").await.unwrap();
    far.write_all(b"nobody reads this").await.unwrap();
    let mut buffer = [0; 6];
    far.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer");
}

#[tokio::test(start_paused = true)]
async fn of_truncated_writes_nothing_arrives_from_their_byte_on_and_the_writer_does_not_notice() {
    for at in [0, 1, 42, 99, 100] {
        let ((steps, error), arrived) = writes_of(Faults::new().truncate_at(at), &BYTES).await;
        let written: usize = steps.iter().map(|(count, _)| count).sum();
        assert_eq!((written, error), (100, None));
        assert_eq!(arrived, BYTES[..at as usize]);
    }
    let (mut faulty, mut far) = pipe(Faults::new(), Faults::new().truncate_at(2));
    faulty.write_all(b"hello").await.unwrap();
    faulty.flush().await.unwrap();
    let mut arrived = Vec::new();
    within(far.read_to_end(&mut arrived)).await.unwrap();
    assert_eq!(arrived, b"he", "the end comes though the writer lives on");
    far.write_all(b"answer").await.unwrap();
    let mut buffer = [0; 6];
    faulty.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer", "the other direction is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_reset_comes_at_its_byte() {
    for at in [0, 1, 42, 99, 100] {
        let reset = Some(ErrorKind::ConnectionReset);
        let (steps, error) = reads_of(Faults::new().reset_at(at), &BYTES).await;
        let passed: usize = steps.iter().map(|(count, _)| count).sum();
        assert_eq!((passed as u64, error), (at, reset));
        let ((steps, error), arrived) = writes_of(Faults::new().reset_at(at), &BYTES).await;
        let passed: usize = steps.iter().map(|(count, _)| count).sum();
        // Behind the last byte there is none to be written.
        assert_eq!((passed as u64, error), (at, reset.filter(|_| at < 100)));
        assert_eq!(arrived, BYTES[..at as usize]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_both_directions_on_both_sides() {
    for by_reading in [true, false] {
        let faults = Faults::new().reset_at(2);
        let (reads, writes) = match by_reading {
            true => (faults, Faults::new()),
            false => (Faults::new(), faults),
        };
        let (mut faulty, mut far) = pipe(reads, writes);
        far.write_all(b"hello").await.unwrap();
        let error = match by_reading {
            true => faulty.read_to_end(&mut Vec::new()).await.unwrap_err(),
            false => faulty.write_all(b"hello").await.unwrap_err(),
        };
        let mut errors = vec![error.kind()];
        errors.push(faulty.read(&mut [0; 10]).await.unwrap_err().kind());
        errors.push(faulty.write(b"x").await.unwrap_err().kind());
        errors.push(faulty.flush().await.unwrap_err().kind());
        errors.push(faulty.shutdown().await.unwrap_err().kind());
        assert_eq!(errors, [ErrorKind::ConnectionReset; 5]);
        let mut arrived = Vec::new();
        within(far.read_to_end(&mut arrived)).await.unwrap();
        assert_eq!(arrived, if by_reading { &b""[..] } else { b"he" });
        assert!(far.write_all(b"more").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_that_was_chosen_last_counts_and_comes_after_a_delay() {
    let faults = Faults::new().reset_at(5).truncate_at(7).delay_at(7, ms(9)).split_at(3);
    let start = Instant::now();
    let (steps, error) = reads_of(faults.clone(), &BYTES).await;
    assert_eq!((steps, error), (vec![(3, 0), (4, 0)], None));
    assert_eq!(start.elapsed(), ms(9));
    let (steps, error) = reads_of(faults.reset_at(4), &BYTES).await;
    assert_eq!((steps, error), (vec![(3, 0), (1, 0)], Some(ErrorKind::ConnectionReset)));
}

#[tokio::test(start_paused = true)]
async fn each_direction_has_its_own_faults_and_counts_its_own_bytes() {
    let reads = Faults::new().split_every(2).truncate_at(4);
    let writes = Faults::new().split_every(3).reset_at(6);
    let (mut faulty, mut far) = pipe(reads, writes);
    far.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 10];
    assert_eq!(faulty.read(&mut buffer).await.unwrap(), 2);
    assert_eq!(faulty.write(b"answer").await.unwrap(), 3);
    assert_eq!(faulty.read(&mut buffer).await.unwrap(), 2);
    assert_eq!(faulty.write(b"wer").await.unwrap(), 3);
    assert_eq!(faulty.read(&mut buffer).await.unwrap(), 0);
    let error = faulty.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A write that the pipe takes in part passes only that part.
#[tokio::test(start_paused = true)]
async fn only_what_was_passed_counts() {
    let (near, mut far) = duplex(10);
    let mut faulty = Faulty::new(near, Faults::new(), Faults::new().reset_at(15));
    assert_eq!(faulty.write(&BYTES).await.unwrap(), 10);
    let mut buffer = [0; 10];
    far.read_exact(&mut buffer).await.unwrap();
    assert_eq!(faulty.write(&BYTES[10..]).await.unwrap(), 5);
    assert!(faulty.write(&BYTES[15..]).await.is_err());

    let (mut faulty, mut far) = pipe(Faults::new().truncate_at(15), Faults::new());
    far.write_all(&BYTES).await.unwrap();
    let mut read = [0; 4];
    for _ in 0..3 {
        assert_eq!(faulty.read(&mut read).await.unwrap(), 4);
    }
    assert_eq!(faulty.read(&mut read).await.unwrap(), 3);
    assert_eq!(faulty.read(&mut read).await.unwrap(), 0);
}

// ---- behind the handshake

#[tokio::test(start_paused = true)]
async fn behind_the_handshake_bytes_count_from_the_first_empty_line_on() {
    for head in [
        "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\r\n\r\n",
        "\r\n\r\r\n\r\n",
        "a\r\nb\r\n\rc\r\n\n\r\r\n\r\n",
    ] {
        let bytes = format!("{head}0123456789\r\n\r\n0123456789");
        let through = head.len();
        let faults = || Faults::new().behind_handshake().split_at(2);
        let delayed = faults().delay_at(5, ms(3)).truncate_at(16);
        let (steps, _) = reads_of(delayed, bytes.as_bytes()).await;
        assert_eq!(steps[..through], vec![(1, 0); through], "{head:?}");
        assert_eq!(steps[through..], [(2, 0), (3, 0), (11, 3)], "{head:?}");

        let (steps, arrived) = writes_of(faults().reset_at(3), bytes.as_bytes()).await;
        assert_eq!(steps.0[through..], [(2, 0), (1, 0)], "{head:?}");
        assert_eq!(steps.1, Some(ErrorKind::ConnectionReset));
        assert_eq!(arrived, bytes.as_bytes()[..through + 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn behind_the_handshake_is_said_for_each_direction() {
    let head = b"a\r\n\r\n";
    let reads = Faults::new().behind_handshake().truncate_at(0);
    let (mut faulty, mut far) = pipe(reads, Faults::new().truncate_at(3));
    far.write_all(head).await.unwrap();
    far.write_all(b"more").await.unwrap();
    faulty.write_all(head).await.unwrap();
    let (mut read, mut arrived) = (Vec::new(), Vec::new());
    within(faulty.read_to_end(&mut read)).await.unwrap();
    within(far.read_to_end(&mut arrived)).await.unwrap();
    assert_eq!((&read[..], &arrived[..]), (&head[..], &head[..3]));
}

// ---- in the test kit

#[tokio::test(start_paused = true)]
async fn the_faults_of_a_connection_are_those_of_the_handler_s_side() {
    let echo = || sockeye::on().on_text(|session, text| session.send(text));
    let behind = || Faults::new().behind_handshake();
    let connect = |reads, writes| sockeye::testing::connect(echo()).faults(reads, writes);

    // What the handler's side reads: 2 + 4 + 5 bytes of a masked frame, and a byte of the next.
    let mut peer = within(connect(behind().truncate_at(12), Faults::new())).await;
    peer.send("hello").await;
    peer.send("hello").await;
    assert_eq!(peer.recv_text().await, "hello");
    within(peer.recv_end()).await;

    // What it writes: 2 + 5 bytes of a plain frame.
    let mut peer = within(connect(Faults::new(), behind().delay_at(7, ms(20)))).await;
    peer.send("hello").await;
    peer.send("again").await;
    let start = Instant::now();
    assert_eq!(peer.recv_text().await, "hello");
    assert_eq!(start.elapsed(), ms(0));
    assert_eq!(peer.recv_text().await, "again");
    assert_eq!(start.elapsed(), ms(20));

    let mut peer = within(connect(Faults::new(), behind().reset_at(7))).await;
    peer.send("hello").await;
    assert_eq!(peer.recv_text().await, "hello");
    peer.send("again").await;
    within(peer.recv_end()).await;
    assert!(peer.try_send_raw(b"more").await.is_err());
}
