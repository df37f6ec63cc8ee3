//! Do the examples do what they say? Each runs as a process of its own and is talked to over TCP.
//!
//! `cargo test` builds the examples before it runs this. `cargo test --test examples` does not, and
//! runs what was built last: `cargo build --examples` first.

mod client;
mod program;

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use client::{Client, post};
use program::Program;
use sockeye::{Limits, OpCode};
use sockeye_proto::{
    Role,
    deflate::{Inflater, Offer, check},
};

/// How long a program may take to be ready, and a client's whole conversation with it; far beyond
/// what either needs on a machine that is busy. Shorter than the keep-alive's 30 s, which would find
/// in the end what should have been seen at once.
const TIME: Duration = Duration::from_secs(20);

/// The programs, each with a test of its name below.
const EXAMPLES: [&str; 14] = [
    "attach",
    "backpressure",
    "chat",
    "chat_by_hand",
    "client",
    "closures",
    "compression",
    "echo",
    "game",
    "gate",
    "loop",
    "notifications",
    "pubsub",
    "rooms",
];

#[test]
fn every_example_is_tested_and_has_at_most_60_lines() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory of the examples") {
        let path = entry.expect("an entry").path();
        let lines = fs::read_to_string(&path).expect("a file of text").lines().count();
        assert!(lines <= 60, "{} has {lines} lines", path.display());
        names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, EXAMPLES);
}

#[test]
fn echo() {
    let program = Program::start("echo");
    let mut client = Client::connect(program.address, "/echo");
    let hello = program.line();
    let id = hello.strip_suffix(" has come").expect("an id");

    // Sent without waiting for the answers, which come in the same order.
    let long = vec![0xfe; 200_000];
    client.send_text("héllo");
    client.send(OpCode::Binary, [0, 1, 255]);
    client.send(OpCode::Ping, "still there?");
    client.send_text("");
    client.send(OpCode::Binary, &long);
    let mut frames: Vec<_> = (0..5).map(|_| client.recv().expect("a frame")).collect();
    // A pong may overtake messages that wait (RFC 6455 section 5.5.3 sets no order).
    let pong = frames.iter().position(|(opcode, _)| *opcode == OpCode::Pong).expect("a pong");
    assert_eq!(frames.remove(pong).1, b"still there?");
    assert_eq!(frames[0], (OpCode::Text, "héllo".into()));
    assert_eq!(frames[1], (OpCode::Binary, vec![0, 1, 255]));
    assert_eq!(frames[2], (OpCode::Text, Vec::new()));
    assert_eq!(frames[3], (OpCode::Binary, long));

    client.send_close(4001, "that was all");
    assert_eq!(client.recv_close().0, 4001);
    assert_eq!(program.line(), format!("{id} has gone: 4001 that was all"));
}

#[test]
fn chat_by_hand() {
    chat_of("chat_by_hand");
}

#[test]
fn chat() {
    let (program, mut ana) = chat_of("chat");
    let _ben = Client::connect(program.address, "/chat?name=ben");
    assert_eq!(ana.recv_text(), "ben joined");
    ana.send_text("/all");
    assert_eq!(ana.recv_text(), "everyone, raise your hand");
    assert_eq!(ana.recv_text(), "2 hands");
}

