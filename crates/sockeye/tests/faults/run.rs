//! A schedule takes place.

use std::{future::pending, sync::Arc, time::Duration};

use axum::Router;
use sockeye::{
    Client, CloseCode, ConnectError,
    testing::{self, Faulty},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    schedule::Schedule,
    side::{Notes, Scripted, Side, Who, scripted},
};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) server: Notes,
    pub(crate) client: Notes,
    /// Whether there was a connection, as the client sees it.
    pub(crate) connected: Result<(), ConnectError>,
    /// All had arrived before anyone closed.
    pub(crate) is_complete: bool,
    /// After how long both sides had ended and no task was left.
    pub(crate) duration: Duration,
    /// Tasks that were left long after that should have been.
    pub(crate) tasks: usize,
}

/// Beyond every deadline; nobody has to wait for it, as time is paused.
const HANGS: Duration = Duration::from_secs(15 * 60);

/// How often is looked whether all tasks have ended.
const STEP: Duration = Duration::from_millis(100);

/// Lets a schedule take place in a runtime of its own.
pub(crate) fn run(schedule: &Schedule, close_timeout: Duration) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(take_place(schedule, close_timeout))
}

async fn take_place(schedule: &Schedule, close_timeout: Duration) -> Outcome {
    let changed = Arc::<Notify>::default();
    let [server, client] = [0, 1].map(|side| Side::new(&schedule.scripts[side], &changed));
    let start = Instant::now();
    let mut connecting = tokio::spawn(connect(schedule, &server, &client, close_timeout));
    let watching = timeout(HANGS, watch(schedule, &server, &client, &changed));
    let (is_complete, ended) = tokio::select! {
        ended = &mut connecting => (false, Some(ended)),
        is_complete = watching => (is_complete == Ok(true), None),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => timeout(HANGS, connecting).await.expect("the client's side ends"),
    };
    let tasks = || Handle::current().metrics().num_alive_tasks();
    while tasks() > 0 && start.elapsed() < 2 * HANGS {
        sleep(STEP).await;
    }
    Outcome {
        server: server.notes(),
        client: client.notes(),
        connected: ended.expect("it does not panic"),
        is_complete,
        duration: start.elapsed(),
        tasks: tasks(),
    }
}

/// Closes the connection at its time, or once all has arrived, which is what it tells.
async fn watch(schedule: &Schedule, server: &Side, client: &Side, changed: &Notify) -> bool {
    let of = |who| if who == Who::Server { server } else { client };
    let has_all = |side: &Side, peer: &Side| {
        let echoes = if peer.script.echoes { side.script.says.len() } else { 0 };
        let all = peer.script.says.len() + echoes;
        side.look(|notes| notes.opened == 1 && notes.received.len() == all)
    };
    let all = async {
        while !(has_all(server, client) && has_all(client, server)) {
            changed.notified().await;
        }
    };
    let in_time = async {
        let Some((who, millis)) = schedule.close_at else { return pending().await };
        sleep(Duration::from_millis(millis)).await;
        match of(who).look(|notes| notes.socket.clone()) {
            Some(socket) => socket.close(CloseCode(4000), "in time"),
            None => pending().await,
        }
    };
    let is_complete = tokio::select! {
        biased;
        () = all => true,
        () = in_time => false,
    };
    if let Some(socket) = of(schedule.last).look(|notes| notes.socket.clone()) {
        socket.close(CloseCode(4001), "all is said");
    }
    is_complete
}

/// Connects the two, and goes on until the client's side has ended.
fn connect(
    schedule: &Schedule,
    server: &Arc<Side>,
    client: &Arc<Side>,
    close_timeout: Duration,
) -> impl Future<Output = Result<(), ConnectError>> + use<> {
    let config = server.script.config(close_timeout);
    let route = match server.script.is_handler {
        true => sockeye::ws_with(Scripted(server.clone()), config),
        false => {
            let server = server.clone();
            let function = move |ws, _| {
                let server = server.clone();
                async move {
                    scripted(server, ws).await;
                    Ok(())
                }
            };
            sockeye::accept_with(function, config)
        }
    };
    let stream = testing::connect_to(Router::new().route("/", route), "/")
        .pipe(schedule.pipe())
        .faults(schedule.faults(0), schedule.faults(1))
        .stream();
    let stream = Faulty::new(stream, schedule.faults(2), schedule.faults(3));
    let config = client.script.config(close_timeout);
    let connection = Client::connect("ws://localhost/").config(config).transport(stream);
    let client = client.clone();
    async move {
        match client.script.is_handler {
            true => {
                let close = connection.drive(Scripted(client.clone()), ()).await?;
                let told = client.look(|notes| notes.ended.as_ref().map(|end| end.close.clone()));
                assert_eq!(told, Some(close), "what is returned is what the handler was told");
            }
            false => scripted(client, connection.await?).await,
        }
        Ok(())
    }
}
