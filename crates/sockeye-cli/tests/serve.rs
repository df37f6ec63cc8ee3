//! The program as a person meets it: what it prints, what it serves, and how it ends.

#![cfg(unix)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod util;

use std::{net::SocketAddr, os::unix::fs::MetadataExt};

use sockeye::{CloseCode, OpCode, testing::frame};
use util::{
    Program, command, fails,
    tcp::{self, Client, request, within},
};

async fn echoes(addr: SocketAddr) -> Client {
    let mut client = Client::open(addr, "/echo").await;
    client.send_text("hello").await;
    // Every message as it came, and no greeting before it.
    assert_eq!(client.recv_text().await, "hello");
    client
}

// ---- what it serves

#[tokio::test]
async fn the_only_line_on_stdout_says_where_it_listens() {
    let program = Program::serve(&[]).await;
    assert_eq!(program.addr.ip().to_string(), "127.0.0.1");
    assert_ne!(program.addr.port(), 0, "the port that it got, not the one that was asked for");
    echoes(program.addr).await.close().await;
    program.signal("TERM");
    let ended = program.ended().await;
    assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""));
}

#[tokio::test]
async fn echo_sends_texts_and_binaries_back() {
    let program = Program::serve(&[]).await;
    let mut client = echoes(program.addr).await;
    client.send(frame(OpCode::Binary, true, &[0, 1, 255])).await;
    let frame = client.recv().await.expect("an echo");
    assert_eq!((frame.opcode, frame.payload), (2, vec![0, 1, 255]));
    client.close().await;
}

