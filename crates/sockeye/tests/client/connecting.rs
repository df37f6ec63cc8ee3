//! How a client gets to its server: by name, by address, over what it is given; and what comes of it
//! if it does not.

use std::{
    error::Error,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use sockeye::{Client, ConnectError};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::lookup_host,
    runtime::Builder,
    time::Instant,
};

use crate::server::{Connection, Server, lead, open, text, within};

/// The client and this end of the connection understand each other.
pub(crate) async fn talks<S>(client: Client, connection: impl Future<Output = Connection<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let serve = async {
        let mut connection = connection.await;
        connection.upgrade("").await;
        connection.send(text("welcome")).await;
        assert_eq!(connection.recv_text().await, "hello");
    };
    let talk = async {
        let mut ws = client.await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("welcome"));
        ws.send("hello").await.unwrap();
        ws
    };
    within(async { tokio::join!(serve, talk) }).await;
}

/// There is no connection: to where, and what the system said.
pub(crate) async fn no_tcp(client: Client) -> (String, ErrorKind) {
    match within(client).await {
        Err(ConnectError::Connect { address, source, .. }) => (address, source.kind()),
        other => panic!("there is nobody to talk to: {other:?}"),
    }
}

/// A port on which nobody listens.
async fn nobody() -> u16 {
    Server::new().await.port()
}

// ---- there

#[tokio::test]
async fn an_ipv6_address_stands_in_brackets() {
    let server = Server::at("::1").await;
    let client = Client::connect(format!("ws://[::1]:{}/", server.port()));
    talks(client, server.accept()).await;
}

#[tokio::test]
async fn a_name_is_connected_to_whichever_of_its_addresses_listens() {
    let addresses = within(lookup_host("localhost:0")).await.unwrap();
    let mut addresses: Vec<IpAddr> = addresses.map(|addr| addr.ip()).collect();
    addresses.dedup();
    assert!(!addresses.is_empty());
    for address in addresses {
        let server = Server::at(&address.to_string()).await;
        let client = Client::connect(format!("ws://localhost:{}/", server.port()));
        talks(client, server.accept()).await;
    }
}

#[tokio::test]
async fn a_port_that_is_not_named_is_80() {
    // Few may listen there, so what is looked at is where nobody was found.
    let connected = within(Client::connect("ws://127.0.0.1/").connect_timeout(Duration::ZERO));
    match connected.await {
        Err(ConnectError::Connect { address, .. }) => assert_eq!(address, "127.0.0.1:80"),
        other => panic!("there was no time to connect: {other:?}"),
    }
}

#[tokio::test]
async fn over_a_stream_that_is_given_no_name_is_looked_up() {
    let (client, server) = lead(Client::connect("ws://something.invalid/"));
    talks(client.dns_timeout(Duration::ZERO).connect_timeout(Duration::ZERO), async { server })
        .await;
}

#[tokio::test]
async fn the_peer_s_address_is_known_over_tcp_alone() {
    let server = Server::new().await;
    let addr = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let serve = async {
        let mut connection = server.accept().await;
        connection.upgrade("").await;
        connection
    };
    let client = Client::connect(server.url());
    let (ws, _connection) = within(async { tokio::join!(client, serve) }).await;
    assert_eq!(ws.unwrap().socket().peer_addr(), Some(addr));

    let (ws, _connection) = open(Client::connect(server.url())).await;
    assert_eq!(ws.socket().peer_addr(), None);
}

// ---- not there

#[tokio::test]
async fn where_nobody_listens_the_connection_is_refused() {
    let address = format!("127.0.0.1:{}", nobody().await);
    let refused = no_tcp(Client::connect(format!("ws://{address}/"))).await;
    assert_eq!(refused, (address, ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    match within(Client::connect("ws://something.invalid:81/chat")).await {
        Err(ConnectError::Resolve { host, .. }) => assert_eq!(host, "something.invalid"),
        other => panic!("there is no such name (RFC 6761 section 6.4): {other:?}"),
    }
}

#[test]
fn the_system_is_not_waited_for_longer_than_was_said() {
    // Names are resolved on a thread that may block. Here there is one, and it has something to do.
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    let (release, released) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || released.recv());
    let time = Duration::from_millis(100);
    let client = Client::connect("ws://something.invalid/").dns_timeout(time);
    let start = Instant::now();
    match runtime.block_on(async { within(client).await }) {
        Err(ConnectError::Resolve { host, source, .. }) => {
            assert_eq!((&*host, source.kind()), ("something.invalid", ErrorKind::TimedOut));
            assert_eq!(source.to_string(), "no answer within 100ms");
        }
        other => panic!("the name was not looked up: {other:?}"),
    }
    assert!(start.elapsed() >= time);
    drop(release);
}

#[tokio::test]
async fn a_client_dropped_while_it_connects_leaves_no_connection_behind() {
    let server = Server::new().await;
    let mut client = Box::pin(Client::connect(server.url()).into_future());
    let serve = async {
        let mut connection = server.accept().await;
        connection.request().await;
        connection
    };
    let mut connection = within(async {
        tokio::select! {
            connection = serve => connection,
            result = &mut client => panic!("nothing was answered: {result:?}"),
        }
    })
    .await;
    drop(client);
    connection.recv_end().await;
}

#[tokio::test]
async fn a_stream_that_fails_is_told_with_what_the_system_said() {
    let server = Server::new().await;
    let serve = async {
        let mut connection = server.accept().await;
        connection.request().await;
        let tcp = connection.into_inner();
        tcp.set_zero_linger().unwrap();
        drop(tcp);
    };
    let client = Client::connect(server.url());
    let (result, ()) = within(async { tokio::join!(client, serve) }).await;
    let Err(error @ ConnectError::Http(_)) = result else { panic!("it was reset: {result:?}") };
    let mut cause: &(dyn Error + 'static) = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_has_ended_before_it_began_is_told() {
    let (client, server) = lead(Client::connect("ws://example.com/"));
    let mut io = server.into_inner();
    io.shutdown().await.unwrap();
    drop(io);
    let result = within(client).await;
    assert!(matches!(result, Err(ConnectError::Http(_))), "{result:?}");
}
