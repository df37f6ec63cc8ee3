//! Whose hub is it: the server's, the route's, or the layer's?

use std::{net::SocketAddr, time::Duration};

use axum::{Extension, Router, routing::get};
use sockeye::{Client, CloseCode, Config, Hub, HubOptions, Message, Server, WebSocket, testing};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// More than any wait here takes.
const LONG: Duration = Duration::from_secs(20);

/// Subscribes each connection to `news`.
fn reader() -> impl sockeye::Handler {
    sockeye::on().on_open(|session| {
        session.subscribe("news");
    })
}

fn routes() -> Router {
    Router::new()
        .route("/count", get(|hub: Hub| async move { hub.subscribers("news").to_string() }))
}

async fn connect(address: SocketAddr, path: &str) -> WebSocket {
    Client::connect(format!("ws://{address}{path}")).await.expect("a connection")
}

/// The answer to a GET, with its status line.
async fn answer(address: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.expect("a live socket");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn until(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.expect("it comes");
}

#[tokio::test]
async fn a_servers_hub_is_that_of_its_connections_and_of_its_routes() {
    let hub = Hub::with(HubOptions::default().presence_grace(Duration::from_secs(1)));
    let server = Server::new().hub(hub.clone()).ws("/ws", reader()).routes(routes());
    let server = server.bind("127.0.0.1:0").await.unwrap();
    assert_eq!(*server.hub(), hub);
    let mut client = connect(server.local_addr(), "/ws").await;
    until(|| hub.subscribers("news") == 1).await;
    assert!(answer(server.local_addr(), "/count").await.ends_with("\r\n\r\n1"));
    assert_eq!(hub.publish("news", "it works").queued, 1);
    assert_eq!(client.recv().await.unwrap().unwrap(), Message::from("it works"));
    server.shutdown(LONG).await.unwrap();
}

#[tokio::test]
async fn a_route_with_a_hub_of_its_own_is_not_in_the_servers() {
    let own = Hub::new();
    let config = Config::default().hub(own.clone());
    let server = Server::new().ws("/ws", reader()).ws_with("/own", reader(), config);
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let _client = connect(server.local_addr(), "/own").await;
    until(|| own.subscribers("news") == 1).await;
    assert_eq!((own.sockets().len(), server.hub().sockets().len()), (1, 0));
    assert_eq!(server.connections(), 1, "it is the server's all the same");
}

#[tokio::test]
async fn a_shutdown_closes_connections_whatever_their_hub() {
    let config = Config::default().hub(Hub::new());
    let server = Server::new().ws_with("/own", reader(), config);
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let mut client = connect(server.local_addr(), "/own").await;
    let reading = tokio::spawn(async move {
        while client.recv().await.is_ok_and(|message| message.is_some()) {}
        client.socket().closed().await
    });
    server.shutdown(Duration::from_secs(3)).await.expect("all are closed in time");
    assert_eq!(reading.await.unwrap().code, CloseCode::AWAY);
}

#[tokio::test]
async fn a_shutdown_cuts_connections_whatever_their_hub() {
    let hub = Hub::new();
    let server = Server::new().ws_with("/own", reader(), Config::default().hub(hub.clone()));
    let server = server.bind("127.0.0.1:0").await.unwrap();
    // It answers no close frame.
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = "GET /own HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    silent.write_all(request.as_bytes()).await.unwrap();
    until(|| hub.subscribers("news") == 1).await;
    let socket = hub.sockets().remove(0);
    let error = server.shutdown(Duration::from_millis(50)).await.unwrap_err();
    // The request that led to it may count, too: its task ends a moment later.
    assert!(error.cut >= 1);
    tokio::time::timeout(LONG, socket.closed()).await.expect("it is cut");
    until(|| hub.sockets().is_empty()).await;
}

#[tokio::test]
async fn servers_share_a_hub_and_one_that_ends_leaves_the_others_connections_alone() {
    let hub = Hub::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = Server::new().hub(hub.clone()).ws("/ws", reader());
        servers.push(server.bind("127.0.0.1:0").await.unwrap());
    }
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(connect(server.local_addr(), "/ws").await);
    }
    until(|| hub.subscribers("news") == 2).await;
    assert_eq!((hub.sockets().len(), servers[0].connections()), (2, 1));
    hub.publish("news", "to both");
    for client in &mut clients {
        assert_eq!(client.recv().await.unwrap().unwrap(), Message::from("to both"));
    }

    let mut first = clients.remove(0);
    let reading = tokio::spawn(async move { first.recv().await.is_ok_and(|end| end.is_none()) });
    servers[0].shutdown(LONG).await.unwrap();
    assert!(reading.await.unwrap());
    assert_eq!((hub.sockets().len(), hub.subscribers("news")), (1, 1));
    assert_eq!((servers[0].connections(), servers[1].connections()), (0, 1));
    assert_eq!(hub.publish("news", "to one").queued, 1);
    assert_eq!(clients[0].recv().await.unwrap().unwrap(), Message::from("to one"));
}

#[tokio::test]
async fn without_a_server_the_layer_gives_the_hub_and_without_a_layer_the_answer_is_500() {
    let hub = Hub::new();
    let bare =
        routes().route("/ws", sockeye::ws_with(reader(), Config::default().hub(hub.clone())));
    let layered = bare.clone().layer(Extension(hub.clone()));
    let mut peer = testing::connect_to(layered.clone(), "/ws").await;
    hub.publish("nothing", "");
    until(|| hub.subscribers("news") == 1).await;
    hub.publish("news", "hello");
    assert_eq!(peer.recv_text().await, "hello");

    for (router, expected) in [(layered, "\r\n\r\n1"), (bare, "\r\n\r\nthere is no hub\n")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async { axum::serve(listener, router).await });
        let answer = answer(address, "/count").await;
        assert!(answer.ends_with(expected), "{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 500"), expected.contains("no hub"), "{answer}");
        serving.abort();
    }
}

#[tokio::test]
async fn routes_without_a_hub_or_server_have_one_each() {
    let publish = || {
        sockeye::on()
            .on_open(|session| {
                session.subscribe("news");
            })
            .on_text(|session, _text| {
                let count = session.hub().subscribers("news");
                session.send(count.to_string())
            })
    };
    let router =
        Router::new().route("/one", sockeye::ws(publish())).route("/two", sockeye::ws(publish()));
    let mut one = testing::connect_to(router.clone(), "/one").await;
    let mut also_one = testing::connect_to(router.clone(), "/one").await;
    let mut two = testing::connect_to(router, "/two").await;
    for (peer, count) in [(&mut also_one, "2"), (&mut one, "2"), (&mut two, "1")] {
        peer.send("how many").await;
        assert_eq!(peer.recv_text().await, count);
    }
}