#[tokio::test]
async fn the_page_and_what_belongs_to_it_may_run_nothing_else() {
    let program = Program::serve(&[]).await;
    for (path, expected, content) in [
        ("/", "text/html", "<!doctype html>"),
        ("/style.css", "text/css", "light-dark("),
        ("/script.js", "text/javascript", "new WebSocket("),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let mut client = Client::connect(program.addr).await;
        client.send(request(path, "")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{path}");
        let kind = answer.header("content-type").expect("a content type");
        assert!(kind.starts_with(expected), "{path}: {kind}");
        assert!(answer.body.contains(content), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn without_a_command_it_serves() {
    let program = Program::start(&["--listen", "127.0.0.1:0"]).await;
    echoes(program.addr).await.close().await;
    program.signal("INT");
    let ended = program.ended().await;
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(0), ""));
}

#[tokio::test]
async fn a_page_of_another_site_may_not_connect() {
    let program = Program::serve(&[]).await;
    let mut client = Client::connect(program.addr).await;
    client.send(tcp::handshake("/echo", "Origin: https://evil.example\r\n")).await;
    assert_eq!(client.answer().await.status, 403);
}

// ---- --max-message

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes_and_a_byte_more_is_1009() {
    for (args, limit) in [
        (&["--max-message", "1KiB"][..], 1024),
        (&["--max-message", "1kB"], 1000),
        (&["--max-message", "3MiB"], 3 << 20),
        (&["--max-message", "77"], 77),
        (&[], 1 << 20),
    ] {
        let program = Program::serve(args).await;
        let mut client = Client::open(program.addr, "/echo").await;
        let payload = vec![b'x'; limit];
        client.send(frame(OpCode::Text, true, &payload)).await;
        assert!(client.recv().await.is_some_and(|frame| frame.payload == payload), "{args:?}");
        // The header alone is enough to refuse; sending it all could run into the closed socket.
        let long = frame(OpCode::Text, true, &vec![b'x'; limit + 1]);
        client.send(&long[..20]).await;
        assert_eq!(client.recv_close().await, CloseCode::TOO_BIG, "{args:?}");
    }
}

#[tokio::test]
async fn a_size_that_is_none_is_explained_by_the_command_line() {
    for size in ["much", "", "1XB", "-1"] {
        let argument = format!("--max-message={size}");
        let (code, stdout, stderr) = fails(&["serve", &argument]).await;
        assert_eq!((code, &*stdout), (Some(2), ""), "{size}");
        assert!(stderr.starts_with("error: ") && stderr.contains("--max-message"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

// ---- its end

#[tokio::test]
async fn a_signal_sends_the_client_away_and_ends_it_with_success() {
    for signal in ["INT", "TERM"] {
        let program = Program::serve(&[]).await;
        let client = echoes(program.addr).await;
        program.signal(signal);
        client.sees_1001().await;
        let ended = program.ended().await;
        assert_eq!(ended.status.code(), Some(0), "{signal}: {:?}", ended.status);
        assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""), "{signal}");
    }
}

/// Who starts it from a script sends the signal as soon as the line is there.
#[tokio::test]
async fn a_signal_right_after_the_line_ends_it_with_success() {
    for _ in 0..20 {
        let program = Program::serve(&[]).await;
        program.signal("TERM");
        let ended = program.ended().await;
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.status);
    }
}

// ---- what can be wrong

#[tokio::test]
async fn a_port_in_use_is_one_sentence_and_exit_code_1() {
    let first = Program::serve(&[]).await;
    let addr = first.addr.to_string();
    for args in [&["serve", "--listen", &*addr][..], &["--listen", &*addr]] {
        let (code, stdout, stderr) = fails(args).await;
        assert_eq!((code, &*stdout), (Some(1), ""));
        assert_eq!(
            stderr,
            format!(
                "sockeye: cannot listen on {addr}: the port is in use; choose another, or 0 for a \
                 free one\n"
            )
        );
    }
    echoes(first.addr).await.close().await;
}

#[tokio::test]
async fn what_is_no_address_is_one_sentence_and_exit_code_1() {
    for addr in ["nonsense", "127.0.0.1", "127.0.0.1:99999", ""] {
        let (code, stdout, stderr) = fails(&["serve", "--listen", addr]).await;
        assert_eq!((code, &*stdout), (Some(1), ""), "{addr}");
        let expected = "not an address; write it like 127.0.0.1:8080";
        assert_eq!(stderr, format!("sockeye: cannot listen on {addr}: {expected}\n"));
    }
}

#[tokio::test]
async fn a_port_that_is_not_permitted_is_one_sentence_and_exit_code_1() {
    let mut command = command(&["serve", "--listen", "127.0.0.1:1"]);
    // Root may listen anywhere, so the program runs as nobody then.
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command.uid(65534);
    } else if std::net::TcpListener::bind("127.0.0.1:1").is_ok() {
        return;
    }
    // Nobody may not even be allowed to run it, where the build is private.
    let Ok(output) = within(command.output()).await else { return };
    let text = String::from_utf8(output.stderr).unwrap();
    let expected = "not permitted; choose a port from 1024 on";
    assert_eq!(text, format!("sockeye: cannot listen on 127.0.0.1:1: {expected}\n"));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

#[tokio::test]
async fn an_unknown_argument_is_explained_and_nothing_is_served() {
    for args in [&["serve", "--port", "80"][..], &["--port", "80"], &["server"]] {
        let (code, stdout, stderr) = fails(args).await;
        assert_eq!((code, &*stdout), (Some(2), ""), "{args:?}");
        assert!(stderr.starts_with("error: ") && stderr.contains("--help"), "{stderr}");
    }
}

// ---- the log

#[tokio::test]
async fn the_log_goes_to_stderr_and_never_to_stdout() {
    let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "debug");
    let program = Program::spawn(command).await;
    let mut client = echoes(program.addr).await;
    // A frame without a mask, which is worth a line at `debug`.
    client.send([0x81, 0x01, b'x']).await;
    assert_eq!(client.recv_close().await, CloseCode::PROTOCOL);
    drop(client);
    program.signal("INT");
    let ended = program.ended().await;
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(0), ""));
    for line in ["unmasked frame from a client", "shutting down"] {
        assert!(ended.stderr.contains(line), "`{line}` is missing in {}", ended.stderr);
    }
}
