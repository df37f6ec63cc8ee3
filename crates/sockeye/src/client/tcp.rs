//! From a name to a TCP connection.

use std::{
    convert::Infallible,
    future::{Future, ready},
    io,
    net::SocketAddr,
    time::Duration,
};

use http::Uri;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tower::{Service, ServiceExt, service_fn};

use super::target::Target;
use crate::ConnectError;

/// Resolves the target's name and connects to it.
pub(super) async fn connect(
    target: &Target,
    dns_timeout: Duration,
    connect_timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    let addresses = within(dns_timeout, lookup_host((&*target.host, target.port))).await;
    let addresses = addresses
        .map_err(|source| ConnectError::Resolve { host: target.host.clone(), source })?
        .collect();
    let connected = within(connect_timeout, connect_any(&target.uri, addresses, connect_timeout));
    connected
        .await
        .map_err(|source| ConnectError::connect(format!("{}:{}", target.host, target.port), source))
}

/// Connects to the first of these addresses that answers, as RFC 8305 has it.
async fn connect_any(
    uri: &Uri,
    addresses: Vec<SocketAddr>,
    time: Duration,
) -> io::Result<TcpStream> {
    let resolver =
        service_fn(move |_: Name| ready(Ok::<_, Infallible>(addresses.clone().into_iter())));
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(time));
    let connected = connector.ready().await.map_err(io::Error::other)?.call(uri.clone()).await;
    connected.map(|io| io.into_inner()).map_err(io_error)
}

/// The system's own error under that of the connector.
fn io_error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => error.kind().into(),
            };
        }
        cause = error.source();
    }
    io::Error::other(error)
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {time:?}")))
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_hangs_keeps_nobody_from_trying_one_of_the_other_kind() {
        // One place in the queue of those who wait to be accepted, and it is taken.
        let hanging = TcpSocket::new_v4().unwrap();
        hanging.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let hanging = hanging.listen(0).unwrap();
        let v4 = hanging.local_addr().unwrap();
        let _waiting = TcpStream::connect(v4).await.unwrap();
        let listening = TcpListener::bind(("::1", v4.port())).await.unwrap();
        let v6 = listening.local_addr().unwrap();

        let uri = Uri::try_from(format!("ws://two.example:{}/", v4.port())).unwrap();
        let time = Duration::from_secs(60);
        let tcp = connect_any(&uri, vec![v4, v6], time).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), v6);
        assert!(tcp.nodelay().unwrap(), "what is written is batched already");
    }
}