/// The chat with its first member, when the others have left it.
fn chat_of(example: &str) -> (Program, Client) {
    let program = Program::start(example);
    let join = |name: &str| {
        let mut member = Client::connect(program.address, &format!("/chat?name={name}"));
        assert_eq!(member.recv_text(), format!("welcome, {name}"));
        member
    };
    let (mut ana, mut ben) = (join("ana"), join("ben"));
    assert_eq!(ana.recv_text(), "ben joined");
    let mut eva = join("eva");
    assert_eq!(ana.recv_text(), "eva joined");
    assert_eq!(ben.recv_text(), "eva joined");

    ben.send_text("hello");
    assert_eq!(ana.recv_text(), "ben: hello");
    assert_eq!(eva.recv_text(), "ben: hello");
    ana.send_text("hello yourself");
    assert_eq!(ben.recv_text(), "ana: hello yourself", "and not his own message before");
    assert_eq!(eva.recv_text(), "ana: hello yourself");

    // One that vanishes without a word has left like one that says goodbye.
    drop(eva);
    assert_eq!(ana.recv_text(), "eva left");
    assert_eq!(ben.recv_text(), "eva left");
    ben.send_close(1000, "");
    assert_eq!(ben.recv_close().0, 1000);
    assert_eq!(ana.recv_text(), "ben left");
    let mut eve = join("eve");
    assert_eq!(ana.recv_text(), "eve joined");
    eve.send(OpCode::Binary, [1]);
    assert_eq!(eve.recv_close().0, 1011, "the handler takes text only");
    assert_eq!(ana.recv_text(), "eve left");
    (program, ana)
}

