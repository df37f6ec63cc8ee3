//! The servers that are compared, each as its own documentation writes an echo server.

use std::{convert::Infallible, io::Write, net::SocketAddr};

use clap::ValueEnum;
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use sockeye::{Handler, Message, Server, Session};
use tokio::net::TcpListener;

use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Sockeye,
    Fastwebsockets,
}

impl Peer {
    pub(crate) const ALL: [Self; 2] = [Self::Sockeye, Self::Fastwebsockets];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockeye => "sockeye",
            Self::Fastwebsockets => "fastwebsockets",
        }
    }
}

/// Serves on one thread and a port of the system's choice.
pub(crate) fn serve(peer: Peer) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match peer {
            Peer::Sockeye => {
                let server =
                    Server::new().ws("/", Echo).ws("/wait", Wait).bind("127.0.0.1:0").await?;
                announce(server.local_addr())?;
                server.stopped().await;
                Ok(())
            }
            Peer::Fastwebsockets => fastwebsockets().await,
        }
    })
}

fn announce(address: SocketAddr) -> Result {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", address.port())?;
    stdout.flush()?;
    Ok(())
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        session.send(message);
        Ok(())
    }
}

/// Waits for ever, with the message in hand.
struct Wait;

impl Handler for Wait {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> sockeye::Result {
        std::future::pending::<()>().await;
        session.send(message);
        Ok(())
    }
}

async fn fastwebsockets() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(accept);
            let http = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            // A client that goes away is none of this program's business.
            let _ = http.with_upgrades().await;
        });
    }
}

async fn accept(
    mut request: Request<Incoming>,
) -> std::result::Result<Response<Empty<Bytes>>, Infallible> {
    let Ok((response, upgraded)) = upgrade::upgrade(&mut request) else {
        return Ok(Response::default());
    };
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = echo(upgraded).await;
    }));
    Ok(response)
}

async fn echo(upgraded: upgrade::UpgradeFut) -> std::result::Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
