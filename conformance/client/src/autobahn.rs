//! A client as Autobahn's fuzzing server wants it: an echo for each case.
//!
//! By a handler and not a loop over a `WebSocket`. A loop answers from a task of its own, so where a
//! broken rule follows a message it is chance whether the answer or the end comes first; the suite
//! wants the answer, and calls the other NON-STRICT.

use std::time::Duration;

use sockeye::{Client, Config, Handler, Limits, Message, Result, Session};
use tokio::time::timeout;

/// How the report calls this client.
const AGENT: &str = "sockeye";
/// Group 9 has messages of 16 MiB.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Far more than any case takes: those of group 12 take up to 15 seconds.
const CASE_TIME: Duration = Duration::from_secs(300);

/// Runs all cases, then lets the server write its report.
pub(crate) async fn run(address: &str) -> Result {
    let mut question = Client::connect(format!("ws://{address}/getCaseCount")).await?;
    let answer = question.recv().await?.ok_or("the suite did not say how many cases it has")?;
    let cases: u32 = answer.as_text().ok_or("the number of cases is not a text")?.parse()?;
    for case in 1..=cases {
        let url = format!("ws://{address}/runCase?case={case}&agent={AGENT}");
        timeout(CASE_TIME, echo(url))
            .await
            .map_err(|_| format!("case {case} of {cases} had not ended after {CASE_TIME:?}"))?
            .map_err(|error| format!("case {case} of {cases}: {error}"))?;
    }
    let mut report = Client::connect(format!("ws://{address}/updateReports?agent={AGENT}")).await?;
    while report.recv().await?.is_some() {}
    Ok(())
}

/// Echoes until the end. How that comes is the case's affair: in many the suite breaks a rule, and what
/// this side should do about it is in the report.
async fn echo(url: String) -> Result {
    let config = Config::default().limits(Limits::default().message_size(MAX_MESSAGE));
    Client::connect(url).config(config).drive(Echo, ()).await?;
    Ok(())
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}