#[test]
fn rooms() {
    let program = Program::start("rooms");
    let enter = |room: &str, name: &str| {
        Client::connect(program.address, &format!("/room/{room}?name={name}"))
    };
    let mut ana = enter("lobby", "ana");
    let joined =
        |name: &str| format!(r#""joined":[{{"key":"{name}","metas":[{{"mood":"new here"}}]}}]"#);
    assert!(ana.recv_text().contains(&joined("ana")));
    let mut ben = enter("lobby", "ben");
    assert!(ana.recv_text().contains(&joined("ben")) && ben.recv_text().contains(&joined("ben")));
    let _eva = enter("cellar", "eva");

    ben.send_text("/mood happy");
    let happy = r#"[{"key":"ben","metas":[{"mood":"happy"}]}]"#;
    assert!(ana.recv_text().contains(&format!(r#""updated":{happy}"#)));
    assert!(ben.recv_text().contains(happy));
    ana.send_text("/who");
    let who = ana.recv_text();
    assert!(who.contains(r#""key":"ana""#) && who.contains(&happy[1..]), "{who}");
    ana.send_text("/rooms");
    let mut rooms: Vec<String> = serde_json::from_str(&ana.recv_text()).expect("a list");
    rooms.sort();
    assert_eq!(rooms, ["cellar", "lobby"]);
    ana.send_text("hello");
    assert_eq!((ana.recv_text(), ben.recv_text()), ("ana: hello".into(), "ana: hello".into()));
    ben.send_text("/leave");
    assert!(ana.recv_text().contains(&format!(r#""left":{happy}"#)));
    drop(ana);
}

#[test]
fn pubsub() {
    let program = Program::start("pubsub");
    let mut ana = Client::connect(program.address, "/");
    let mut ben = Client::connect(program.address, "/");
    ana.send_text("subscribe prices");
    assert_eq!(ana.recv_text(), "1 subscribers");
    ben.send_text("subscribe prices");
    assert_eq!(ben.recv_text(), "2 subscribers");
    ana.send_text("publish prices 42 and more");
    assert_eq!(ana.recv_text(), "1 have got it");
    assert_eq!(ben.recv_text(), "42 and more");
    ben.send_text("topics");
    assert_eq!(ben.recv_text(), r#"["prices"]"#);
    let report = post(program.address, "/topics/prices", &[], "43");
    assert_eq!(report, (200, r#"{"queued":2,"backpressured":0,"dropped":0}"#.to_owned()));
    assert_eq!((ana.recv_text(), ben.recv_text()), ("43".into(), "43".into()));
    ben.send_text("unsubscribe prices");
    assert_eq!(ben.recv_text(), "left are []");
    let report = post(program.address, "/topics/prices", &[], "44");
    assert_eq!(report.1, r#"{"queued":1,"backpressured":0,"dropped":0}"#);
}

#[test]
fn notifications() {
    let program = Program::start("notifications");
    let listen =
        |cookie: &str| Client::request(program.address, "/ws", &[&format!("Cookie: {cookie}")]);
    let (mut phone, _) = listen("theme=dark; user=ana");
    assert_eq!(phone.recv_text(), "ana listens on 1 devices");
    let (mut laptop, _) = listen("user=ana");
    assert_eq!(laptop.recv_text(), "ana listens on 2 devices");
    let (mut other, _) = listen("user=ben");
    assert_eq!(other.recv_text(), "ben listens on 1 devices");
    let (_, refused) = listen("theme=dark");
    assert_eq!(refused.status, 401);

    let report = post(program.address, "/notify", &["Cookie: user=ana"], "it is on its way");
    assert_eq!(report, (200, r#"{"queued":2,"backpressured":0,"dropped":0}"#.to_owned()));
    assert_eq!(phone.recv_text(), "it is on its way");
    assert_eq!(laptop.recv_text(), "it is on its way");
    let report = post(program.address, "/notify", &["Cookie: user=ben"], "and yours, too");
    assert_eq!(report.1, r#"{"queued":1,"backpressured":0,"dropped":0}"#);
    assert_eq!(other.recv_text(), "and yours, too", "and nothing before it");
    assert_eq!(post(program.address, "/notify", &[], "nobody's").0, 401);
}

#[test]
fn client() {
    let server = Program::start("echo");
    let url = format!("ws://{}/echo", server.address);
    let mut client = Program::start_with("client", &url);
    assert_eq!(client.line(), format!("connected to {url}, subprotocol None"));
    server.line();
    for line in ["héllo", ""] {
        client.type_line(line);
        assert_eq!(client.line(), format!("< {line}"));
    }
    client.end_input();
    assert_eq!(client.line(), r#"closed cleanly with 1000 "that was all" by Local"#);
    assert_eq!(client.line(), "it is Closed");
    assert!(server.line().ends_with(" has gone: 1000 that was all"));
}

#[test]
fn client_of_a_server_that_goes_away() {
    let server = Program::start("echo");
    let url = format!("ws://{}/echo", server.address);
    let client = Program::start_with("client", &url);
    assert!(client.line().starts_with("connected to "));
    server.terminate();
    let closed = client.line();
    assert_eq!(closed, r#"closed cleanly with 1001 "the server is shutting down" by Peer"#);
    assert_eq!(client.line(), "it is Closed");
}

#[test]
fn r#loop() {
    let program = Program::start("loop");
    let mut client = Client::connect(program.address, "/count?from=1000");
    assert_eq!(client.recv_text(), "1000");
    client.send_text("soon");
    // It goes on counting meanwhile, once a second.
    let is_count = |text: &str| text.parse::<u32>().is_ok();
    let answer = loop {
        let text = client.recv_text();
        if !is_count(&text) {
            break text;
        }
    };
    assert_eq!(answer, "a number, or `faster`");
    client.send_text("3");
    for _ in 0..7 {
        client.send_text("faster");
    }
    while client.recv_text() != "2" {}
    assert_eq!(client.recv_text(), "1");
    assert_eq!(client.recv_text(), "0");
    assert_eq!(client.recv_close(), (1000, "lift off".to_owned()));

    let mut failing = Client::connect(program.address, "/count?from=many");
    assert_eq!(failing.recv_close().0, 1011);
}

#[test]
fn attach() {
    let program = Program::start("attach");
    for headers in [&[][..], &["Cookie: token=nobody"]] {
        let (client, answer) = Client::request(program.address, "/live", headers);
        assert_eq!(answer.status, 401);
        assert_eq!(client.body(&answer), "log in first\n");
    }

    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let before = now();
    let cookies = ["Cookie: theme=dark; token=b2"];
    let path = "/live?x=1&channel=late%20news";
    let (mut ben, answer) = Client::request(program.address, path, &cookies);
    assert_eq!(answer.status, 101);
    let visitor: serde_json::Value = serde_json::from_str(&ben.recv_text()).expect("JSON");
    assert_eq!(visitor["user"], "ben");
    assert_eq!(visitor["channel"], "late news");
    assert!((before..=now()).contains(&visitor["since"].as_u64().expect("seconds")));

    let (mut ana, _) = Client::request(program.address, "/live", &["Cookie: token=a1"]);
    assert!(ana.recv_text().contains(r#""user":"ana","channel":"all""#));
    ana.send_text("12345");
    ben.send(OpCode::Binary, [0; 3]);
    assert_eq!(ana.recv_text(), "ana in all sent 5 bytes");
    assert_eq!(ben.recv_text(), "ben in late news sent 3 bytes");
}

#[test]
fn gate() {
    let program = Program::start("gate");
    for (path, status, body) in
        [("/sum", 401, "no token\n"), ("/sum?token=eve", 403, "members only\n")]
    {
        let (client, answer) = Client::request(program.address, path, &[]);
        assert_eq!(answer.status, status);
        assert_eq!(client.body(&answer), body);
    }

    let mut mallory = Client::connect(program.address, "/sum?token=mallory");
    assert_eq!(mallory.recv_close(), (1008, "banned".to_owned()));

    let offer = ["Sec-WebSocket-Protocol: sum.v2, sum.v1"];
    let (mut ana, answer) = Client::request(program.address, "/sum?token=ana", &offer);
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("x-served-by"), Some("gate"));
    assert_eq!(answer.header("sec-websocket-protocol"), Some("sum.v1"));
    ana.send_text("40");
    ana.send_text(" 2\n");
    assert_eq!(ana.recv_text(), "40");
    assert_eq!(ana.recv_text(), "42");

    let (mut other, answer) = Client::request(program.address, "/sum?token=ana", &[]);
    assert_eq!(answer.header("sec-websocket-protocol"), None, "nothing was offered");
    ana.send_text("many");
    assert_eq!(ana.recv_text(), "sorry: invalid digit found in string");
    assert_eq!(ana.recv_close().0, 1011);
    other.send_text("7");
    assert_eq!(other.recv_text(), "7", "a handler that fails concerns its own connection alone");
}

#[test]
fn closures() {
    let program = Program::start("closures");
    let mut client = Client::connect(program.address, "/ws");
    client.send_text("early");
    assert_eq!(client.recv_text(), "ready", "no message before `open` has ended");
    assert_eq!(client.recv_text(), "1: EARLY");
    let mut second = Client::connect(program.address, "/ws");
    assert_eq!(second.recv_text(), "ready");
    second.send_text("late");
    assert_eq!(second.recv_text(), "2: LATE", "what closures capture is shared");

    client.send(OpCode::Binary, [200, 100]);
    assert_eq!(client.recv(), Some((OpCode::Binary, 300u64.to_be_bytes().to_vec())));
    client.send(OpCode::Ping, "a\n");
    assert_eq!(client.recv(), Some((OpCode::Pong, b"a\n".to_vec())));
    assert_eq!(client.recv(), Some((OpCode::Ping, b"and you?".to_vec())));
    assert_eq!(program.line(), r"ping a\n");
    client.send(OpCode::Pong, "and you?");
    assert_eq!(client.recv_text(), "alive: and you?");

    client.send_close(1000, "bye");
    assert_eq!(client.recv_close().0, 1000);
    let closed = program.line();
    assert!(closed.ends_with(" closed by Peer: 1000 bye"), "{closed}");
}

#[test]
fn game() {
    let program = Program::start("game");
    let mut red = Client::connect(program.address, "/game/red");
    let mut blue = Client::connect(program.address, "/game/dark%20blue");
    red.send_text("6");
    assert_eq!(red.recv_text(), "a six: throw again");
    blue.send_text("1");
    assert_eq!(blue.recv_text(), "dark blue: 1 points after 1 throws");
    red.send_text("7");
    assert_eq!(red.recv_text(), "a die shows 1 to 6");
    red.send_text("5");
    assert_eq!(red.recv_text(), "red: 11 points after 3 throws");
    red.send_close(1000, "");
    red.recv_close();
    let left = program.line();
    assert!(left.ends_with(" left red with 11"), "{left}");

    let (_, answer) = Client::request(program.address, "/game", &[]);
    assert_eq!(answer.status, 404, "a room has a name");
}

#[test]
fn compression() {
    let program = Program::start("compression");
    for (path, second_is_short) in [("/shared", false), ("/dedicated", true)] {
        let offer = format!("Sec-WebSocket-Extensions: {}", Offer::browser());
        let (mut client, answer) = Client::request(program.address, path, &[&offer]);
        let agreed = answer.header("sec-websocket-extensions").expect("an answer to the offer");
        assert!(program.line().ends_with(&format!(" agreed to {agreed}")), "{agreed}");
        let agreed = check(agreed, &[Offer::browser()]).expect("an answer that fits");
        let mut context = agreed.receiving(&Role::Client { masking_key: || [0; 4] });
        let mut next = |client: &mut Client| {
            let (header, payload) = client.recv_frame().expect("a frame");
            let length = payload.len();
            if !header.rsv1 {
                return (String::from_utf8(payload).expect("text"), length, false);
            }
            let (mut inflated, limits) = (Vec::new(), Limits::default());
            let result = Inflater::new().inflate(&payload, &mut context, &limits, &mut inflated);
            result.expect("a payload that inflates");
            (String::from_utf8(inflated).expect("text"), length, true)
        };
        let mut lengths = Vec::new();
        for version in 1..=2 {
            client.send_text("table");
            let (table, length, is_compressed) = next(&mut client);
            let sensors: Vec<serde_json::Value> = serde_json::from_str(&table).expect("JSON");
            assert_eq!((sensors.len(), is_compressed), (100, true), "{path}");
            lengths.push(length);
            let (short, _, is_compressed) = next(&mut client);
            assert!(short.starts_with(&format!("that was table {version}")), "{short}");
            assert!(!is_compressed, "{path}: {short}");
            assert!(next(&mut client).2, "{path}: compressed always");
            assert!(!next(&mut client).2, "{path}: compressed never");
        }
        assert!(lengths[0] * 3 < 100 * 25, "{path}: {lengths:?}");
        assert_eq!(lengths[1] * 2 < lengths[0], second_is_short, "{path}: {lengths:?}");
    }
    Client::connect(program.address, "/shared");
    assert!(program.line().ends_with(" does without compression"));
}

#[test]
fn backpressure() {
    let program = Program::start("backpressure");
    for path in ["/drain", "/wait"] {
        let mut client = Client::connect(program.address, path);
        // `flushed` says so if all is with the kernel, which does not take 16 MiB for a peer that
        // reads nothing.
        assert!(program.is_silent_for(Duration::from_millis(300)), "{path}: nobody reads");
        for number in 0..1024 {
            let chunk = client.recv_text();
            assert_eq!(chunk.len(), 16 * 1024);
            assert_eq!(chunk.trim_end(), number.to_string(), "{path}: in order");
        }
        // Without a wait for the peer this would be 1013.
        assert_eq!(client.recv_close(), (1000, "that was all".to_owned()));
        assert!(program.line().ends_with(" was sent everything"));
        assert!(program.line().ends_with(" has gone: 1000"));
    }
}

#[test]
fn backpressure_of_a_peer_that_leaves() {
    let program = Program::start("backpressure");
    for path in ["/drain", "/wait"] {
        let mut leaving = Client::connect(program.address, path);
        let mut staying = Client::connect(program.address, path);
        assert_eq!(leaving.recv_text().trim_end(), "0");
        drop(leaving);
        let gone = program.line();
        assert!(gone.ends_with(" has gone: 1006"), "{path}: nothing waits for it: {gone}");
        for number in 0..1024 {
            assert_eq!(staying.recv_text().trim_end(), number.to_string(), "{path}");
        }
        assert_eq!(staying.recv_close().0, 1000);
        assert!(program.line().ends_with(" was sent everything"));
        assert!(program.line().ends_with(" has gone: 1000"));
    }
}
