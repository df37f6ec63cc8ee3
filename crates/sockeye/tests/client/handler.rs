//! A handler at the client's end: `Client::run` and `Client::drive`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sockeye::{
    Accept, Client, Close, CloseCode, ClosedBy, Config, ConnectError, Handler, Handshake, Message,
    Rejection, Result, Session, testing,
};
use tokio::{
    io::DuplexStream,
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::server::{Connection, Server, close, frame, lead, text, to_example, within};

/// What a handler was called with, in order; each end of a connection writes its own.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Counts down with its peer: each answers a number by the next lower one, and who has 0 closes.
#[derive(Clone, Default)]
struct Countdown(Notes);

/// Where the counting starts.
#[derive(Debug, Default)]
struct Start(u32);

impl Handler for Countdown {
    type Data = Start;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<Start>, Rejection> {
        self.0.add("attach");
        Ok(Accept::new(Start(0)))
    }

    async fn open(&self, session: &mut Session<Start>) -> Result {
        self.0.add(format!("open {:?}", session.data));
        if session.data.0 > 0 {
            session.send(session.data.0.to_string());
        }
        Ok(())
    }

    async fn message(&self, session: &mut Session<Start>, message: Message<'_>) -> Result {
        let number: u32 = message.as_text().unwrap_or_default().parse()?;
        self.0.add(format!("message {number}"));
        session.data.0 = number;
        match number.checked_sub(1) {
            Some(next) => drop(session.send(next.to_string())),
            None => session.close(CloseCode::NORMAL, "zero"),
        }
        Ok(())
    }

    async fn ping(&self, _: &mut Session<Start>, payload: &[u8]) -> Result {
        self.0.add(format!("ping {}", payload.escape_ascii()));
        Ok(())
    }

    async fn pong(&self, _: &mut Session<Start>, payload: &[u8]) -> Result {
        self.0.add(format!("pong {}", payload.escape_ascii()));
        Ok(())
    }

    async fn error(&self, _: &mut Session<Start>, error: &sockeye::Error) -> Result {
        self.0.add(format!("error {error}"));
        Ok(())
    }

    async fn close(&self, session: &mut Session<Start>, close: &Close) -> Result {
        self.0.add(format!("close {} {:?} at {}", close.code, close.by, session.data.0));
        Ok(())
    }
}

type Driving = JoinHandle<Result<Close, ConnectError>>;

/// A client that is driven in a task of its own, and the server's end.
async fn driven(client: Client, from: u32) -> (Notes, Driving, Connection<DuplexStream>) {
    let handler = Countdown::default();
    let notes = handler.0.clone();
    let (client, mut server) = lead(client);
    let driving = tokio::spawn(client.drive(handler, Start(from)));
    server.upgrade("").await;
    (notes, driving, server)
}

// ---- the same handler on both ends

#[tokio::test]
async fn one_handler_serves_both_ends() {
    let server = Countdown::default();
    let client = Countdown::default();
    let stream = testing::connect(server.clone()).stream();
    let driving = to_example().transport(stream).drive(client.clone(), Start(4));
    let end = within(driving).await.unwrap();
    assert_eq!((end.by, end.code, &*end.reason), (ClosedBy::Peer, CloseCode::NORMAL, "zero"));
    assert!(end.clean);
    let expected = ["open Start(4)", "message 3", "message 1", "close 1000 Peer at 1"];
    assert_eq!(client.0.all(), expected);
    let expected =
        ["attach", "open Start(0)", "message 4", "message 2", "message 0", "close 1000 Local at 0"];
    assert_eq!(server.0.all(), expected);
}

#[tokio::test]
async fn to_run_is_to_drive_with_default_data_and_settings() {
    let server = Server::new().await;
    let serve = async {
        let mut connection = server.accept().await;
        connection.upgrade("").await;
        connection.send(text("1")).await;
        assert_eq!(connection.recv_text().await, "0");
        connection.send(close(CloseCode(4004), "enough")).await;
        assert_eq!(connection.recv_close().await, CloseCode(4004));
        connection.finish().await;
        connection.recv_end().await;
    };
    let handler = Countdown::default();
    let running = Client::run(server.url(), handler.clone());
    let (end, ()) = within(async { tokio::join!(running, serve) }).await;
    let end = end.unwrap();
    assert_eq!((end.by, end.code, &*end.reason), (ClosedBy::Peer, CloseCode(4004), "enough"));
    assert_eq!(handler.0.all(), ["open Start(0)", "message 1", "close 4004 Peer at 1"]);
}

#[tokio::test]
async fn pings_and_pongs_reach_the_client_s_handler() {
    let (notes, driving, mut server) = driven(to_example(), 0).await;
    server.send([frame(9, "a"), frame(10, "b"), text("1")].concat()).await;
    // The pong comes in its own time.
    let mut opcodes = [server.recv().await.unwrap().opcode, server.recv().await.unwrap().opcode];
    opcodes.sort_unstable();
    assert_eq!(opcodes, [1, 10]);
    server.send(close(CloseCode::NORMAL, "")).await;
    server.recv_close().await;
    drop(server);
    within(driving).await.unwrap().unwrap();
    let expected = ["open Start(0)", "ping a", "pong b", "message 1", "close 1000 Peer at 1"];
    assert_eq!(notes.all(), expected);
}

#[tokio::test]
async fn a_handler_that_fails_closes_with_1011() {
    let (notes, driving, mut server) = driven(to_example(), 0).await;
    server.send(text("seven")).await;
    server.closes(CloseCode::INTERNAL_ERROR).await;
    let end = within(driving).await.unwrap().unwrap();
    assert_eq!((end.by, end.code), (ClosedBy::Local, CloseCode::INTERNAL_ERROR));
    let error = "error invalid digit found in string";
    assert_eq!(notes.all(), ["open Start(0)", error, "close 1011 Local at 0"]);
}

#[tokio::test]
async fn closures_are_a_handler_here_as_there() {
    let handler = sockeye::on()
        .on_open(|session| session.send("hello"))
        .on_text(|session, text| session.close(CloseCode(4000), text));
    let (client, mut server) = lead(to_example());
    let serve = async {
        server.upgrade("").await;
        assert_eq!(server.recv_text().await, "hello");
        server.send(text("bye")).await;
        server.closes(CloseCode(4000)).await;
    };
    let driving = client.drive(handler, ());
    let (end, ()) = within(async { tokio::join!(driving, serve) }).await;
    assert_eq!(end.unwrap().reason, "bye");
}

// ---- how it returns

#[tokio::test]
async fn a_connection_that_breaks_off_is_no_error_and_told_in_its_close() {
    let (notes, driving, server) = driven(to_example(), 0).await;
    drop(server);
    let end = within(driving).await.unwrap().unwrap();
    assert_eq!((end.by, end.code, end.clean), (ClosedBy::Network, CloseCode::ABNORMAL, false));
    assert_eq!(notes.all(), ["open Start(0)", "close 1006 Network at 0"]);
}

#[tokio::test]
async fn where_there_was_no_connection_the_handler_is_not_called() {
    let (client, mut server) = lead(to_example());
    let handler = Countdown::default();
    let serve = async {
        server.request().await;
        server.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    };
    let driving = client.drive(handler.clone(), Start(1));
    let (result, ()) = within(async { tokio::join!(driving, serve) }).await;
    assert!(matches!(result, Err(ConnectError::Refused(_))), "{result:?}");
    let result = within(Client::run("wss://example.com", handler.clone())).await;
    assert!(matches!(result, Err(ConnectError::Url { .. })), "{result:?}");
    assert!(handler.0.all().is_empty(), "{:?}", handler.0);
}

#[tokio::test(start_paused = true)]
async fn driving_goes_on_until_the_server_has_ended_the_stream_or_its_time_is_over() {
    for ends in [true, false] {
        let (_, driving, mut server) = driven(to_example(), 0).await;
        let start = Instant::now();
        server.send(close(CloseCode::NORMAL, "")).await;
        server.recv_close().await;
        if ends {
            server.finish().await;
        }
        let end = within(driving).await.unwrap().unwrap();
        assert!(end.clean);
        let expected = if ends { 0 } else { 5 };
        assert_eq!(start.elapsed().as_secs(), expected);
    }
}

// ---- dropped

#[tokio::test]
async fn dropped_it_closes_with_1001_in_the_background() {
    let (notes, driving, mut server) = driven(to_example(), 5).await;
    assert_eq!(server.recv_text().await, "5");
    driving.abort();
    assert!(within(driving).await.unwrap_err().is_cancelled());
    server.closes(CloseCode::AWAY).await;
    assert_eq!(notes.all(), ["open Start(5)", "close 1001 Local at 5"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_it_is_gone_once_its_time_is_over_though_the_server_does_nothing() {
    let config = Config::default().close_timeout(Duration::from_secs(3));
    let (notes, driving, mut server) = driven(to_example().config(config), 5).await;
    assert_eq!(server.recv_text().await, "5");
    let start = Instant::now();
    driving.abort();
    assert_eq!(server.recv_close().await, CloseCode::AWAY);
    server.recv_end().await;
    assert_eq!(start.elapsed().as_secs(), 3);
    // The stream goes before the handler is told, but in the same turn.
    assert_eq!(notes.all(), ["open Start(5)", "close 1001 Local at 5"]);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_connects_it_leaves_nothing_behind() {
    let (client, mut server) = lead(to_example());
    let handler = Countdown::default();
    let driving = client.drive(handler.clone(), Start(5));
    let cut = timeout(Duration::from_secs(1), driving).await;
    assert!(cut.is_err(), "nothing was answered: {cut:?}");
    assert_eq!(server.request().await.line, "GET / HTTP/1.1");
    server.recv_end().await;
    assert!(handler.0.all().is_empty());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}
